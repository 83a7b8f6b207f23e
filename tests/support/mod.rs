//! A private NATS server for each test: loopback, a free port, killed by its process id.

use std::path::{Path, PathBuf};
use std::time::Duration;

use homeostat::bus::nats::{
    Connection, Limits, Names, PrivateServer, Purpose, ServerOptions, Settings, SyncInterval, Topology,
};
use homeostat::bus::{Outgoing, Stored};
use tempfile::TempDir;

/// Past it a test is not slow but stuck.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// A server with a folder of its own.
pub(crate) struct Bed {
    pub(crate) server: PrivateServer,
    pub(crate) topology: Topology,
    pub(crate) names: Names,
    /// Gone after the server.
    _folder: TempDir,
}

impl Bed {
    pub(crate) async fn start() -> Self {
        Self::with("").await
    }

    /// With lines behind the server's configuration.
    pub(crate) async fn with(extra: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let options = ServerOptions {
            binary: server_binary(),
            folder: folder.path().to_owned(),
            sync: SyncInterval::Default,
            extra: extra.to_owned(),
        };
        let server = PrivateServer::start(options).await.unwrap_or_else(|error| panic!("{error}"));
        let mut topology = Topology::new("homeostat", "test").unwrap();
        let small = |age| Limits { age, bytes: 16 * 1024 * 1024 };
        topology.ledger = small(Duration::from_hours(1));
        topology.intake = small(Duration::from_hours(1));
        topology.samples = small(Duration::from_mins(1));
        topology.dead_letters = small(Duration::from_hours(1));
        topology.object_bytes = 64 * 1024 * 1024;
        let names = topology.names();
        Self { server, topology, names, _folder: folder }
    }

    /// With its streams, and a connection for decisions.
    pub(crate) async fn ready() -> (Self, Connection) {
        let bed = Self::start().await;
        let connection = bed.connect().await;
        bed.topology.ensure(&connection).await.unwrap();
        (bed, connection)
    }

    pub(crate) fn settings(&self) -> Settings {
        Settings::new(&self.server.url()).unwrap()
    }

    pub(crate) async fn connect(&self) -> Connection {
        Connection::open(&self.settings(), Purpose::Decisions).await.unwrap()
    }

    pub(crate) fn subject(&self, topic: &str) -> String {
        format!("{}.{topic}", self.names.root)
    }

    pub(crate) fn outgoing(&self, topic: &str, id: &str) -> Outgoing {
        Outgoing {
            subject: self.subject(topic),
            headers: vec![("ce-type".into(), "test".into())],
            payload: id.to_owned().into(),
            id: id.to_owned(),
            expected_last_on_subject: None,
        }
    }
}

pub(crate) fn texts(batch: &[Stored]) -> Vec<String> {
    batch.iter().map(|stored| String::from_utf8_lossy(&stored.payload).into_owned()).collect()
}

/// Fails a test that waits for what never comes.
pub(crate) async fn soon<T>(what: &str, wait: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, wait)
        .await
        .unwrap_or_else(|_| panic!("{what} did not happen in {PATIENCE:?}"))
}

/// `HOMEOSTAT_NATS_SERVER`, or what `scripts/nats-server` installed, or what is on the path.
pub(crate) fn server_binary() -> PathBuf {
    #[expect(clippy::disallowed_methods, reason = "tests are told by the environment where the server is")]
    let (named, path) =
        (std::env::var_os("HOMEOSTAT_NATS_SERVER"), std::env::var_os("PATH").unwrap_or_default());
    if let Some(named) = named {
        return named.into();
    }
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join(".tools/nats-server");
    let on_path =
        || std::env::split_paths(&path).map(|folder| folder.join("nats-server")).find(|file| file.is_file());
    find(&tools).or_else(on_path).unwrap_or_else(|| {
        panic!("there is no nats-server for the tests\nhint: run scripts/nats-server, or set HOMEOSTAT_NATS_SERVER")
    })
}

fn find(folder: &Path) -> Option<PathBuf> {
    let mut entries: Vec<_> = std::fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path()).collect();
    entries.sort();
    let here =
        entries.iter().find(|path| path.is_file() && path.file_name().is_some_and(|n| n == "nats-server"));
    here.cloned().or_else(|| entries.iter().filter(|path| path.is_dir()).find_map(|path| find(path)))
}
