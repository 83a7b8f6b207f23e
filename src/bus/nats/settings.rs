//! How to reach a NATS server: addresses, who we are, TLS, and the limits of every wait.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use async_nats::ServerAddr;
use thiserror::Error;

/// A dead peer is found after two unanswered pings, ten seconds; the client's own default needs three minutes.
const PING_INTERVAL: Duration = Duration::from_secs(5);
/// TCP, TLS and the greeting; a server that needs longer is overloaded.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A leader election takes 4 to 9 s, but whoever waits for an answer can do better than wait: it asks again.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// Reconnect delays double from here …
const RECONNECT_FIRST: Duration = Duration::from_millis(10);
/// … to here: long enough not to storm a server that comes back, short enough not to be the outage.
const RECONNECT_MAX: Duration = Duration::from_secs(4);

/// Where the server is, who we are and how long we wait.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Tried in random order; without credentials, those are in `auth`.
    pub(super) servers: Vec<ServerAddr>,
    /// Who we are.
    pub auth: Auth,
    /// How the connection is encrypted.
    pub tls: Tls,
    /// How this process is named in the server's connection list.
    pub name: String,
    /// The first part of our reply subjects: one per role lets a server permit each role its own only.
    pub inbox_prefix: String,
    /// Where JetStream's interface is, where it is not `$JS.API`: `$JS.<domain>.API`.
    pub api_prefix: Option<String>,
    /// How often a silent connection is tried.
    pub ping_interval: Duration,
    /// The limit of one attempt to connect.
    pub connect_timeout: Duration,
    /// The limit of one request, and of one wait for the acknowledgement of a publish.
    pub request_timeout: Duration,
    /// How long the first connection is tried again; zero: once. Later ones are tried for ever.
    pub connect_within: Duration,
}

/// Who we are to the server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Auth {
    /// Nobody in particular.
    #[default]
    Nobody,
    /// A user and a password.
    User {
        /// The user.
        name: String,
        /// The password.
        password: Secret,
    },
    /// A token.
    Token(Secret),
    /// A `.creds` file: a JWT and the seed that signs for it.
    Credentials(PathBuf),
    /// A file with the seed of an nkey.
    Nkey(PathBuf),
}

/// A text that is never printed.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// From its text.
    pub const fn new(text: String) -> Self {
        Self(text)
    }

    pub(super) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

/// How the connection is encrypted. A server that demands TLS gets it without any of this.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// Refuse a server that does not encrypt.
    pub required: bool,
    /// Encrypt before the server's greeting (`handshake_first`).
    pub first: bool,
    /// Certificates to trust, PEM; none: those of the operating system.
    pub authorities: Vec<PathBuf>,
    /// Our certificate and its key, PEM, for servers that ask who we are.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// What is wrong with a setting.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SettingsError {
    /// No address at all.
    #[error(
        "no server address was given\nhint: `nats://127.0.0.1:4222`, or several with commas between them"
    )]
    NoServer,
    /// An address that is none. It is not repeated, for it may hold a password.
    #[error(
        "server address {position} is not valid: {reason}\nhint: an address is `nats://host:port` or `tls://host:port`"
    )]
    Address {
        /// Counted from 1.
        position: usize,
        /// What the parser said.
        reason: String,
    },
    /// Two addresses name two users.
    #[error(
        "the server addresses name different users\nhint: one connection is one user; put the user into the first address only"
    )]
    TwoUsers,
}

impl Settings {
    /// From addresses with commas between them; a user and password, or a token, may be in any of them.
    pub fn new(addresses: &str) -> Result<Self, SettingsError> {
        let mut servers = Vec::new();
        let mut auth = Auth::Nobody;
        for (index, address) in addresses.split(',').map(str::trim).filter(|a| !a.is_empty()).enumerate() {
            let position = index + 1;
            let (server, found) =
                split_address(address).map_err(|reason| SettingsError::Address { position, reason })?;
            if found != Auth::Nobody && auth != Auth::Nobody && found != auth {
                return Err(SettingsError::TwoUsers);
            }
            if found != Auth::Nobody {
                auth = found;
            }
            servers.push(server);
        }
        if servers.is_empty() {
            return Err(SettingsError::NoServer);
        }
        Ok(Self {
            servers,
            auth,
            tls: Tls::default(),
            name: "homeostat".into(),
            inbox_prefix: "_INBOX".into(),
            api_prefix: None,
            ping_interval: PING_INTERVAL,
            connect_timeout: CONNECT_TIMEOUT,
            request_timeout: REQUEST_TIMEOUT,
            connect_within: Duration::ZERO,
        })
    }

