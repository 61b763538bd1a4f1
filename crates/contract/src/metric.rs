//! Names of everything that is counted. Raw strings are not metrics.

macro_rules! metrics {
    ($(#[$about:meta])* $metrics:ident: $($variant:ident => $name:literal, $unit:literal, $help:literal;)*) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum $metrics { $(#[doc = $help] $variant,)* }

        impl $metrics {
            /// All of them, in order of declaration.
            pub const ALL: &'static [$metrics] = &[$($metrics::$variant,)*];

            /// Name as exported, without prefix. Those that only grow end in `_total`.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $($metrics::$variant => $name,)* }
            }

            /// Unit of the value.
            #[must_use]
            pub fn unit(self) -> &'static str {
                match self { $($metrics::$variant => $unit,)* }
            }

            /// One sentence on what is counted.
            #[must_use]
            pub fn help(self) -> &'static str {
                match self { $($metrics::$variant => $help,)* }
            }
        }
    };
}

metrics! {
    /// How a node is at a moment.
    Gauge:
    StartTime => "start_time_seconds", "seconds", "When the broker was started, in seconds of Unix time.";
    Clients => "clients", "clients", "Clients that are connected.";
    Sessions => "sessions", "sessions", "Sessions, with a connection or without.";
    Subscriptions => "subscriptions", "subscriptions", "Subscriptions, those of shared groups left out.";
    SharedSubscriptions => "shared_subscriptions", "subscriptions", "Subscriptions of shared groups.";
    Retained => "retained_messages", "messages", "Retained messages.";
    RetainedBytes => "retained_bytes", "bytes", "Bytes of retained messages.";
    Delayed => "delayed_messages", "messages", "Messages that wait to be published later.";
    ReplayMessages => "replay_messages", "messages", "Messages that are kept for clients that will ask for them.";
    ReplayBytes => "replay_bytes", "bytes", "Bytes of messages that are kept for clients that will ask for them.";
    QueuedBytes => "queued_bytes", "bytes", "Bytes that wait in queues and buffers for clients.";
    QueueMessages => "queue_messages", "messages", "Messages that wait in the queues of all clients, wherever they are; 0 where none of the limits.queued_… settings is set.";
    QueueBytes => "queue_bytes", "bytes", "Bytes of them, as queue.max_bytes counts them.";
    StoreCondition => "store_condition", "state", "How the store is: 0 well, 1 its disk is full, 2 its disk fails.";
    StoreBytes => "store_bytes", "bytes", "Bytes of the store on the disk.";
    StoreWaitingBytes => "store_waiting_bytes", "bytes", "Bytes handed to the store and not yet written.";
    StoreSyncs => "store_syncs_total", "syncs", "Syncs of the log: all that comes together takes one.";
    StoreLogged => "store_logged_bytes_total", "bytes", "Bytes written into the log.";
    StoreDamages => "store_damages", "things", "What the store has found damaged or set aside since the start.";
}

metrics! {
    /// What is known of each listener; its name is the label `listener`.
    ListenerMetric:
    Connections => "listener_connections", "connections", "Connections that a listener has, those whose handshake is under way included.";
    Accepted => "listener_accepted_total", "connections", "Connections let in since the listener was opened, with all handshakes done.";
    Refused => "listener_refused_total", "connections", "Connections turned away before they got as far as MQTT, by reason (the label reason).";
    BytesReceived => "listener_bytes_received_total", "bytes", "Bytes of MQTT from clients of the listener.";
    BytesSent => "listener_bytes_sent_total", "bytes", "Bytes of MQTT to clients of the listener.";
    CertificateExpiry => "listener_certificate_expiry_timestamp_seconds", "seconds", "When the first of the certificates that the listener shows expires, in seconds of Unix time.";
}

metrics! {
    /// How long something takes in each shard: a histogram.
    ShardTimes:
    Turn => "shard_turn_seconds", "seconds", "How long the turns of a shard take: nobody on it is served meanwhile (a histogram; the label shard).";
}

