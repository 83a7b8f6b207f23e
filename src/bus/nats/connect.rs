//! Connecting: who we are, what the server must be, and one connection per kind of traffic.

use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::{BuildHasher, Hasher};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_nats::connection::State;
use async_nats::jetstream::{self, context::ContextBuilder};
use async_nats::{Client, ConnectErrorKind, ConnectOptions};
use thiserror::Error;

use super::events::Events;
use super::settings::{Auth, Settings, reconnect_delay};

/// Older servers lack what the ledger relies on, or lose acknowledged messages in ways that were fixed since.
const VERSION_MIN: Version = Version(2, 12, 3);
/// Publishes without an answer yet, per connection: past it a publish waits, bounded by the request timeout.
const PUBLISHES_IN_FLIGHT_MAX: usize = 1_024;
/// Commands to the connection's task that are queued; frames are up to 16 KiB, so 32 MiB at most.
const COMMANDS_QUEUED_MAX: usize = 2_048;
/// Messages per subscription; those of consumers are bounded by their pulls far below it.
const MESSAGES_QUEUED_MAX: usize = 16_384;

/// What a connection is for. One task of the client library does all of a connection's reading and writing, so bulk
/// samples on a connection of their own cannot delay acknowledgements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Frames of samples.
    Samples,
    /// The ledger and the work that is taken from it.
    Decisions,
    /// Leases, objects, requests and services.
    Services,
}

impl Purpose {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Samples => "samples",
            Self::Decisions => "decisions",
            Self::Services => "services",
        }
    }
}

/// One connection, as everything in `bus::nats` uses it. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Connection {
    pub(super) client: Client,
    pub(super) jetstream: jetstream::Context,
    pub(super) events: Arc<Events>,
    /// The limit of a wait for an answer.
    pub(super) timeout: Duration,
    /// Where JetStream's interface is.
    pub(super) api_prefix: Arc<str>,
}

/// The connections of a process, one per purpose.
#[derive(Clone, Debug)]
pub struct Connections {
    /// For frames.
    pub samples: Connection,
    /// For the ledger and work.
    pub decisions: Connection,
    /// For leases, objects and services.
    pub services: Connection,
}

/// Why there is no connection that can be used.
#[derive(Debug, Error)]
pub enum ConnectError {
    /// A file of the settings cannot be read.
    #[error("{what} `{}` cannot be read", path.display())]
    File {
        /// What it is for.
        what: &'static str,
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file of the settings is not what it should be.
    #[error("{what} `{}` is not valid: {reason}", path.display())]
    Invalid {
        /// What it is for.
        what: &'static str,
        /// Which.
        path: PathBuf,
        /// Why, without its contents.
        reason: &'static str,
    },
    /// The server does not take our credentials.
    #[error(
        "NATS at `{servers}` refuses our credentials: {reason}\nhint: check the user, the `.creds` file or the nkey, and that the server knows them"
    )]
    Unauthorized {
        /// Where.
        servers: String,
        /// What the client said.
        reason: String,
    },
    /// There is no connection.
    #[error(
        "NATS at `{servers}` cannot be reached: {reason}\nhint: is the server running there? `scripts/nats-server` installs one, `homeostat dev` starts one"
    )]
    Unreachable {
        /// Where.
        servers: String,
        /// What the client said.
        reason: String,
    },
    /// Encryption could not be agreed on.
    #[error(
        "TLS with NATS at `{servers}` failed: {reason}\nhint: check the authority (`ca`), the host name, and the client certificate"
    )]
    Tls {
        /// Where.
        servers: String,
        /// What the client said.
        reason: String,
    },
    /// The server is too old.
    #[error(
        "NATS at `{servers}` is version `{found}`, at least {VERSION_MIN} is needed\nhint: `scripts/nats-server` installs a newer one"
    )]
    TooOld {
        /// Where.
        servers: String,
        /// What the server says it is.
        found: String,
    },
    /// JetStream is off, for the server or for our account.
    #[error(
        "NATS at `{servers}` has no JetStream for us: {reason}\nhint: add a `jetstream` block to the server's configuration, or enable it for the account"
    )]
    NoJetStream {
        /// Where.
        servers: String,
        /// What the server said.
        reason: String,
    },
    /// The server does not let us ask.
    #[error(
        "{0}\nhint: the user needs to publish to `$JS.API.>`, or to the parts of it that its role uses, and to subscribe to its inbox"
    )]
    NotPermitted(Arc<str>),
}

impl ConnectError {
    /// Whether another attempt may end otherwise: the server is starting, or its cluster has no leader yet.
    const fn may_pass(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::NoJetStream { .. } => true,
            Self::File { .. }
            | Self::Invalid { .. }
            | Self::Unauthorized { .. }
            | Self::Tls { .. }
            | Self::TooOld { .. }
            | Self::NotPermitted(_) => false,
        }
    }
}

