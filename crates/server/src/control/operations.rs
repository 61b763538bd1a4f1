//! What a node answers: requests of the control socket, carried out on the broker that runs.

use std::sync::PoisonError;

use breakwater_config::Resolved;
use breakwater_contract::Kicked;
use breakwater_contract::store::{Condition, Durability};
use breakwater_net::{BoundTo, Ending, ListenerStatus};
use breakwater_transport::tls::TlsVersion;

use super::{AcmeRow, Answer, CertificateRow, ListenerRow, Operations, Request, StatusRow, StoreRow};
use crate::banner::{Exposure, exposure, spoken};
use crate::clock;
use crate::metrics::{self, Seen};
use crate::running::Running;

impl Operations for Running {
    fn answer(&self, request: Request) -> Answer {
        match request {
            Request::Status => Answer::Status(self.status()),
            Request::Listeners => Answer::Listeners { rows: self.rows() },
            Request::Metrics => Answer::Done { lines: self.metrics().lines().map(str::to_owned).collect() },
            Request::Retained { filter, limit } => self.retained_list(&filter, limit),
            Request::RetainedMessage { topic } => self.retained_show(&topic),
            Request::Unretain { filter, really } => self.retained_delete(&filter, really),
            Request::StoreStats => self.store_stats(),
            Request::StoreCheck => self.store_check(),
            Request::StoreBackup { folder } => self.store_backup(&folder),
            Request::Reload => planned(self.reload()),
            Request::Edit { changes } => planned(self.edit(&changes)),
            Request::Certificates => Answer::Certificates { rows: self.agent.statuses().iter().map(ordered).collect() },
            Request::Renew { name } => match self.agent.renew(&name) {
                Ok(()) => Answer::Done {
                    lines: vec![format!("acme.{name}: is being ordered; `breakwater acme` shows what comes of it")],
                },
                Err(fault) => Answer::Refused { faults: vec![fault] },
            },
            Request::Drain { listener, over_ms } => {
                let ending = if over_ms == 0 { Ending::Cut } else { Ending::Drain { over_ms } };
                match self.handle.drain(&listener, ending) {
                    Ok(()) => Answer::Done { lines: vec![format!("{listener}: its connections are being ended")] },
                    Err(fault) => Answer::Refused { faults: vec![fault.to_string()] },
                }
            }
            Request::Kick { client_id, end_session } => {
                kicked(self.handle.kick(&client_id, end_session), &client_id, end_session)
            }
        }
    }
}

fn kicked(found: Kicked, client_id: &str, end_session: bool) -> Answer {
    let done = |what: &str| Answer::Done { lines: vec![format!("{client_id:?}: {what}")] };
    match (found, end_session) {
        (Kicked::Client, false) => done("its connection was ended"),
        (Kicked::Client, true) => done("its connection and its session were ended"),
        (Kicked::Away, true) => done("its session was ended; it was not connected"),
        (Kicked::Away, false) => {
            let text = format!("{client_id:?} is not connected; it has a session, which --end-session ends");
            Answer::Refused { faults: vec![text] }
        }
        (Kicked::Unknown, _) => Answer::Refused { faults: vec![format!("there is no client {client_id:?}")] },
    }
}

fn planned(done: Result<breakwater_config::Plan, Vec<String>>) -> Answer {
    match done {
        Ok(plan) => Answer::Done { lines: plan.lines() },
        Err(faults) => Answer::Refused { faults },
    }
}

impl Running {
    fn metrics(&self) -> String {
        let mut counts = self.router.counts();
        // Rules for replays look like members of groups to the router.
        counts.shared_subscriptions = counts.shared_subscriptions.saturating_sub(self.returning.replay_rules() as u64);
        metrics::page(&Seen {
            pages: &self.pages,
            counts,
            store: self.keeper.health(),
            listeners: &self.handle.listeners(),
            turns: &self.handle.turn_times(),
            started_unix_s: clock::now_s().saturating_sub(self.started.elapsed().as_secs()),
        })
    }

    fn status(&self) -> StatusRow {
        let resolved = self.resolved.lock().unwrap_or_else(PoisonError::into_inner);
        StatusRow {
            version: env!("CARGO_PKG_VERSION").into(),
            pid: std::process::id(),
            up_s: self.started.elapsed().as_secs(),
            shards: self.shards,
            connections: self.handle.listeners().iter().map(|listener| u64::from(listener.connections)).sum(),
            config: self.places.file().map(|file| file.display().to_string()),
            loopback_anonymous: resolved.authentication.allow_anonymous_loopback,
            store: self.store_row(&resolved),
        }
    }

