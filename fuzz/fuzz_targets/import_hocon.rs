//! Any text as HOCON, what stands behind a zero byte being the file that it includes: nothing panics, little text never becomes
//! much, every line is accounted for, and the result is one that can be read.
#![no_main]

mod imported;

use breakwater_config::import::{Files, Format, import};
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
    let found = match import(Format::Emqx5, text, &mut Other(other)) {
        Ok(imported) => imported,
        Err(faults) => return assert!(faults.iter().all(|fault| !fault.contains(char::is_control)), "{faults:?}"),
    };
    imported::accounts_for(&found, text);
    // References are followed within a budget of 4 MB; a value is written once.
    assert!(found.toml.to_string().len() < 8 << 20);
    imported::reads(&found);
});
