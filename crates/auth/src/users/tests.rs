use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use super::*;

const HASH: &str = "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHRzYWx0$ki2QQIMdi3gALFf4XR64Y9rn4F8+JEUu2h0iBExveQo";
const TIME: &str = "2026-01-31T12:00:00Z";

fn user(superuser: bool, disabled: bool) -> User {
    let created_s = date::read(TIME).expect("a time");
    User { password: HASH.parse().expect("a hash"), superuser, disabled, created_s }
}

/// A directory for one test.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("breakwater-users-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        let _ = fs::remove_dir_all(&path);
        Self(path)
    }

    fn file(&self) -> UsersFile {
        UsersFile::in_directory(&self.0)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_file_is_read_and_written_as_it_was() {
    let text = format!(
        "# of hall 2\n\nbreakwater-users 1\n# pumps\npump-7:{HASH}::{TIME}\n\nälice:{HASH}:superuser:{TIME}\n\
         bob:{HASH}:disabled:{TIME}\n#\ncarol d:{HASH}:superuser,disabled:{TIME}\n"
    );
    let users = Users::parse(text.as_bytes()).expect("it is well-formed");
    assert_eq!(users.to_text(), text);
    assert_eq!(users.iter().map(|(name, _)| name).collect::<Vec<_>>(), ["pump-7", "älice", "bob", "carol d"]);
    assert_eq!(users.get("pump-7"), Some(&user(false, false)));
    assert_eq!(users.get("älice"), Some(&user(true, false)));
    assert_eq!(users.get("bob"), Some(&user(false, true)));
    assert_eq!(users.get("carol d"), Some(&user(true, true)));
    assert_eq!(users.get("Bob"), None);
}

#[test]
fn changes_leave_the_other_lines_alone() {
    let text = format!("breakwater-users 1\n# one\na:{HASH}::{TIME}\n# two\nb:{HASH}::{TIME}\n# three\n");
    let mut users = Users::parse(text.as_bytes()).expect("it is well-formed");
    users.set("b", user(true, false));
    users.set("c", user(false, false));
    assert!(users.remove("a").is_some() && users.remove("a").is_none());
    assert_eq!(
        users.to_text(),
        format!("breakwater-users 1\n# one\n# two\nb:{HASH}:superuser:{TIME}\n# three\nc:{HASH}::{TIME}\n")
    );
}

#[test]
fn a_new_file_has_a_header() {
    let mut users = Users::default();
    users.set("a", user(false, false));
    let text = users.to_text();
    assert!(text.starts_with("breakwater-users 1\n"), "{text}");
    assert_eq!(Users::parse(text.as_bytes()).expect("it is well-formed").get("a"), users.get("a"));
    users.remove("a");
    assert!(Users::parse(users.to_text().as_bytes()).expect("no users are fine").is_empty());
}

#[test]
fn what_cant_be_read_is_told_with_its_line() {
    let line = |line: &str| format!("breakwater-users 1\n{line}\n");
    let good = format!("a:{HASH}::{TIME}");
    for (text, number, about) in [
        (String::new(), 1, "cut off"),
        ("# only this\n".into(), 1, "cut off"),
        ("breakwater-users 2\n".into(), 1, "should be"),
        (format!("{good}\n"), 1, "should be"),
        ("breakwater-users 1".into(), 1, "no end"),
        (format!("breakwater-users 1\n{good}"), 2, "no end"),
        (format!("breakwater-users 1\n{}", &good[..good.len() - 5]), 2, "no end"),
        (line("a"), 2, "four fields"),
        (line(&format!("a:{HASH}")), 2, "four fields"),
        (line(&format!(":{HASH}::{TIME}")), 2, "is empty"),
        (line(&format!(" a:{HASH}::{TIME}")), 2, "space"),
        (line(&format!("a:secret::{TIME}")), 2, "not a hashed password"),
        (line(&format!("a:::{TIME}")), 2, "not a hashed password"),
        (line(&format!("a:{HASH}:admin:{TIME}")), 2, "flags"),
        (line(&format!("a:{HASH}:superuser,superuser:{TIME}")), 2, "flags"),
        (line(&format!("a:{HASH}:,:{TIME}")), 2, "flags"),
        (line(&format!("a:{HASH}::yesterday")), 2, "time"),
        (line(&format!("{good}:")), 2, "time"),
        (line(&format!("{good}\r")), 2, "carriage return"),
        (line(&format!("\u{1b}{good}")), 2, "control"),
        (line(&format!("{good}\n{good}")), 3, "above already"),
        (line(&"x".repeat(2000)), 2, "longer"),
    ] {
        let faults = Users::parse(text.as_bytes()).expect_err(&text);
        assert_eq!(faults[0].line, number, "{text}: {faults:?}");
        assert!(faults[0].text.contains(about), "{text}: {faults:?}");
        assert!(faults.iter().all(|fault| !fault.text.contains('\n') && !fault.text.contains("secret")), "{faults:?}");
    }
    let faults = Users::parse(b"breakwater-users 1\n\xff\n").expect_err("no UTF-8");
    assert_eq!((faults[0].line, &*faults[0].text), (2, "is not UTF-8"));
}

#[test]
fn all_faults_are_told_at_once_up_to_twenty() {
    let text = format!("breakwater-users 1\n{}", "x\n".repeat(50));
    let faults = Users::parse(text.as_bytes()).expect_err("none of them is well-formed");
    assert_eq!(faults.iter().map(|fault| fault.line).collect::<Vec<_>>(), (2..22).collect::<Vec<_>>());
}

#[test]
fn a_file_is_made_private_and_replaced_at_once() {
    let scratch = Scratch::new();
    let file = scratch.file();
    assert!(file.load().expect("no file, no users").is_empty());
    file.change(|users| {
        users.set("a", user(false, false));
        Ok(())
    })
    .expect("it can be written");
    let before = file.stamp();
    file.change(|users| {
        users.set("b", user(false, false));
        Ok(())
    })
    .expect("it can be written");
    assert_ne!(file.stamp(), before);
    assert_eq!(file.load().expect("it can be read").len(), 2);
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt as _;
        let mode = |path: &std::path::Path| fs::metadata(path).expect("it is there").mode() & 0o777;
        assert_eq!(mode(file.path()), 0o600);
        assert_eq!(mode(&scratch.0), 0o700);
    }
    let names: Vec<_> =
        fs::read_dir(&scratch.0).expect("it is there").map(|entry| entry.expect("one").file_name()).collect();
    assert_eq!(names.len(), 2, "the file and its lock: {names:?}");
}

