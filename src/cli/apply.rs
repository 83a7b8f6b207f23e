//! `apply`: makes a folder the cell's configuration.

use serde_json::json;

use super::exit::{Failure, Outcome, outside};
use super::{Context, args, bus, check, output, printed};
use crate::bus::nats::{Objects, Publisher, TopologyError};
use crate::config;
use crate::model::Generation;
use crate::role::applying::Shelf;

/// Checks the folder and applies it.
pub(super) async fn apply(args: args::Apply, context: &Context) -> Outcome {
    let bundle = config::read_bundle(&args.folder).map_err(outside)?;
    let loaded = config::load(&bundle, Generation::default());
    check::tell(&args.folder, &loaded);
    if !loaded.refused.is_empty() && !args.partial {
        output::note("nothing was applied\nhint: --partial applies the rest");
        return Err(Failure::Finding);
    }
    let reached = bus::reach(&args.bus, context).await?;
    reached.topology.verify(&reached.connection).await.map_err(|error| match error {
        TopologyError::Missing(_) => outside(
            anyhow::Error::new(error)
                .context("the cell's streams are not there\nhint: `homeostat run` creates them"),
        ),
        TopologyError::Prefix(_)
        | TopologyError::Buckets(_)
        | TopologyError::Differs { .. }
        | TopologyError::SubjectTaken { .. }
        | TopologyError::TooNew { .. }
        | TopologyError::NoRoom { .. }
        | TopologyError::Failed { .. } => outside(error),
    })?;
    let names = reached.topology.names();
    let shelf = Shelf {
        objects: Objects::open(reached.connection.clone(), &names).await.map_err(outside)?,
        ledger: reached.ledger().await?,
        publisher: Publisher::new(reached.connection.clone(), &names.ledger),
        subjects: reached.subjects.clone(),
        cell: args.bus.cell().into(),
        instance: "apply".into(),
    };
    let applied = shelf.apply(&bundle, context.clock.now()).await.map_err(outside)?;
    let result = json!({
        "generation": applied.generation.0,
        "hash": &*bundle.hash,
        "changed": applied.changed,
        "files": bundle.files.len(),
        "refused": loaded.refused.len(),
    });
    let told = match context.format {
        output::Format::Table => {
            let word = if applied.changed { "applied as" } else { "applied already, as" };
            output::line(format_args!("{word} generation {}", applied.generation))
        }
        format @ (output::Format::Json | output::Format::Jsonl | output::Format::Yaml) => {
            output::one(format, &result)
        }
    };
    told.or_else(printed)
}
