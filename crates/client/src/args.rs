//! Flags that `pub` and `sub` share, and what they mean together.
//!
//! Names and meanings are those of the Mosquitto tools, so that scripts and habits carry over: `-h` is the host, so help
//! is `--help` alone.

use std::collections::hash_map::RandomState;
use std::ffi::OsString;
use std::hash::{BuildHasher, Hasher};
use std::path::PathBuf;

use breakwater_proto::{QoS, Version};
use breakwater_transport::tls::{CertificateFiles, ClientTlsOptions, TlsVersion};
use clap::builder::PossibleValue;
use clap::{Args, ValueEnum};

use crate::client::{Options, WillOptions};
use crate::dial::{Scheme, Target};

pub mod property;
pub mod url;

use property::Properties;
use url::Url;

const URL_HELP: &str = "Everything at once: mqtt://[user[:password]@]host[:port]/topic; also mqtts://, ws://, wss://, quic:// and unix:///path/of/socket";

/// Where to connect, as whom, and how.
#[derive(Args, Clone, Debug, Default)]
pub struct ConnectArgs {
    /// Host to connect to [default: localhost]
    #[arg(short = 'h', long, value_name = "HOST", help_heading = "Connection")]
    pub host: Option<String>,
    /// Port to connect to [default: 1883]
    #[arg(short, long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..), help_heading = "Connection")]
    pub port: Option<u16>,
    // Not a doc comment, which would take the brackets for links.
    #[arg(short = 'L', long, value_name = "URL", help = URL_HELP, help_heading = "Connection")]
    pub url: Option<String>,
    /// User name
    #[arg(short, long, value_name = "NAME", allow_hyphen_values = true, help_heading = "Connection")]
    pub username: Option<String>,
    /// Password
    #[arg(short = 'P', long = "pw", value_name = "PASSWORD", allow_hyphen_values = true, help_heading = "Connection")]
    pub password: Option<String>,
    /// Client id [default: the server chooses one]
    #[arg(short, long, value_name = "ID", conflicts_with = "id_prefix", help_heading = "Connection")]
    pub id: Option<String>,
    /// Client id from this prefix and the process id
    #[arg(short = 'I', long, value_name = "PREFIX", help_heading = "Connection")]
    pub id_prefix: Option<String>,
    /// Seconds between signs of life; 0 sends none
    #[arg(short, long, value_name = "SECONDS", default_value_t = 60, help_heading = "Connection")]
    pub keepalive: u16,
    /// Keep the session on the server when the connection ends; needs a client id
    #[arg(short = 'c', long, help_heading = "Connection")]
    pub disable_clean_session: bool,
    /// Seconds that the server keeps the session (MQTT 5); -1 for ever
    #[arg(short = 'x', long, value_name = "SECONDS", value_parser = session_expiry, allow_hyphen_values = true, help_heading = "Connection")]
    pub session_expiry_interval: Option<u32>,
    /// Version of the protocol [default: mqttv311]
    #[arg(short = 'V', long, value_name = "VERSION", value_enum, help_heading = "Connection")]
    pub protocol_version: Option<VersionArg>,
    /// Property of a packet (MQTT 5), such as: -D publish user-property name value
    #[arg(short = 'D', long, num_args = 3..=4, value_names = ["PACKET", "PROPERTY", "VALUE"], allow_negative_numbers = true, help_heading = "Connection")]
    pub property: Vec<String>,
    /// Send without waiting to fill packets; always so here
    #[arg(long, hide = true)]
    pub nodelay: bool,
    /// Show each packet on the error stream
    #[arg(short, long)]
    pub debug: bool,
    /// Print no errors of the connection
    #[arg(long)]
    pub quiet: bool,
    /// Topic of the message that the server sends when this client vanishes
    #[arg(long, value_name = "TOPIC", help_heading = "Will")]
    pub will_topic: Option<String>,
    /// Payload of the will
    #[arg(long, value_name = "PAYLOAD", requires = "will_topic", allow_hyphen_values = true, help_heading = "Will")]
    pub will_payload: Option<OsString>,
    /// QoS of the will: 0, 1 or 2
    #[arg(long, value_name = "QOS", value_parser = qos, requires = "will_topic", help_heading = "Will")]
    pub will_qos: Option<QoS>,
    /// Let the server retain the will
    #[arg(long, requires = "will_topic", help_heading = "Will")]
    pub will_retain: bool,
    #[command(flatten)]
    pub tls: TlsArgs,
    /// Connect over this unix socket instead of the network
    #[arg(long, value_name = "PATH", conflicts_with_all = ["host", "port"], help_heading = "Connection")]
    pub unix: Option<PathBuf>,
    /// Speak MQTT in WebSocket, on the path /mqtt or this one
    #[arg(long, value_name = "PATH", num_args = 0..=1, default_missing_value = "/mqtt", help_heading = "Connection")]
    pub ws: Option<String>,
    #[command(flatten)]
    pub unavailable: UnavailableArgs,
}

