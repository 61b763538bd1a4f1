//! Which format a file is in, by what its lines look like.

use super::{Format, mosquitto};

/// First parts of keys of EMQX 4 that no other format here has.
const OF_EMQX4: [&str; 10] = [
    "listener.",
    "zone.",
    "management.",
    "allow_anonymous",
    "acl_",
    "enable_acl_cache",
    "module.",
    "os_mon.",
    "vm_mon.",
    "auth.",
];

/// First parts of keys of EMQX 5.
const OF_EMQX5: [&str; 14] = [
    "listeners.",
    "zones.",
    "authentication",
    "authorization",
    "dashboard.listeners",
    "sysmon.",
    "sys_topics.",
    "node.",
    "cluster.",
    "mqtt.",
    "broker.",
    "log.",
    "retainer.",
    "durable_sessions",
];

/// Tells the format of a configuration file, from its text and its name.
///
/// # Errors
///
/// It could be several or none of those that we know; the text says how to help.
pub fn detect(text: &str, file: &str) -> Result<Format, String> {
    let name = file.rsplit(['/', '\\']).next().unwrap_or(file);
    let by_name = match name.rsplit_once('.') {
        Some((_, "toml")) => Some(Format::Breakwater),
        Some((_, "hocon")) => Some(Format::Emqx5),
        _ if name.starts_with("mosquitto") => Some(Format::Mosquitto),
        _ => None,
    };
    let points = count(text);
    let most = points.iter().map(|(_, points)| *points).max().unwrap_or(0);
    let mut best = points.iter().filter(|(_, points)| *points == most).map(|(format, _)| *format);
    let ask = || {
        let names: Vec<&str> = Format::ALL.iter().map(|(name, _)| *name).collect();
        format!("say which with --format {}", names.join("|"))
    };
    match (by_name, best.next(), best.next()) {
        // Keys with dots are ours as well, under our name.
        (Some(Format::Breakwater), ..) if ours(text, &points) => Ok(Format::Breakwater),
        // The name decides where the lines allow it.
        (Some(named), ..)
            if most == 0 || points.iter().any(|(format, points)| *format == named && *points * 2 >= most) =>
        {
            Ok(named)
        }
        _ if most == 0 => Err(format!("{name}: no line looks like one of a configuration that can be read; {}", ask())),
        (_, Some(only), None) => Ok(only),
        (_, Some(one), Some(other)) => Err(format!("{name}: this could be a file of {one} or of {other}; {}", ask())),
        (_, None, _) => Err(format!("{name}: the format is not clear; {}", ask())),
    }
}

/// Whether the text could be one of ours: none of EMQX 4, whose keys are in no other format.
fn ours(text: &str, points: &[(Format, u32)]) -> bool {
    let old = points.iter().any(|(format, points)| *format == Format::Emqx4 && *points > 2);
    !old && is_toml(text)
}

/// Whether the text is TOML, whatever it says.
#[must_use]
pub fn is_toml(text: &str) -> bool {
    text.parse::<toml_edit::DocumentMut>().is_ok()
}

/// How many lines speak for each format.
fn count(text: &str) -> [(Format, u32); 4] {
    let [mut toml, mut emqx4, mut emqx5, mut mosquitto] = [0_u32; 4];
    for line in text.lines().take(10_000) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') || line.starts_with("//") {
            continue;
        }
        let key = line.split(['=', ':', '{', ' ', '\t']).next().unwrap_or_default();
        let behind = line[key.len()..].trim_start();
        let assigned = behind.starts_with('=');
        if line.starts_with('[') && line.ends_with(']') && !line.contains('"') && !line.contains(',') {
            toml += 3;
        } else if mosquitto::is_option(key) && !behind.starts_with(['=', ':', '{']) {
            mosquitto += 2;
        } else if assigned && OF_EMQX4.iter().any(|start| key.starts_with(start)) {
            emqx4 += 3;
        } else if line == "}" || line.ends_with('{') || behind.starts_with('{') {
            emqx5 += 2;
        } else if assigned && key.starts_with("listeners.") {
            emqx5 += 3;
        } else if assigned {
            let value = behind[1..].trim();
            let dotted = key.contains('.');
            toml += u32::from(is_value(value));
            emqx4 += u32::from(dotted);
            emqx5 += u32::from(OF_EMQX5.iter().any(|start| key.starts_with(start)) || !dotted);
        }
    }
    [(Format::Breakwater, toml), (Format::Emqx4, emqx4), (Format::Emqx5, emqx5), (Format::Mosquitto, mosquitto)]
}

/// Whether a value is one of TOML.
fn is_value(value: &str) -> bool {
    value.parse::<toml_edit::Value>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_format_is_known_by_its_lines() {
        for (text, file, format) in [
            ("listener.tcp.default = 1883\n", "emqx.conf", Format::Emqx4),
            ("## x\nlistener.ssl.external = 8883\nmqtt.max_packet_size = 1MB\n", "emqx.conf", Format::Emqx4),
            ("listeners.tcp.default {\n bind = 1883\n}\n", "emqx.conf", Format::Emqx5),
            ("listeners.tcp.default.bind = 1883\n", "emqx.conf", Format::Emqx5),
            ("node { name = a }\nmqtt { max_qos_allowed = 1 }", "x", Format::Emqx5),
            ("listener 1883\nallow_anonymous true\n", "x.conf", Format::Mosquitto),
            ("port 1883\n", "x", Format::Mosquitto),
            ("[listeners.tcp.default]\nbind = \"1883\"\n", "x", Format::Breakwater),
            ("[mqtt]\nmax_packet_size = \"1MB\"\n", "breakwater.toml", Format::Breakwater),
            ("", "breakwater.toml", Format::Breakwater),
            ("# only comments\n", "mosquitto.conf", Format::Mosquitto),
            ("mqtt.max_packet_size = \"1MB\"\n", "breakwater.toml", Format::Breakwater),
            ("listeners.tcp.default.bind = \"1883\"\n", "breakwater.toml", Format::Breakwater),
            ("listener.tcp.default = 1883\n", "breakwater.toml", Format::Emqx4),
            ("mqtt.max_qos_allowed = 1\n", "base.hocon", Format::Emqx5),
        ] {
            assert_eq!(detect(text, file), Ok(format), "{file}: {text}");
        }
    }

    #[test]
    fn doubt_is_told_with_what_to_do() {
        for (text, file) in [("", "emqx.conf"), ("hello world\n", "x"), ("mqtt.max_packet_size = 1MB\n", "emqx.conf")] {
            let fault = detect(text, file).unwrap_err();
            assert!(fault.contains("--format") && fault.starts_with(file), "{fault}");
        }
    }
}
