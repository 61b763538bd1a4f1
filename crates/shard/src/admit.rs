//! From a CONNECT to a client: authentication, takeover, the session, CONNACK.

use breakwater_contract::auth::AuthStage;
use breakwater_contract::{AuthRequest, AuthStep, Metric, Principal, Token};
use breakwater_proto::{
    Auth, Connect, Instant, Packet, ReasonCode, Split, UserProperties, Version, Violation, decode, split,
};
use breakwater_router::FilterId;
use breakwater_session::{ConnAckFacts, Env, Link, Session, Terms, refuse};

use crate::conn::{Admission, Cause, NONE, Phase, hold, mark};
use crate::driver::{Driver, Event};
use crate::ingress::Step;
use crate::mount;
use crate::papers::Papers;
use crate::shard::{NEVER, Resident, Shard, hash_id, later};
use crate::timers::HORIZON_MS;
use crate::wheel::{Kind, Timer};

/// An accepted CONNECT, on its way to a session.
pub(crate) struct Entrant<'a> {
    connect: &'a Connect<'a>,
    terms: &'a Terms,
    assigned: Option<&'a str>,
    pub(crate) principal: Principal,
    auth_data: Option<Box<[u8]>>,
    /// Row of the profile that it will live by.
    pub(crate) profile: u16,
    /// What its mountpoint puts in front of every topic.
    pub(crate) mount: Option<Box<str>>,
    /// Topic of its will, where a rule has rewritten it.
    pub(crate) will_topic: Option<String>,
}

impl Entrant<'_> {
    pub(crate) fn client_id(&self) -> &str {
        self.assigned.unwrap_or(self.connect.client_id) // [MQTT-3.1.3-7]
    }

    fn facts(&self, session_present: bool) -> ConnAckFacts<'_> {
        ConnAckFacts {
            session_present,
            assigned_client_id: self.assigned,
            auth_method: self.connect.auth_method,
            auth_data: self.auth_data.as_deref(),
            ..ConnAckFacts::default()
        }
    }
}

impl<T: Send> Shard<T> {
    /// A CONNECT at its home: asks who it is, and lets it in if the answer is there at once.
    #[expect(clippy::too_many_arguments, reason = "one call per CONNECT, all of it borrowed")]
    pub(crate) fn admit_or_ask<D: Driver<Transport = T>>(
        &mut self,
        driver: &mut D,
        slot: u32,
        connect: &Connect<'_>,
        terms: &Terms,
        assigned: Option<Box<str>>,
        bytes: &[u8],
        length: usize,
    ) -> Result<Step, Cause> {
        let profile = self.profile_of_entrant(slot);
        let authenticate = self.profiles.profile(profile).authenticate;
        if let Some(method) = connect.auth_method
            && !(authenticate && self.authenticator.offers(method))
        {
            let reason = ReasonCode::BadAuthenticationMethod; // [MQTT-4.12.0-1]
            return Err(self.refuse_connect(driver, slot, connect, reason, None));
        }
        let client_id = assigned.as_deref().unwrap_or(connect.client_id);
        let step = if authenticate {
            self.ask(driver, slot, connect, client_id, connect.auth_data, AuthStage::Connect)
        } else {
            let name = connect.username.unwrap_or_default().into();
            AuthStep::Accept { principal: Principal { name, superuser: false }, data: None }
        };
        match step {
            AuthStep::Accept { principal, data } => {
                let assigned = assigned.as_deref();
                let entrant = Entrant {
                    connect,
                    terms,
                    assigned,
                    principal,
                    auth_data: data,
                    profile,
                    mount: None,
                    will_topic: None,
                };
                self.admit(driver, slot, entrant)?;
            }
            AuthStep::Refuse { reason, text } => {
                return Err(self.refuse_connect(driver, slot, connect, reason, text.as_deref()));
            }
            AuthStep::Challenge { .. } | AuthStep::Later => {
                let challenged = matches!(step, AuthStep::Challenge { .. });
                let maximum_packet_size = connect.maximum_packet_size.unwrap_or(u32::MAX);
                let packet = bytes[..length].to_vec();
                let admission = Admission { connect: packet, assigned, challenged, maximum_packet_size };
                self.wait(driver, slot, connect, admission, step)?;
            }
        }
        Ok(Step::Used(length))
    }