/// TLS: any of these flags asks for it.
#[derive(Args, Clone, Debug, Default)]
pub struct TlsArgs {
    /// Certificates of the authorities that are trusted (PEM)
    #[arg(long, value_name = "FILE", help_heading = "TLS")]
    pub cafile: Option<PathBuf>,
    /// The same, as the files of a directory
    #[arg(long, value_name = "DIR", help_heading = "TLS")]
    pub capath: Option<PathBuf>,
    /// Trust the authorities that this system trusts
    #[arg(long, help_heading = "TLS")]
    pub tls_use_os_certs: bool,
    /// Certificate of this client (PEM)
    #[arg(long, value_name = "FILE", requires = "key", help_heading = "TLS")]
    pub cert: Option<PathBuf>,
    /// Its private key (PEM)
    #[arg(long, value_name = "FILE", requires = "cert", help_heading = "TLS")]
    pub key: Option<PathBuf>,
    /// Take any certificate: encrypted, but whoever is in between can read along
    #[arg(long, help_heading = "TLS")]
    pub insecure: bool,
    /// Version of TLS: tlsv1.2 or tlsv1.3 [default: both]
    #[arg(long, value_name = "VERSION", value_parser = tls_version, help_heading = "TLS")]
    pub tls_version: Option<TlsVersion>,
    /// Protocol to name in the handshake (ALPN)
    #[arg(long, value_name = "NAME", help_heading = "TLS")]
    pub tls_alpn: Option<String>,
    /// Ciphers; the secure ones are always chosen here
    #[arg(long, hide = true)]
    pub ciphers: Option<String>,
    /// Form of the key; found out here
    #[arg(long, hide = true, value_parser = ["pem"])]
    pub keyform: Option<String>,
}

/// Flags of the Mosquitto tools that do nothing here. They are known so that the answer can say what to do.
#[derive(Args, Clone, Debug, Default)]
pub struct UnavailableArgs {
    #[arg(short = 'A', hide = true)]
    bind: Option<OsString>,
    #[arg(long, hide = true)]
    proxy: Option<OsString>,
    #[arg(short = 'S', hide = true)]
    srv: bool,
    #[arg(long, hide = true)]
    tls_engine: Option<OsString>,
    #[arg(long, hide = true)]
    tls_engine_kpass_sha1: Option<OsString>,
    #[arg(long, hide = true)]
    psk: Option<OsString>,
    #[arg(long, hide = true)]
    psk_identity: Option<OsString>,
}

/// A protocol version in the spellings people know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VersionArg(pub Version);

impl ValueEnum for VersionArg {
    fn value_variants<'a>() -> &'a [Self] {
        &[VersionArg(Version::V31), VersionArg(Version::V311), VersionArg(Version::V5)]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(match self.0 {
            Version::V31 => PossibleValue::new("mqttv31").aliases(["31", "3.1"]),
            Version::V311 => PossibleValue::new("mqttv311").aliases(["311", "3.1.1"]),
            Version::V5 => PossibleValue::new("mqttv5").aliases(["5", "5.0"]),
        })
    }
}

/// What the flags come to: an address, the first CONNECT, and the properties of later packets.
#[derive(Clone, Debug)]
pub struct Settings {
    pub target: Target,
    /// The topic of `-L`.
    pub topic: Option<String>,
    pub options: Options,
    pub properties: Properties,
    pub debug: bool,
    pub quiet: bool,
}

