//! Hashed passwords as text.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::{GeneralPurpose, STANDARD, STANDARD_NO_PAD};

use super::{COST_MAX, Cost, ITERATIONS_MAX, Kept, PasswordHash};

/// Bytes of a SHA-512.
const SHA512: usize = 64;

const SHAPE: &str = "is not a hashed password: `$argon2id$v=19$m=…,t=…,p=…$salt$hash`, `$7$iterations$salt$hash` or \
                     `$6$salt$hash`";

/// Reads a PHC string of Argon2id, or what `mosquitto_passwd` writes. The fault is the end of a sentence and does not repeat
/// the text.
impl FromStr for PasswordHash {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        let parts: Vec<&str> = text.split('$').collect();
        let kept = match parts[..] {
            ["", "argon2id", "v=19", cost, salt, hash] => {
                let cost = cost_in(cost)?;
                let salt = bytes(&STANDARD_NO_PAD, salt, 8..=64)?;
                Kept::Argon2id { cost, salt, hash: bytes(&STANDARD_NO_PAD, hash, 16..=64)? }
            }
            ["", "argon2id", ..] => return Err("is not Argon2id of version 19"),
            ["", "7", iterations, salt, hash] => {
                let iterations = number(iterations).and_then(NonZeroU32::new).ok_or(SHAPE)?;
                if iterations.get() > ITERATIONS_MAX {
                    return Err("has more than 2000000 iterations");
                }
                let salt = bytes(&STANDARD, salt, 1..=64)?;
                Kept::Pbkdf2 { iterations, salt, hash: bytes(&STANDARD, hash, SHA512..=SHA512)? }
            }
            ["", "6", salt, hash] => {
                let salt = bytes(&STANDARD, salt, 1..=64)?;
                Kept::Sha512 { salt, hash: bytes(&STANDARD, hash, SHA512..=SHA512)? }
            }
            _ => return Err(SHAPE),
        };
        Ok(Self(kept))
    }
}

impl fmt::Display for PasswordHash {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kept::Argon2id { cost: Cost { memory_kib, passes, lanes }, salt, hash } => {
                let (salt, hash) = (STANDARD_NO_PAD.encode(salt), STANDARD_NO_PAD.encode(hash));
                write!(out, "$argon2id$v=19$m={memory_kib},t={passes},p={lanes}${salt}${hash}")
            }
            Kept::Pbkdf2 { iterations, salt, hash } => {
                write!(out, "$7${iterations}${}${}", STANDARD.encode(salt), STANDARD.encode(hash))
            }
            Kept::Sha512 { salt, hash } => write!(out, "$6${}${}", STANDARD.encode(salt), STANDARD.encode(hash)),
        }
    }
}

fn cost_in(text: &str) -> Result<Cost, &'static str> {
    let mut parts = text.split(',');
    let mut part = |key: &str| parts.next()?.strip_prefix(key).and_then(number);
    let (memory_kib, passes, lanes) = (part("m="), part("t="), part("p="));
    let (Some(memory_kib), Some(passes), Some(lanes), None) = (memory_kib, passes, lanes, parts.next()) else {
        return Err(SHAPE);
    };
    let lanes_fit = (1..=COST_MAX.lanes).contains(&lanes);
    let memory_fits = lanes_fit && (8 * lanes..=COST_MAX.memory_kib).contains(&memory_kib);
    if !memory_fits || !(1..=COST_MAX.passes).contains(&passes) {
        return Err("asks for more than 64 MiB, 10 passes and 8 lanes, or for too little");
    }
    Ok(Cost { memory_kib, passes, lanes })
}

/// A number as it would be written: no sign, no leading zero.
fn number(text: &str) -> Option<u32> {
    text.parse().ok().filter(|number: &u32| number.to_string() == text)
}

fn bytes(
    form: &GeneralPurpose,
    text: &str,
    length: std::ops::RangeInclusive<usize>,
) -> Result<Box<[u8]>, &'static str> {
    let bytes = form.decode(text).map_err(|_| "holds a salt or a hash that is not Base64")?;
    if length.contains(&bytes.len()) { Ok(bytes.into()) } else { Err("holds a salt or a hash of a wrong length") }
}