    /// Row of the profile that a client of this connection will live by.
    fn profile_of_entrant(&self, slot: u32) -> u16 {
        self.conns.get(slot).map_or(0, |conn| self.profiles.row_of(conn.peer.listener))
    }

    fn ask<D: Driver<Transport = T>>(
        &self,
        driver: &D,
        slot: u32,
        connect: &Connect<'_>,
        client_id: &str,
        data: Option<&[u8]>,
        stage: AuthStage,
    ) -> AuthStep {
        let Some(conn) = self.conns.get(slot) else {
            return AuthStep::Refuse { reason: ReasonCode::UnspecifiedError, text: None };
        };
        let identity = driver.identity(slot);
        self.authenticator.authenticate(&AuthRequest {
            token: self.token(slot, 0),
            client_id,
            username: connect.username,
            password: connect.password,
            method: connect.auth_method,
            data,
            peer: conn.peer.address,
            listener: conn.peer.listener,
            direct: conn.peer.direct,
            certificate: identity.map(|identity| &identity.certificate),
            username_certified: identity.is_some_and(|identity| identity.username.is_some()),
            version: connect.version,
            stage,
        })
    }

    /// The client owes us an AUTH packet, or the authenticator an answer.
    fn wait<D: Driver<Transport = T>>(
        &mut self,
        driver: &mut D,
        slot: u32,
        connect: &Connect<'_>,
        admission: Admission,
        step: AuthStep,
    ) -> Result<(), Cause> {
        if let AuthStep::Challenge { data } = step {
            let Some(method) = connect.auth_method else {
                // [MQTT-4.12.0-6]: whatever the authenticator says
                let reason = ReasonCode::ImplementationSpecificError;
                return Err(self.refuse_connect(driver, slot, connect, reason, None));
            };
            let reason = ReasonCode::ContinueAuthentication; // [MQTT-4.12.0-2]
            if !self.write_auth(slot, reason, method, data.as_deref(), admission.maximum_packet_size) {
                return Err(self.refuse_connect(driver, slot, connect, ReasonCode::PacketTooLarge, None));
            }
        }
        if let Some(conn) = self.conns.get_mut(slot) {
            conn.flags.holds.put(hold::PARKED, !admission.challenged);
            conn.phase = Phase::Admission(Box::new(admission));
        }
        // The CONNECT stays in memory until there is an answer.
        if self.weighs_too_much(slot) {
            let text = "too many others wait to be let in";
            return Err(self.refuse_connect(driver, slot, connect, ReasonCode::ServerBusy, Some(text)));
        }
        Ok(())
    }

    /// AUTH to the client. False: it would be larger than the client takes, and nothing was written.
    fn write_auth(&mut self, slot: u32, reason: ReasonCode, method: &str, data: Option<&[u8]>, most: u32) -> bool {
        let auth = Auth {
            reason,
            method: Some(method), // [MQTT-4.12.0-5]
            data,
            reason_string: None,                    // [MQTT-3.15.2-2]
            user_properties: UserProperties::EMPTY, // [MQTT-3.15.2-3]
        };
        if auth.encoded_len(Version::V5) > most as usize {
            return false; // [MQTT-3.1.2-24]
        }
        if let Some(conn) = self.conns.get_mut(slot) {
            self.pool.ready(&mut conn.out);
            auth.encode(Version::V5, &mut conn.out);
            self.mark_dirty(slot);
        }
        true
    }

