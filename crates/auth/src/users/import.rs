//! Users from the password file of another broker.

use std::str::FromStr as _;

use super::{FILE_BYTES_MAX, LineFault, User};
use crate::hash::PasswordHash;
use crate::name::check_name;

/// What a password file holds.
#[derive(Debug, Default)]
pub struct Imported {
    /// Its users, in order.
    pub users: Vec<(Box<str>, User)>,
    /// Lines that can't be taken over, and why.
    pub left: Vec<LineFault>,
}

/// Reads a file of `mosquitto_passwd`: `name:hash` in each line, the hash as `$7$…`, `$6$…` or `$argon2id$…`. Such a password
/// is hashed anew when its user logs in for the first time.
#[must_use]
pub fn import(bytes: &[u8], now_s: u64) -> Imported {
    let mut imported = Imported::default();
    if bytes.len() > FILE_BYTES_MAX {
        imported.left.push(LineFault { line: 1, text: "the file is larger than 64 MiB".into() });
        return imported;
    }
    for (at, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() || line.starts_with(b"#") {
            continue;
        }
        match user_in(line, now_s) {
            Ok(user) => imported.users.push(user),
            Err(text) => imported.left.push(LineFault { line: at + 1, text }),
        }
    }
    imported
}

fn user_in(line: &[u8], now_s: u64) -> Result<(Box<str>, User), String> {
    let line = str::from_utf8(line).map_err(|_| "is not UTF-8".to_owned())?;
    let (name, password) = line.split_once(':').ok_or("should be name:hash")?;
    check_name(name).map_err(|fault| format!("the name {fault}"))?;
    let password = PasswordHash::from_str(password)
        .map_err(|fault| format!("the password of {name:?} {fault}; `mosquitto_passwd -U FILE` hashes plain ones"))?;
    Ok((name.into(), User { password, superuser: false, disabled: false, created_s: now_s }))
}
