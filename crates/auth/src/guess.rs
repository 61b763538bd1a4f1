//! Passwords that everybody tries first.

use crate::{Hasher, PasswordHash};

/// Of the lists that every attack begins with, and the defaults of brokers.
const COMMON: [&str; 12] = [
    "public",
    "admin",
    "password",
    "123456",
    "12345678",
    "mqtt",
    "mosquitto",
    "guest",
    "secret",
    "test",
    "changeme",
    "raspberry",
];

/// Whether the password of `name` is one of them, or its name. As slow as a dozen log-ins.
pub fn is_guessed_first(hasher: &mut Hasher, name: &str, password: &PasswordHash) -> bool {
    let own = [name.to_owned(), format!("{name}123"), String::new()];
    let all = own.iter().map(String::as_str).chain(COMMON);
    all.into_iter().any(|guess| hasher.judge(password, guess.as_bytes()).right)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_that_is_the_name_or_a_common_one_is_guessed() {
        let mut hasher = Hasher::default();
        for (password, guessed) in [("ann", true), ("public", true), ("correct horse", false)] {
            let hash = hasher.hash(password.as_bytes());
            assert_eq!(is_guessed_first(&mut hasher, "ann", &hash), guessed, "{password}");
        }
    }
}