    /// The addresses, without credentials, for people.
    pub fn servers(&self) -> String {
        self.servers.iter().map(ServerAddr::as_url_str).collect::<Vec<_>>().join(", ")
    }
}

/// The client library ignores credentials in an address, so they are taken out here.
fn split_address(address: &str) -> Result<(ServerAddr, Auth), String> {
    // The error names what is wrong, never the address.
    let mut url = address.parse::<ServerAddr>().map_err(|error| error.to_string())?.into_inner();
    if !matches!(url.scheme(), "nats" | "tls") {
        return Err(format!("the scheme `{}` is not supported", url.scheme()));
    }
    if url.host_str().is_none_or(str::is_empty) {
        return Err("it names no host".into());
    }
    let user = percent_decoded(url.username())?;
    let auth = match url.password().map(percent_decoded).transpose()? {
        Some(password) => Auth::User { name: user, password: Secret::new(password) },
        None if user.is_empty() => Auth::Nobody,
        None => Auth::Token(Secret::new(user)),
    };
    url.set_username("").and_then(|()| url.set_password(None)).map_err(|()| "it names no host".to_owned())?;
    Ok((ServerAddr::from_url(url).map_err(|error| error.to_string())?, auth))
}

fn percent_decoded(text: &str) -> Result<String, String> {
    let bad = || "a `%` in its user or password is not followed by two hexadecimal digits".to_owned();
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digits = [rest.next().ok_or_else(bad)?, rest.next().ok_or_else(bad)?];
            let digits = std::str::from_utf8(&digits).map_err(|_| bad())?;
            bytes.push(u8::from_str_radix(digits, 16).map_err(|_| bad())?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).map_err(|_| "its user or password is not UTF-8".into())
}

/// How long to wait before the given attempt to reconnect (from 1): doubles, is bounded, and spreads over half of
/// its length by `random`, so that the processes of a cell do not come back in step.
pub(super) fn reconnect_delay(attempt: usize, random: u64) -> Duration {
    let doublings = u32::try_from(attempt.saturating_sub(1)).unwrap_or(u32::MAX).min(16);
    let whole = RECONNECT_FIRST.saturating_mul(1 << doublings).min(RECONNECT_MAX);
    let half = whole / 2;
    let spread = u64::try_from(half.as_micros()).unwrap_or(u64::MAX).max(1);
    half + Duration::from_micros(random % spread)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_move_from_the_address_into_auth() {
        let user = |name: &str, password: &str| Auth::User {
            name: name.into(),
            password: Secret::new(password.into()),
        };
        for (address, server, auth) in [
            ("nats://h:4222", "nats://h:4222", Auth::Nobody),
            ("h", "nats://h", Auth::Nobody),
            ("tls://a:b@h:1", "tls://h:1", user("a", "b")),
            ("nats://a%40x:p%3Aw@h", "nats://h", user("a@x", "p:w")),
            ("nats://s3cret@h", "nats://h", Auth::Token(Secret::new("s3cret".into()))),
            ("nats://a:b@h1, nats://h2", "nats://h1, nats://h2", user("a", "b")),
        ] {
            let settings = Settings::new(address).unwrap();
            assert_eq!((settings.servers().as_str(), &settings.auth), (server, &auth), "{address}");
        }
    }

    #[test]
    fn bad_addresses_are_refused_by_place_and_never_repeated() {
        assert_eq!(Settings::new(" , ").unwrap_err(), SettingsError::NoServer);
        assert_eq!(Settings::new("nats://a:b@h,nats://c:d@h").unwrap_err(), SettingsError::TwoUsers);
        for address in
            ["http://u:hunter2@h", "nats://u:hunter2%zz@h", "ws://u:hunter2@h", "nats://u:hunter2@h:x"]
        {
            let error = Settings::new(&format!("nats://ok,{address}")).unwrap_err();
            assert!(matches!(error, SettingsError::Address { position: 2, .. }), "{address}: {error}");
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn secrets_are_not_printed() {
        let settings = Settings::new("nats://u:hunter2@h").unwrap();
        assert!(!format!("{settings:?}").contains("hunter2"));
    }

    #[test]
    fn reconnect_delays_grow_are_bounded_and_differ() {
        assert!(reconnect_delay(1, u64::MAX) <= RECONNECT_FIRST);
        assert!(reconnect_delay(4, 0) >= RECONNECT_FIRST * 4);
        assert!(reconnect_delay(usize::MAX, u64::MAX) <= RECONNECT_MAX);
        assert_ne!(reconnect_delay(9, 1), reconnect_delay(9, 1_000));
    }
}
