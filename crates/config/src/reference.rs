//! The reference page `docs/configuration.md`, written from the table.

use std::fmt::Write as _;

use crate::TABLE;

const HEAD: &str = "\
# Settings

<!-- Written by `breakwater docs settings`; edit crates/config/src/table.rs instead. -->

Every setting has a default that is safe to run with. Give others on the command line, as often as you like; of two values
for one key the last counts:

```sh
breakwater serve --set mqtt.max_packet_size=4MB --set session.expiry_default=1d
```

Sizes take `B`, `KB`, `MB` or `GB`, which count in 1024. Times take `ms`, `s`, `m`, `h` or `d`, also together (`1h30m`).
A wrong key or value stops the start with one line for each fault.
";

/// The whole page.
pub fn reference() -> String {
    let mut page = String::from(HEAD);
    let mut group = "";
    for setting in TABLE {
        let prefix = setting.key.split('.').next().unwrap_or_default();
        if prefix != group {
            group = prefix;
            let _ = write!(page, "\n## {group}\n\n");
            page.push_str("| Setting | Default | Allowed | Counts from | Meaning |\n|---|---|---|---|---|\n");
        }
        let mut allowed = setting.kind.allowed();
        if let Some((word, _)) = setting.word {
            let _ = write!(allowed, ", or {word}");
        }
        let default = if setting.default.is_empty() { "(empty)".into() } else { format!("`{}`", setting.default) };
        let (key, applies, meaning) = (setting.key, setting.applies.in_words(), setting.meaning);
        let _ = writeln!(page, "| `{key}` | {default} | {allowed} | {applies} | {meaning} |");
    }
    page
}
