//! Private keys under a password: PKCS #8 with PBES2 (RFC 8018), as `openssl` and all others write it today.
//!
//! The ciphers are those of the TLS provider; only the container is read here.

use std::num::NonZeroU32;

use aws_lc_rs::cipher::{
    AES_128, AES_192, AES_256, Algorithm, DecryptionContext, PaddedBlockDecryptingKey, UnboundCipherKey,
};
use aws_lc_rs::iv::FixedLength;
use aws_lc_rs::pbkdf2::{self, PBKDF2_HMAC_SHA1, PBKDF2_HMAC_SHA256, PBKDF2_HMAC_SHA384, PBKDF2_HMAC_SHA512};

use crate::tls::der::{Der, OCTETS, OID};

/// Why a key stays closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Closed {
    /// The container is not what it should be.
    Damaged,
    /// Encrypted in a way that is not supported.
    Unsupported(&'static str),
    /// The password does not open it.
    WrongPassword,
}

const PBES2: &[u8] = b"\x2a\x86\x48\x86\xf7\x0d\x01\x05\x0d";
const PBKDF2: &[u8] = b"\x2a\x86\x48\x86\xf7\x0d\x01\x05\x0c";
const SCRYPT: &[u8] = b"\x2b\x06\x01\x04\x01\xda\x47\x04\x0b";
const HMAC_SHA1: &[u8] = b"\x2a\x86\x48\x86\xf7\x0d\x02\x07";
const HMAC_SHA256: &[u8] = b"\x2a\x86\x48\x86\xf7\x0d\x02\x09";
const HMAC_SHA384: &[u8] = b"\x2a\x86\x48\x86\xf7\x0d\x02\x0a";
const HMAC_SHA512: &[u8] = b"\x2a\x86\x48\x86\xf7\x0d\x02\x0b";
const AES128_CBC: &[u8] = b"\x60\x86\x48\x01\x65\x03\x04\x01\x02";
const AES192_CBC: &[u8] = b"\x60\x86\x48\x01\x65\x03\x04\x01\x16";
const AES256_CBC: &[u8] = b"\x60\x86\x48\x01\x65\x03\x04\x01\x2a";
/// A file that asks for more would only keep the start waiting: minutes on one core.
const ITERATIONS_MAX: u32 = 50_000_000;

/// Opens an `EncryptedPrivateKeyInfo`: answers the PKCS #8 key.
pub(crate) fn open(container: &[u8], password: &str) -> Result<Vec<u8>, Closed> {
    let sealed = Sealed::read(container)?;
    let mut key = vec![0; sealed.cipher.1];
    pbkdf2::derive(sealed.prf, sealed.iterations, sealed.salt, password.as_bytes(), &mut key);
    let key = UnboundCipherKey::new(sealed.cipher.0, &key).map_err(|_| Closed::Damaged)?;
    let key = PaddedBlockDecryptingKey::cbc_pkcs7(key).map_err(|_| Closed::Damaged)?;
    let mut text = sealed.text.to_vec();
    let context = DecryptionContext::Iv128(FixedLength::from(sealed.iv));
    let plain = key.decrypt(&mut text, context).map_err(|_| Closed::WrongPassword)?;
    // One wrong password in 256 leaves a padding that looks right.
    let looks_right = Der(plain).sequence().is_some_and(|mut inner| inner.small_integer().is_some());
    if looks_right { Ok(plain.to_vec()) } else { Err(Closed::WrongPassword) }
}

struct Sealed<'a> {
    prf: pbkdf2::Algorithm,
    iterations: NonZeroU32,
    salt: &'a [u8],
    /// The cipher, and the length of its key.
    cipher: (&'static Algorithm, usize),
    iv: [u8; 16],
    text: &'a [u8],
}

impl<'a> Sealed<'a> {
    fn read(container: &'a [u8]) -> Result<Self, Closed> {
        let damaged = Closed::Damaged;
        let mut outer = Der(container).sequence().ok_or(damaged)?;
        let mut scheme = outer.sequence().ok_or(damaged)?;
        let text = outer.optional(OCTETS).ok_or(damaged)?;
        if scheme.optional(OID).ok_or(damaged)? != PBES2 {
            return Err(Closed::Unsupported("a scheme older than PBES2"));
        }
        let mut parameters = scheme.sequence().ok_or(damaged)?;
        let mut derivation = parameters.sequence().ok_or(damaged)?;
        let mut encryption = parameters.sequence().ok_or(damaged)?;
        match derivation.optional(OID).ok_or(damaged)? {
            PBKDF2 => {}
            SCRYPT => return Err(Closed::Unsupported("scrypt")),
            _ => return Err(Closed::Unsupported("an unknown key derivation")),
        }
        let mut derivation = derivation.sequence().ok_or(damaged)?;
        let salt = derivation.optional(OCTETS).ok_or(damaged)?;
        let iterations = derivation.small_integer().and_then(NonZeroU32::new).ok_or(damaged)?;
        if iterations.get() > ITERATIONS_MAX {
            return Err(Closed::Unsupported("more rounds of PBKDF2 than make sense"));
        }
        let _key_length = derivation.small_integer();
        let prf = match derivation.sequence().map(|mut prf| prf.optional(OID)) {
            None | Some(Some(HMAC_SHA1)) => PBKDF2_HMAC_SHA1,
            Some(Some(HMAC_SHA256)) => PBKDF2_HMAC_SHA256,
            Some(Some(HMAC_SHA384)) => PBKDF2_HMAC_SHA384,
            Some(Some(HMAC_SHA512)) => PBKDF2_HMAC_SHA512,
            Some(_) => return Err(Closed::Unsupported("an unknown hash in PBKDF2")),
        };
        let cipher = match encryption.optional(OID).ok_or(damaged)? {
            AES128_CBC => (&AES_128, 16),
            AES192_CBC => (&AES_192, 24),
            AES256_CBC => (&AES_256, 32),
            _ => return Err(Closed::Unsupported("a cipher other than AES-CBC")),
        };
        let iv = encryption.optional(OCTETS).and_then(|iv| iv.try_into().ok()).ok_or(damaged)?;
        Ok(Self { prf, iterations, salt, cipher, iv, text })
    }
}
