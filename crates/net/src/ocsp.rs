//! Keeps the OCSP answers that TLS listeners staple current: asks the responders that certificates name, by plain HTTP.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::path::PathBuf;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use breakwater_transport::tls::{OcspQuestion, ServerTls};

/// One thread for the certificates of one [`ServerTls`]; it ends when this value is dropped.
pub struct Stapler {
    /// Dropped to wake and end the thread. It is not waited for: it may hang in a connection for some seconds.
    _alive: mpsc::Sender<()>,
    /// The last note about each certificate.
    notes: Arc<Mutex<Vec<OcspNote>>>,
}

/// What became of one question: for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OcspNote {
    /// File of the certificate.
    pub certificate: PathBuf,
    /// Until when its answer is shown, in seconds since 1970; or why there is none, in one line.
    pub outcome: Result<i64, Box<str>>,
}

impl OcspNote {
    /// One line, if it is bad news.
    #[must_use]
    pub fn warning(&self) -> Option<String> {
        let why = self.outcome.as_ref().err()?;
        Some(format!("{}: its OCSP answer could not be fetched: {why}", self.certificate.display()))
    }
}

/// A responder gets so much time for an answer.
const PATIENCE: Duration = Duration::from_secs(15);
/// Longest answer; those of real responders are below 3 KiB.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// Time until the next try after a failure: doubled up to an hour.
const RETRY_S: i64 = 60;
const RETRY_MAX_S: i64 = 3600;
/// Nobody is asked more often than that, whatever an answer says.
const ASK_AGAIN_MIN_S: i64 = 60;
/// The wall clock may be set: it is looked at at least that often.
const NAP_MAX_S: i64 = 600;

impl Stapler {
    /// Starts to ask. `None` if there is nothing to be asked.
    ///
    /// # Errors
    /// If no thread can be started.
    pub fn start(tls: ServerTls, mut tell: impl FnMut(OcspNote) + Send + 'static) -> io::Result<Option<Self>> {
        if tls.questions.is_empty() {
            return Ok(None);
        }
        let (alive, gone) = mpsc::channel();
        let notes = Arc::new(Mutex::new(Vec::new()));
        let mut tell = {
            let notes = Arc::clone(&notes);
            move |note: OcspNote| {
                keep(&notes, &note);
                tell(note);
            }
        };
        let body = move || {
            let mut duties: Vec<Duty> = tls.questions.iter().map(Duty::new).collect();
            loop {
                for duty in &mut duties {
                    duty.work(&tls, unix_s(), &mut tell);
                }
                let now_s = unix_s();
                let next_s = duties.iter().map(|duty| duty.next_s).min().unwrap_or(i64::MAX);
                let nap_s = next_s.saturating_sub(now_s).clamp(1, NAP_MAX_S);
                match gone.recv_timeout(Duration::from_secs(nap_s.unsigned_abs())) {
                    Err(RecvTimeoutError::Timeout) => {}
                    _ => return,
                }
            }
        };
        thread::Builder::new().name("ocsp".into()).spawn(body)?;
        Ok(Some(Self { _alive: alive, notes }))
    }

    /// What became of the last question about each certificate; empty as long as none was answered.
    #[must_use]
    pub fn notes(&self) -> Vec<OcspNote> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn keep(notes: &Mutex<Vec<OcspNote>>, note: &OcspNote) {
    let mut notes = notes.lock().unwrap_or_else(PoisonError::into_inner);
    notes.retain(|other| other.certificate != note.certificate);
    notes.push(note.clone());
}

/// One question, and when it is to be asked again.
struct Duty {
    index: usize,
    question: OcspQuestion,
    next_s: i64,
    /// An answer is shown until then.
    shown_until_s: Option<i64>,
    failures: u32,
}

impl Duty {
    fn new((index, question): &(usize, OcspQuestion)) -> Self {
        Self { index: *index, question: question.clone(), next_s: 0, shown_until_s: None, failures: 0 }
    }

    fn work(&mut self, tls: &ServerTls, now_s: i64, tell: &mut impl FnMut(OcspNote)) {
        if self.shown_until_s.is_some_and(|until_s| until_s <= now_s) {
            self.shown_until_s = None;
            tls.staple(self.index, None);
        }
        if self.next_s > now_s {
            return;
        }
        let outcome = self.ask(now_s).map(|(der, until_s, refresh_s)| {
            tls.staple(self.index, Some(der));
            self.shown_until_s = Some(until_s);
            self.failures = 0;
            self.next_s = refresh_s.max(now_s + ASK_AGAIN_MIN_S);
            until_s
        });
        if outcome.is_err() {
            self.next_s = now_s + (RETRY_S << self.failures.min(10)).min(RETRY_MAX_S);
            self.failures += 1;
        }
        let certificate = tls.certificates.get(self.index).map(|facts| facts.file.clone()).unwrap_or_default();
        tell(OcspNote { certificate, outcome });
    }

