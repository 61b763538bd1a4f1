use super::*;

/// A folder of its own, gone with the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("breakwater-config-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).expect("the temporary folder takes folders");
        Self(path)
    }

    fn file(&self) -> PathBuf {
        self.0.join("b.toml")
    }

    fn versions(&self) -> PathBuf {
        self.0.join("kept")
    }

    fn replace(&self, read: Option<&str>, text: &str, note: &str) -> io::Result<()> {
        replace(&self.file(), read, text, &self.versions(), note)
    }

    fn kept(&self) -> Vec<(String, String)> {
        let all = versions(&self.versions()).expect("readable");
        all.iter().map(|version| (version.note.clone(), content(version).expect("readable"))).collect()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_first_change_keeps_the_file_as_it_was_found() {
    let folder = Folder::new("found");
    fs::write(folder.file(), "a = 1\n").expect("writable");
    folder.replace(Some("a = 1\n"), "a = 2\n", "now\nset a").expect("fine");
    assert_eq!(fs::read_to_string(folder.file()).expect("readable"), "a = 2\n");
    let kept = [("now set a", "a = 2\n"), ("as it was found", "a = 1\n")];
    assert_eq!(folder.kept(), kept.map(|(note, text)| (note.to_owned(), text.to_owned())));
    folder.replace(Some("a = 2\n"), "a = 3\n", "then").expect("fine");
    assert_eq!(folder.kept().len(), 3);
}

#[test]
fn a_file_that_was_changed_in_between_is_left_alone() {
    let folder = Folder::new("between");
    fs::write(folder.file(), "by hand\n").expect("writable");
    assert!(folder.replace(Some("as read\n"), "new\n", "x").is_err());
    assert!(folder.replace(None, "new\n", "x").is_err());
    assert_eq!(fs::read_to_string(folder.file()).expect("readable"), "by hand\n");
    fs::remove_file(folder.file()).expect("it is there");
    assert!(folder.replace(Some("by hand\n"), "new\n", "x").is_err());
    folder.replace(None, "new\n", "x").expect("there was none and there is none");
}

#[test]
fn twenty_versions_are_kept() {
    let folder = Folder::new("twenty");
    let mut before: Option<String> = None;
    for number in 0..25 {
        let text = format!("a = {number}\n");
        folder.replace(before.as_deref(), &text, "x").expect("fine");
        before = Some(text);
    }
    let kept = folder.kept();
    assert_eq!((kept.len(), &*kept[0].1, &*kept[19].1), (20, "a = 24\n", "a = 5\n"));
}

#[cfg(unix)]
#[test]
fn links_and_permissions_stay() {
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    let folder = Folder::new("links");
    let real = folder.0.join("real.toml");
    fs::write(&real, "a\n").expect("writable");
    fs::set_permissions(&real, fs::Permissions::from_mode(0o640)).expect("it is ours");
    symlink("real.toml", folder.file()).expect("links exist here");
    folder.replace(Some("a\n"), "b\n", "x").expect("fine");
    assert!(folder.file().is_symlink());
    assert_eq!(fs::read_to_string(&real).expect("readable"), "b\n");
    assert_eq!(fs::metadata(&real).expect("there").permissions().mode() & 0o777, 0o640);
    let names: Vec<_> =
        fs::read_dir(&folder.0).expect("readable").map(|entry| entry.expect("there").file_name()).collect();
    assert_eq!(names.len(), 3, "nothing is left behind: {names:?}");
}

#[cfg(unix)]
#[test]
fn a_folder_that_takes_nothing_leaves_the_file_as_it_is() {
    let folder = Folder::new("full");
    fs::write(folder.file(), "a\n").expect("writable");
    // A folder stands where the draft would: it can't be written, whoever we are.
    fs::create_dir_all(folder.0.join(format!(".b.toml.{}.tmp", std::process::id()))).expect("writable");
    assert!(folder.replace(Some("a\n"), "b\n", "x").is_err());
    assert_eq!(fs::read_to_string(folder.file()).expect("readable"), "a\n");
}
