//! From the command line to the bus.

use super::exit::{Failure, outside, usage};
use super::{Context, args};
use crate::bus::nats::{Auth, Connection, ContextFiles, Ledger, Purpose, Settings, Topology};
use crate::wire::Subjects;

/// Where a server is, when nothing says where.
const DEFAULT_SERVER: &str = "nats://127.0.0.1:4222";

/// One connection, and what names are used on it.
pub(super) struct Reached {
    pub(super) connection: Connection,
    pub(super) topology: Topology,
    pub(super) subjects: Subjects,
}

impl Reached {
    /// The ledger.
    pub(super) async fn ledger(&self) -> Result<Ledger, Failure> {
        Ledger::open(self.connection.clone(), &self.topology.names()).await.map_err(outside)
    }
}

/// Connects as the command line says.
pub(super) async fn reach(args: &args::Bus, context: &Context) -> Result<Reached, Failure> {
    let settings = settings(args, context)?;
    let connection = Connection::open(&settings, Purpose::Services).await.map_err(|error| {
        let error = anyhow::Error::new(error);
        outside(error.context("the bus cannot be reached\nhint: --server says where it is; `homeostat dev` starts a private one"))
    })?;
    let topology = Topology::new(&args.prefix, &args.cell).map_err(usage)?;
    let subjects = Subjects::new(&args.prefix).map_err(usage)?;
    Ok(Reached { connection, topology, subjects })
}

/// How to connect: an address, else a context of the `nats` tool, else a server on this machine.
pub(super) fn settings(args: &args::Bus, context: &Context) -> Result<Settings, Failure> {
    let environment = &context.environment;
    let contexts = environment
        .config_home
        .clone()
        .map(|config_home| ContextFiles { config_home, home: environment.home.clone() });
    let mut settings = match (&args.server, &args.context, contexts) {
        (Some(server), None, _) => Settings::new(server).map_err(usage)?,
        (None, Some(name), Some(files)) => files.load(Some(name)).map_err(usage)?,
        (Some(_), Some(_), _) => {
            return Err(usage(anyhow::anyhow!("both a server and a context are given\nhint: leave one out")));
        }
        (None, Some(_), None) => {
            return Err(usage(anyhow::anyhow!("contexts are in the home folder, and HOME is not set")));
        }
        (None, None, files) => match files.and_then(|files| files.load(None).ok()) {
            Some(selected) => selected,
            None => Settings::new(DEFAULT_SERVER).map_err(usage)?,
        },
    };
    if let Some(file) = &args.creds {
        settings.auth = Auth::Credentials(file.clone());
    }
    if let Some(file) = &args.nkey {
        settings.auth = Auth::Nkey(file.clone());
    }
    settings.tls.authorities.extend(args.tls_ca.clone());
    if let (Some(certificate), Some(key)) = (&args.tls_cert, &args.tls_key) {
        settings.tls.identity = Some((certificate.clone(), key.clone()));
    }
    Ok(settings)
}
