//! `breakwater users`: who has a name here. Works on the users file; a running broker notices.
//!
//! Passwords come from a terminal, a file or chance, never from the command line, where every user of the machine could read
//! them.

use std::fmt::Write as _;
use std::io::{self, Read, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use breakwater_auth::users::{FileFault, User, Users, UsersFile, import};
use breakwater_auth::{Hasher, PASSWORD_BYTES_MAX, check_name, generate_password};
use clap::{Args, Subcommand};

use crate::clock::now_s;
use crate::{USAGE, complain, print};

#[derive(Subcommand)]
pub(crate) enum UsersCommand {
    /// Add a user; the password is asked for.
    Add {
        /// Name of the user.
        name: String,
        #[command(flatten)]
        password: PasswordSource,
        /// The user may do everything.
        #[arg(long)]
        superuser: bool,
    },
    /// List all users.
    List,
    /// Remove a user.
    Remove {
        /// Name of the user.
        name: String,
    },
    /// Give a user another password.
    Passwd {
        /// Name of the user.
        name: String,
        #[command(flatten)]
        password: PasswordSource,
    },
    /// Let a user in again.
    Enable {
        /// Name of the user.
        name: String,
    },
    /// Keep a user out, without removing it.
    Disable {
        /// Name of the user.
        name: String,
    },
    /// Take over users from a file of `mosquitto_passwd`.
    Import {
        /// The file.
        file: PathBuf,
        /// Also those that exist here already.
        #[arg(long)]
        replace: bool,
    },
}

/// Where a password comes from, if it is not asked for.
#[derive(Args)]
pub(crate) struct PasswordSource {
    /// Take the password from the first line of this file; - for the standard input.
    #[arg(long, value_name = "FILE", conflicts_with = "generate")]
    password_file: Option<PathBuf>,
    /// Make a password that nobody can guess, and print it once.
    #[arg(long)]
    generate: bool,
}

/// What went wrong, one line each, and whose fault it was.
struct Fault {
    lines: Vec<String>,
    usage: bool,
}

impl From<FileFault> for Fault {
    fn from(fault: FileFault) -> Self {
        Self { lines: fault.lines(), usage: false }
    }
}

fn wrong(line: impl Into<String>) -> Fault {
    Fault { lines: vec![line.into()], usage: true }
}

/// Runs one of the commands on the users of this data directory.
pub(crate) fn run(command: &UsersCommand, data: &Path) -> ExitCode {
    let file = UsersFile::in_directory(data);
    let done = match command {
        UsersCommand::Add { name, password, superuser } => add(&file, name, password, *superuser),
        UsersCommand::List => list(&file),
        UsersCommand::Remove { name } => remove(&file, name),
        UsersCommand::Passwd { name, password } => passwd(&file, name, password),
        UsersCommand::Enable { name } => set_disabled(&file, name, false),
        UsersCommand::Disable { name } => set_disabled(&file, name, true),
        UsersCommand::Import { file: from, replace } => take_over(&file, from, *replace),
    };
    match done {
        Ok(code) => code,
        Err(fault) => {
            fault.lines.iter().for_each(|line| complain(line));
            if fault.usage { ExitCode::from(USAGE) } else { ExitCode::FAILURE }
        }
    }
}

fn add(file: &UsersFile, name: &str, source: &PasswordSource, superuser: bool) -> Result<ExitCode, Fault> {
    check_name(name).map_err(|fault| wrong(format!("the name {name:?} {fault}")))?;
    let exists = || format!("user {name:?} exists already; `breakwater users passwd` gives it another password");
    // Asked for nothing if it is there already; asked again below, where nobody can come between.
    if file.load()?.get(name).is_some() {
        return Err(wrong(exists()));
    }
    let password = source.password(name)?;
    let hashed = Hasher::default().hash(password.text.as_bytes());
    file.change(|users| {
        if users.get(name).is_some() {
            return Err(exists());
        }
        users.set(name, User { password: hashed, superuser, disabled: false, created_s: now_s() });
        Ok(())
    })?;
    password.tell();
    Ok(say(&format!("user {name:?} is in {}; a running broker knows it from now on", file.path().display())))
}

fn passwd(file: &UsersFile, name: &str, source: &PasswordSource) -> Result<ExitCode, Fault> {
    known(&file.load()?, name).map_err(wrong)?;
    let password = source.password(name)?;
    let hashed = Hasher::default().hash(password.text.as_bytes());
    file.change(|users| {
        let user = known(users, name)?;
        users.set(name, User { password: hashed, ..user });
        Ok(())
    })?;
    password.tell();
    Ok(say(&format!("user {name:?} has another password; {ENDED}")))
}

fn remove(file: &UsersFile, name: &str) -> Result<ExitCode, Fault> {
    file.change(|users| {
        known(users, name)?;
        users.remove(name);
        Ok(())
    })?;
    Ok(say(&format!("user {name:?} is removed; {ENDED}")))
}

fn set_disabled(file: &UsersFile, name: &str, disabled: bool) -> Result<ExitCode, Fault> {
    file.change(|users| {
        let user = known(users, name)?;
        users.set(name, User { disabled, ..user });
        Ok(())
    })?;
    Ok(say(&if disabled { format!("user {name:?} is disabled; {ENDED}") } else { format!("user {name:?} is enabled") }))
}

/// What becomes of clients that are connected.
const ENDED: &str = "a running broker ends the connections of its clients within a second";

/// Users whose passwords are tried: it takes a quarter of a second for each.
const TRIED_MAX: usize = 64;

/// All users, and whether each one's password is among those that everybody tries first.
pub(crate) fn guessed(data: &Path) -> Result<Vec<(String, bool)>, Vec<String>> {
    let users = UsersFile::in_directory(data).load().map_err(|fault| fault.lines())?;
    let mut hasher = Hasher::default();
    let all = users.iter().enumerate().map(|(at, (name, user))| {
        let tried = at < TRIED_MAX && !user.disabled;
        (name.to_owned(), tried && breakwater_auth::is_guessed_first(&mut hasher, name, &user.password))
    });
    Ok(all.collect())
}

fn known(users: &Users, name: &str) -> Result<User, String> {
    let unknown = || format!("there is no user {name:?}; `breakwater users list` lists them");
    users.get(name).cloned().ok_or_else(unknown)
}

fn list(file: &UsersFile) -> Result<ExitCode, Fault> {
    let users = file.load()?;
    if users.is_empty() {
        return Ok(say(&format!("no users in {}; `breakwater users add NAME` adds one", file.path().display())));
    }
    Ok(print(table(&users).as_bytes()))
}

/// A line for each user, sorted by name.
fn table(users: &Users) -> String {
    let mut all: Vec<(&str, &User)> = users.iter().collect();
    all.sort_unstable_by_key(|(name, _)| *name);
    let width = all.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0).max(4);
    let mut text = format!("{:width$}  ADDED                 FLAGS\n", "NAME");
    for (name, user) in all {
        let flags = [
            (user.superuser, "superuser"),
            (user.disabled, "disabled"),
            (!user.password.is_ours(), "password is hashed anew at the next log-in"),
        ];
        let flags: Vec<&str> = flags.into_iter().filter_map(|(set, flag)| set.then_some(flag)).collect();
        let line = format!("{name:width$}  {}  {}", user.created(), flags.join(", "));
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
}

fn take_over(file: &UsersFile, from: &Path, replace: bool) -> Result<ExitCode, Fault> {
    let bytes = read_bounded(from, breakwater_auth::users::FILE_BYTES_MAX + 1)
        .map_err(|fault| wrong(format!("can't read {}: {fault}", from.display())))?;
    let imported = import(&bytes, now_s());
    let mut left: Vec<String> =
        imported.left.iter().map(|fault| format!("{}: {fault}; left out", from.display())).collect();
    let mut count = 0;
    file.change(|users| {
        for (name, user) in imported.users {
            if users.get(&name).is_some() && !replace {
                left.push(format!("user {name:?} exists already; left out (--replace takes it)"));
                continue;
            }
            users.set(&name, user);
            count += 1;
        }
        Ok(())
    })?;
    left.iter().for_each(|line| complain(line));
    let (path, out) = (file.path().display(), left.len());
    let text = format!(
        "{count} users taken over into {path}, {out} left out; their passwords are hashed anew at the next log-in"
    );
    say(&text);
    Ok(if left.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A password, and whether somebody has to be told.
struct Password {
    text: String,
    made: bool,
}

impl Password {
    /// Prints it, alone in its line, if nobody knows it yet.
    fn tell(&self) {
        if self.made {
            print(format!("{}\n", self.text).as_bytes());
        }
    }
}

impl PasswordSource {
    fn password(&self, name: &str) -> Result<Password, Fault> {
        if self.generate {
            return Ok(Password { text: generate_password(), made: true });
        }
        let text = match &self.password_file {
            Some(path) => from_file(path)?,
            None => asked_for(name)?,
        };
        if text.is_empty() {
            return Err(wrong("the password is empty; --generate makes one"));
        }
        if text.len() > PASSWORD_BYTES_MAX {
            return Err(wrong(format!("the password is longer than {PASSWORD_BYTES_MAX} bytes")));
        }
        Ok(Password { text, made: false })
    }
}

fn from_file(path: &Path) -> Result<String, Fault> {
    let most = PASSWORD_BYTES_MAX + 3;
    let read = if path == Path::new("-") { bounded(io::stdin().lock(), most) } else { read_bounded(path, most) };
    let bytes = read.map_err(|fault| wrong(format!("can't read the password from {}: {fault}", path.display())))?;
    let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let text = str::from_utf8(line).map_err(|_| wrong(format!("the password in {} is not UTF-8", path.display())))?;
    Ok(text.to_owned())
}

fn asked_for(name: &str) -> Result<String, Fault> {
    let ask = |prompt: &str| {
        rpassword::prompt_password(prompt).map_err(|fault| {
            wrong(format!("can't ask for a password here ({fault}); use --password-file FILE or --generate"))
        })
    };
    let text = ask(&format!("Password for {name}: "))?;
    if ask("The same again: ")? == text { Ok(text) } else { Err(wrong("the two passwords differ")) }
}

fn read_bounded(path: &Path, most: usize) -> io::Result<Vec<u8>> {
    bounded(std::fs::File::open(path)?, most)
}

fn bounded(from: impl Read, most: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(most as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// To the terminal, beside what programs read.
fn say(line: &str) -> ExitCode {
    let _ = writeln!(io::stderr(), "{line}");
    ExitCode::SUCCESS
}