    /// The answer, until when it may be shown, and when to ask again.
    fn ask(&self, now_s: i64) -> Result<(Vec<u8>, i64, i64), Box<str>> {
        let url = self.question.url.as_deref().ok_or("the certificate names no OCSP responder")?;
        let body = post(url, &self.question.request).map_err(|why| format!("{url}: {why}"))?;
        let answer = self.question.accept(&body, now_s.unsigned_abs()).map_err(|fault| format!("{url}: {fault}"))?;
        let refresh_s = answer.refresh_at_s();
        Ok((answer.der, answer.next_update_s, refresh_s))
    }
}

fn unix_s() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_secs()).unwrap_or(i64::MAX)
}

/// One POST in HTTP/1.0, so that the answer ends where the connection ends or after the length that it names.
fn post(url: &str, body: &[u8]) -> Result<Vec<u8>, String> {
    let (authority, path) = split_url(url)?;
    let deadline = Instant::now() + PATIENCE;
    let mut socket = connect(authority, deadline)?;
    let head = format!(
        "POST {path} HTTP/1.0\r\nHost: {authority}\r\nContent-Type: application/ocsp-request\r\nAccept: application/ocsp-response\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    let failed = |error: io::Error| format!("the connection failed: {error}");
    socket.set_write_timeout(Some(PATIENCE)).map_err(failed)?;
    socket.write_all(head.as_bytes()).and_then(|()| socket.write_all(body)).map_err(failed)?;
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err("no whole answer within 15 seconds".into());
        }
        socket.set_read_timeout(Some(left)).map_err(failed)?;
        let count = socket.read(&mut buffer).map_err(failed)?;
        answer.extend_from_slice(&buffer[..count]);
        if answer.len() > ANSWER_BYTES_MAX {
            return Err("the answer is beyond 64 KiB".into());
        }
        if let Some(content) = content(&answer, count == 0)? {
            return Ok(content.to_vec());
        }
    }
}

/// Host with port, and path, of an `http://` address.
fn split_url(url: &str) -> Result<(&str, &str), String> {
    let rest = url.strip_prefix("http://").ok_or("only http:// is asked")?;
    let end = rest.find('/').unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    // Such an address comes from a certificate: nothing in it may add lines to the request.
    let clean = url.bytes().all(|byte| byte.is_ascii_graphic());
    if authority.is_empty() || authority.contains('@') || !clean {
        return Err("is no address of a responder".into());
    }
    Ok((authority, if path.is_empty() { "/" } else { path }))
}

fn connect(authority: &str, deadline: Instant) -> Result<TcpStream, String> {
    let has_port =
        authority.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
    let target = if has_port { authority.to_owned() } else { format!("{authority}:80") };
    let addresses = target.to_socket_addrs().map_err(|error| format!("the name can't be resolved: {error}"))?;
    let mut last = "the name has no address".to_owned();
    for address in addresses {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        match TcpStream::connect_timeout(&address, left) {
            Ok(socket) => return Ok(socket),
            Err(error) => last = format!("{address} can't be reached: {error}"),
        }
    }
    Err(last)
}

/// The body of an answer, once it is whole. `ended`: no more will come.
fn content(answer: &[u8], ended: bool) -> Result<Option<&[u8]>, String> {
    let Some(end) = answer.windows(4).position(|window| window == b"\r\n\r\n") else {
        return if ended { Err("the answer is not HTTP, or not whole".into()) } else { Ok(None) };
    };
    let head = std::str::from_utf8(&answer[..end]).map_err(|_| "the answer is not HTTP")?;
    let body = &answer[end + 4..];
    let mut lines = head.split("\r\n");
    let status = lines.next().unwrap_or_default();
    let mut words = status.split(' ');
    if !words.next().is_some_and(|version| version.starts_with("HTTP/1.")) {
        return Err("the answer is not HTTP".into());
    }
    let code = words.next().unwrap_or_default();
    if code != "200" {
        return Err(format!("the responder answers HTTP {}", code.escape_default().take(16).collect::<String>()));
    }
    let mut length = None;
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        if name.eq_ignore_ascii_case("content-length") {
            length = Some(value.trim().parse::<usize>().map_err(|_| "the answer has an odd length")?);
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            return Err("the answer comes in chunks, which nobody has asked for".into());
        }
    }
    match length {
        Some(length) if body.len() >= length => Ok(Some(&body[..length])),
        None if ended => Ok(Some(body)),
        Some(_) if ended => Err("the answer is cut off".into()),
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests;