    /// Bytes of a client whose admission is under way: only AUTH and DISCONNECT may come [MQTT-3.1.2-30].
    pub(crate) fn on_admission<D: Driver<Transport = T>>(
        &mut self,
        driver: &mut D,
        slot: u32,
        bytes: &[u8],
    ) -> Result<Step, Cause> {
        let Some(listener) = self.conns.get(slot).map(|conn| conn.peer.listener) else { return Ok(Step::Gone) };
        let frame = match split(bytes, self.profiles.limits_of(listener).connect_bytes_max)? {
            Split::Packet(frame) => frame,
            Split::Incomplete { need } => return Ok(Step::Partial(need.unwrap_or(0) as u32)),
        };
        let auth = match decode(Version::V5, &frame)? {
            Packet::Auth(auth) => auth,
            Packet::Disconnect(_) => return Err(Cause::Disconnect),
            _ => return Err(Violation::PacketBeforeConnAck.into()),
        };
        let generation = self.conns.generation(slot);
        let Some(conn_phase) = self.conns.get_mut(slot).map(|conn| &mut conn.phase) else { return Ok(Step::Gone) };
        let Phase::Admission(admission) = conn_phase else { return Ok(Step::Gone) };
        if !admission.challenged || auth.reason != ReasonCode::ContinueAuthentication {
            return Err(Violation::AuthUnexpected.into()); // [MQTT-4.12.0-3]
        }
        let packet = std::mem::take(&mut admission.connect);
        let assigned = admission.assigned.clone();
        let papers = Papers::of(driver, slot);
        let mut connect = connect_in(&packet)?;
        papers.fill_in(&mut connect);
        if auth.method != connect.auth_method {
            return Err(Violation::AuthMethodChanged.into()); // [MQTT-4.12.0-5]
        }
        let client_id = assigned.as_deref().unwrap_or(connect.client_id);
        let step = self.ask(driver, slot, &connect, client_id, auth.data, AuthStage::Continue);
        if self.conns.generation(slot) != generation {
            return Ok(Step::Gone);
        }
        self.go_on(driver, slot, &packet, assigned, step)?;
        Ok(Step::Used(frame.len))
    }

    /// An authenticator answers later.
    pub(crate) fn on_auth_step<D: Driver<Transport = T>>(&mut self, driver: &mut D, token: Token, step: AuthStep) {
        let slot = token.slot;
        if self.conns.generation(slot) != Some(token.generation) {
            return;
        }
        let Some(conn) = self.conns.get_mut(slot) else { return };
        let result = match &mut conn.phase {
            Phase::Admission(admission) if !admission.challenged => {
                let packet = std::mem::take(&mut admission.connect);
                let assigned = admission.assigned.clone();
                conn.flags.holds.put(hold::PARKED, false);
                self.go_on(driver, slot, &packet, assigned, step)
            }
            Phase::Ready
                if conn.flags.holds.has(hold::PARKED)
                    && conn.rare.as_ref().is_some_and(|rare| rare.reauthenticating) =>
            {
                conn.flags.holds.put(hold::PARKED, false);
                self.on_reauth_step(slot, step)
            }
            // Nobody has asked, or it was answered before.
            _ => return,
        };
        if let Err(cause) = result {
            self.close(driver, slot, cause);
            return;
        }
        self.weigh_tail(driver, slot);
        if let Some(conn) = self.conns.get_mut(slot)
            && !conn.tail.is_empty()
        {
            conn.flags.tail_ready = true;
        }
        self.schedule(slot);
    }

    /// The next step of an admission: `packet` is the CONNECT.
    fn go_on<D: Driver<Transport = T>>(
        &mut self,
        driver: &mut D,
        slot: u32,
        packet: &[u8],
        assigned: Option<Box<str>>,
        step: AuthStep,
    ) -> Result<(), Cause> {
        let papers = Papers::of(driver, slot);
        let mut connect = connect_in(packet)?;
        papers.fill_in(&mut connect);
        match step {
            AuthStep::Accept { principal, data } => {
                // The listener may have changed while the verdict was under way.
                let profile = self.profile_of_entrant(slot);
                let Ok(terms) = Terms::agree(&connect, self.profiles.limits(profile)) else {
                    return Err(Cause::Refused(ReasonCode::UnspecifiedError));
                };
                let entrant = Entrant {
                    connect: &connect,
                    terms: &terms,
                    assigned: assigned.as_deref(),
                    principal,
                    auth_data: data,
                    profile,
                    mount: None,
                    will_topic: None,
                };
                self.admit(driver, slot, entrant)
            }
            AuthStep::Refuse { reason, text } => {
                Err(self.refuse_connect(driver, slot, &connect, reason, text.as_deref())) // [MQTT-4.12.0-4]
            }
            AuthStep::Challenge { .. } | AuthStep::Later => {
                let challenged = matches!(step, AuthStep::Challenge { .. });
                let maximum_packet_size = connect.maximum_packet_size.unwrap_or(u32::MAX);
                let admission = Admission { connect: packet.to_vec(), assigned, challenged, maximum_packet_size };
                self.wait(driver, slot, &connect, admission, step)
            }
        }
    }

