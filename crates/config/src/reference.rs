//! The reference page `docs/configuration.md`, written from the tables.

use std::fmt::Write as _;

use crate::acme::ACME_TABLE;
use crate::listener::LISTENER_TABLE;
use crate::setting::Setting;
use crate::table::TABLE;

const HEAD: &str = "\
# Configuration

<!-- Written by `breakwater config reference`; edit crates/config/src instead. -->

Breakwater runs without a configuration: every setting has a default that is safe to run with. What is to be different stands in
`breakwater.toml`:

```toml
[mqtt]
max_packet_size = \"4MB\"

[listeners.tcp.default]
bind = \"127.0.0.1:1883\"

[listeners.tls.office]
bind = [\"192.168.1.5:8883\", \"[fd00::5]:8883\"]
max_connections = 1000
zone = \"office\"
tls.certificate = \"tls/office.pem\"
tls.key = \"tls/office.key\"

[zones.office]
mqtt.max_inflight = 100
```

The file is the one that `--config FILE` or the variable `BREAKWATER_CONFIG` names; else the first that exists of
`./breakwater.toml`, `$XDG_CONFIG_HOME/breakwater/breakwater.toml` (`~/.config` without that variable) and
`/etc/breakwater/breakwater.toml`. Paths in it are relative to its directory.

## Where a value comes from

The strongest that says something counts:

1. `--listen tls://0.0.0.0:8883` (also `tcp`, `ws`, `wss`, `quic`, `unix`, and `mqtt` and `mqtts`): given at least once, there are no
   other listeners than these. Each type has one, named `default`, and what the other sources say about that name holds for it too.
2. `--set mqtt.max_packet_size=4MB`, as often as you like; of two values for one key the last counts.
3. Environment variables: `BREAKWATER_`, then the key in capitals, with two underscores for each dot:
   `BREAKWATER_MQTT__MAX_PACKET_SIZE`, `BREAKWATER_LISTENERS__TCP__DEFAULT__BIND`. Variables without two underscores in a row are
   not read.
4. The file. Changes at run time are written into it, so they have no place of their own.
5. The defaults below.

`breakwater config show` tells for every value where it comes from and what it shadows, `breakwater config explain KEY` what a key is
for, and `breakwater config check` what is wrong: a wrong key or value stops the start, with one line for each fault.

Numbers, `true` and `false` stand with or without quotes. Sizes take `B`, `KB`, `MB` or `GB`, which count in 1024. Times take `ms`,
`s`, `m`, `h` or `d`, also together (`1h30m`). Rates are per second (`100/s`, `1MB/s`). Lists are TOML lists; in variables and
flags they may be written with commas.

## When a change counts

The file is read again on SIGHUP (`systemctl reload breakwater`), and by itself with `reload.watch = true`. It is checked as a whole and
taken up as a whole or not at all; the log says line by line what has changed. The column *Counts from* tells from when on a changed value holds: *at once*; for *new connections*
(who is connected keeps the old one until it connects again); *at once, on new sockets* (the port is closed and opened again,
`reload.on_rebind` says what becomes of its connections); or after a *restart*, which the broker then says and does not do by itself.
";

const LISTENERS: &str = "\
# Listeners

A listener is a section `[listeners.TYPE.NAME]`. Types are `tcp` (MQTT), `tls` (MQTT in TLS), `ws` (MQTT in WebSocket), `wss` (that in
TLS), `quic`, and `unix` (MQTT on a unix socket).

Five listeners named `default` exist without being written down: `tcp` 1883, `tls` 8883, `ws` 8083, `wss` 8084 and `quic` 14567. A
section with that name changes what it names and nothing else. `enabled = false` in it switches one off, and `listeners.defaults =
false` all that have no section. One without a section gives way to a listener that is given the same port.

A listener with TLS that names no certificate uses the one that the broker makes by itself: clients need `--cafile tls/ca.pem` from the
data directory.
";

const ZONES: &str = "\
# Zones

A section `[zones.NAME]` holds other limits for the clients of listeners with `zone = \"NAME\"`: any setting of the groups `mqtt`,
`session` and `queue` above, and `store.durability`.
";

const ACME: &str = "\
# Certificates by ACME

A section `[acme.NAME]` orders a certificate from an authority such as Let's Encrypt, and renews it in time; listeners show it with
`tls.acme = \"NAME\"`. [TLS](tls.md) tells what has to be there for it.

| Setting | Default | Allowed | Counts from | Meaning |
|---|---|---|---|---|
";

/// The whole page.
#[must_use]
pub fn reference() -> String {
    let mut page = String::from(HEAD);
    page.push_str("\n# Settings\n");
    tables(&mut page, TABLE, |setting| setting.key.split('.').next().unwrap_or_default());
    let _ = write!(page, "\n{ZONES}\n{ACME}");
    ACME_TABLE.iter().for_each(|setting| row(&mut page, setting));
    let _ = write!(page, "\n{LISTENERS}");
    tables(&mut page, LISTENER_TABLE, |setting| match setting.key.split_once('.') {
        Some((group, _)) => group,
        None => "every listener",
    });
    page
}

fn tables<S>(page: &mut String, table: &'static [Setting<S>], group_of: fn(&Setting<S>) -> &'static str) {
    let mut group = "";
    for setting in table {
        if group_of(setting) != group {
            group = group_of(setting);
            let _ = write!(page, "\n## {group}\n\n");
            page.push_str("| Setting | Default | Allowed | Counts from | Meaning |\n|---|---|---|---|---|\n");
        }
        row(page, setting);
    }
}

fn row<S>(page: &mut String, setting: &Setting<S>) {
    let default = if setting.default.is_empty() { "(none)".into() } else { format!("`{}`", setting.default) };
    let (key, allowed, applies, meaning) =
        (setting.key, setting.allowed(), setting.applies.in_words(), setting.meaning);
    let _ = writeln!(page, "| `{key}` | {default} | {allowed} | {applies} | {meaning} |");
}
