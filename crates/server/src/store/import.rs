//! What Mosquitto has kept comes into the store.
//!
//! A copy of the store is made beside it, most of it by links; the copy takes everything in, and takes the place of the store when it
//! has it. So it is all or nothing, and the way back is the store that was there.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use breakwater_contract::store::{Change, Durability, Restored, SessionNumber, Store as _, Submitted};
use breakwater_contract::{Completion, Completions, Token};
use breakwater_proto::Instant;
use breakwater_shard::{NOBODY, Starts};
use breakwater_store::foreign::mosquitto::{self, Database, Stage};
use breakwater_store::foreign::{Intake, Known, Reason, Taken, take_in};
use breakwater_store::{Engine, Options, RealDisk, UNFINISHED, sync_folder};
use clap::Args;

use super::swap::{Keep, Swap};
use super::{Faults, folder_of, look, runs};
use crate::clock;
use crate::serve::chance;

/// Where it comes from, and how it is taken in.
#[derive(Args)]
pub(crate) struct ImportArgs {
    /// The persistence file (`mosquitto.db`), as Mosquitto has written it when it stopped.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Say what would come in, and change nothing.
    #[arg(long)]
    dry_run: bool,
    /// Sessions and retained messages that the store has already give way to those of the file; without this they stay as they are.
    #[arg(long)]
    replace: bool,
    /// Also if something in the file is damaged: that is lost then.
    #[arg(long)]
    damaged: bool,
}

/// Takes a file in. Answers what to tell.
pub(super) fn import(data: &Path, args: &ImportArgs) -> Result<String, Faults> {
    let (store, file) = (folder_of(data), args.file.display());
    if runs(data) {
        let text =
            format!("a broker uses {}; stop it, import, and start it again: nothing was changed", store.display());
        return Err(vec![text]);
    }
    let bytes = read(&args.file).map_err(|fault| vec![format!("{file}: {fault}")])?;
    let database = mosquitto::read(&bytes).map_err(|fault| vec![format!("{file}: {fault}; nothing was changed")])?;
    if database.damages_count > 0 && !args.damaged {
        let mut faults = damages(&args.file, &database);
        let text =
            "the file is damaged: nothing was changed; take another one, or lose what does not read with --damaged";
        faults.push(text.to_owned());
        return Err(faults);
    }
    // Its lock is held until the end.
    let before = if store.exists() { Some(sound(&store)?) } else { None };
    let now_ms = clock::now_s() * 1000;
    let (known, starts) = known(before.as_ref(), &database, now_ms).map_err(|fault| vec![fault])?;
    let (count, revision) = starts.next();
    let intake = Intake { now_ms, replace: args.replace, revision };
    let mut text = String::new();
    for damage in damages(&args.file, &database) {
        let _ = writeln!(text, "lost: {damage}");
    }
    let mut number = 0;
    let plan = take_in(&database, &known, intake, &mut || numbered(&mut number), &mut |_| Ok(()));
    let plan = plan.map_err(|fault| vec![fault])?;
    if args.dry_run || plan.retained + plan.sessions == 0 {
        told(&mut text, &database, &plan);
        text += if args.dry_run { "this is what would come in" } else { "there is nothing to take in" };
        text += ": nothing was changed\n";
        return Ok(text);
    }
    let failed = |fault: &dyn std::fmt::Display| vec![format!("{}: {fault}; nothing was changed", store.display())];
    let swap = Swap::begin(data, &store, "importing", "before-import").map_err(|fault| failed(&fault))?;
    let filled = fill(&swap, before.as_ref(), count, |engine| {
        take_in(&database, &known, intake, &mut || engine.new_session(), &mut |changes| put(engine, changes))
    });
    let taken = filled.inspect_err(|_| swap.give_up()).map_err(|fault| failed(&fault))?;
    let aside = swap.finish().map_err(|fault| failed(&fault))?;
    told(&mut text, &database, &taken);
    let _ = writeln!(text, "{} has it; start the broker", store.display());
    if let Some(aside) = aside {
        let _ = writeln!(text, "what was there before is {}; remove it when nobody needs it any more", aside.display());
    }
    Ok(text)
}

