//! The examples under `deploy` are true: the real server takes each configuration, the loop runs on one of them, the
//! cluster forms, and the unit starts the program as it is.

#[path = "support/program.rs"]
mod program;

use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use std::{fs, thread};

/// Any well-formed public key will do: nobody logs in with it here.
const NKEY: &str = "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4";
/// An election takes up to nine seconds; a busy machine gets three times that.
const HEALTHY_WITHIN: Duration = Duration::from_secs(30);
const POLLED_EVERY: Duration = Duration::from_millis(50);

/// A server that ends with the test.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself; there is nothing to do about either error.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// `nats-server -c config` with the variables that `deploy/nats/cluster.conf` asks for.
fn server(config: &Path, name: &str, store: &Path, routes: &str) -> Command {
    let mut command = Command::new(program::nats_server());
    command
        .arg("-c")
        .arg(config)
        .env("NATS_SERVER_NAME", format!("nats-{name}"))
        .env("NATS_ZONE", format!("az:{name}"))
        .env("NATS_STORE_DIR", store)
        .env("NATS_ROUTE_PASSWORD", "between-servers")
        .env("NATS_ROUTES", routes)
        .env("HOMEOSTAT_NKEY", NKEY)
        .stdin(Stdio::null());
    command
}

/// Addresses on this machine that nobody listens on.
fn free_addresses<const N: usize>() -> [SocketAddr; N] {
    let listeners: [TcpListener; N] =
        std::array::from_fn(|_| TcpListener::bind("127.0.0.1:0").expect("a free port"));
    listeners.map(|listener| listener.local_addr().expect("its address"))
}

/// The body of `GET path`, or nothing while the server does not answer.
fn get(address: SocketAddr, path: &str) -> String {
    let mut body = String::new();
    if let Ok(mut connection) = TcpStream::connect(address) {
        connection.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout");
        let request = format!("GET {path} HTTP/1.0\r\n\r\n");
        // An answer that was cut off counts as none: the next poll asks again.
        if connection.write_all(request.as_bytes()).is_ok() {
            connection.read_to_string(&mut body).ok();
        }
    }
    body
}

#[test]
fn the_server_takes_each_configuration() {
    let folder = program::root().join("deploy/nats");
    let store = tempfile::tempdir().expect("a folder");
    let mut checked = 0;
    for entry in fs::read_dir(folder).expect("deploy/nats") {
        let config = entry.expect("an entry").path();
        let output = server(&config, "a", store.path(), "[]").arg("-t").output().expect("the server runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: {said}", config.display());
        checked += 1;
    }
    assert!(checked >= 2, "only {checked} configurations in deploy/nats");
}

#[test]
fn the_loop_runs_on_the_server_for_development() {
    let folder = tempfile::tempdir().expect("a folder");
    let example = fs::read_to_string(program::root().join("deploy/nats/dev.conf")).expect("the example");
    let [serving, monitoring] = free_addresses();
    let store = format!("store_dir: \"{}\"", folder.path().join("nats").display());
    let mut config = example;
    for (there, here) in [
        ("127.0.0.1:4222", serving.to_string()),
        ("127.0.0.1:8222", monitoring.to_string()),
        ("store_dir: \".homeostat/nats\"", store),
    ] {
        assert!(config.contains(there), "the example no longer has {there}");
        config = config.replace(there, &here);
    }
    let path = folder.path().join("dev.conf");
    fs::write(&path, config).expect("written");
    let log = fs::File::create(folder.path().join("nats.log")).expect("a log");
    let _server =
        Server(server(&path, "dev", folder.path(), "[]").stderr(log).spawn().expect("the server starts"));

    let mut run = Command::new(env!("CARGO_BIN_EXE_homeostat"));
    run.args(["run", "--http", "127.0.0.1:0", "--server", &format!("nats://{serving}"), "--data"]);
    run.arg(folder.path().join("data")).env_remove("NATS_CONTEXT").env_remove("NATS_CREDS");
    let said = fs::File::create(folder.path().join("homeostat.log")).expect("a log");
    let mut run = run.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(said).spawn().expect("it starts");
    let out = BufReader::new(run.stdout.take().expect("its output"));
    let mut run = Server(run);
    let (tell, told) = std::sync::mpsc::channel();
    thread::spawn(move || tell.send(out.lines().any(|line| line.is_ok_and(|line| line == "ready"))));
    let ready = told.recv_timeout(HEALTHY_WITHIN);
    let said = fs::read_to_string(folder.path().join("homeostat.log")).unwrap_or_default();
    assert_eq!(ready, Ok(true), "it was not ready: {:?}\n{said}", run.0.try_wait());
}

