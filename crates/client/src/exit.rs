//! Exit codes of the command line tools, the ones that scripts written for the Mosquitto tools test for.

use std::process::ExitCode;

/// What the process returns to its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit(pub u8);

impl Exit {
    pub const OK: Exit = Exit(0);
    /// A wrong argument, a file that can't be read, or nobody listening at the address.
    pub const USAGE: Exit = Exit(1);
    /// The peer doesn't speak MQTT as the specification says.
    pub const PROTOCOL: Exit = Exit(2);
    /// The connection ended before the work was done.
    pub const LOST: Exit = Exit(7);
    /// No answer to PINGREQ.
    pub const KEEP_ALIVE: Exit = Exit(19);
    /// The server takes no packets of this size.
    pub const TOO_LARGE: Exit = Exit(25);
    pub const QOS_NOT_SUPPORTED: Exit = Exit(24);
    pub const RETAIN_NOT_SUPPORTED: Exit = Exit(28);
    /// `sub -W`: the time is over.
    pub const TIMED_OUT: Exit = Exit(27);
}

impl Exit {
    /// The code for a command line that clap has not let through, or that asked for help.
    pub fn of_command_line(error: &clap::Error) -> Exit {
        if error.use_stderr() { Exit::USAGE } else { Exit::OK }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit.0)
    }
}
