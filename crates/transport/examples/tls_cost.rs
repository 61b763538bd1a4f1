//! What TLS costs here beside a bare rustls connection that keeps its own buffers:
//! `cargo run --release -p breakwater-transport --example tls_cost`.
//!
//! Handshakes per second of the server's side, time per record both ways, and memory of an idle connection.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "prints its table")]

use std::alloc::System;
use std::hint::black_box;
use std::io::{Read, Write};
use std::sync::Arc;
use std::time::Duration;

use breakwater_transport::tls::{Tls, Window};
use rustls::client::{ClientConnection, Resumption};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore, ServerConfig, ServerConnection};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const ROUNDS: usize = 5;

type Configs = (Arc<ServerConfig>, Arc<ClientConfig>);

/// The server's side, one way or the other.
trait Server: Sized {
    const NAME: &'static str;
    fn new(config: &Arc<ServerConfig>) -> Self;
    /// Takes ciphertext; answers how much plaintext it gave.
    fn take(&mut self, cipher: &mut [u8], plain: &mut [u8], reply: &mut Vec<u8>) -> usize;
    fn give(&mut self, plain: &[u8], out: &mut Vec<u8>);
}

impl Server for Tls {
    const NAME: &'static str = "here";

    fn new(config: &Arc<ServerConfig>) -> Self {
        Self::server(config.clone()).expect("the config is good")
    }

    fn take(&mut self, cipher: &mut [u8], plain: &mut [u8], reply: &mut Vec<u8>) -> usize {
        self.on_bytes(cipher, &mut Window::new(plain), reply).expect("an honest client").plain
    }

    fn give(&mut self, plain: &[u8], out: &mut Vec<u8>) {
        self.encrypt(plain, out).expect("an open connection");
    }
}

impl Server for ServerConnection {
    const NAME: &'static str = "bare";

    fn new(config: &Arc<ServerConfig>) -> Self {
        Self::new(config.clone()).expect("the config is good")
    }

    fn take(&mut self, cipher: &mut [u8], plain: &mut [u8], reply: &mut Vec<u8>) -> usize {
        let (mut input, mut len) = (&*cipher, 0);
        while !input.is_empty() {
            self.read_tls(&mut input).expect("memory");
            self.process_new_packets().expect("an honest client");
            while let Ok(count) = self.reader().read(&mut plain[len..]) {
                len += count;
                if count == 0 {
                    break;
                }
            }
        }
        while self.wants_write() {
            self.write_tls(reply).expect("memory");
        }
        len
    }

    fn give(&mut self, plain: &[u8], out: &mut Vec<u8>) {
        self.writer().write_all(plain).expect("memory");
        while self.wants_write() {
            self.write_tls(out).expect("memory");
        }
    }
}

fn main() {
    let configs = configs();
    println!(
        "{:<6} {:>12} {:>24} {:>24} {:>24} {:>12}",
        "", "handshakes/s", "64 B in/out ns", "1 KiB in/out ns", "16 KiB in/out ns", "idle bytes"
    );
    for _ in 0..2 {
        row::<ServerConnection>(&configs);
        row::<Tls>(&configs);
    }
}

fn row<S: Server>(configs: &Configs) {
    let rate = handshakes::<S>(configs);
    let costs: Vec<String> = [64, 1024, 16_384].iter().map(|len| records::<S>(configs, *len)).collect();
    let idle = idle_bytes::<S>(configs);
    println!("{:<6} {rate:>12.0} {:>24} {:>24} {:>24} {idle:>12}", S::NAME, costs[0], costs[1], costs[2]);
}

fn configs() -> Configs {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
    let provider = Arc::new(aws_lc_rs::default_provider());
    let key = made.signing_key.serialize_der().try_into().expect("a key");
    let server = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .expect("a pair");
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).expect("a root");
    let mut client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    client.resumption = Resumption::disabled();
    (Arc::new(server), Arc::new(client))
}

fn client(configs: &Configs) -> ClientConnection {
    let mut client =
        ClientConnection::new(configs.1.clone(), ServerName::try_from("localhost").expect("a name")).expect("a client");
    client.set_buffer_limit(None);
    client
}

fn flight(client: &mut ClientConnection) -> Vec<u8> {
    let mut bytes = Vec::new();
    while client.wants_write() {
        client.write_tls(&mut bytes).expect("memory");
    }
    bytes
}

