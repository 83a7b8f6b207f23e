//! `run` and `dev`: the roles of the loop in this process.

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::exit::{Failure, Outcome, outside, usage};
use super::signals::{self, Signals};
use super::{Context, args, bus, check, collect, output};
use crate::bus::nats::{PrivateServer, ServerOptions, Settings, SyncInterval, Topology};
use crate::config;
use crate::http::{self, Served};
use crate::model::{Generation, Role};
use crate::producer::Producer;
use crate::role::applying::Shelf;
use crate::role::process::{KEPT_EVERY, Process, ProcessSettings, Readiness};
use crate::telemetry::{self, Traces};

/// How long a server that is not there yet is waited for.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// How often the roles are asked whether they are ready.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Runs roles against a server.
pub(super) async fn run(args: args::Run, context: &Context) -> Outcome {
    let mut settings = bus::settings(&args.bus, context)?;
    settings.connect_within = CONNECT_WITHIN;
    let mut topology = Topology::new(&args.bus.prefix, args.bus.cell()).map_err(usage)?;
    topology.replicas = args.replicas;
    let mut roles: Vec<Role> = args.roles.iter().map(|role| role.role()).collect();
    roles.sort_unstable();
    roles.dedup();
    let process = ProcessSettings {
        bus: settings,
        topology,
        roles,
        instance: context.environment.host.clone().unwrap_or_else(|| "homeostat".to_owned()),
        data: data_folder(args.data, context)?,
        traces: traces(&args.traced, args.bus.cell(), context)?,
        fold_kept_every: args.keep_fold_every,
    };
    let serving = Serving {
        folder: args.config,
        address: args.http,
        collect: args.collect,
        when_ready: "ready".to_owned(),
    };
    serve(process, serving, context).await
}

/// Runs a private server and all roles.
pub(super) async fn dev(args: args::Dev, context: &Context) -> Outcome {
    let temporary = match &args.data {
        Some(_) => None,
        None => Some(temporary_folder(context).map_err(outside)?),
    };
    let folder = args.data.clone().or_else(|| temporary.clone()).unwrap_or_default();
    let done = dev_in(&folder, args, context).await;
    if let Some(temporary) = temporary {
        let _ = std::fs::remove_dir_all(temporary);
    }
    done
}

async fn dev_in(folder: &Path, args: args::Dev, context: &Context) -> Outcome {
    let options = server_options(args.nats_server, &folder.join("nats"), SyncInterval::Default, context)?;
    let mut server = PrivateServer::start_at(options, args.port).await.map_err(outside)?;
    let url = server.url();
    say(format_args!("nats-server on {url}"));
    let process = ProcessSettings {
        bus: Settings::new(&url).map_err(outside)?,
        topology: small(Topology::new("homeostat", "default").map_err(outside)?),
        roles: Role::ALL.to_vec(),
        instance: "dev".to_owned(),
        data: folder.to_owned(),
        traces: traces(&args.traced, "default", context)?,
        fold_kept_every: KEPT_EVERY,
    };
    let serving = Serving {
        folder: args.config,
        address: args.http,
        collect: args.collect,
        when_ready: format!(
            "ready; in another terminal:\n  export NATS_URL={url}\n  homeostat tail        # what the loop decides, as it happens\n  homeostat incidents   # and what became of it"
        ),
    };
    let done = serve(process, serving, context).await;
    server.stop().await;
    done
}

#[cfg(feature = "otlp")]
fn traces(args: &args::Traced, cell: &str, context: &Context) -> Result<Traces, Failure> {
    // A variable that is set to nothing is as good as none.
    let Some(endpoint) = args.otlp_endpoint.as_deref().filter(|endpoint| !endpoint.is_empty()) else {
        return Ok(Traces::default());
    };
    let host = context.environment.host.as_deref().unwrap_or("homeostat");
    Traces::to(endpoint, cell, host, context.clock.now()).map_err(usage)
}

