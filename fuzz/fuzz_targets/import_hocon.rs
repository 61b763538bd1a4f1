//! Any text as HOCON, what stands behind a zero byte being the file that it includes: nothing panics, little text never becomes
//! much, every line is accounted for, and the result is one that can be read.
#![no_main]

use std::path::Path;

use breakwater_config::import::{Fate, Files, Format, import};
use breakwater_config::{Sources, Surroundings, resolve};
use libfuzzer_sys::fuzz_target;

struct Other<'a>(&'a str);

impl Files for Other<'_> {
    fn read(&mut self, _name: &str) -> Result<String, String> {
        Ok(self.0.to_owned())
    }

    fn list(&mut self, _folder: &str) -> Result<Vec<String>, String> {
        Err("there are no folders".to_owned())
    }
}

fuzz_target!(|text: &str| {
    let (text, other) = text.split_once('\0').unwrap_or((text, ""));
    let imported = match import(Format::Emqx5, text, &mut Other(other)) {
        Ok(imported) => imported,
        Err(faults) => return assert!(faults.iter().all(|fault| !fault.contains(char::is_control)), "{faults:?}"),
    };
    assert_eq!(imported.fates[0].1.len(), text.strip_prefix('\u{feff}').unwrap_or(text).lines().count());
    assert!(imported.fates.iter().all(|(_, fates)| fates.iter().all(|fate| *fate != Fate::Unread)));
    let written = imported.toml.to_string();
    // References are followed within a budget of 4 MB; a value is written once.
    assert!(written.len() < 8 << 20);
    for remark in &imported.remarks {
        let line = remark.to_string();
        assert!(!line.contains(char::is_control), "{line}");
    }
    let around =
        Surroundings { data: "/".into(), directory: "/".into(), ipv6: true, read: |_, _| Ok(b"secret".to_vec()) };
    let file = Some((Path::new("/breakwater.toml").into(), written));
    for fault in resolve(&Sources { file, ..Sources::default() }, &around).err().unwrap_or_default() {
        let together = ["tls.certificate", "tls.key", "tls.client_certificate", "bind"];
        assert!(together.iter().any(|key| fault.key.ends_with(key)), "{fault}\n{}", imported.toml);
    }
});
