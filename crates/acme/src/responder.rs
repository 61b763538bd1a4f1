//! Answers HTTP-01: a small server that is open only while a proof is under way, and that knows nothing but its answer.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::Options;
use crate::fault::Fault;

/// Where authorities ask.
const PREFIX: &str = "/.well-known/acme-challenge/";
/// Longest head of a request: those of authorities are below 500 bytes.
const HEAD_BYTES_MAX: usize = 4096;
/// Connections at once. An authority makes a handful, from several places in the world.
const CONNECTIONS_MAX: usize = 32;
/// For one connection.
const PATIENCE: Duration = Duration::from_secs(10);

/// Open until it is dropped.
pub(crate) struct Responder {
    answers: Answers,
    task: JoinHandle<()>,
}

/// Paths with what is to be found there.
type Answers = Arc<Mutex<Vec<(String, String)>>>;

impl Responder {
    /// Opens it where the settings say.
    pub(crate) fn open(options: &Options) -> Result<Self, Fault> {
        let listener = bind(&options.bind).map_err(|fault| Fault::new(words(options, &fault)))?;
        let answers = Answers::default();
        let task = tokio::spawn(serve(listener, Arc::clone(&answers)));
        Ok(Self { answers, task })
    }

    /// Answers the question for `token`.
    pub(crate) fn answer(&self, token: &str, authorization: &str) {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        answers.push((format!("{PREFIX}{token}"), authorization.to_owned()));
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The addresses that a setting means, the first of which that there is counts.
pub(crate) fn addresses(bind: &str) -> Option<Vec<SocketAddr>> {
    match bind.parse::<u16>() {
        // One of IPv6 takes IPv4 too, where the machine knows both.
        Ok(port) => Some(vec![(Ipv6Addr::UNSPECIFIED, port).into(), (Ipv4Addr::UNSPECIFIED, port).into()]),
        Err(_) => bind.parse().ok().map(|address| vec![address]),
    }
}

fn bind(bind: &str) -> io::Result<TcpListener> {
    let mut last = ErrorKind::InvalidInput.into();
    for address in addresses(bind).unwrap_or_default() {
        match std::net::TcpListener::bind(address) {
            Ok(listener) => {
                listener.set_nonblocking(true)?;
                return TcpListener::from_std(listener);
            }
            // What is wrong with the first one is wrong with the other too, unless there is no such family.
            Err(fault) if matches!(fault.kind(), ErrorKind::AddrInUse | ErrorKind::PermissionDenied) => {
                return Err(fault);
            }
            Err(fault) => last = fault,
        }
    }
    Err(last)
}

fn words(options: &Options, fault: &io::Error) -> String {
    let (name, bind) = (&options.name, &options.bind);
    let why = match fault.kind() {
        ErrorKind::AddrInUse => {
            format!(
                "another program has that port (`ss -lntp` shows it): let it forward /.well-known/acme-challenge/ to another port and \
                 name that as acme.{name}.bind, or set acme.{name}.challenge = \"tls-alpn-01\""
            )
        }
        ErrorKind::PermissionDenied => format!(
            "a port below 1024 takes a right that this process lacks: forward port 80 to one above 1023 and name that as \
             acme.{name}.bind, or give the right: AmbientCapabilities=CAP_NET_BIND_SERVICE in the systemd unit, `setcap \
             cap_net_bind_service=+ep` on the program, or `sysctl net.ipv4.ip_unprivileged_port_start=80`"
        ),
        _ => format!("{fault}; see acme.{name}.bind"),
    };
    format!("the authority's question can't be answered at {bind}: {why}")
}

async fn serve(listener: TcpListener, answers: Answers) {
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Out of descriptors, most likely: others need a moment to give some back.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let Ok(place) = Arc::clone(&room).try_acquire_owned() else { continue };
        let answers = Arc::clone(&answers);
        tokio::spawn(async move {
            // Whoever is too slow or gone gets no answer.
            let _ = timeout(PATIENCE, converse(stream, &answers)).await;
            drop(place);
        });
    }
}

async fn converse(mut stream: TcpStream, answers: &Answers) -> io::Result<()> {
    let mut head = Vec::new();
    let mut buffer = [0; 1024];
    while !ends(&head) && head.len() < HEAD_BYTES_MAX {
        match stream.read(&mut buffer).await? {
            0 => return Ok(()),
            count => head.extend_from_slice(&buffer[..count]),
        }
    }
    let answer = reply(&head, &answers.lock().unwrap_or_else(PoisonError::into_inner));
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await
}

fn ends(head: &[u8]) -> bool {
    head.windows(4).any(|window| window == b"\r\n\r\n") || head.windows(2).any(|window| window == b"\n\n")
}

/// The answer to a request.
fn reply(head: &[u8], answers: &[(String, String)]) -> String {
    let line = head.split(|byte| matches!(byte, b'\r' | b'\n')).next().unwrap_or_default();
    let mut words = std::str::from_utf8(line).unwrap_or_default().split(' ');
    let (method, path) = (words.next(), words.next().unwrap_or_default());
    let known = answers.iter().find(|(known, _)| method == Some("GET") && known == path && ends(head));
    let (status, body) = match known {
        Some((_, body)) => ("200 OK", body.as_str()),
        None => ("404 Not Found", "Nothing is here but proofs for an ACME server.\n"),
    };
    let kind = if known.is_some() { "application/octet-stream" } else { "text/plain" };
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_question_of_a_proof_is_answered() {
        let answers = [(format!("{PREFIX}abc"), "abc.thumb".to_owned())];
        let status = |head: &str| reply(head.as_bytes(), &answers).lines().next().unwrap_or_default().to_owned();
        let good = reply(b"GET /.well-known/acme-challenge/abc HTTP/1.1\r\nHost: a.example\r\n\r\n", &answers);
        assert!(good.starts_with("HTTP/1.1 200 OK\r\n") && good.ends_with("\r\n\r\nabc.thumb"), "{good}");
        for head in [
            "GET / HTTP/1.1\r\n\r\n",
            "GET /.well-known/acme-challenge/ HTTP/1.1\r\n\r\n",
            "GET /.well-known/acme-challenge/abcd HTTP/1.1\r\n\r\n",
            "GET /.well-known/acme-challenge/../acme-challenge/abc HTTP/1.1\r\n\r\n",
            "GET /.well-known/acme-challenge/abc?x HTTP/1.1\r\n\r\n",
            "POST /.well-known/acme-challenge/abc HTTP/1.1\r\n\r\n",
            "HEAD /.well-known/acme-challenge/abc HTTP/1.1\r\n\r\n",
            // Cut off.
            "GET /.well-known/acme-challenge/abc HTTP/1.1\r\n",
            "\r\n\r\n",
            "",
        ] {
            assert_eq!(status(head), "HTTP/1.1 404 Not Found", "{head:?}");
        }
    }

    #[test]
    fn a_bare_port_means_every_address() {
        assert_eq!(addresses("80").map(|all| all.len()), Some(2));
        assert_eq!(addresses("127.0.0.1:8080"), Some(vec![([127, 0, 0, 1], 8080).into()]));
        assert_eq!(addresses("[::1]:80").map(|all| all.len()), Some(1));
        for wrong in ["", "x", "70000", "localhost:80", "127.0.0.1"] {
            assert_eq!(addresses(wrong), None, "{wrong}");
        }
    }

    /// Runs a conversation over loopback.
    fn ask(request: &[u8]) -> Vec<u8> {
        let options = Options { bind: "127.0.0.1:0".into(), ..Options::default() };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let listener = bind(&options.bind).expect("loopback has ports");
            let address = listener.local_addr().expect("it is bound");
            let answers = Answers::default();
            let responder = Responder { answers: Arc::clone(&answers), task: tokio::spawn(serve(listener, answers)) };
            responder.answer("token", "token.thumb");
            let mut stream = TcpStream::connect(address).await.expect("it listens");
            let mut heard = Vec::new();
            // A reset after the answer is no harm: it had no use for the rest.
            let _ = stream.write_all(request).await;
            let _ = stream.read_to_end(&mut heard).await;
            heard
        })
    }

    #[test]
    fn a_request_that_never_ends_is_cut_at_its_bound() {
        let heard = ask(b"GET /.well-known/acme-challenge/token HTTP/1.1\r\nHost: x\r\n\r\n");
        assert!(heard.ends_with(b"token.thumb"));
        let long =
            [b"GET /.well-known/acme-challenge/token HTTP/1.1\r\nX: ".as_slice(), &[b'x'; HEAD_BYTES_MAX]].concat();
        let heard = ask(&long);
        assert!(heard.is_empty() || heard.starts_with(b"HTTP/1.1 404"), "{}", String::from_utf8_lossy(&heard));
    }
}