    pub(crate) fn refuse_connect<D: Driver<Transport = T>>(
        &mut self,
        driver: &mut D,
        slot: u32,
        connect: &Connect<'_>,
        reason: ReasonCode,
        text: Option<&str>,
    ) -> Cause {
        let mut out = Vec::new();
        refuse(connect.version, reason, text, connect.maximum_packet_size.unwrap_or(u32::MAX), &mut out);
        self.turn_away(driver, slot, connect.client_id, reason, text.unwrap_or(reason.name()), &out)
    }

    /// Lets a client in.
    fn admit<D: Driver<Transport = T>>(
        &mut self,
        driver: &mut D,
        slot: u32,
        mut entrant: Entrant<'_>,
    ) -> Result<(), Cause> {
        let connect = entrant.connect;
        let template = &self.profiles.profile(entrant.profile).mountpoint;
        let limits = self.profiles.limits(entrant.profile).topic;
        match mount::prefix(template, entrant.client_id(), connect.username, limits) {
            Ok(prefix) => entrant.mount = prefix,
            Err((reason, text)) => return Err(self.refuse_connect(driver, slot, connect, reason, Some(text))),
        }
        entrant.will_topic = connect.will.as_ref().and_then(|will| self.rewritten_will(slot, &entrant, will));
        if let Some(will) = &connect.will
            && let Some(reason) = self.will_denied(slot, &entrant, will)
        {
            return Err(self.refuse_connect(driver, slot, connect, reason, Some("the will may not be published")));
        }
        if connect.maximum_packet_size.is_some() && !self.connack_fits(&entrant) {
            let text = "the answer is larger than the client's maximum packet size";
            return Err(self.refuse_connect(driver, slot, connect, ReasonCode::PacketTooLarge, Some(text)));
        }
        // Only now, with the client authenticated, an older connection of the same name has to go.
        if let Some(old) = self.find(entrant.client_id()).and_then(|session| self.sessions.get(session))
            && old.conn != NONE
        {
            let old = old.conn;
            self.counters.bump(Metric::SessionsTakenOver);
            self.close(driver, old, Cause::TakenOver); // [MQTT-3.1.4-3] [MQTT3-3.1.4-2]
        }
        let (session, present) = self.session_for(driver, &entrant);
        self.bind(slot, session, &entrant);
        if present {
            self.adopt_jobs(slot, session);
            self.serve_retained(self.subscriber_of(session));
        }
        self.announce(driver, slot, session, present, &entrant);
        self.keep_session(slot, session, present, &entrant);
        self.auto_subscribe(slot);
        Ok(())
    }

    /// Whether the client takes a packet as large as its CONNACK [MQTT-3.1.2-24].
    fn connack_fits(&self, entrant: &Entrant<'_>) -> bool {
        let limits = self.profiles.limits(entrant.profile);
        entrant.terms.connack(limits, &entrant.facts(false), &mut Vec::new())
    }

    /// The session of the entrant: the stored one, or a new one [MQTT-3.1.3-2] [MQTT3-3.1.3-2] [MQTT-3.1.4-4]
    /// [MQTT3-3.1.4-3].
    fn session_for<D: Driver<Transport = T>>(&mut self, driver: &mut D, entrant: &Entrant<'_>) -> (u32, bool) {
        let mut found = self.find(entrant.client_id());
        // A session belongs to its mountpoint: below another one its subscriptions and messages have no names, and might be
        // none of the client's business.
        let elsewhere = |session| self.mount_of(session) != entrant.mount.as_deref().unwrap_or_default();
        if let Some(session) = found
            && (entrant.terms.clean_start || elsewhere(session))
        {
            self.end_session(driver, session); // [MQTT-3.1.2-4] [MQTT3-3.1.2-6]
            found = None;
        }
        if let Some(session) = found {
            self.counters.bump(Metric::SessionsResumed);
            if let Some(resident) = self.sessions.get_mut(session) {
                resident.session.set_expiry_s(entrant.terms.session_expiry_s);
                resident.will_pending = false;
                resident.session.take_will(); // [MQTT-3.1.3-9]
            }
            return (session, true); // [MQTT-3.1.2-5] [MQTT3-3.1.2-4] [MQTT-3.2.2-3] [MQTT3-3.2.2-2]
        }
        let resident = Resident {
            session: Session::new(entrant.client_id(), entrant.terms.session_expiry_s),
            conn: NONE,
            accounted: 0,
            accounted_away: false,
            profile: entrant.profile,
            mount: entrant.mount.as_deref().map_or(0, |mount| mount.len() as u16),
            will_at: Instant(0),
            expires_at: Instant(0),
            check_at: NEVER,
            will_pending: false,
            shares: false,
            stored: false,
            lasting: None,
        };
        let session = self.enrol(resident, entrant.mount.clone());
        self.counters.bump(Metric::SessionsCreated);
        (session, false) // [MQTT-3.2.2-2] [MQTT3-3.2.2-1] [MQTT3-3.2.2-3]
    }

