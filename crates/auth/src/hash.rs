//! Passwords in the form in which they are kept: hashed, so that reading the file does not tell them.
//!
//! Argon2id is what we write. The other forms come from files of `mosquitto_passwd`; a password in one of them is hashed
//! anew once its user has shown it.

mod read;

use std::fmt;
use std::num::NonZeroU32;

use argon2::{Algorithm, Argon2, Block, Params, Version};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::{digest, pbkdf2, rand};
use zeroize::Zeroize as _;

/// Longest password, in bytes.
pub const PASSWORD_BYTES_MAX: usize = 1024;

/// What Argon2id costs: memory in KiB, passes, lanes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cost {
    pub(crate) memory_kib: u32,
    pub(crate) passes: u32,
    pub(crate) lanes: u32,
}

/// The first choice of OWASP for Argon2id: 19 MiB, two passes, one lane.
pub(crate) const COST: Cost = Cost { memory_kib: 19_456, passes: 2, lanes: 1 };

/// Bounds of what a file may ask of us, so that one line can't eat up the machine: 64 MiB hold what `mosquitto_passwd` writes.
const COST_MAX: Cost = Cost { memory_kib: 65_536, passes: 10, lanes: 8 };

/// The same for PBKDF2.
const ITERATIONS_MAX: u32 = 2_000_000;

/// Bytes of a salt that we make, and of a hash.
const SALT: usize = 16;
const HASH: usize = 32;

/// A hashed password.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash(pub(crate) Kept);

#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Kept {
    Argon2id {
        cost: Cost,
        salt: Box<[u8]>,
        hash: Box<[u8]>,
    },
    /// `$7$` of `mosquitto_passwd`: PBKDF2 with HMAC-SHA-512.
    Pbkdf2 {
        iterations: NonZeroU32,
        salt: Box<[u8]>,
        hash: Box<[u8]>,
    },
    /// `$6$` of `mosquitto_passwd`: one SHA-512 of password and salt.
    Sha512 {
        salt: Box<[u8]>,
        hash: Box<[u8]>,
    },
}

/// How a password was judged.
pub(crate) struct Judged {
    pub(crate) right: bool,
    /// The password as it should be kept from here on.
    pub(crate) renewed: Option<PasswordHash>,
}

/// Works on passwords. Holds the memory that Argon2id needs from one to the next: one per thread.
#[derive(Default)]
pub struct Hasher {
    blocks: Vec<Block>,
}

impl Hasher {
    /// Hashes a new password.
    ///
    /// # Panics
    /// If the system has no random numbers.
    pub fn hash(&mut self, password: &[u8]) -> PasswordHash {
        self.hash_at(COST, password)
    }

    /// With another cost than ours: for tests.
    pub(crate) fn hash_at(&mut self, cost: Cost, password: &[u8]) -> PasswordHash {
        let mut salt = [0; SALT];
        random(&mut salt);
        let hash = self.argon2id(cost, &salt, password, HASH);
        PasswordHash(Kept::Argon2id { cost, salt: salt.into(), hash })
    }

    /// Whether this is the password.
    ///
    /// Takes as long for a hash of Mosquitto's as for one of ours, right or wrong: it is hashed anew in any case.
    pub(crate) fn judge(&mut self, kept: &PasswordHash, password: &[u8]) -> Judged {
        match &kept.0 {
            Kept::Argon2id { cost, salt, hash } => {
                let found = self.argon2id(*cost, salt, password, hash.len());
                let right = verify_slices_are_equal(&found, hash).is_ok();
                let renewed = (right && *cost != COST).then(|| self.hash(password));
                Judged { right, renewed }
            }
            Kept::Pbkdf2 { iterations, salt, hash } => {
                let right = pbkdf2::verify(pbkdf2::PBKDF2_HMAC_SHA512, *iterations, salt, password, hash).is_ok();
                self.judged_elsewhere(right, password)
            }
            Kept::Sha512 { salt, hash } => {
                let mut context = digest::Context::new(&digest::SHA512);
                context.update(password);
                context.update(salt);
                let right = verify_slices_are_equal(context.finish().as_ref(), hash).is_ok();
                self.judged_elsewhere(right, password)
            }
        }
    }

    /// Takes as long as [`Hasher::judge`]: for a user that nobody knows.
    pub(crate) fn pretend(&mut self, password: &[u8]) {
        self.argon2id(COST, &[0; SALT], password, HASH);
    }

    fn judged_elsewhere(&mut self, right: bool, password: &[u8]) -> Judged {
        let renewed = self.hash(password);
        Judged { right, renewed: right.then_some(renewed) }
    }

    /// Gives the memory back.
    pub(crate) fn rest(&mut self) {
        self.blocks = Vec::new();
    }

    pub(crate) fn is_resting(&self) -> bool {
        self.blocks.capacity() == 0
    }

    fn argon2id(&mut self, cost: Cost, salt: &[u8], password: &[u8], length: usize) -> Box<[u8]> {
        let params = Params::new(cost.memory_kib, cost.passes, cost.lanes, Some(length)).expect("bounds are kept");
        if self.blocks.len() < params.block_count() {
            self.blocks.resize(params.block_count(), Block::new());
        }
        let mut hash = vec![0; length].into_boxed_slice();
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
            .hash_password_into_with_memory(password, salt, &mut hash, &mut self.blocks)
            .expect("lengths of salt and hash are in bounds, and there is memory enough");
        hash
    }
}

impl PasswordHash {
    /// Hashed as we do it.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        matches!(&self.0, Kept::Argon2id { cost, .. } if *cost == COST)
    }

    /// The parts that differ from user to user and from password to password.
    pub(crate) fn secret(&self) -> (&[u8], &[u8]) {
        match &self.0 {
            Kept::Argon2id { salt, hash, .. } | Kept::Pbkdf2 { salt, hash, .. } | Kept::Sha512 { salt, hash } => {
                (salt, hash)
            }
        }
    }
}

/// Tells nothing: not even a hash belongs into a log.
impl fmt::Debug for PasswordHash {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("PasswordHash")
    }
}

/// A password that nobody can guess: 24 letters and digits are 142 bits. None that people mistake for one another.
///
/// # Panics
/// If the system has no random numbers.
#[must_use]
pub fn generate_password() -> String {
    const LETTERS: &[u8] = b"23456789abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ";
    let fair = 256 - 256 % LETTERS.len();
    let mut password = String::with_capacity(24);
    let mut chance = [0; 32];
    while password.len() < 24 {
        random(&mut chance);
        let picks = chance.iter().map(|byte| usize::from(*byte)).filter(|byte| *byte < fair);
        password.extend(picks.map(|byte| char::from(LETTERS[byte % LETTERS.len()])).take(24 - password.len()));
    }
    chance.zeroize();
    password
}

fn random(bytes: &mut [u8]) {
    rand::fill(bytes).expect("the system has random numbers");
}

#[cfg(test)]
mod tests;