    fn store_row(&self, resolved: &Resolved) -> StoreRow {
        let durability = resolved.store.durability;
        let zones = resolved.listeners.iter().map(|listener| &listener.options.profile);
        let others = zones.filter(|profile| profile.durability != durability);
        let health = self.keeper.health();
        StoreRow {
            open: self.keeper.is_open,
            durability: word(durability).into(),
            zones: others.map(|profile| (profile.zone.to_string(), word(profile.durability).into())).collect(),
            condition: match health.condition {
                Condition::Well => "well",
                Condition::Full => "full",
                Condition::Failing => "failing",
            }
            .into(),
            fault: Some(health.fault).filter(|fault| !fault.is_empty()),
            disk_bytes: health.disk_bytes,
            waiting_bytes: health.waiting_bytes as u64,
            damages: health.damages,
        }
    }

    fn rows(&self) -> Vec<ListenerRow> {
        let mut rows: Vec<ListenerRow> = self.handle.listeners().iter().map(row).collect();
        rows.sort_by(|a, b| a.name.cmp(&b.name));
        rows
    }
}

fn word(durability: Durability) -> &'static str {
    match durability {
        Durability::Fsync => "fsync",
        Durability::Os => "os",
        Durability::Memory => "memory",
    }
}

fn row(status: &ListenerStatus) -> ListenerRow {
    let options = &status.options;
    let now_ms = clock::now_s() * 1000;
    ListenerRow {
        name: options.name.to_string(),
        places: status.bound.iter().map(place).collect(),
        protocols: spoken(options.protocols),
        exposure: match exposure(status) {
            Exposure::Machine => "loopback".into(),
            Exposure::Network => "private".into(),
            Exposure::Anywhere => "public".into(),
        },
        plain: options.protocols.mqtt || options.protocols.ws,
        authentication: options.profile.authenticate,
        proxy_protocol: options.proxy.is_some(),
        has_address_rules: !options.access.is_empty(),
        has_limits: options.connections_max + options.connections_per_address_max + options.accept_rate > 0,
        certificates: status.certificates.iter().map(certificate).collect(),
        keys: options
            .tls
            .iter()
            .flat_map(|tls| &tls.certificates)
            .map(|files| files.key.display().to_string())
            .collect(),
        weak_tls: weaknesses(status),
        connections: status.connections.into(),
        connections_max: options.connections_max.into(),
        accepted: status.accepted,
        refused: status.refused.iter().map(|(reason, count)| (reason.text().to_owned(), *count)).collect(),
        bytes_in: status.bytes_in,
        bytes_out: status.bytes_out,
        open_for_s: now_ms.saturating_sub(status.since_unix_ms) / 1000,
        fault: (!status.open).then(|| "closed; some of its connections are left".to_owned()),
    }
}

fn ordered(status: &breakwater_acme::Status) -> AcmeRow {
    AcmeRow {
        name: status.name.to_string(),
        domains: status.domains.iter().map(ToString::to_string).collect(),
        directory: status.directory.to_string(),
        not_after: status.not_after_s,
        next: status.next_s,
        failures: status.failures,
        fault: status.fault.clone(),
    }
}

fn certificate(facts: &breakwater_transport::tls::CertificateFacts) -> CertificateRow {
    CertificateRow {
        subject: facts.subject.to_string(),
        names: facts.names.iter().map(ToString::to_string).collect(),
        self_made: facts.self_made,
        not_before: facts.not_before_s,
        not_after: facts.not_after_s,
    }
}

/// What of its TLS could be better.
fn weaknesses(status: &ListenerStatus) -> Vec<String> {
    let Some(tls) = &status.options.tls else { return Vec::new() };
    let mut weak = Vec::new();
    if !tls.versions.is_empty() && !tls.versions.contains(&TlsVersion::Tls13) {
        weak.push("TLS 1.3 is switched off: only the older 1.2 is spoken".to_owned());
    }
    for facts in &status.certificates {
        if matches!(&*facts.key, "RSA 1024" | "RSA 512") {
            weak.push(format!("the key of {} is too short: {}", facts.subject, facts.key));
        }
    }
    weak
}

fn place(bound: &BoundTo) -> String {
    match bound {
        BoundTo::Address(address) => address.to_string(),
        BoundTo::Unix(path) => path.display().to_string(),
    }
}