impl Connections {
    /// Connects for all purposes.
    pub async fn open(settings: &Settings) -> Result<Self, ConnectError> {
        Ok(Self {
            samples: Connection::open(settings, Purpose::Samples).await?,
            decisions: Connection::open(settings, Purpose::Decisions).await?,
            services: Connection::open(settings, Purpose::Services).await?,
        })
    }
}

impl Connection {
    /// Connects, and checks that the server is one we can work with. A server that is not there or not ready yet is
    /// tried again for `connect_within`; what will not change is not.
    pub async fn open(settings: &Settings, purpose: Purpose) -> Result<Self, ConnectError> {
        if settings.connect_within.is_zero() {
            return Self::open_once(settings, purpose).await;
        }
        let mut last = None;
        let mut attempt = 0;
        let trying = async {
            loop {
                match Self::open_once(settings, purpose).await {
                    Err(error) if error.may_pass() => last = Some(error),
                    done => return done,
                }
                attempt += 1;
                tokio::time::sleep(reconnect_delay(attempt, random())).await;
            }
        };
        match tokio::time::timeout(settings.connect_within, trying).await {
            Ok(done) => done,
            Err(_) => Err(last.unwrap_or_else(|| unreachable_server(settings, "timed out".into()))),
        }
    }

    async fn open_once(settings: &Settings, purpose: Purpose) -> Result<Self, ConnectError> {
        let events = Arc::new(Events::new());
        let options = options(settings, purpose, &events).await?;
        let connecting = options.connect(settings.servers.as_slice()).await;
        let client = connecting.map_err(|error| connect_error(settings, &error))?;
        let jetstream = ContextBuilder::new()
            .api_prefix(settings.api_prefix.clone().unwrap_or_else(|| "$JS.API".into()))
            .timeout(settings.request_timeout)
            .ack_timeout(settings.request_timeout)
            .max_ack_inflight(PUBLISHES_IN_FLIGHT_MAX)
            .build(client.clone());
        let api_prefix = settings.api_prefix.as_deref().unwrap_or("$JS.API").into();
        events.count_with(client.statistics());
        let connection = Self { client, jetstream, events, timeout: settings.request_timeout, api_prefix };
        connection.check(settings).await?;
        Ok(connection)
    }

    /// Puts the events right where one was lost. Cheap.
    pub(super) fn observe(&self) {
        self.events.observe(self.client.connection_state() == State::Connected);
    }

    /// What happened to this connection.
    pub const fn events(&self) -> &Arc<Events> {
        &self.events
    }

    /// The version of the server we are connected to.
    pub fn server_version(&self) -> String {
        self.client.server_info().version
    }

    /// The largest message the server takes, in bytes.
    pub fn payload_bytes_max(&self) -> usize {
        self.client.max_payload()
    }

    /// Whether what is sent now goes out now. What is sent while the connection is down waits in its queue, for as long as
    /// that lasts: right for a record, wrong for an effect.
    pub(super) fn is_up(&self) -> Result<(), String> {
        match self.client.connection_state() {
            State::Connected => Ok(()),
            State::Pending | State::Disconnected => Err("the connection is down".to_owned()),
        }
    }

    /// Waits until the server has seen everything that was published or settled on this connection before, or until
    /// the request timeout; `false` then. Dropping a connection without it may lose the last messages.
    pub async fn barrier(&self) -> bool {
        // The server answers this one itself, whatever our permissions are beside `$JS.API.INFO`.
        let asked = self.client.request(format!("{}.INFO", self.api_prefix), "".into());
        matches!(tokio::time::timeout(self.timeout, asked).await, Ok(Ok(_)))
    }

    async fn check(&self, settings: &Settings) -> Result<(), ConnectError> {
        let info = self.client.server_info();
        if Version::parse(&info.version).is_none_or(|version| version < VERSION_MIN) {
            return Err(ConnectError::TooOld { servers: settings.servers(), found: info.version });
        }
        let asked = tokio::select! {
            reason = self.events.fatal() => return Err(ConnectError::NotPermitted(reason)),
            asked = self.jetstream.query_account() => asked,
        };
        match asked {
            Ok(_) => Ok(()),
            Err(error) => {
                Err(ConnectError::NoJetStream { servers: settings.servers(), reason: error.to_string() })
            }
        }
    }
}

