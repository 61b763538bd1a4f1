//! Prints what an idle MQTT connection over QUIC costs the broker: heap, and resident memory of the process.
//!
//! `cargo run -p breakwater-net --example quic_memory [CONNECTIONS]`. The clients are a process of their own, so that nothing of
//! theirs is counted.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "its output is what it is for")]

use std::alloc::System;
use std::error::Error;
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use breakwater_net::{Bind, Journal, ListenerOptions, Node, Options, Protocols, Transport};
use breakwater_proto::{Connect, Version};
use breakwater_router::{Router, RouterOptions};
use breakwater_shard::{Event, Pages, Setup, Shard};
use breakwater_transport::tls::{CertificateFiles, TlsOptions};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, Endpoint};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> Outcome<()> {
    let args: Vec<String> = std::env::args().collect();
    match &args[1..] {
        [address, certificate, count] => clients(address.parse()?, Path::new(certificate), count.parse()?),
        [count] => broker(count.parse()?),
        _ => broker(1000),
    }
}

const SETTLE: Duration = Duration::from_secs(3);

fn broker(count: u32) -> Outcome<()> {
    let folder = std::env::temp_dir().join(format!("breakwater-quic-memory-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(vec!["localhost".to_owned()])?;
    let (certificate, key) = (folder.join("server.pem"), folder.join("server.key"));
    std::fs::write(&certificate, cert.pem())?;
    std::fs::write(&key, signing_key.serialize_pem())?;
    std::fs::write(folder.join("server.der"), cert.der())?;
    let node = start(CertificateFiles { certificate, key, ..CertificateFiles::default() })?;
    let address = node.addresses()[0];
    // The thread, its first buffers, and whatever else is there once.
    drop(hold(address, &folder, 10)?);
    until_open(&node, 0);
    let (region, resident) = (Region::new(ALLOCATOR), resident()?);
    let clients = hold(address, &folder, count)?;
    until_open(&node, count);
    // What is left of handshakes goes by timers.
    std::thread::sleep(SETTLE);
    let change = region.change();
    let heap = change.bytes_allocated as i64 - change.bytes_deallocated as i64;
    let resident = self::resident()? - resident;
    println!("{count} idle connections over QUIC, each: {} bytes of heap", heap / i64::from(count));
    println!("{count} idle connections over QUIC, each: {} bytes resident", resident / i64::from(count));
    drop(clients);
    node.stop(Duration::ZERO);
    node.join();
    std::fs::remove_dir_all(folder)?;
    Ok(())
}

fn start(files: CertificateFiles) -> Outcome<Node> {
    let listener = ListenerOptions {
        name: "quic.default".into(),
        bind: vec![Bind::Address(SocketAddr::from(([127, 0, 0, 1], 0)))],
        protocols: Protocols { quic: true, ..Protocols::NONE },
        tls: Some(TlsOptions { certificates: vec![files], ..TlsOptions::default() }),
        ..ListenerOptions::default()
    };
    let (listening, mut faults) = breakwater_net::bind(vec![listener], 1);
    if let Some(fault) = faults.pop() {
        return Err(fault.into());
    }
    let policy = Arc::new(breakwater_auth::Open);
    let setup = Setup {
        id: 0,
        shards: 1,
        options: Arc::default(),
        profiles: Vec::new(),
        zones: Vec::new(),
        router: Arc::new(Router::new(RouterOptions { shards: 1, ..RouterOptions::default() })),
        seed: 1,
        authenticator: Arc::clone(&policy) as Arc<_>,
        authorizer: policy,
        pages: Arc::new(Pages::new(1)),
        store: Arc::new(breakwater_store::Memory::default()),
        returning: Arc::new(breakwater_shard::Returning::new(1)),
    };
    let engine = move |id, now| Shard::<Transport>::new(Setup { id, ..setup.clone() }, now);
    Ok(breakwater_net::start(listening, 1, &Options::default(), engine, |_| Box::new(Silence))?)
}

struct Silence;

impl Journal for Silence {
    fn event(&mut self, _: u64, _: &Event<'_>) {}

    fn end_of_turn(&mut self) {}
}

fn until_open(node: &Node, count: u32) {
    while node.handle().listeners()[0].connections != count {
        std::thread::yield_now();
    }
}

/// Resident memory of this process, in bytes.
fn resident() -> Outcome<i64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<i64>()? * 1024)
}

/// A process with so many clients. They leave when it is dropped.
struct Clients(std::process::Child);

impl Drop for Clients {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

fn hold(address: SocketAddr, folder: &Path, count: u32) -> Outcome<Clients> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg(address.to_string()).arg(folder.join("server.der")).arg(count.to_string());
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let mut line = String::new();
    BufReader::new(child.stdout.take().ok_or("no output")?).read_line(&mut line)?;
    let clients = Clients(child);
    if line.trim() == "connected" { Ok(clients) } else { Err("the clients can't connect".into()) }
}

/// The other process: connects, says so, and leaves when its input ends.
fn clients(address: SocketAddr, certificate: &Path, count: u32) -> Outcome<()> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(std::fs::read(certificate)?))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    tls.alpn_protocols = vec![b"mqtt".to_vec()];
    let config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls)?));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    runtime.block_on(async {
        let endpoint = Endpoint::client(SocketAddr::from(([127, 0, 0, 1], 0)))?;
        let mut all = Vec::new();
        for number in 0..count {
            let connection = endpoint.connect_with(config.clone(), address, "localhost")?.await?;
            let (mut send, mut recv) = connection.open_bi().await?;
            let mut bytes = Vec::new();
            Connect::new(Version::V311, &format!("client-{number}")).encode(Version::V311, &mut bytes);
            send.write_all(&bytes).await?;
            recv.read_exact(&mut [0; 4]).await?;
            all.push((connection, send, recv));
        }
        println!("connected");
        // Blocks the connections too: they are idle.
        std::io::stdin().read_to_end(&mut Vec::new())?;
        drop(all);
        endpoint.wait_idle().await;
        Ok(())
    })
}
