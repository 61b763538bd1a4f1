//! What every import has to fulfil, whatever it was made from.

use std::path::Path;

use breakwater_config::import::{Alone, Fate, Format, Imported, import};
use breakwater_config::{Sources, Surroundings, resolve};

/// A file of one format that includes nothing: every line is accounted for, and the result is one that can be read.
#[allow(dead_code, reason = "HOCON is imported with files that it includes")]
pub fn alone(format: Format, text: &str) {
    let Ok(imported) = import(format, text, &mut Alone) else { return };
    accounts_for(&imported, text);
    for remark in &imported.remarks {
        let line = remark.to_string();
        assert!(!line.contains("not understood as one of"), "{line}");
    }
    reads(&imported);
}

/// No line of any file is left out, and no remark holds a control character.
pub fn accounts_for(imported: &Imported, text: &str) {
    assert_eq!(imported.fates[0].1.len(), text.strip_prefix('\u{feff}').unwrap_or(text).lines().count());
    assert!(imported.fates.iter().all(|(_, fates)| fates.iter().all(|fate| *fate != Fate::Unread)));
    for remark in &imported.remarks {
        let line = remark.to_string();
        assert!(!line.contains(char::is_control), "{line}");
    }
}

/// What is left undone by the import may keep it from starting; but every value in it is one that its key takes.
pub fn reads(imported: &Imported) {
    let around =
        Surroundings { data: "/".into(), directory: "/".into(), ipv6: true, read: |_, _| Ok(b"secret".to_vec()) };
    let file = Some((Path::new("/breakwater.toml").into(), imported.toml.to_string()));
    for fault in resolve(&Sources { file, ..Sources::default() }, &around).err().unwrap_or_default() {
        let together = ["tls.certificate", "tls.key", "tls.client_certificate", "bind"];
        assert!(together.iter().any(|key| fault.key.ends_with(key)), "{fault}\n{}", imported.toml);
    }
}
