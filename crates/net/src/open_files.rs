//! How many descriptors the process may have, and what it means to run out.

use std::io;

/// Raises the soft limit of open files to the hard one. Gives the limit that holds, if there is one.
pub fn raise_open_files() -> Option<u64> {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        let limit = getrlimit(Resource::Nofile);
        // macOS refuses "unlimited" here; what was set stays in force.
        let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
        if limit.current != limit.maximum && setrlimit(Resource::Nofile, raised).is_ok() {
            return limit.maximum;
        }
        limit.current
    }
    #[cfg(not(unix))]
    None
}

/// Whether the fault means that the process or the machine has no descriptors left.
pub fn running_out(fault: &io::Error) -> bool {
    #[cfg(unix)]
    {
        use rustix::io::Errno;
        let code = fault.raw_os_error().map(Errno::from_raw_os_error);
        matches!(code, Some(Errno::MFILE | Errno::NFILE))
    }
    #[cfg(not(unix))]
    {
        let _ = fault;
        false
    }
}
