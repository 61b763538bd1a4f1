//! Any text as breakwater.toml, with any flags and variables beside it: nothing panics, every fault is one line, and what is good can
//! be shown, planned and written back without becoming something else.
#![no_main]

use std::io;
use std::path::Path;

use breakwater_config::{Resolved, Sources, Surroundings, edited, explain, plan, resolve, show};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Ok(input) = std::str::from_utf8(input) else { return };
    // The file, then what stands behind zero bytes: `s…` is a --set, `l…` a --listen, `eNAME=TEXT` a variable.
    let mut parts = input.split('\0');
    let text = parts.next().unwrap_or_default();
    let mut sources = Sources { file: Some((Path::new("/etc/b.toml").into(), text.to_owned())), ..Sources::default() };
    for part in parts {
        match (part.get(..1), part.get(1..)) {
            (Some("s"), Some(rest)) => sources.set.push(rest.to_owned()),
            (Some("l"), Some(rest)) => sources.listen.push(rest.to_owned()),
            (Some("e"), Some(rest)) => {
                let (name, value) = rest.split_once('=').unwrap_or((rest, ""));
                sources.environment.push((format!("BREAKWATER_{name}"), value.to_owned()));
            }
            _ => {}
        }
    }
    let Some(resolved) = good(&sources) else { return };
    assert!(plan(&resolved, &resolved).is_empty());
    assert!(!show(&resolved, None, true).is_empty());
    for value in resolved.values.iter().filter(|value| value.origin != breakwater_config::Origin::Default) {
        assert!(explain(&resolved, &value.key).is_ok(), "{}", value.key);
    }
    let same = edited(text, &[]).expect("it was read a moment ago");
    sources.file = Some((Path::new("/etc/b.toml").into(), same));
    let again = good(&sources).expect("nothing was changed");
    assert!(plan(&resolved, &again).is_empty(), "{:?}", plan(&resolved, &again).lines());
    sources.set.clear();
    sources.environment.clear();
    if let Ok(changed) = edited(text, &[("mqtt.max_qos".to_owned(), Some("1".to_owned()))]) {
        sources.file = Some((Path::new("/etc/b.toml").into(), changed));
        if let Some(changed) = good(&sources) {
            assert_eq!(changed.shard.limits.maximum_qos as u8, 1);
        }
    }
});

fn good(sources: &Sources) -> Option<Resolved> {
    let read = |_: &Path, _: usize| Err(io::Error::from(io::ErrorKind::NotFound));
    let around = Surroundings { data: "/var".into(), directory: "/home".into(), ipv6: true, read };
    let faults = match resolve(sources, &around) {
        Ok(resolved) => return Some(resolved),
        Err(faults) => faults,
    };
    assert!(!faults.is_empty());
    for fault in faults.iter().map(ToString::to_string) {
        assert!(!fault.contains(['\n', '\r', '\x1b']), "{fault:?}");
    }
    None
}
