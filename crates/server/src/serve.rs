//! `breakwater serve`: settings, sockets, shards, and the way down.

use std::hash::{BuildHasher as _, RandomState};
use std::io::{self, Write as _};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use breakwater_acme::Agent;
use breakwater_config::{Resolved, WhenUnavailable, Zone};
use breakwater_net::{Listening, Node, Origin, Transport};
use breakwater_router::Router;
use breakwater_shard::{Pages, Profile, Returning, Setup, Shard, hand_out};

use crate::banner::{Started, banner};
use crate::cli::ServeArgs;
use crate::door::Door;
use crate::keeper::Keeper;
use crate::log::{self, Level, Log};
use crate::running::{self, Running};
use crate::{USAGE, complain, control, service, signals};

/// Runs the broker until a signal ends it.
pub(crate) fn serve(args: &ServeArgs) -> ExitCode {
    let open_files = breakwater_net::raise_open_files();
    let shards = args.shards.unwrap_or_else(cores);
    let prepared = match prepare(args, shards) {
        Ok(prepared) => prepared,
        Err((code, faults)) => {
            faults.iter().for_each(|fault| complain(fault));
            return code;
        }
    };
    match run(args, shards, prepared, open_files) {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            complain(&format!("can't start: {fault}"));
            ExitCode::FAILURE
        }
    }
}

/// Everything that a start can fail at, done.
struct Prepared {
    resolved: Resolved,
    /// What the file looked like before it was read.
    read: running::Stamp,
    door: Door,
    origin: Origin,
    router: Arc<Router>,
    keeper: Arc<Keeper>,
    listening: Vec<Listening>,
}

/// The configuration, who may connect, and the sockets of the listeners. All faults at once.
fn prepare(args: &ServeArgs, shards: u16) -> Result<Prepared, (ExitCode, Vec<String>)> {
    let read = running::stamp(&args.places);
    let resolved = args.places.resolve(&args.overrides);
    let mut resolved = resolved.map_err(|faults| (ExitCode::from(USAGE), faults))?;
    // Before anything is written there or listened at.
    let socket = control::path(&args.places.surroundings().data);
    if control::is_answered(&socket) {
        return Err((ExitCode::FAILURE, vec![control::taken(&socket)]));
    }
    let door = Door::new(&args.places.place, &resolved).map_err(|faults| (ExitCode::FAILURE, faults))?;
    // Before anybody can connect: what is retained is there from the first client on.
    let (origin, router) = (Origin::start(), Arc::new(router(&resolved, shards)));
    let data = args.places.surroundings().data;
    let keeper = Keeper::open(&data, &resolved.store, origin, chance());
    let keeper = Arc::new(keeper.map_err(|fault| (ExitCode::FAILURE, vec![fault]))?);
    let mut faults = Vec::new();
    resolved.listeners.retain(|listener| {
        let wrong = running::prepare(listener);
        let fine = wrong.is_empty();
        faults.extend(wrong);
        fine
    });
    // Before there are threads: it reads the environment, and takes what it finds out of it.
    breakwater_net::take_inherited();
    let wanted = resolved.listeners.iter().map(|listener| listener.options.clone()).collect();
    let (listening, unbound) = breakwater_net::bind(wanted, shards);
    resolved.listeners.retain(|listener| unbound.iter().all(|fault| fault.listener != listener.options.name));
    faults.extend(unbound.iter().map(ToString::to_string));
    let skips = resolved.when_unavailable == WhenUnavailable::Skip && !resolved.listeners.is_empty();
    if faults.is_empty() || skips {
        faults.iter().chain(&resolved.remarks).for_each(|line| complain(line));
        return Ok(Prepared { resolved, read, door, origin, router, keeper, listening });
    }
    Err((ExitCode::FAILURE, faults))
}

