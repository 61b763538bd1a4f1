//! HTTPS to the authority: one request per connection, with bounds in time and bytes.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use breakwater_transport::tls::{ClientTlsOptions, load_client};
use bytes::Bytes;
use http::header::{HOST, HeaderValue};
use http::{Request, Uri};
use http_body_util::{BodyExt as _, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::Options;
use crate::fault::Fault;

/// For one request, with all that it takes.
const PATIENCE: Duration = Duration::from_secs(60);
/// For one address of several: the next one may be better.
const CONNECT_PATIENCE: Duration = Duration::from_secs(10);
/// Longest answer: chains of certificates are below 20 KiB.
const ANSWER_BYTES_MAX: usize = 256 * 1024;

/// The client that the library speaks through.
pub(crate) struct Https {
    tls: Arc<ClientConfig>,
}

impl Https {
    pub(crate) fn new(options: &Options) -> Result<Self, Fault> {
        let authorities = options.directory_ca.iter().cloned().collect();
        let tls = load_client(&ClientTlsOptions { authorities, ..ClientTlsOptions::default() }).map_err(|faults| {
            let words: Vec<String> = faults.iter().map(ToString::to_string).collect();
            Fault::new(format!("the authority's own certificate can't be checked: {}", words.join("; ")))
        })?;
        Ok(Self { tls })
    }
}

type Answer = Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>>;

impl HttpClient for Https {
    fn request(&self, request: Request<BodyWrapper<Bytes>>) -> Answer {
        let tls = Arc::clone(&self.tls);
        Box::pin(async move {
            let uri = request.uri().clone();
            let done = timeout(PATIENCE, exchange(tls, request)).await;
            let done = done.unwrap_or_else(|_| Err("it has not answered in time".into()));
            done.map_err(|fault| {
                Error::Other(format!("{uri} can't be reached: {fault}; see whether its name, this machine's network and its certificate (acme.NAME.directory_ca) are right").into())
            })
        })
    }
}

type Cause = Box<dyn std::error::Error + Send + Sync>;

async fn exchange(tls: Arc<ClientConfig>, mut request: Request<BodyWrapper<Bytes>>) -> Result<BytesResponse, Cause> {
    let uri = request.uri().clone();
    if uri.scheme_str() != Some("https") {
        return Err("it is no https:// address".into());
    }
    let host = uri.host().unwrap_or_default();
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let stream = connect(bare, uri.port_u16().unwrap_or(443)).await?;
    let stream = TlsConnector::from(tls).connect(ServerName::try_from(bare.to_owned())?, stream).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let driver = Driver(tokio::spawn(async move {
        // What is wrong with it shows at the request.
        let _ = connection.await;
    }));
    let place = uri.path_and_query().map_or("/", |place| place.as_str());
    *request.uri_mut() = place.parse::<Uri>()?;
    let authority = uri.authority().map(|authority| authority.as_str()).unwrap_or_default();
    request.headers_mut().insert(HOST, HeaderValue::from_str(authority)?);
    let (parts, body) = sender.send_request(request).await?.into_parts();
    let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await?.to_bytes();
    drop(driver);
    Ok(BytesResponse { parts, body: Box::new(body) })
}

async fn connect(host: &str, port: u16) -> Result<TcpStream, Cause> {
    let mut last: Cause = "its name has no address".into();
    for address in lookup_host((host, port)).await? {
        match timeout(CONNECT_PATIENCE, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(fault)) => last = fault.into(),
            Err(_) => last = format!("{address} doesn't answer").into(),
        }
    }
    Err(last)
}

/// The task of a connection, ended with it.
struct Driver(tokio::task::JoinHandle<()>);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}