#[cfg(not(feature = "otlp"))]
#[expect(clippy::unnecessary_wraps, reason = "with the feature it may fail")]
fn traces(_: &args::Traced, _: &str, _: &Context) -> Result<Traces, Failure> {
    Ok(Traces::default())
}

/// A private server sets no gigabytes aside.
pub(super) fn small(mut topology: Topology) -> Topology {
    const MIB: i64 = 1024 * 1024;
    topology.ledger.bytes = 512 * MIB;
    topology.intake.bytes = 64 * MIB;
    topology.samples.bytes = 128 * MIB;
    topology.dead_letters.bytes = 64 * MIB;
    topology.object_bytes = 256 * MIB;
    topology
}

/// Starts a private server.
pub(super) async fn private_server(
    binary: Option<PathBuf>,
    folder: &Path,
    sync: SyncInterval,
    context: &Context,
) -> Result<PrivateServer, Failure> {
    PrivateServer::start(server_options(binary, folder, sync, context)?).await.map_err(outside)
}

/// How to start a private server with its files in this folder.
pub(super) fn server_options(
    binary: Option<PathBuf>,
    folder: &Path,
    sync: SyncInterval,
    context: &Context,
) -> Result<ServerOptions, Failure> {
    let Some(binary) = binary.or_else(|| context.environment.find_nats_server()) else {
        return Err(outside(anyhow::anyhow!(
            "there is no nats-server\nhint: scripts/nats-server finds or installs one; --nats-server or HOMEOSTAT_NATS_SERVER names it"
        )));
    };
    Ok(ServerOptions { binary, folder: folder.to_owned(), sync, extra: String::new() })
}

/// A folder of our own below the system's temporary one.
pub(super) fn temporary_folder(context: &Context) -> std::io::Result<PathBuf> {
    let name = format!("homeostat-{}-{}", std::process::id(), context.clock.now().as_millis());
    let folder = std::env::temp_dir().join(name);
    std::fs::create_dir_all(&folder)?;
    Ok(folder)
}

/// Where the store is.
pub(super) fn data_folder(given: Option<PathBuf>, context: &Context) -> Result<PathBuf, Failure> {
    let usual = || context.environment.state_home.clone().map(|home| home.join("homeostat"));
    given.or_else(usual).ok_or_else(|| {
        usage(anyhow::anyhow!("there is no place for the store\nhint: --data DIR says where, or set HOME"))
    })
}

/// What a process does beside its roles.
struct Serving {
    folder: Option<PathBuf>,
    address: String,
    collect: args::Collect,
    /// What is said when all roles are ready.
    when_ready: String,
}

/// A process that is open, and what goes with it.
struct Started {
    process: Process,
    listener: TcpListener,
    shelf: Shelf,
    producer: Option<Producer>,
}

async fn serve(settings: ProcessSettings, serving: Serving, context: &Context) -> Outcome {
    let mut signals = Signals::listen();
    let sources = collect::sources(&serving.collect, context)?;
    let started = tokio::select! {
        started = start(&settings, &serving, !sources.is_empty(), context) => started?,
        () = signals.told_to_stop() => return Ok(()),
    };
    let Started { process, listener, shelf, producer } = started;
    let stop = CancellationToken::new();
    let collecting =
        producer.map(|producer| sources.collect(producer, context.clock.clone(), stop.child_token()));
    let (reload, asked) = mpsc::channel(1);
    let (readiness_out, readiness) = watch::channel::<Option<Readiness>>(None);
    let looked_at = readiness.clone();
    let missing = move || match &*looked_at.borrow() {
        Some(readiness) => readiness.missing(),
        None => vec!["starting".to_owned()],
    };
    let looked_at = readiness.clone();
    let standing_by = move || looked_at.borrow().as_ref().map(Readiness::standing_by).unwrap_or_default();
    let served = Served {
        metrics: telemetry::init_metrics().map_err(outside)?,
        missing: Arc::new(missing),
        standing_by: Arc::new(standing_by),
        reload: serving.folder.is_some().then_some(reload),
    };
    let pages = http::serve(listener, served, stop.child_token());
    let running =
        process.run(move |readiness| drop(readiness_out.send_replace(Some(readiness))), stop.clone());
    tokio::pin!(running);
    tokio::select! {
        done = &mut running => return done.map_err(outside),
        served = pages => served.map_err(outside)?,
        collected = until_done(collecting) => collected.map_err(outside)?,
        () = reloading(shelf, serving.folder, asked, context) => {}
        () = tell_when_ready(readiness, &serving.when_ready) => {}
        () = signals.told_to_stop() => output::note("stopping: what is under way is finished first"),
    }
    stop.cancel();
    tokio::select! {
        done = &mut running => done.map_err(outside),
        // Asked twice, we do not insist: what is unfinished is delivered again.
        () = signals.told_to_stop() => Err(Failure::Finding),
    }
}