async fn options(
    settings: &Settings,
    purpose: Purpose,
    events: &Arc<Events>,
) -> Result<ConnectOptions, ConnectError> {
    let events = Arc::clone(events);
    let mut options = ConnectOptions::new()
        .name(format!("{} {}", settings.name, purpose.as_str()))
        .custom_inbox_prefix(&settings.inbox_prefix)
        .ping_interval(settings.ping_interval)
        .connection_timeout(settings.connect_timeout)
        .request_timeout(Some(settings.request_timeout))
        .client_capacity(COMMANDS_QUEUED_MAX)
        .subscription_capacity(MESSAGES_QUEUED_MAX)
        .reconnect_delay_callback(|attempt| reconnect_delay(attempt, random()))
        .event_callback(move |event| {
            events.handle(event);
            std::future::ready(())
        })
        .require_tls(settings.tls.required);
    if settings.tls.first {
        options = options.tls_first();
    }
    for path in &settings.tls.authorities {
        readable("the authority's certificate", path).await?;
        options = options.add_root_certificates(path.clone());
    }
    if let Some((certificate, key)) = &settings.tls.identity {
        readable("the client certificate", certificate).await?;
        readable("the client key", key).await?;
        options = options.add_client_certificate(certificate.clone(), key.clone());
    }
    authenticated(options, &settings.auth).await
}

async fn authenticated(options: ConnectOptions, auth: &Auth) -> Result<ConnectOptions, ConnectError> {
    match auth {
        Auth::Nobody => Ok(options),
        Auth::User { name, password } => {
            Ok(options.user_and_password(name.clone(), password.reveal().to_owned()))
        }
        Auth::Token(token) => Ok(options.token(token.reveal().to_owned())),
        Auth::Credentials(path) => {
            let text = readable("the credentials file", path).await?;
            options.credentials(&text).map_err(|_| ConnectError::Invalid {
                what: "the credentials file",
                path: path.clone(),
                reason: "it does not hold a JWT and a seed between their marks",
            })
        }
        Auth::Nkey(path) => {
            let text = readable("the nkey file", path).await?;
            let seed = text.split_whitespace().find(|word| word.starts_with("SU"));
            seed.map(|seed| options.nkey(seed.to_owned())).ok_or_else(|| ConnectError::Invalid {
                what: "the nkey file",
                path: path.clone(),
                reason: "it holds no seed of a user, which starts with `SU`",
            })
        }
    }
}

/// The client library reads certificates late and says little where it cannot, so look before.
async fn readable(what: &'static str, path: &Path) -> Result<String, ConnectError> {
    tokio::fs::read_to_string(path).await.map_err(|source| ConnectError::File {
        what,
        path: path.to_owned(),
        source,
    })
}

fn connect_error(settings: &Settings, error: &async_nats::ConnectError) -> ConnectError {
    let (servers, reason) = (settings.servers(), error.to_string());
    match error.kind() {
        ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation => {
            ConnectError::Unauthorized { servers, reason }
        }
        ConnectErrorKind::Tls => ConnectError::Tls { servers, reason },
        // A failed handshake arrives as an I/O error whose text names the certificate.
        ConnectErrorKind::Io if is_tls(&reason) => ConnectError::Tls { servers, reason },
        ConnectErrorKind::ServerParse
        | ConnectErrorKind::Dns
        | ConnectErrorKind::TimedOut
        | ConnectErrorKind::Io
        | ConnectErrorKind::MaxReconnects => unreachable_server(settings, reason),
    }
}

fn is_tls(reason: &str) -> bool {
    let reason = reason.to_lowercase();
    ["certificate", "tls", "handshake", "fatal alert", "corrupt message"]
        .iter()
        .any(|word| reason.contains(word))
}

fn unreachable_server(settings: &Settings, reason: String) -> ConnectError {
    ConnectError::Unreachable { servers: settings.servers(), reason }
}

/// Only for jitter: the standard library's per-process random keys spare a dependency.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// Major, minor, patch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Version(u32, u32, u32);

impl Version {
    /// `2.12.3`, with or without something behind it; a pre-release counts as its release.
    fn parse(text: &str) -> Option<Self> {
        let numbers = text.trim_start_matches('v').split(['-', '+']).next()?;
        let mut parts = numbers.split('.').map(str::parse);
        let mut part = || parts.next()?.ok();
        Some(Self(part()?, part()?, part()?))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_number() {
        for (text, enough) in [
            ("2.12.3", true),
            ("2.15.1", true),
            ("2.12.3-RC.1", true),
            ("v3.0.0", true),
            ("2.12.2", false),
            ("2.9.10", false),
            ("2.12", false),
            ("", false),
        ] {
            let version = Version::parse(text);
            assert_eq!(version.is_some_and(|version| version >= VERSION_MIN), enough, "{text}");
        }
    }
}
