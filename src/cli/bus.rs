//! From the command line to the bus.

use super::exit::{Failure, outside, usage};
use super::{Context, args};
use crate::bus::nats::{
    self, Auth, Connection, ContextError, ContextFiles, Ledger, Purpose, Settings, Topology,
};
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
    let connection = Connection::open(&settings, Purpose::Services).await.map_err(outside)?;
    let topology = Topology::new(&args.prefix, args.cell()).map_err(usage)?;
    if let Some(wanted) = &args.cell {
        let found = nats::cell(&connection, &topology.names()).await.map_err(outside)?;
        if found != *wanted {
            let text = format!("the streams are those of the cell `{found}`, not of `{wanted}`");
            return Err(usage(anyhow::anyhow!(text)));
        }
    }
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
    let of_context = |name: Option<&str>| match &contexts {
        Some(files) => files.load(name),
        None => Err(ContextError::NoneSelected("HOME is not set".into())),
    };
    // The command line wins over the environment, and in each of them an address says more than a context's name.
    let environment = (&environment.nats_url, &environment.nats_context);
    let mut settings = match ((&args.server, &args.context), environment) {
        ((Some(_), Some(_)), _) => {
            return Err(usage(anyhow::anyhow!("both a server and a context are given\nhint: leave one out")));
        }
        ((Some(server), None), _) | ((None, None), (Some(server), _)) => {
            Settings::new(server).map_err(usage)?
        }
        ((None, Some(name)), _) | ((None, None), (None, Some(name))) => {
            of_context(Some(name)).map_err(usage)?
        }
        ((None, None), (None, None)) => match of_context(None) {
            Ok(selected) => selected,
            Err(ContextError::NoneSelected(_)) => Settings::new(DEFAULT_SERVER).map_err(usage)?,
            Err(error) => return Err(usage(error)),
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