fn numbered(last: &mut u64) -> SessionNumber {
    *last += 1;
    SessionNumber(*last)
}

/// All of the file, or why not: it may be larger than the memory.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let about = file.metadata()?;
    if !about.is_file() {
        return Err(io::Error::other("this is not a file"));
    }
    let mut bytes = Vec::new();
    let len = usize::try_from(about.len()).unwrap_or(usize::MAX);
    bytes.try_reserve_exact(len.saturating_add(1)).map_err(|_| io::ErrorKind::OutOfMemory)?;
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn damages(file: &Path, database: &Database<'_>) -> Faults {
    let told = |damage: &mosquitto::Damage| format!("{}: at byte {}: {}", file.display(), damage.offset, damage.what);
    let mut faults: Faults = database.damages.iter().map(told).collect();
    let left = database.damages_count - faults.len();
    if left > 0 {
        faults.push(format!("{}: and {left} more", file.display()));
    }
    faults
}

/// A store that no broker has, and that is as it was written.
fn sound(store: &Path) -> Result<Engine, Faults> {
    let engine = look(store).map_err(|fault| vec![format!("{fault}; nothing was changed")])?;
    match engine.found() {
        [] => Ok(engine),
        [finding, ..] => Err(vec![format!(
            "{}: {}: {}; start the broker once, which sets aside what it can't read, stop it, and import then: nothing \
             was changed",
            store.display(),
            finding.file,
            finding.what
        )]),
    }
}

/// What the store has that matters to what the file has.
fn known(before: Option<&Engine>, database: &Database<'_>, now_ms: u64) -> Result<(Known, Starts), String> {
    let (mut known, mut starts) = (Known::default(), Starts::default());
    let Some(engine) = before else { return Ok((known, starts)) };
    let clients: HashSet<&str> = database.clients.iter().map(|client| client.id).collect();
    let retained = database.retained.iter().filter_map(|number| database.message(*number));
    let held = database.transfers.iter().filter(|transfer| transfer.stage == Stage::Held);
    let published = held.clone().filter_map(|transfer| database.message(transfer.message));
    let topics: HashSet<&str> = retained.chain(published).map(|message| message.topic).collect();
    let routes = held.count() > 0;
    engine.restore(&mut |restored| match restored {
        Restored::Session(session) => {
            let row = session.row;
            let ends_ms = row.detached_unix_ms.saturating_add(u64::from(row.expiry_s) * 1000);
            let over = row.expiry_s != u32::MAX && row.detached_unix_ms > 0 && ends_ms <= now_ms;
            if routes && !over {
                let whose = |(filter, options, identifier)| (row.number, filter, options, identifier);
                known.subscriptions.extend(session.subscriptions.into_iter().map(whose));
            }
            if clients.contains(&*row.client_id) {
                known.sessions.insert(row.client_id, (row.number, over));
            }
        }
        Restored::Retained(retained) => {
            starts.see_revision(retained.revision);
            let expired = retained.message.expires_at().is_some_and(|at| at <= Instant(now_ms));
            if !expired && topics.contains(retained.message.topic()) {
                known.topics.insert(retained.message.topic().into());
            }
        }
        Restored::Value { table, key, value } => starts.see_value(&table, &key, &value),
    })?;
    Ok((known, starts))
}

/// Hears whether something was not stored.
#[derive(Default)]
struct Heard(AtomicBool);