/// Everything up to the roles.
async fn start(
    settings: &ProcessSettings,
    serving: &Serving,
    collects: bool,
    context: &Context,
) -> Result<Started, Failure> {
    let address = &serving.address;
    let listener = TcpListener::bind(address).await.map_err(|error| {
        outside(
            anyhow::Error::new(error).context(format!("`{address}` cannot be served\nhint: --http ADDRESS")),
        )
    })?;
    let local = listener.local_addr().map_err(outside)?;
    let roles: Vec<&str> = settings.roles.iter().map(|role| role.as_str()).collect();
    let version = env!("CARGO_PKG_VERSION");
    say(format_args!("homeostat {version} starts {}; its pages: http://{local}", roles.join(", ")));
    let process = Process::open(settings.clone(), context.clock.clone()).await.map_err(outside)?;
    let producer = if collects {
        Some(collect::producer(serving.collect.producer.as_deref(), settings, context).await?)
    } else {
        None
    };
    let shelf = process.shelf().await.map_err(outside)?;
    if let Some(folder) = &serving.folder {
        apply(&shelf, folder, context).await?;
    }
    Ok(Started { process, listener, shelf, producer })
}

/// A loop goes on, whether anybody reads what it prints or not.
fn say(text: impl Display) {
    let _ = output::line(text);
}

/// Says so as soon as everything is ready; never returns.
async fn tell_when_ready(mut readiness: watch::Receiver<Option<Readiness>>, text: &str) {
    let known = readiness.wait_for(Option::is_some).await.map(|known| known.clone());
    if let Ok(Some(readiness)) = known {
        while !readiness.missing().is_empty() {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        say(text);
    }
    std::future::pending::<()>().await;
}

async fn apply(shelf: &Shelf, folder: &Path, context: &Context) -> Outcome {
    let bundle = config::read_bundle(folder).map_err(outside)?;
    check::tell(folder, &config::load(&bundle, Generation::default()));
    let applied = shelf.apply(&bundle, context.clock.now()).await.map_err(outside)?;
    let word = if applied.changed { "applied" } else { "applied already" };
    say(format_args!("{} {word}, generation {}", folder.display(), applied.generation));
    Ok(())
}

/// Applies the folder again on SIGHUP and on `/-/reload`; never returns.
async fn reloading(shelf: Shelf, folder: Option<PathBuf>, mut asked: mpsc::Receiver<()>, context: &Context) {
    let mut hangup = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup()).ok();
    loop {
        tokio::select! {
            Some(()) = asked.recv() => {}
            () = signals::next(hangup.as_mut()) => {}
        }
        match &folder {
            Some(folder) => {
                if let Err(failure) = apply(&shelf, folder, context).await {
                    output::note(failure.text().unwrap_or_default());
                }
            }
            None => output::note("nothing to apply: this process was started without --config"),
        }
    }
}

async fn until_done<F: Future>(something: Option<F>) -> F::Output {
    match something {
        Some(something) => something.await,
        None => std::future::pending().await,
    }
}
