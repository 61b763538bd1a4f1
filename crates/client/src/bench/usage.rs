//! What a process has used: processor time and memory, read from `/proc`.

use std::fs;

/// Clock ticks per second in `/proc/<pid>/stat`; 100 on every Linux a binary can ask without libc.
const TICKS_PER_S: u64 = 100;

/// User plus system time of all live threads of `pid`, in nanoseconds.
///
/// `schedstat` counts the same run time as `stat` but in nanoseconds; `stat` counts in 10 ms ticks, which is ±5% of a
/// sparse run of two seconds. Where the kernel has no `schedstat` we fall back to it.
pub(super) fn cpu_ns(pid: u32) -> Option<u64> {
    from_schedstat(pid).filter(|ns| *ns > 0).or_else(|| from_stat(pid))
}

fn from_schedstat(pid: u32) -> Option<u64> {
    Some(thread_times(pid)?.iter().map(|thread| thread.cpu_ns).sum())
}

/// Processor time of one thread.
#[derive(Clone, Debug)]
pub(super) struct ThreadTime {
    id: u32,
    name: String,
    cpu_ns: u64,
}

/// What each live thread of `pid` has used; `None` where the kernel has no `schedstat`.
pub(super) fn thread_times(pid: u32) -> Option<Vec<ThreadTime>> {
    let mut times = Vec::new();
    for task in fs::read_dir(format!("/proc/{pid}/task")).ok()? {
        let path = task.ok()?.path();
        // A thread may end between the listing and the read: its time is lost either way.
        let Ok(text) = fs::read_to_string(path.join("schedstat")) else { continue };
        let cpu_ns = text.split_ascii_whitespace().next()?.parse().ok()?;
        let name = fs::read_to_string(path.join("comm")).unwrap_or_default().trim_end().to_string();
        let id = path.file_name()?.to_str()?.parse().ok()?;
        times.push(ThreadTime { id, name, cpu_ns });
    }
    Some(times)
}

/// Name and time of each thread between two readings.
pub(super) fn thread_times_between(before: &[ThreadTime], after: Vec<ThreadTime>) -> Vec<(String, u64)> {
    let earlier = |id| before.iter().find(|thread| thread.id == id).map_or(0, |thread| thread.cpu_ns);
    after.into_iter().map(|thread| (thread.name, thread.cpu_ns.saturating_sub(earlier(thread.id)))).collect()
}

fn from_stat(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command name may hold spaces and brackets: count fields behind its last bracket.
    let mut fields = text.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some((user + system) * (1_000_000_000 / TICKS_PER_S))
}

/// Resident memory of `pid` in bytes.
pub(super) fn resident_bytes(pid: u32) -> Option<u64> {
    status_bytes(pid, "VmRSS:")
}

/// Highest resident memory of `pid` since its start or since `forget_peak`.
pub(super) fn peak_bytes(pid: u32) -> Option<u64> {
    status_bytes(pid, "VmHWM:")
}

/// Starts the peak anew. Not permitted for processes of other users: the peak then counts from the process's start.
pub(super) fn forget_peak(pid: u32) {
    let _ = fs::write(format!("/proc/{pid}/clear_refs"), "5");
}

fn status_bytes(pid: u32, key: &str) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    line.split_ascii_whitespace().next()?.parse::<u64>().ok().map(|kib| kib * 1024)
}

/// The three load averages, to say how busy the machine was.
pub(super) fn load_average() -> [f64; 3] {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let mut fields = text.split_ascii_whitespace().map(|field| field.parse().unwrap_or(0.0));
    std::array::from_fn(|_| fields.next().unwrap_or(0.0))
}

/// Files this process may open at once.
pub(super) fn open_files_max() -> Option<u64> {
    let text = fs::read_to_string("/proc/self/limits").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_used_time_and_memory() {
        let pid = std::process::id();
        assert!(from_stat(pid).is_some());
        assert!(cpu_ns(pid).is_some());
        assert!(resident_bytes(pid).is_some_and(|bytes| bytes > 100_000));
        assert!(peak_bytes(pid) >= resident_bytes(pid));
        assert!(open_files_max().is_some());
    }
}