/// A whole handshake; answers the time that the server's side took.
fn shake<S: Server>(configs: &Configs) -> (S, ClientConnection, Duration) {
    let (mut client, mut spent) = (client(configs), Duration::ZERO);
    let mut server = S::new(&configs.0);
    loop {
        let (mut bytes, mut reply) = (flight(&mut client), Vec::new());
        if bytes.is_empty() {
            return (server, client, spent);
        }
        let start = cpu();
        server.take(&mut bytes, &mut [0; 64], &mut reply);
        spent += cpu().saturating_sub(start);
        let mut reply = reply.as_slice();
        while !reply.is_empty() {
            client.read_tls(&mut reply).expect("memory");
            client.process_new_packets().expect("an honest server");
        }
    }
}

fn handshakes<S: Server>(configs: &Configs) -> f64 {
    let count = 2000;
    let spent: Duration = (0..count).map(|_| shake::<S>(configs).2).sum();
    f64::from(count) / spent.as_secs_f64()
}

/// Nanoseconds per record of `len` bytes, in and out: one record per call, as sparse traffic is.
fn records<S: Server>(configs: &Configs, len: usize) -> String {
    let (mut server, mut client, _) = shake::<S>(configs);
    let count = 20_000_000 / (len + 1000);
    let text = vec![7; len];
    let (mut plain, mut out) = (vec![0; 20_000], Vec::with_capacity(40_000));
    let (mut inward, mut outward) = (Duration::ZERO, Duration::ZERO);
    // The clock of a thread ticks coarsely: so many records between two looks at it.
    for _ in 0..ROUNDS {
        let mut record = || {
            client.writer().write_all(&text).expect("memory");
            flight(&mut client)
        };
        let mut records: Vec<Vec<u8>> = (0..count).map(|_| record()).collect();
        let start = cpu();
        for record in &mut records {
            black_box(server.take(record, &mut plain, &mut out));
        }
        inward += cpu().saturating_sub(start);
        let start = cpu();
        for _ in 0..count {
            out.clear();
            server.give(&text, &mut out);
            black_box(&out);
        }
        outward += cpu().saturating_sub(start);
    }
    let each = |time: Duration| time.as_nanos() / (count * ROUNDS) as u128;
    format!("{}/{}", each(inward), each(outward))
}

/// Memory of a connection that has exchanged something and is idle.
fn idle_bytes<S: Server>(configs: &Configs) -> usize {
    let count = 200;
    let mut kept = Vec::with_capacity(count);
    let mut bytes = 0;
    for _ in 0..count {
        let mut client = client(configs);
        let region = Region::new(ALLOCATOR);
        let mut server = Box::new(S::new(&configs.0));
        let mut others = 0;
        loop {
            let client_region = Region::new(ALLOCATOR);
            let mut bytes = flight(&mut client);
            others += grown(&client_region);
            let mut reply = Vec::new();
            if bytes.is_empty() {
                break;
            }
            server.take(&mut bytes, &mut [0; 64], &mut reply);
            let client_region = Region::new(ALLOCATOR);
            drop(bytes);
            let mut input = reply.as_slice();
            while !input.is_empty() {
                client.read_tls(&mut input).expect("memory");
                client.process_new_packets().expect("an honest server");
            }
            drop(reply);
            others += grown(&client_region);
        }
        let client_region = Region::new(ALLOCATOR);
        client.writer().write_all(&[1; 200]).expect("memory");
        let mut cipher = flight(&mut client);
        others += grown(&client_region);
        server.take(&mut cipher, &mut [0; 400], &mut Vec::new());
        server.give(&[2; 200], &mut Vec::new());
        let client_region = Region::new(ALLOCATOR);
        drop(cipher);
        others += grown(&client_region);
        bytes += grown(&region) - others;
        kept.push((server, client));
    }
    usize::try_from(bytes).unwrap_or(0) / count
}

fn grown(region: &Region<'_, System>) -> isize {
    let change = region.change();
    change.bytes_allocated as isize - change.bytes_deallocated as isize
}

/// Time of this thread on a processor, so that a busy machine doesn't count.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").expect("linux");
    Duration::from_nanos(stat.split(' ').next().and_then(|ns| ns.parse().ok()).expect("nanoseconds"))
}
