//! `breakwater serve`: settings, sockets, shards, and the way down.

use std::hash::{BuildHasher as _, RandomState};
use std::io::{self, Write as _};
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;

use breakwater_config::Resolved;
use breakwater_net::{ListenerOptions, Listening, Node, Protocols, Transport};
use breakwater_router::Router;
use breakwater_shard::{Pages, Setup, Shard};

use crate::banner::{Started, banner};
use crate::cli::ServeArgs;
use crate::door::Door;
use crate::log::{self, Level, Log};
use crate::{USAGE, complain, signals};

/// Runs the broker until a signal ends it.
pub(crate) fn serve(args: &ServeArgs) -> ExitCode {
    let (listeners, resolved) = match read(args) {
        Ok(read) => read,
        Err(faults) => {
            faults.iter().for_each(|fault| complain(fault));
            return ExitCode::from(USAGE);
        }
    };
    let door = match Door::new(&args.places.place, &resolved) {
        Ok(door) => door,
        Err(faults) => {
            faults.iter().for_each(|fault| complain(fault));
            return ExitCode::FAILURE;
        }
    };
    let open_files = breakwater_net::raise_open_files();
    let shards = args.shards.unwrap_or_else(cores);
    // Before there are threads: it reads the environment, and takes what it finds out of it.
    breakwater_net::take_inherited();
    let (listening, faults) = breakwater_net::bind(listeners, shards);
    if !faults.is_empty() {
        faults.iter().for_each(|fault| complain(&fault.to_string()));
        return ExitCode::FAILURE;
    }
    match run(args, listening, shards, &resolved, &door, open_files) {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            complain(&format!("can't start: {fault}"));
            ExitCode::FAILURE
        }
    }
}

/// Listeners and settings; all faults at once.
fn read(args: &ServeArgs) -> Result<(Vec<ListenerOptions>, Resolved), Vec<String>> {
    let mut overrides = args.overrides.clone();
    if overrides.listen.is_empty() {
        // Until all of the usual listeners can be opened.
        overrides.listen.push("tcp://127.0.0.1:1883".into());
    }
    let resolved = args.places.resolve(&overrides)?;
    let (mut listeners, mut faults) = (Vec::new(), Vec::new());
    for options in resolved.listeners.iter().map(|listener| &listener.options) {
        if options.protocols == Protocols::MQTT && options.proxy.is_none() {
            listeners.push(options.clone());
        } else {
            faults.push(format!("{} can't be opened yet: only plain MQTT over TCP and unix sockets can", options.name));
        }
    }
    if faults.is_empty() { Ok((listeners, resolved)) } else { Err(faults) }
}

fn run(
    args: &ServeArgs,
    listening: Vec<Listening>,
    shards: u16,
    resolved: &Resolved,
    door: &Door,
    open_files: Option<u64>,
) -> io::Result<()> {
    let (log, writer) = log::start(args.log)?;
    let node = start(listening, shards, resolved, door, &log)?;
    door.open(Arc::new(node.handle()), &log)?;
    let (handle, drain, journal) = (node.handle(), resolved.drain, log.clone());
    // Before anything is printed: who reads that may send a signal at once.
    signals::on_stop(move |signal| {
        journal.say(Level::Info, &format!("stopping on {signal}; a second signal stops at once"));
        handle.stop(drain);
    })?;
    let program = std::env::args().next().unwrap_or_else(|| "breakwater".into());
    let started = Started {
        listeners: &node.addresses(),
        shards,
        open_files,
        settings: resolved,
        users: door.roster.users().len(),
        program: &program,
    };
    // Nobody who reads it: not a reason to stop.
    let _ = io::stdout().lock().write_all(banner(&started).as_bytes());
    log.say(Level::Info, "started");
    node.join();
    door.close();
    log.say(Level::Info, "stopped");
    drop(log);
    writer.finish();
    Ok(())
}

fn start(listening: Vec<Listening>, shards: u16, resolved: &Resolved, door: &Door, log: &Log) -> io::Result<Node> {
    let mut router = resolved.router.clone();
    (router.shards, router.hash_seed) = (shards, chance());
    let setup = Setup {
        id: 0,
        shards,
        options: Arc::new(resolved.shard.clone()),
        profiles: Vec::new(),
        router: Arc::new(Router::new(router)),
        seed: chance(),
        authenticator: Arc::clone(&door.chain) as Arc<_>,
        authorizer: Arc::new(breakwater_auth::Open),
        pages: Arc::new(Pages::new(shards)),
    };
    let net = resolved.net.clone();
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
