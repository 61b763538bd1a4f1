//! Any text as a file of Mosquitto: nothing panics, every line is accounted for, and the result is one that can be read.
#![no_main]

use std::path::Path;

use breakwater_config::import::{Alone, Fate, Format, import};
use breakwater_config::{Sources, Surroundings, resolve};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let Ok(imported) = import(Format::Mosquitto, text, &mut Alone) else { return };
    assert_eq!(imported.fates[0].1.len(), text.strip_prefix('\u{feff}').unwrap_or(text).lines().count());
    assert!(imported.fates[0].1.iter().all(|fate| *fate != Fate::Unread));
    for remark in &imported.remarks {
        let line = remark.to_string();
        assert!(!line.contains(char::is_control) && !line.contains("not understood as one of"), "{line}");
    }
    let around =
        Surroundings { data: "/".into(), directory: "/".into(), ipv6: true, read: |_, _| Ok(b"secret".to_vec()) };
    let file = Some((Path::new("/breakwater.toml").into(), imported.toml.to_string()));
    // What is left undone by the import may keep it from starting; but every value in it is one that its key takes.
    for fault in resolve(&Sources { file, ..Sources::default() }, &around).err().unwrap_or_default() {
        let together = ["tls.certificate", "tls.key", "tls.client_certificate", "bind"];
        assert!(together.iter().any(|key| fault.key.ends_with(key)), "{fault}\n{}", imported.toml);
    }
});