#[test]
fn the_unit_starts_the_program_with_arguments_and_variables_that_it_knows() {
    let unit = program::root().join("deploy/systemd/homeostat.service");
    let unit = fs::read_to_string(unit).expect("the unit");
    let line = unit.lines().find_map(|line| line.strip_prefix("ExecStart=/usr/bin/homeostat "));
    let line = line.expect("an ExecStart");
    assert!(line.contains("--config %E/homeostat") && line.contains("--data %S/homeostat"), "{line}");
    // What comes before --help is read as ever: an unknown argument would be refused.
    let arguments = line.replace("%E", "/etc").replace("%S", "/var/lib");
    let mut command = Command::new(env!("CARGO_BIN_EXE_homeostat"));
    let output = command.args(arguments.split_whitespace()).arg("--help").output().expect("it runs");
    let (help, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{err}");
    let is_variable = |word: &&str| word.starts_with("NATS_") || word.starts_with("HOMEOSTAT_");
    let named: Vec<&str> =
        unit.split(|c: char| !c.is_ascii_uppercase() && c != '_').filter(is_variable).collect();
    assert!(named.len() >= 5, "{named:?}");
    for variable in named {
        assert!(help.contains(variable), "`homeostat run` does not know {variable}");
    }
}

#[test]
fn three_servers_form_the_cluster_of_the_example() {
    let folder = tempfile::tempdir().expect("a folder");
    let example = fs::read_to_string(program::root().join("deploy/nats/cluster.conf")).expect("the example");
    let routing: [SocketAddr; 3] = free_addresses();
    let serving: [SocketAddr; 3] = free_addresses();
    let monitoring: [SocketAddr; 3] = free_addresses();
    let routes = routing.map(|address| format!("\"nats://route:between-servers@{address}\"")).join(",");

    let mut servers = Vec::new();
    for (index, name) in ["a", "b", "c"].into_iter().enumerate() {
        let mut config = example.clone();
        for (public, here) in [
            ("0.0.0.0:4222", serving[index]),
            ("127.0.0.1:8222", monitoring[index]),
            ("0.0.0.0:6222", routing[index]),
        ] {
            assert!(config.contains(public), "the example no longer listens on {public}");
            config = config.replace(public, &here.to_string());
        }
        let path = folder.path().join(format!("{name}.conf"));
        fs::write(&path, config).expect("written");
        let log = fs::File::create(path.with_extension("log")).expect("a log");
        let child = server(&path, name, &folder.path().join(name), &format!("[{routes}]"))
            .stderr(log)
            .spawn()
            .expect("the server starts");
        servers.push(Server(child));
    }

    let mut polls_left = HEALTHY_WITHIN.as_millis() / POLLED_EVERY.as_millis();
    let healthy =
        |address: &SocketAddr| get(*address, "/healthz?js-enabled-only=false").contains(r#""status":"ok""#);
    while !monitoring.iter().all(healthy) {
        polls_left -= 1;
        let log = fs::read_to_string(folder.path().join("a.log")).unwrap_or_default();
        assert!(polls_left > 0, "the cluster is not healthy; server a says:\n{log}");
        thread::sleep(POLLED_EVERY);
    }
    let state = get(monitoring[0], "/jsz");
    assert!(state.contains(r#""cluster_size": 3"#), "{state}");
}

#[test]
fn the_alerts_can_be_evaluated_and_name_metrics_that_there_are() {
    let file = program::root().join("deploy/prometheus/homeostat.yaml");
    let mut check = Command::new(env!("CARGO_BIN_EXE_homeostat"));
    let output = check.arg("check").arg(&file).output().expect("it runs");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && err.is_empty(), "{out}{err}");
    let metrics = fs::read_to_string(program::root().join("src/telemetry/metrics.rs")).expect("the metrics");
    let text = fs::read_to_string(&file).expect("the alerts");
    let names = text.split(|c: char| !c.is_ascii_lowercase() && !c.is_ascii_digit() && c != '_');
    let is_ours = |name: &&str| name.starts_with("homeostat_") || name.starts_with("mape_k_");
    let mut count = 0;
    for name in names.filter(is_ours) {
        let of_histogram = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
        let name = of_histogram.unwrap_or(name);
        assert!(metrics.contains(&format!("\"{name}\"")), "nothing counts {name}");
        count += 1;
    }
    assert!(count >= 10, "{count} metrics in the alerts");
}

#[test]
fn the_samples_of_the_readme_tell_their_story() {
    let root = program::root();
    let mut replay = Command::new(env!("CARGO_BIN_EXE_homeostat"));
    replay
        .args(["replay", "--config"])
        .arg(root.join("deploy/demo"))
        .arg(root.join("deploy/samples/leak.csv"));
    let output = replay.output().expect("it runs");
    let out = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{out}");
    for told in [
        "cause \"memory_leak\" confidence 0.86",
        "restart-worker answers memory_leak",
        "would restart the worker (nats_request): not executed",
    ] {
        assert!(out.contains(told), "`{told}` is not in\n{out}");
    }
}
