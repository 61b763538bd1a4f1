//! Signals: the first asks for a stop, the second doesn't wait.

use std::io;
use std::thread;

/// Exit code after a second signal: that of a program ended by SIGINT.
const INTERRUPTED: i32 = 130;

/// Calls `stop` at the first SIGTERM or SIGINT. A second one ends the process at once. SIGPIPE is ignored already, by the
/// start-up code of every Rust program.
pub(crate) fn on_stop(stop: impl FnOnce(&'static str) + Send + 'static) -> io::Result<()> {
    #[cfg(unix)]
    {
        use signal_hook::consts::{SIGINT, SIGTERM};
        let mut signals = signal_hook::iterator::Signals::new([SIGTERM, SIGINT])?;
        let body = move || {
            let mut stop = Some(stop);
            for signal in signals.forever() {
                match stop.take() {
                    Some(stop) => stop(if signal == SIGTERM { "SIGTERM" } else { "SIGINT" }),
                    None => std::process::exit(INTERRUPTED),
                }
            }
        };
        thread::Builder::new().name("signals".into()).spawn(body)?;
    }
    #[cfg(not(unix))]
    drop(stop);
    Ok(())
}