impl ConnectArgs {
    /// Checks the flags against each other. The error is one line for the user.
    pub fn settings(&self) -> Result<Settings, String> {
        self.unavailable.refuse()?;
        let url = self.url.as_deref().map(url::parse).transpose()?.unwrap_or_default();
        let properties = Properties::parse(&self.property)?;
        let version = self.version()?;
        let username = self.username.clone().or(url.username.clone());
        let password = self.password.clone().or(url.password.clone());
        if password.is_some() && username.is_none() && !version.is_v5() {
            return Err("a password needs a user name before MQTT 5: add -u NAME or -V mqttv5".into());
        }
        let session_expiry = self.session_expiry(&properties, version);
        let connect = &properties.connect;
        let options = Options {
            version,
            client_id: self.client_id(version, session_expiry)?,
            clean_start: !self.disable_clean_session,
            keep_alive_s: self.keepalive,
            username,
            password: password.map(String::into_bytes),
            will: self.will(&properties)?,
            session_expiry,
            receive_maximum: connect.receive_maximum,
            maximum_packet_size: connect.maximum_packet_size,
            topic_alias_maximum: connect.topic_alias_maximum,
            request_response_information: connect.request_response_information,
            request_problem_information: connect.request_problem_information,
            auth_method: connect.auth_method.clone(),
            auth_data: connect.auth_data.clone(),
            user_properties: connect.user_properties.clone(),
            ..Options::default()
        };
        self.refuse_tls(&url)?;
        let target = self.target(&url);
        Ok(Settings { target, topic: url.topic, options, properties, debug: self.debug, quiet: self.quiet })
    }

    /// Who has written that a connection is plain, and what TLS shall be like, means one of the two.
    fn refuse_tls(&self, url: &Url) -> Result<(), String> {
        let Some(flag) = self.tls.asked_for() else { return Ok(()) };
        if self.unix.is_some() || url.scheme == Scheme::Unix {
            return Err(format!("there is no TLS over a unix socket, and {flag} asks for it: drop {flag}"));
        }
        let Some((word, _)) = self.url.as_deref().and_then(|url| url.split_once("://")) else { return Ok(()) };
        let secure = match url.scheme {
            Scheme::Tcp if self.ws.is_none() => "mqtts",
            Scheme::Tcp | Scheme::Ws => "wss",
            _ => return Ok(()),
        };
        Err(format!("{word}:// is without TLS, and {flag} asks for it: write {secure}://, or drop {flag}"))
    }

    fn target(&self, url: &Url) -> Target {
        let encrypted = self.tls.asked_for().is_some();
        let scheme = match url.scheme {
            Scheme::Tcp if self.unix.is_some() => Scheme::Unix,
            Scheme::Tcp if self.ws.is_some() && encrypted => Scheme::Wss,
            Scheme::Tls if self.ws.is_some() => Scheme::Wss,
            Scheme::Tcp if self.ws.is_some() => Scheme::Ws,
            Scheme::Tcp if encrypted => Scheme::Tls,
            scheme => scheme,
        };
        Target {
            scheme,
            host: self.host.clone().or(url.host.clone()).unwrap_or_else(|| "localhost".into()),
            port: self.port.or(url.port).or(scheme.port()).unwrap_or_default(),
            path: self.ws.clone().or(url.path.clone()).unwrap_or_else(|| "/mqtt".into()),
            socket: self.unix.clone().or(url.socket.clone()).unwrap_or_default(),
            tls: self.tls.options(),
        }
    }

    /// Properties ask for MQTT 5, as they exist nowhere else.
    fn version(&self) -> Result<Version, String> {
        match self.protocol_version {
            Some(VersionArg(version)) if !self.property.is_empty() && !version.is_v5() => {
                Err(format!("properties need MQTT 5, but -V asks for {}: drop -V or -D", version.name()))
            }
            Some(VersionArg(version)) => Ok(version),
            None if self.property.is_empty() => Ok(Version::V311),
            None => Ok(Version::V5),
        }
    }

    fn session_expiry(&self, properties: &Properties, version: Version) -> Option<u32> {
        let asked = self.session_expiry_interval.or(properties.connect.session_expiry);
        match asked {
            // The older versions have no word for it; scripts give it all the same.
            _ if !version.is_v5() => None,
            None if self.disable_clean_session => Some(u32::MAX),
            _ => asked,
        }
    }

    fn client_id(&self, version: Version, session_expiry: Option<u32>) -> Result<String, String> {
        if let Some(id) = &self.id {
            return Ok(id.clone());
        }
        if let Some(prefix) = &self.id_prefix {
            return Ok(format!("{prefix}{}", std::process::id()));
        }
        if session_expiry == Some(u32::MAX) || self.disable_clean_session {
            return Err("a session that is kept needs a client id to find it again: add -i ID".into());
        }
        // 3.1 servers make no ids; 23 characters are all that they must accept.
        Ok(if version == Version::V31 { format!("breakwater-{:012x}", random() >> 16) } else { String::new() })
    }