metrics! {
    /// One counter of a shard.
    Metric:
    ConnectionsAccepted => "connections_accepted_total", "connections", "Connections accepted from the network.";
    ConnectionsRefused => "connections_refused_total", "connections", "Connections turned away before CONNACK 0, for whatever reason.";
    ConnectionsClosed => "connections_closed_total", "connections", "Connections that have ended.";
    ClientsConnected => "clients_connected_total", "clients", "CONNECTs accepted.";
    SessionsCreated => "sessions_created_total", "sessions", "New sessions.";
    SessionsResumed => "sessions_resumed_total", "sessions", "Stored sessions taken up again.";
    SessionsTakenOver => "sessions_taken_over_total", "sessions", "Connections ended because their client identifier connected again.";
    SessionsExpired => "sessions_expired_total", "sessions", "Sessions ended by their expiry interval.";
    BytesReceived => "bytes_received_total", "bytes", "Bytes read from clients.";
    BytesSent => "bytes_sent_total", "bytes", "Bytes written to clients.";
    PacketsReceived => "packets_received_total", "packets", "Packets read from clients.";
    PublishReceived => "messages_received_total", "messages", "PUBLISH packets received.";
    PublishReceivedQos1 => "messages_received_qos1_total", "messages", "PUBLISH packets received with QoS 1.";
    PublishReceivedQos2 => "messages_received_qos2_total", "messages", "PUBLISH packets received with QoS 2.";
    PublishSent => "messages_sent_total", "messages", "PUBLISH packets sent to subscribers.";
    PublishDenied => "messages_denied_total", "messages", "Publications that authorization refused.";
    PublishRefused => "messages_refused_total", "messages", "Publications refused with Quota exceeded because a session that wants them has a full queue.";
    PublishUnmatched => "messages_unmatched_total", "messages", "Publications that no subscription matched.";
    DroppedExpired => "messages_dropped_expired_total", "messages", "Deliveries dropped because the message had expired.";
    DroppedTooLarge => "messages_dropped_too_large_total", "messages", "Deliveries dropped because the client's Maximum Packet Size is smaller.";
    DroppedQueueFull => "messages_dropped_queue_full_total", "messages", "Deliveries dropped because the session's queue was full.";
    DroppedUntold => "messages_dropped_untold_total", "messages", "Deliveries dropped because the session's queue was full, where publishers are refused, but nobody could be told: QoS 0, 3.x clients, wills, delayed messages.";
    DroppedUserFull => "messages_dropped_user_full_total", "messages", "Deliveries dropped because the queues of the session's user held as much as they may (limits.queued_messages_per_user, limits.queued_bytes_per_user).";
    DroppedAllFull => "messages_dropped_all_full_total", "messages", "Deliveries dropped because all queues together held as much as they may (limits.queued_messages, limits.queued_bytes).";
    DroppedTooOld => "messages_dropped_too_old_total", "messages", "Deliveries dropped because the message had waited for too long.";
    DroppedSlowConsumer => "messages_dropped_slow_consumer_total", "messages", "QoS 0 deliveries dropped because the client did not read fast enough.";
    DroppedOffline => "messages_dropped_offline_total", "messages", "QoS 0 deliveries dropped because the client was not connected.";
    DroppedGone => "messages_dropped_gone_total", "messages", "Deliveries to a session that had ended meanwhile.";
    MatchesTruncated => "matches_truncated_total", "messages", "Publications that may have missed subscribers because their match met too many filters.";
    RetainedRefused => "retained_refused_total", "messages", "Retained messages not stored because a limit was reached.";
    DelayedTaken => "delayed_taken_total", "messages", "Messages taken to be published later.";
    DelayedRefused => "delayed_refused_total", "messages", "Messages not taken to be published later because a limit was reached.";
    ReplayTaken => "replay_taken_total", "messages", "Messages kept by a rule of replay.rules, once for each rule.";
    Replays => "replays_total", "subscriptions", "Subscriptions to what was published before.";
    ReplaySent => "replay_sent_total", "messages", "Messages that were kept sent to clients that asked for them.";
    WillsPublished => "wills_published_total", "messages", "Will messages published.";
    SharedBounced => "shared_bounced_total", "messages", "Deliveries of shared subscriptions handed on to another member.";
    AckUnknownId => "acks_unknown_id_total", "packets", "Acknowledgements for packet identifiers that are not in use.";
    Violations => "protocol_violations_total", "connections", "Connections ended because the peer broke the protocol.";
    KeepAliveTimeouts => "keep_alive_timeouts_total", "connections", "Connections ended by keep-alive.";
    ConnectTimeouts => "connect_timeouts_total", "connections", "Connections that sent no CONNECT in time.";
    WriteStalls => "write_stalls_total", "connections", "Connections ended because they took no bytes for too long.";
    LifetimesOver => "lifetimes_over_total", "connections", "Connections ended because they had lasted as long as their listener allows.";
    ClientsKicked => "clients_kicked_total", "clients", "Connections ended by an operator's command, by client identifier.";
    ConnectionsRevoked => "connections_revoked_total", "connections", "Connections ended because their user was disabled, removed or given another password.";
    ConnectionsDrained => "connections_drained_total", "connections", "Connections ended because their listener closes or was drained.";
    ReadersPaused => "readers_paused_total", "connections", "Times that a connection's reading was paused for want of memory or mailbox room.";
    ReadersThrottled => "readers_throttled_total", "connections", "Times that a connection's reading was paused because its client had used up its rate.";
    Panics => "panics_total", "connections", "Connections ended by a bug of ours: please report.";
    Subscribes => "subscribes_total", "subscriptions", "Subscriptions made or replaced.";
    TopicsRewritten => "topics_rewritten_total", "topics", "Topics and filters that a rule has rewritten.";
    RewritesRefused => "topics_rewrite_refused_total", "topics", "Topics and filters that stayed as they were because a rule would have made no usable name of them.";
    AutoSubscriptionsRefused => "auto_subscriptions_refused_total", "subscriptions", "Subscriptions on behalf of clients that could not be made: a name or a limit stood in the way.";
    Unsubscribes => "unsubscribes_total", "subscriptions", "Subscriptions removed on request.";
    StoreBatches => "store_batches_total", "batches", "Batches of changes handed to the store.";
    StoreChanges => "store_changes_total", "changes", "Changes handed to the store.";
    StoreUnstored => "store_unstored_total", "changes", "Changes that the store refused or could not write: a restart does not know them.";
    Turns => "turns_total", "turns", "Turns of the shard.";
}

/// The counters of one shard: plain integers, owned by it.
#[derive(Clone, Debug)]
pub struct Counters([u64; Metric::ALL.len()]);

impl Default for Counters {
    fn default() -> Self {
        Self([0; Metric::ALL.len()])
    }
}

impl Counters {
    /// Adds one.
    #[inline]
    pub fn bump(&mut self, metric: Metric) {
        self.add(metric, 1);
    }

    /// Adds `amount`.
    #[inline]
    pub fn add(&mut self, metric: Metric, amount: u64) {
        self.0[metric as usize] = self.0[metric as usize].wrapping_add(amount);
    }

    /// Reads one.
    #[must_use]
    pub fn get(&self, metric: Metric) -> u64 {
        self.0[metric as usize]
    }
}