fn run(args: &ServeArgs, shards: u16, prepared: Prepared, open_files: Option<u64>) -> io::Result<()> {
    let Prepared { resolved, read, door, origin, router, keeper, listening } = prepared;
    let (log, writer) = log::start(args.log)?;
    keeper.speak(&log);
    let pages = Arc::new(Pages::new(shards));
    let setup = setup(&resolved, &door, &keeper, Arc::clone(&pages), Arc::clone(&router), shards);
    let returning = Arc::clone(&setup.returning);
    let node = start(origin, listening, setup, (&keeper, &resolved), &log)?;
    keeper.connect(&node.handle());
    door.open(&node.handle(), &log)?;
    let (handle, journal) = (node.handle(), log.clone());
    let told = log.clone();
    let agent = Agent::new(node.handle().challenges(), chance(), move |note| {
        told.say(if note.bad { Level::Error } else { Level::Info }, &note.text);
    });
    let running = Arc::new(Running {
        handle: handle.clone(),
        places: args.places.pinned(),
        overrides: args.overrides.clone(),
        log: log.clone(),
        agent,
        shards,
        pages,
        router,
        returning,
        origin,
        keeper: Arc::clone(&keeper),
        started: Instant::now(),
        resolved: Mutex::new(resolved.clone()),
        read: Mutex::new(read),
    });
    let data = args.places.surroundings().data;
    let (stopping, reloading) = (Arc::downgrade(&running), Arc::downgrade(&running));
    let stop = move |signal| {
        journal.say(Level::Info, &format!("stopping on {signal}; a second signal stops at once"));
        service::stopping();
        handle.stop(stopping.upgrade().map_or(Duration::ZERO, |running| running.drain()));
    };
    let reload = move || {
        if let Some(running) = reloading.upgrade() {
            // It has told already.
            let _ = running.reload();
        }
    };
    // Before anything is printed: who reads that may send a signal at once.
    signals::watch(stop, reload)?;
    running::watch(&running)?;
    let node_itself: Arc<dyn control::Operations> = Arc::clone(&running) as Arc<_>;
    // Without it the broker can't be asked while it runs; that is no reason not to run.
    let control = control::open(&control::path(&data), &node_itself).map_err(|fault| complain(&fault));
    drop(node_itself);
    let program = std::env::args().next().unwrap_or_else(|| "breakwater".into());
    let started = Started {
        listeners: &node.handle().listeners(),
        shards,
        open_files,
        settings: &resolved,
        users: door.roster.users().len(),
        program: &program,
        data: &data,
    };
    // Nobody who reads it: not a reason to stop.
    let _ = io::stdout().lock().write_all(banner(&started).as_bytes());
    log.say(Level::Info, "started");
    running.warn();
    running.order(&resolved);
    service::ready(&node.handle());
    node.join();
    drop(control);
    door.close();
    keeper.close();
    log.say(Level::Info, "stopped");
    drop((log, running));
    writer.finish();
    Ok(())
}

fn start(
    origin: Origin,
    listening: Vec<Listening>,
    setup: Setup,
    (keeper, resolved): (&Keeper, &Resolved),
    log: &Log,
) -> io::Result<Node> {
    let (shards, router, returning) = (setup.shards, Arc::clone(&setup.router), Arc::clone(&setup.returning));
    // All of them before the first one runs: what comes to one shard finds the sessions of all the others.
    let build = |id| Shard::<Transport>::new(Setup { id, ..setup.clone() }, origin.now());
    let mut built: Vec<_> = (0..shards).map(build).collect();
    drop(setup);
    keeper.revive(&router, origin, |found| hand_out(found, &mut built))?;
    keeper.keep_for_replays(&returning, &resolved.replay, &router);
    let built: Vec<_> = built.into_iter().map(|shard| Mutex::new(Some(shard))).collect();
    let engine = move |id: u16, _| {
        let shard = built[usize::from(id)].lock().unwrap_or_else(PoisonError::into_inner).take();
        shard.expect("each of them is started once")
    };
    breakwater_net::start_at(origin, listening, shards, &resolved.net, engine, |_| Box::new(log.journal()))
}

fn setup(
    resolved: &Resolved,
    door: &Door,
    keeper: &Keeper,
    pages: Arc<Pages>,
    router: Arc<Router>,
    shards: u16,
) -> Setup {
    let options = breakwater_shard::Options { durability: keeper.durability, ..resolved.shard.clone() };
    Setup {
        id: 0,
        shards,
        options: Arc::new(options),
        profiles: Vec::new(),
        zones: resolved.zones.iter().map(terms_of).collect(),
        router,
        seed: chance(),
        authenticator: Arc::clone(&door.chain) as Arc<_>,
        authorizer: Arc::new(breakwater_auth::Open),
        pages,
        store: keeper.store(),
        returning: Arc::new(Returning::new(shards)),
    }
}

/// What a session of a zone that a start finds has, until its client is there.
fn terms_of(zone: &Zone) -> Arc<Profile> {
    let Zone { name, limits, durability } = zone;
    let (zone, limits, durability) = (name.clone(), Arc::clone(limits), *durability);
    Arc::new(Profile { zone, limits, durability, ..Profile::default() })
}

fn router(resolved: &Resolved, shards: u16) -> Router {
    let mut options = resolved.router.clone();
    (options.shards, options.hash_seed) = (shards, chance());
    let router = Router::new(options);
    router.set_retained_life(Arc::new(resolved.retained.clone()));
    router
}

/// A number that nobody can guess: the keys of the standard library's hashes come from the system.
pub(crate) fn chance() -> u64 {
    RandomState::new().hash_one(0)
}

fn cores() -> u16 {
    thread::available_parallelism().map_or(1, |cores| u16::try_from(cores.get()).unwrap_or(u16::MAX)).min(256)
}