    /// Ties connection and session together.
    fn bind(&mut self, slot: u32, session: u32, entrant: &Entrant<'_>) {
        let generation = self.conns.generation(slot).unwrap_or(0);
        let origin = self.subscriber_of(session).as_u64();
        let will = entrant.connect.will.as_ref().map(|will| self.stored_will(will, entrant, origin)); // [MQTT-3.1.2-7]
        let Some(conn) = self.conns.get_mut(slot) else { return };
        let Some(resident) = self.sessions.get_mut(session) else { return };
        resident.conn = slot;
        self.profiles.hold(entrant.profile);
        self.profiles.release(std::mem::replace(&mut resident.profile, entrant.profile));
        resident.session.set_will(will);
        conn.session = session;
        conn.phase = Phase::Ready;
        conn.profile = entrant.profile;
        conn.link = Link::new(entrant.terms, self.profiles.limits(entrant.profile)).mounted(resident.mount);
        conn.flags.marks.put(mark::SINGLE, resident.mount > 0 || self.profiles.rewrites(entrant.profile));
        conn.flags.marks.put(mark::BRIDGE, entrant.terms.bridge);
        conn.keep_alive_ms = entrant.terms.keep_alive_ms;
        if entrant.principal != Principal::default() || entrant.connect.auth_method.is_some() {
            let rare = conn.rare();
            rare.principal = entrant.principal.clone();
            rare.admission = self.admissions;
            self.admissions += 1;
            rare.auth_method = entrant.connect.auth_method.map(Into::into);
        }
        self.wheel.cancel(conn.timer_tick, slot, generation, Kind::Connect);
        if conn.keep_alive_ms > 0 {
            let at = later(self.now, u64::from(conn.keep_alive_ms).min(HORIZON_MS));
            conn.timer_tick = self.wheel.set(at, Timer { kind: Kind::KeepAlive, slot, generation });
        }
        let shares = resident.shares;
        self.belong(session, &entrant.principal.name);
        self.stand(session);
        if shares {
            for index in 0..self.sessions.get(session).map_or(0, |resident| resident.session.subscriptions.len()) {
                self.set_online(session, index, true);
            }
            self.wake_pools();
        }
        self.clients += 1;
        let profile = self.profiles.profile(entrant.profile);
        if profile.lifetime_ms > 0 || !profile.rates.are_free() {
            self.apply_terms(slot);
        }
    }

    pub(crate) fn set_online(&self, session: u32, index: usize, online: bool) {
        let who = self.subscriber_of(session);
        if let Some(resident) = self.sessions.get(session)
            && let Some(id) = resident.session.subscriptions.get(index)
        {
            self.router.set_online(FilterId::from_u32(*id), who, online);
        }
    }

    /// CONNACK, and whatever waits for the client behind it.
    fn announce<D: Driver<Transport = T>>(
        &mut self,
        driver: &mut D,
        slot: u32,
        session: u32,
        present: bool,
        entrant: &Entrant<'_>,
    ) {
        let Some(conn) = self.conns.get_mut(slot) else { return };
        let Some(resident) = self.sessions.get_mut(session) else { return };
        self.pool.ready(&mut conn.out);
        // [MQTT-3.1.4-5] [MQTT3-3.1.4-4], ahead of all that waits [MQTT-3.2.0-1] [MQTT3-3.2.0-1].
        entrant.terms.connack(self.profiles.limits(entrant.profile), &entrant.facts(present), &mut conn.out);
        self.counters.bump(Metric::ClientsConnected);
        driver.event(Event::Connected {
            client: resident.session.client_id(),
            username: entrant.connect.username,
            peer: conn.peer,
            listener: &self.profiles.profile(entrant.profile).name,
            version: entrant.terms.version.name(),
            clean_start: entrant.terms.clean_start,
            session_present: present,
            keep_alive_s: entrant.terms.keep_alive_s,
        });
        if present {
            let room = conn.room(self.options.out_buffer_bytes);
            let mut env = Env {
                now: self.now,
                limits: self.profiles.limits(entrant.profile),
                room,
                out: &mut conn.out,
                report: &mut self.report,
                scratch: &mut self.building,
            };
            if !conn.flags.marks.has(mark::METERED) {
                resident.session.resume(&mut conn.link, &mut env); // [MQTT-4.4.0-1]
            }
            conn.flags.pump = true;
            self.after_pump(session);
        }
        self.mark_dirty(slot);
    }

