//! Connecting, and the private server itself.

use std::process::Stdio;
use std::time::Duration;

use homeostat::bus::nats::{ConnectError, Connection, Connections, Purpose, Settings};
use tokio::net::TcpStream;
use tokio::process::Command;

use crate::support::{Bed, soon};

#[tokio::test]
async fn a_process_has_a_connection_per_purpose_and_knows_the_server() {
    let bed = Bed::start().await;
    let connections = Connections::open(&bed.settings()).await.unwrap();
    assert!(
        connections.samples.server_version().starts_with("2."),
        "{}",
        connections.samples.server_version()
    );
    assert_eq!(connections.decisions.payload_bytes_max(), 1024 * 1024);
    assert!(connections.services.barrier().await);
}

#[tokio::test]
async fn no_server_is_a_clear_error_and_one_that_comes_later_is_waited_for() {
    let mut bed = Bed::start().await;
    let mut settings = bed.settings();
    bed.server.stop().await;
    let log = std::fs::read_to_string(bed.server.log()).unwrap();
    assert!(log.contains("Server Exiting"), "it was asked, not killed: {log}");
    let error = Connection::open(&settings, Purpose::Decisions).await.unwrap_err();
    assert!(matches!(error, ConnectError::Unreachable { .. }), "{error}");
    assert!(error.to_string().contains("hint: "), "{error}");

    settings.connect_within = crate::support::PATIENCE;
    let (connected, restarted) =
        tokio::join!(Connection::open(&settings, Purpose::Decisions), bed.server.restart());
    restarted.unwrap();
    assert!(connected.unwrap().barrier().await);
}

#[tokio::test]
async fn a_server_without_jetstream_is_refused() {
    // A second account has no JetStream, unless it says so.
    let bed = Bed::with(
        "accounts {\n  plain {\n    users: [\n      { user: \"u\", password: \"p\" }\n    ]\n  }\n}\n",
    )
    .await;
    let settings = Settings::new(&format!("nats://u:p@127.0.0.1:{}", bed.server.port())).unwrap();
    let error = Connection::open(&settings, Purpose::Decisions).await.unwrap_err();
    assert!(matches!(error, ConnectError::NoJetStream { .. }), "{error}");
}

#[tokio::test]
async fn a_killed_server_shows_in_the_events_and_the_connection_comes_back() {
    let mut bed = Bed::start().await;
    let connection = bed.connect().await;
    let mut link = connection.events().link();
    soon("the first connection", link.wait_for(|link| link.up)).await.unwrap();
    bed.server.kill().await;
    soon("the loss of the connection", link.wait_for(|link| !link.up)).await.unwrap();
    bed.server.restart().await.unwrap();
    soon("the reconnect", link.wait_for(|link| link.up && link.connects == 2)).await.unwrap();
    assert_eq!(connection.events().counts().disconnects, 1);
    assert!(connection.barrier().await);
    assert_eq!(connection.events().fatal_now(), None);
}

#[tokio::test]
async fn a_missing_permission_is_fatal_and_says_which() {
    let users = r#"authorization {
  users: [
    { user: "u", password: "p", permissions: { publish: ["$JS.API.INFO"], subscribe: ["_INBOX.>"] } }
  ]
}
"#;
    let bed = Bed::with(users).await;
    let settings = Settings::new(&format!("nats://u:p@127.0.0.1:{}", bed.server.port())).unwrap();
    let connection = Connection::open(&settings, Purpose::Decisions).await.unwrap();
    assert_eq!(connection.events().fatal_now(), None);
    let error = soon("the refusal", bed.topology.ensure(&connection)).await.unwrap_err();
    let reason = soon("the reason", connection.events().fatal()).await;
    assert!(reason.contains("$JS.API.STREAM.INFO.HOMEOSTAT_LEDGER"), "{reason}");
    assert!(error.to_string().contains("Permissions Violation"), "{error}");
}

/// Tells this test that it is the process to be killed, and where to write the port of its server.
const OWNER: &str = "HOMEOSTAT_TEST_OWNER";

#[tokio::test]
async fn a_killed_owner_takes_its_server_with_it() {
    const POLL: Duration = Duration::from_millis(20);
    #[expect(clippy::disallowed_methods, reason = "how the test tells its second self what it is")]
    if let Some(file) = std::env::var_os(OWNER) {
        let bed = Bed::start().await;
        std::fs::write(&file, bed.server.port().to_string()).unwrap();
        return std::future::pending().await;
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("port");
    let mut owner = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "connecting::a_killed_owner_takes_its_server_with_it"])
        .env(OWNER, &file)
        .env("TMPDIR", folder.path())
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let port: u16 = soon("the start of the server", async {
        loop {
            if let Some(port) = std::fs::read_to_string(&file).ok().and_then(|text| text.parse().ok()) {
                return port;
            }
            tokio::time::sleep(POLL).await;
        }
    })
    .await;
    assert!(TcpStream::connect(("127.0.0.1", port)).await.is_ok());
    owner.kill().await.unwrap();
    soon("the end of the server", async {
        while TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
            tokio::time::sleep(POLL).await;
        }
    })
    .await;
}
