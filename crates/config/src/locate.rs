//! Which file is read, and where the broker keeps what it has.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// The variable that names the file.
pub const CONFIG_VARIABLE: &str = "BREAKWATER_CONFIG";
/// The variable that names the data directory.
pub const DATA_VARIABLE: &str = "BREAKWATER_DATA";

const NAME: &str = "breakwater.toml";
const SYSTEM_DATA: &str = "/var/lib/breakwater";

/// The file that is read: the named one, which has to exist, or the first of the usual ones that does.
pub fn file(
    named: Option<&Path>,
    variable: impl Fn(&str) -> Option<OsString>,
    exists: impl Fn(&Path) -> bool,
) -> Option<PathBuf> {
    let variable = |name| variable(name).filter(|value| !value.is_empty());
    if let Some(named) = named.map(Path::to_owned).or_else(|| variable(CONFIG_VARIABLE).map(PathBuf::from)) {
        return Some(named);
    }
    let home = variable("XDG_CONFIG_HOME").map(PathBuf::from);
    let home = home.or_else(|| variable("HOME").map(|home| Path::new(&home).join(".config")));
    let usual = [
        Some(PathBuf::from(NAME)),
        home.map(|home| home.join("breakwater").join(NAME)),
        Some(Path::new("/etc/breakwater").join(NAME)),
    ];
    usual.into_iter().flatten().find(|path| exists(path))
}

/// The data directory: the named one, the system's if it can be written, or one of the user's own.
pub fn data(
    named: Option<&Path>,
    variable: impl Fn(&str) -> Option<OsString>,
    writable: impl Fn(&Path) -> bool,
) -> PathBuf {
    let variable = |name| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(named) = named.map(Path::to_owned).or_else(|| variable(DATA_VARIABLE)) {
        return named;
    }
    let system = Path::new(SYSTEM_DATA);
    if writable(system) {
        return system.into();
    }
    let share = variable("XDG_DATA_HOME").or_else(|| variable("HOME").map(|home| home.join(".local/share")));
    share.map_or_else(|| system.into(), |share| share.join("breakwater"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(pairs: &'static [(&str, &str)]) -> impl Fn(&str) -> Option<OsString> {
        move |name| pairs.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into())
    }

    #[test]
    fn a_named_file_goes_before_the_usual_ones() {
        let all = |_: &Path| true;
        let none = |_: &Path| false;
        let named = variables(&[("BREAKWATER_CONFIG", "/v.toml"), ("HOME", "/home/u")]);
        assert_eq!(file(Some(Path::new("/f.toml")), &named, none), Some("/f.toml".into()));
        assert_eq!(file(None, &named, none), Some("/v.toml".into()));
        let plain = variables(&[("HOME", "/home/u"), ("BREAKWATER_CONFIG", "")]);
        assert_eq!(file(None, &plain, all), Some("breakwater.toml".into()));
        let user = |path: &Path| path.starts_with("/home") || path.starts_with("/etc");
        assert_eq!(file(None, &plain, user), Some("/home/u/.config/breakwater/breakwater.toml".into()));
        let xdg = variables(&[("HOME", "/home/u"), ("XDG_CONFIG_HOME", "/x")]);
        assert_eq!(file(None, xdg, |path| path.starts_with("/x")), Some("/x/breakwater/breakwater.toml".into()));
        assert_eq!(file(None, &plain, |path| path.starts_with("/etc")), Some("/etc/breakwater/breakwater.toml".into()));
        assert_eq!(file(None, &plain, none), None);
    }

    #[test]
    fn data_lie_with_the_system_if_that_can_be() {
        let user = variables(&[("HOME", "/home/u")]);
        assert_eq!(data(Some(Path::new("/d")), &user, |_| true), Path::new("/d"));
        assert_eq!(data(None, &user, |_| true), Path::new("/var/lib/breakwater"));
        assert_eq!(data(None, &user, |_| false), Path::new("/home/u/.local/share/breakwater"));
        let xdg = variables(&[("HOME", "/home/u"), ("XDG_DATA_HOME", "/x")]);
        assert_eq!(data(None, xdg, |_| false), Path::new("/x/breakwater"));
        assert_eq!(data(None, variables(&[("BREAKWATER_DATA", "/e")]), |_| true), Path::new("/e"));
    }
}