    /// AUTH from a client: re-authentication, if its CONNECT had a method.
    pub(crate) fn on_reauthenticate<D: Driver<Transport = T>>(
        &mut self,
        driver: &mut D,
        slot: u32,
        auth: &Auth<'_>,
    ) -> Result<(), Cause> {
        let token = self.token(slot, 0);
        let Some(conn) = self.conns.get_mut(slot) else { return Ok(()) };
        let (peer, version) = (conn.peer, conn.link.version);
        let Some(rare) = conn.rare.as_deref_mut() else {
            return Err(Violation::AuthWithoutMethodInConnect.into()); // [MQTT-4.12.0-7]
        };
        let Some(method) = rare.auth_method.as_deref() else {
            return Err(Violation::AuthWithoutMethodInConnect.into());
        };
        if auth.method != Some(method) {
            return Err(Violation::AuthMethodChanged.into()); // [MQTT-4.12.1-1]
        }
        let stage = match (auth.reason, rare.reauthenticating) {
            (ReasonCode::ReAuthenticate, false) => AuthStage::Reauthenticate,
            (ReasonCode::ContinueAuthentication, true) => AuthStage::ReauthenticateContinue,
            _ => return Err(Violation::AuthUnexpected.into()),
        };
        rare.reauthenticating = true;
        let Some(resident) = self.sessions.get(conn.session) else { return Ok(()) };
        let step = self.authenticator.authenticate(&AuthRequest {
            token,
            client_id: resident.session.client_id(),
            username: None,
            password: None,
            method: Some(method),
            data: auth.data,
            peer: peer.address,
            listener: peer.listener,
            direct: peer.direct,
            certificate: driver.identity(slot).map(|identity| &identity.certificate),
            username_certified: false,
            version,
            stage,
        });
        self.on_reauth_step(slot, step)
    }

    fn on_reauth_step(&mut self, slot: u32, step: AuthStep) -> Result<(), Cause> {
        let Some(conn) = self.conns.get_mut(slot) else { return Ok(()) };
        let method = conn.rare.as_ref().and_then(|rare| rare.auth_method.clone());
        let most = conn.link.maximum_packet_size;
        let (reason, data) = match step {
            AuthStep::Accept { principal, data } => {
                let rare = conn.rare();
                rare.principal = principal;
                rare.admission = self.admissions;
                self.admissions += 1;
                rare.reauthenticating = false;
                (ReasonCode::Success, data)
            }
            AuthStep::Challenge { data } => (ReasonCode::ContinueAuthentication, data),
            AuthStep::Refuse { reason, .. } => return Err(Cause::AuthFailed(reason)), // [MQTT-4.12.1-2]
            AuthStep::Later => {
                self.park(slot);
                return Ok(());
            }
        };
        if self.write_auth(slot, reason, method.as_deref().unwrap_or_default(), data.as_deref(), most) {
            return Ok(());
        }
        Err(Cause::NotPermitted(ReasonCode::PacketTooLarge, "AUTH is larger than the client's maximum packet size"))
    }

    /// Slot of the session of a client identifier.
    pub(crate) fn find(&self, client_id: &str) -> Option<u32> {
        let hash = hash_id(self.seed, client_id);
        self.registry
            .find(hash, |slot| {
                self.sessions.get(*slot).is_some_and(|resident| resident.session.client_id() == client_id)
            })
            .copied()
    }
}

/// The CONNECT of a packet that was decoded before.
fn connect_in(packet: &[u8]) -> Result<Connect<'_>, Cause> {
    match split(packet, u32::MAX)? {
        Split::Packet(frame) => match decode(Version::V5, &frame)? {
            Packet::Connect(connect) => Ok(connect),
            _ => Err(Violation::FirstPacketNotConnect.into()),
        },
        Split::Incomplete { .. } => Err(Violation::Truncated.into()),
    }
}
