//! Any users file, and any password file of another broker: nothing panics, and what was read survives being written.
#![no_main]

use breakwater_auth::check_name;
use breakwater_auth::users::{Users, import};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    match Users::parse(input) {
        Ok(users) => {
            let written = users.to_text();
            assert_eq!(Users::parse(written.as_bytes()).as_ref(), Ok(&users), "{written}");
            assert_eq!(users.iter().count(), users.len());
            assert!(users.iter().all(|(name, _)| check_name(name).is_ok()));
        }
        Err(faults) => {
            assert!((1..=20).contains(&faults.len()));
            let lines = input.split(|byte| *byte == b'\n').count();
            assert!(faults.iter().all(|fault| (1..=lines).contains(&fault.line) && !fault.text.contains('\n')));
        }
    }
    let imported = import(input, 0);
    let mut users = Users::default();
    for (name, user) in imported.users {
        users.set(&name, user);
    }
    let written = users.to_text();
    let read = Users::parse(written.as_bytes()).expect("what was taken over can be written");
    assert!(users.iter().all(|(name, user)| read.get(name) == Some(user)));
    assert!(imported.left.iter().all(|fault| fault.line > 0 && !fault.text.contains('\n')));
});