    fn will(&self, properties: &Properties) -> Result<Option<WillOptions>, String> {
        let Some(topic) = &self.will_topic else {
            return Ok(None);
        };
        check_topic(topic)?;
        Ok(Some(WillOptions {
            topic: topic.clone(),
            payload: self.will_payload.clone().map(OsString::into_encoded_bytes).unwrap_or_default(),
            qos: self.will_qos.unwrap_or(QoS::AtMostOnce),
            retain: self.will_retain,
            delay_s: properties.will.delay_s,
            expiry: properties.will.expiry,
            properties: properties.will.forward.clone(),
        }))
    }
}

impl TlsArgs {
    /// The first flag that asks for it.
    fn asked_for(&self) -> Option<&'static str> {
        let flags = [
            (self.cafile.is_some(), "--cafile"),
            (self.capath.is_some(), "--capath"),
            (self.cert.is_some(), "--cert"),
            (self.key.is_some(), "--key"),
            (self.tls_use_os_certs, "--tls-use-os-certs"),
            (self.insecure, "--insecure"),
            (self.tls_version.is_some(), "--tls-version"),
            (self.tls_alpn.is_some(), "--tls-alpn"),
        ];
        flags.into_iter().find_map(|(given, flag)| given.then_some(flag))
    }

    fn options(&self) -> ClientTlsOptions {
        let certificate = self.cert.clone().map(|certificate| CertificateFiles {
            certificate,
            key: self.key.clone().unwrap_or_default(),
            ..CertificateFiles::default()
        });
        ClientTlsOptions {
            authorities: self.cafile.iter().chain(&self.capath).cloned().collect(),
            insecure: self.insecure,
            certificate,
            alpn: self.tls_alpn.as_deref().map(Into::into).into_iter().collect(),
            versions: self.tls_version.into_iter().collect(),
            ..ClientTlsOptions::default()
        }
    }
}

impl UnavailableArgs {
    fn refuse(&self) -> Result<(), String> {
        let engine = self.tls_engine.is_some() || self.tls_engine_kpass_sha1.is_some();
        for (given, what) in [
            (engine, "TLS engines are not available: give the key as a file with --key"),
            (
                self.psk.is_some() || self.psk_identity.is_some(),
                "TLS with pre-shared keys is not available: use certificates, with --cafile, --cert and --key",
            ),
            (self.bind.is_some(), "-A is not available yet: leave the choice of the local address to the system"),
            (self.proxy.is_some(), "--proxy is not available yet: connect directly with -h and -p"),
            (self.srv, "-S is not available yet: give the server's name with -h"),
        ] {
            if given {
                return Err(what.into());
            }
        }
        Ok(())
    }
}

fn tls_version(text: &str) -> Result<TlsVersion, String> {
    match text {
        "tlsv1.2" | "1.2" => Ok(TlsVersion::Tls12),
        "tlsv1.3" | "1.3" => Ok(TlsVersion::Tls13),
        "tlsv1" | "tlsv1.0" | "tlsv1.1" => Err("it is broken, and no longer spoken: tlsv1.2 or tlsv1.3".into()),
        _ => Err("the versions are tlsv1.2 and tlsv1.3".into()),
    }
}

/// `-q` and `--will-qos`.
pub fn qos(text: &str) -> Result<QoS, String> {
    match text {
        "0" => Ok(QoS::AtMostOnce),
        "1" => Ok(QoS::AtLeastOnce),
        "2" => Ok(QoS::ExactlyOnce),
        _ => Err("QoS is 0, 1 or 2".into()),
    }
}

/// A topic to publish to, refused before a connection is opened.
pub fn check_topic(topic: &str) -> Result<(), String> {
    match breakwater_proto::topic::check(topic) {
        Ok(()) => Ok(()),
        Err(_) if topic.is_empty() => Err("the topic is empty: give one with -t".into()),
        Err(_) => Err(format!("{topic:?} is no topic to publish to: it must hold no + or # and at most 65,535 bytes")),
    }
}

/// A topic filter to subscribe to, unsubscribe from or leave out.
pub fn check_filter(filter: &str) -> Result<(), String> {
    match breakwater_proto::parse_filter(filter) {
        Ok(_) => Ok(()),
        Err(_) => Err(format!("{filter:?} is no topic filter: + and # stand alone between slashes, # only at the end")),
    }
}

fn session_expiry(text: &str) -> Result<u32, String> {
    match text {
        "-1" | "∞" => Ok(u32::MAX),
        number => number.parse().map_err(|_| "give seconds from 0 to 4294967294, or -1 for ever".into()),
    }
}

/// Good enough to tell two clients apart; the standard library seeds each hasher from the system.
pub(crate) fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

#[cfg(test)]
mod tests;
