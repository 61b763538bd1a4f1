//! Signals: SIGHUP reads the configuration again; the first of the others asks for a stop, the second doesn't wait.

use std::io;
use std::thread;

/// Exit code after a second signal: that of a program ended by SIGINT.
const INTERRUPTED: i32 = 130;

/// Calls `reload` at each SIGHUP and `stop` at the first SIGTERM or SIGINT. A second one of these ends the process at once. SIGPIPE
/// is ignored already, by the start-up code of every Rust program.
pub(crate) fn watch(
    stop: impl FnOnce(&'static str) + Send + 'static,
    reload: impl Fn() + Send + 'static,
) -> io::Result<()> {
    #[cfg(unix)]
    {
        use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
        let mut signals = signal_hook::iterator::Signals::new([SIGTERM, SIGINT, SIGHUP])?;
        // On a thread of its own: a stop has to be heard meanwhile. One that waits is enough, it reads what is there then.
        let (ask, asked) = std::sync::mpsc::sync_channel(1);
        thread::Builder::new().name("reload".into()).spawn(move || asked.iter().for_each(|()| reload()))?;
        let body = move || {
            let mut stop = Some(stop);
            for signal in signals.forever() {
                match (signal, stop.take()) {
                    (SIGHUP, before) => {
                        stop = before;
                        let _ = ask.try_send(());
                    }
                    (SIGTERM, Some(stop)) => stop("SIGTERM"),
                    (_, Some(stop)) => stop("SIGINT"),
                    (_, None) => std::process::exit(INTERRUPTED),
                }
            }
        };
        thread::Builder::new().name("signals".into()).spawn(body)?;
    }
    #[cfg(not(unix))]
    drop((stop, reload));
    Ok(())
}
