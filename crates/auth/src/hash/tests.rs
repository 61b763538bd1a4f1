use super::*;

const CHEAP: Cost = Cost { memory_kib: 8, passes: 1, lanes: 1 };

fn read(text: &str) -> PasswordHash {
    text.parse().unwrap_or_else(|fault| panic!("{text}: {fault}"))
}

/// Made by the reference implementation: `echo -n secret | argon2 saltsaltsalt -id -t 2 -k 19456 -p 1 -l 32 -e`.
const REFERENCE: &str = "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHRzYWx0$ki2QQIMdi3gALFf4XR64Y9rn4F8+JEUu2h0iBExveQo";

/// The first two made by `mosquitto_passwd` 2.0, the last with what 2.1 asks of Argon2id.
const MOSQUITTO: [&str; 3] = [
    "$7$101$3sqOy4vbHWbZptYj$1R259uIT3Vw82qbsN3mHpMP2vgTIGIf9PkA8koKc3dgM76ei260m8mBFPh4+ywdVNTkt5Xfu6Dvme27nfue67A==",
    "$6$zymQi2aFvWyIlUhY$gBtU65hYTJpkEqDUX91ghthaGHjL6LwGXFAf2pqktEEQe9l2/t1qc91IA08KPk1F1mdaqLkD1x8rJIb5iK0XnA==",
    "$argon2id$v=19$m=47104,t=1,p=1$c2FsdHNhbHRzYWx0c2FsdA$GzVeMkmyPrgpJ++h8sTmsRIaxTSNTtmY/Nj/Ecb+b2I",
];

#[test]
fn passwords_are_judged_as_the_reference_implementation_does() {
    let mut hasher = Hasher::default();
    let kept = read(REFERENCE);
    assert!(hasher.judge(&kept, b"secret").right);
    assert!(hasher.judge(&kept, b"secret").renewed.is_none());
    assert!(!hasher.judge(&kept, b"Secret").right);
    assert!(!hasher.judge(&kept, b"").right);
}

#[test]
fn passwords_of_mosquitto_are_judged_and_renewed() {
    let mut hasher = Hasher::default();
    for text in MOSQUITTO {
        let kept = read(text);
        assert!(!kept.is_ours());
        let wrong = hasher.judge(&kept, b"Secret");
        assert!(!wrong.right && wrong.renewed.is_none(), "{text}");
        let judged = hasher.judge(&kept, b"secret");
        assert!(judged.right, "{text}");
        let renewed = judged.renewed.expect("it is hashed anew");
        assert!(renewed.is_ours() && hasher.judge(&renewed, b"secret").right);
    }
}

#[test]
fn a_hash_survives_being_written_and_read() {
    let mut hasher = Hasher::default();
    let made = hasher.hash_at(CHEAP, b"password");
    for text in MOSQUITTO.iter().copied().chain([REFERENCE, &made.to_string()]) {
        assert_eq!(read(text).to_string(), text);
    }
    assert_ne!(hasher.hash_at(CHEAP, b"password").to_string(), made.to_string(), "salted");
}

#[test]
fn texts_that_are_no_hash_are_refused() {
    let long = "A".repeat(200);
    for text in [
        "",
        "secret",
        "$",
        "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHRzYWx0",
        "$argon2id$v=16$m=19456,t=2,p=1$c2FsdHNhbHRzYWx0$AAAAAAAAAAAAAAAAAAAAAA",
        "$argon2i$v=19$m=19456,t=2,p=1$c2FsdHNhbHRzYWx0$AAAAAAAAAAAAAAAAAAAAAA",
        "$argon2id$v=19$m=19456,t=2$c2FsdHNhbHRzYWx0$AAAAAAAAAAAAAAAAAAAAAA",
        "$argon2id$v=19$m=4294967295,t=2,p=1$c2FsdHNhbHRzYWx0$AAAAAAAAAAAAAAAAAAAAAA",
        "$argon2id$v=19$m=19456,t=11,p=1$c2FsdHNhbHRzYWx0$AAAAAAAAAAAAAAAAAAAAAA",
        "$argon2id$v=19$m=8,t=1,p=2$c2FsdHNhbHRzYWx0$AAAAAAAAAAAAAAAAAAAAAA",
        "$argon2id$v=19$m=19456,t=0,p=1$c2FsdHNhbHRzYWx0$AAAAAAAAAAAAAAAAAAAAAA",
        "$argon2id$v=19$m=19456,t=2,p=1,x=1$c2FsdHNhbHRzYWx0$AAAAAAAAAAAAAAAAAAAAAA",
        "$argon2id$v=19$m=+8,t=2,p=1$c2FsdHNhbHRzYWx0$AAAAAAAAAAAAAAAAAAAAAA",
        "$argon2id$v=19$m=19456,t=2,p=1$c2Fs$AAAAAAAAAAAAAAAAAAAAAA",
        "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHRzYWx0$AAAA",
        "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHRzYWx0$AAAAAAAAAAAAAAAAAAAAAB",
        "$7$0$c2FsdHNhbHQ=$AAAA",
        "$7$101$c2FsdHNhbHQ=$AAAA",
        "$6$c2FsdHNhbHQ=$AAAA",
        "$6$c2FsdHNhbHQ=",
        &format!("$argon2id$v=19$m=8,t=1,p=1${long}$AAAAAAAAAAAAAAAAAAAAAA"),
    ] {
        assert!(text.parse::<PasswordHash>().is_err(), "{text}");
    }
}

#[test]
fn nothing_of_a_hash_is_printed_for_debugging() {
    assert_eq!(format!("{:?}", read(REFERENCE)), "PasswordHash");
}

#[test]
fn generated_passwords_differ() {
    let (one, other) = (generate_password(), generate_password());
    assert_eq!(one.len(), 24);
    assert_ne!(one, other);
    assert!(one.bytes().all(|byte| byte.is_ascii_alphanumeric()));
}