impl Completions for Heard {
    fn complete(&self, completion: Completion) {
        if matches!(completion, Completion::Durable { stored: false, .. }) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
}

/// Makes the store that is to be, and lets it be filled.
fn fill(
    swap: &Swap,
    before: Option<&Engine>,
    count: Change,
    take: impl FnOnce(&Engine) -> Result<Taken, String>,
) -> Result<Taken, String> {
    let told = |fault: io::Error| format!("{}: {fault}", swap.new.display());
    match before {
        Some(before) => before.backup(&swap.new)?,
        None => fs::create_dir(&swap.new).map_err(told)?,
    }
    swap.keep.folder(&swap.new).map_err(told)?;
    let mark = swap.new.join(UNFINISHED);
    File::create(&mark).and_then(|mark| mark.sync_all()).map_err(told)?;
    let disk = RealDisk::new(&swap.new).map_err(told)?;
    // Expiry is told in Unix time.
    let options = Options { salt: chance(), epoch_unix_ms: 0, ..Options::default() };
    let heard = Arc::new(Heard::default());
    let engine = Engine::open(Arc::new(disk), options, Arc::clone(&heard) as Arc<_>, Box::new(|_| {}));
    let engine = engine.map_err(|fault| fault.to_string())?;
    put(&engine, &[count])?;
    let taken = take(&engine)?;
    engine.settle(0);
    let fault = engine.health().fault;
    if heard.0.load(Ordering::Relaxed) || !fault.is_empty() {
        return Err(format!("not everything could be written: {fault}"));
    }
    drop(engine);
    own(&swap.new, &swap.keep).map_err(told)?;
    fs::remove_file(&mark).and_then(|()| sync_folder(&swap.new)).map_err(told)?;
    Ok(taken)
}

/// One batch into a store that nobody else uses.
fn put(engine: &Engine, changes: &[Change]) -> Result<(), String> {
    let token = Token { shard: NOBODY, slot: 0, generation: 0, sequence: 0 };
    // What is synced is what takes the place of the store.
    while engine.submit(token, changes, Durability::Os) == Submitted::Refused {
        if !engine.is_choked() || !engine.fold() {
            return Err(format!("not everything could be written: {}", engine.health().fault));
        }
    }
    while engine.write(0, Duration::ZERO) {}
    engine.fold();
    Ok(())
}

/// The files are whose the store is.
fn own(store: &Path, keep: &Keep) -> io::Result<()> {
    let log = store.join("log");
    keep.folder(&log)?;
    for folder in [store, &log] {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                keep.file(&entry.path())?;
            }
        }
    }
    Ok(())
}

fn told(text: &mut String, database: &Database<'_>, taken: &Taken) {
    let state = if database.stopped { "when it stopped" } else { "while it went on" };
    let _ = writeln!(text, "file           Mosquitto, format {}, written {state}", database.version);
    let _ = writeln!(text, "retained       {}", taken.retained);
    let _ = writeln!(text, "sessions       {}", taken.sessions);
    let _ = writeln!(text, "subscriptions  {}", taken.subscriptions);
    let _ = writeln!(text, "queued         {} messages", taken.waiting);
    let _ = writeln!(text, "in flight      {} to clients, {} from clients", taken.in_flight, taken.held);
    let mut head = "left out";
    for (reason, count) in &taken.skipped {
        let mut names: Vec<&str> =
            taken.clients.iter().filter(|(_, why)| why == reason).map(|(client, _)| &**client).collect();
        if !names.is_empty() && (names.len() as u64) < *count {
            names.push("…");
        }
        let names = if names.is_empty() { String::new() } else { format!(": {}", names.join(", ")) };
        let _ = writeln!(text, "{head:<15}{count} {}{names}", said(*reason));
        head = "";
    }
    if !database.stopped {
        text.push_str(
            "note: Mosquitto went on after it had written this file. What came later is not in it: stop Mosquitto, and \
             import what it writes then\n",
        );
    }
}

fn said(reason: Reason) -> &'static str {
    match reason {
        Reason::SessionThere => "sessions that the store has already (--replace puts those of the file in their place)",
        Reason::SessionExpired => "sessions that have expired",
        Reason::SessionEnded => "sessions that end with their connection",
        Reason::SessionOfBridge => "sessions of Mosquitto's own bridges, which nobody would take up",
        Reason::SessionTwice => "sessions that are in the file twice",
        Reason::WithoutSession => "subscriptions and messages of clients that the file has no session of",
        Reason::MessageExpired => "queued messages that have expired",
        Reason::MessageAbsent => "queued messages that are not in the file",
        Reason::MessageQos0 => "queued messages with QoS 0",
        Reason::RetainedThere => {
            "retained messages of topics that the store has one for (--replace puts those of the file in their place)"
        }
        Reason::RetainedExpired => "retained messages that have expired",
        Reason::RetainedAbsent => "retained messages that are not in the file",
        Reason::RetainedSys => "retained messages of $SYS",
    }
}