#[test]
fn a_change_that_is_declined_or_meets_a_fault_leaves_the_file_alone() {
    let scratch = Scratch::new();
    let file = scratch.file();
    fs::create_dir_all(&scratch.0).expect("a directory");
    let text = format!("breakwater-users 1\na:{HASH}::{TIME}\n");
    fs::write(file.path(), &text).expect("it can be written");
    let declined = file.change(|users| {
        users.remove("a");
        Err::<(), _>("not today".into())
    });
    assert_eq!(declined.expect_err("declined").lines(), ["not today"]);
    assert_eq!(fs::read_to_string(file.path()).expect("it is there"), text);
    let half = &text[..text.len() - 30];
    fs::write(file.path(), half).expect("it can be written");
    let fault = file.change(|_| Ok(())).expect_err("half a file");
    assert!(fault.lines()[0].contains("line 2"), "{fault:?}");
    assert_eq!(fs::read_to_string(file.path()).expect("it is there"), half);
}

#[test]
fn writers_at_the_same_time_lose_nothing() {
    let scratch = Scratch::new();
    let file = scratch.file();
    thread::scope(|scope| {
        for number in 0..8 {
            let file = &file;
            scope.spawn(move || {
                let added = file.change(|users| {
                    users.set(&format!("user-{number}"), user(false, false));
                    Ok(())
                });
                added.expect("its turn comes");
            });
        }
    });
    assert_eq!(file.load().expect("it can be read").len(), 8);
}

#[cfg(unix)]
#[test]
fn a_file_that_everybody_can_change_is_not_believed() {
    use std::os::unix::fs::PermissionsExt as _;
    let scratch = Scratch::new();
    let file = scratch.file();
    fs::create_dir_all(file.path()).expect("a directory in its place");
    assert!(file.load().expect_err("no file").lines()[0].contains("should be a file"));
    fs::remove_dir(file.path()).expect("it is empty");
    fs::write(file.path(), "breakwater-users 1\n").expect("it can be written");
    fs::set_permissions(file.path(), fs::Permissions::from_mode(0o666)).expect("it is ours");
    assert!(file.load().expect_err("open to all").lines()[0].contains("chmod 600"));
}

#[test]
fn password_files_of_mosquitto_are_taken_over_line_by_line() {
    let text = "# comment\nold:$6$c2FsdHNhbHRzYWx0$3aiBbchfIZo+1WYrkPzJjQxZ79F/NmwLQ+wF073kTd+6ANhaic8G/jWF/X4sqSFUKpLNdm1FZjBck6HQ8knM3A==\n\
                plain:secret\nnobody\n:x\nwin:$7$101$3sqOy4vbHWbZptYj$1R259uIT3Vw82qbsN3mHpMP2vgTIGIf9PkA8koKc3dgM76ei260m8mBFPh4+ywdVNTkt5Xfu6Dvme27nfue67A==\r\n";
    let imported = import(text.as_bytes(), 7);
    assert_eq!(imported.users.iter().map(|(name, _)| &**name).collect::<Vec<_>>(), ["old", "win"]);
    assert!(imported.users.iter().all(|(_, user)| user.created_s == 7 && !user.password.is_ours()));
    assert_eq!(imported.left.iter().map(|fault| fault.line).collect::<Vec<_>>(), [3, 4, 5]);
    assert!(imported.left.iter().all(|fault| !fault.text.contains("secret")));
}
