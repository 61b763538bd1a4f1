//! Asking a node.

use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use super::{Answer, Request, path};

/// The longest a node takes for anything but going through all that it has: a reload that reads certificates from a slow disk.
const PATIENCE: Duration = Duration::from_secs(60);

/// Longest answer that is read.
const ANSWER_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Asks the node whose data directory is `data`. The error is one line.
pub(crate) fn ask(data: &Path, request: &Request) -> Result<Answer, String> {
    let socket = path(data);
    let mut stream = UnixStream::connect(&socket).map_err(|fault| match fault.kind() {
        ErrorKind::NotFound | ErrorKind::ConnectionRefused => format!(
            "no broker runs with the data directory {}; start it with `breakwater serve`, or name its directory with --data",
            data.display()
        ),
        ErrorKind::PermissionDenied => {
            format!("{} may be used only by the user whom the broker runs as, and by root", socket.display())
        }
        _ => format!("{}: {fault}", socket.display()),
    })?;
    let failed = |fault: std::io::Error| format!("{}: {fault}", socket.display());
    let goes_through_all =
        matches!(request, Request::StoreCheck | Request::StoreBackup { .. } | Request::Unretain { .. });
    stream.set_read_timeout((!goes_through_all).then_some(PATIENCE)).map_err(failed)?;
    let mut line = serde_json::to_string(request).map_err(|fault| fault.to_string())?;
    line.push('\n');
    stream.write_all(line.as_bytes()).map_err(failed)?;
    let mut answer = String::new();
    BufReader::new(stream.take(ANSWER_BYTES_MAX)).read_line(&mut answer).map_err(failed)?;
    if answer.is_empty() {
        return Err("the broker stopped before it answered".to_owned());
    }
    serde_json::from_str(&answer)
        .map_err(|_| "the broker's answer can't be read: is it of another version than this program?".to_owned())
}
