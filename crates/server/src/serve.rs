//! `breakwater serve`: settings, sockets, shards, and the way down.

use std::hash::{BuildHasher as _, RandomState};
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;

use breakwater_config::Resolved;
use breakwater_net::{Bind, ListenerOptions, Listening, Node, SocketOptions, Transport};
use breakwater_router::Router;
use breakwater_shard::{Pages, Profile, Setup, Shard};

use crate::banner::{Started, banner};
use crate::cli::{ServeArgs, addresses};
use crate::log::{self, Level, Log};
use crate::{USAGE, complain, signals};

/// Runs the broker until a signal ends it.
pub(crate) fn serve(args: &ServeArgs) -> ExitCode {
    let (addresses, resolved) = match read(args) {
        Ok(read) => read,
        Err(faults) => {
            faults.iter().for_each(|fault| complain(fault));
            return ExitCode::from(USAGE);
        }
    };
    let open_files = breakwater_net::raise_open_files();
    let shards = args.shards.unwrap_or_else(cores);
    // Before there are threads: it reads the environment, and takes what it finds out of it.
    breakwater_net::take_inherited();
    let (listening, faults) = breakwater_net::bind(vec![listener(&addresses, &resolved)], shards);
    if !faults.is_empty() {
        faults.iter().for_each(|fault| complain(&fault.to_string()));
        return ExitCode::FAILURE;
    }
    match run(args, listening, shards, &resolved, open_files) {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            complain(&format!("can't start: {fault}"));
            ExitCode::FAILURE
        }
    }
}

/// The listener that `--listen` asks for.
fn listener(addresses: &[SocketAddr], resolved: &Resolved) -> ListenerOptions {
    let name: Box<str> = "tcp.default".into();
    let limits = Arc::new(resolved.shard.limits.clone());
    ListenerOptions {
        bind: addresses.iter().copied().map(Bind::Address).collect(),
        socket: SocketOptions {
            backlog: resolved.net.backlog,
            nodelay: resolved.net.nodelay,
            ..SocketOptions::default()
        },
        profile: Arc::new(Profile { name: name.clone(), limits, ..Profile::default() }),
        name,
        ..ListenerOptions::default()
    }
}

/// Addresses and settings; the faults of both at once.
fn read(args: &ServeArgs) -> Result<(Vec<SocketAddr>, Resolved), Vec<String>> {
    let settings = breakwater_config::resolve(args.set.iter().map(String::as_str));
    match (addresses(&args.listen), settings) {
        (Ok(addresses), Ok(resolved)) => Ok((addresses, resolved)),
        (addresses, resolved) => {
            let mut faults = addresses.err().unwrap_or_default();
            faults.extend(resolved.err().unwrap_or_default());
            Err(faults)
        }
    }
}

fn run(
    args: &ServeArgs,
    listening: Vec<Listening>,
    shards: u16,
    resolved: &Resolved,
    open_files: Option<u64>,
) -> io::Result<()> {
    let (log, writer) = log::start(args.log)?;
    let node = start(listening, shards, resolved, &log)?;
    let (handle, drain, journal) = (node.handle(), resolved.drain, log.clone());
    // Before anything is printed: who reads that may send a signal at once.
    signals::on_stop(move |signal| {
        journal.say(Level::Info, &format!("stopping on {signal}; a second signal stops at once"));
        handle.stop(drain);
    })?;
    let program = std::env::args().next().unwrap_or_else(|| "breakwater".into());
    let started = Started { listeners: &node.addresses(), shards, open_files, settings: resolved, program: &program };
    // Nobody who reads it: not a reason to stop.
    let _ = io::stdout().lock().write_all(banner(&started).as_bytes());
    log.say(Level::Info, "started");
    node.join();
    log.say(Level::Info, "stopped");
    drop(log);
    writer.finish();
    Ok(())
}

fn start(listening: Vec<Listening>, shards: u16, resolved: &Resolved, log: &Log) -> io::Result<Node> {
    let mut router = resolved.router.clone();
    (router.shards, router.hash_seed) = (shards, chance());
    let policy = Arc::new(breakwater_auth::Open);
    let setup = Setup {
        id: 0,
        shards,
        options: Arc::new(resolved.shard.clone()),
        profiles: Vec::new(),
        router: Arc::new(Router::new(router)),
        seed: chance(),
        authenticator: Arc::clone(&policy) as Arc<_>,
        authorizer: policy,
        pages: Arc::new(Pages::new(shards)),
    };
    let mut net = resolved.net.clone();
    net.mailbox_bytes = resolved.shard.mailbox_bytes as usize;
    let engine = move |id, now| Shard::<Transport>::new(Setup { id, ..setup.clone() }, now);
    breakwater_net::start(listening, shards, &net, engine, |_| Box::new(log.journal()))
}

/// A number that nobody can guess: the keys of the standard library's hashes come from the system.
fn chance() -> u64 {
    RandomState::new().hash_one(0)
}

fn cores() -> u16 {
    thread::available_parallelism().map_or(1, |cores| u16::try_from(cores.get()).unwrap_or(u16::MAX)).min(256)
}
