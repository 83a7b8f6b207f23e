//! Streams are created where missing and verified where not; one that differs is an error that shows the difference, and is
//! never changed in silence.

use async_nats::jetstream::stream::{Config, Info};
use serde_json::{Value, json};

use super::super::api::{ApiError, STREAM_NAME_EXIST, STREAM_NOT_FOUND};
use super::super::connect::Connection;
use super::super::difference::differences;
use super::error::READER;
use super::{Topology, TopologyError};
use crate::wire::Subjects;

/// JetStream's numbers for "not enough storage", "not enough memory", "account limit" and "insufficient resources".
const NO_ROOM: [u64; 4] = [10_047, 10_028, 10_002, 10_023];

/// What is verified: what decisions rest on. Description, placement and compression are the operator's to choose, and how
/// much and how long a stream keeps is its creator's (see [`SIZES`]).
const FIELDS: [&str; 19] = [
    "subjects",
    "retention",
    "discard",
    "storage",
    "persist_mode",
    "max_msgs_per_subject",
    "duplicate_window",
    "allow_direct",
    "allow_rollup_hdrs",
    "allow_msg_ttl",
    "subject_delete_marker_ttl",
    "deny_delete",
    "deny_purge",
    "no_ack",
    "sealed",
    "mirror",
    "sources",
    "subject_transform",
    "metadata",
];
/// What may differ from what we would have created: it is told, at debug.
const SIZES: [&str; 5] = ["num_replicas", "max_age", "max_bytes", "max_msgs", "max_msg_size"];

impl Topology {
    /// Creates what is missing and verifies what is there; says what it created.
    pub async fn ensure(&self, connection: &Connection) -> Result<Vec<String>, TopologyError> {
        let mut created = Vec::new();
        for wanted in self.streams()? {
            if self.ensure_stream(connection, &wanted).await? {
                created.push(wanted.name);
            }
        }
        Ok(created)
    }

    /// As [`Topology::ensure`], for the stream of samples alone: it is kept in the server's memory, and a server that was
    /// restarted does not have it any more. Says whether it was created.
    pub async fn ensure_samples(&self, connection: &Connection) -> Result<bool, TopologyError> {
        let subjects = Subjects::new(&self.prefix);
        let subjects = subjects.map_err(|_| TopologyError::Prefix(self.prefix.clone()))?;
        self.ensure_stream(connection, &self.samples(&subjects)).await
    }

    /// Verifies only: for users who may not create streams.
    pub async fn verify(&self, connection: &Connection) -> Result<(), TopologyError> {
        for wanted in self.streams()? {
            let found = stream_info(connection, &wanted.name).await?;
            self.verify_stream(&wanted, &found.ok_or(TopologyError::Missing(wanted.name.clone()))?)?;
        }
        Ok(())
    }

    /// Whether it was missing and was created.
    async fn ensure_stream(&self, connection: &Connection, wanted: &Config) -> Result<bool, TopologyError> {
        if let Some(found) = stream_info(connection, &wanted.name).await? {
            return self.verify_stream(wanted, &found).map(|()| false);
        }
        match create(connection, wanted).await? {
            Created::Now => Ok(true),
            Created::BySomebodyElse(found) => self.verify_stream(wanted, &found).map(|()| false),
        }
    }

    /// Whether a stream that is there is one that can be worked with. Its sizes are its creator's, but for the number of
    /// copies where that was asked for, and for an age where what is kept must never grow too old.
    fn verify_stream(&self, wanted: &Config, found: &Info) -> Result<(), TopologyError> {
        let needed = found.config.metadata.get("homeostat.min_reader");
        if let Some(needed) = needed
            && !needed.parse::<u32>().is_ok_and(|needed| needed <= READER)
        {
            return Err(TopologyError::TooNew { name: wanted.name.clone(), needed: needed.clone() });
        }
        let mut fields = FIELDS.to_vec();
        fields.extend(self.replicas.is_some().then_some("num_replicas"));
        fields.extend(wanted.max_age.is_zero().then_some("max_age"));
        // Frames are not decisions: memory or files, whoever created the stream has chosen.
        if wanted.name == self.names().samples {
            fields.retain(|field| !matches!(*field, "storage" | "persist_mode"));
        }
        let mut wanted_for = wanted.clone();
        // An older minimum is as good as ours: it was checked above.
        if needed.is_some() {
            wanted_for.metadata.remove("homeostat.min_reader");
        }
        let (wanted_for, there) = (json!(wanted_for), json!(found.config));
        let differing = differences(&wanted_for, &there, &fields);
        if !differing.is_empty() {
            let name = wanted.name.clone();
            return Err(TopologyError::Differs { what: "the stream", name, differences: differing });
        }
        for difference in differences(&wanted_for, &there, &SIZES) {
            tracing::debug!(stream = %wanted.name, %difference, "as its creator wanted it");
        }
        Ok(())
    }
}

pub(super) async fn stream_info(connection: &Connection, name: &str) -> Result<Option<Info>, TopologyError> {
    match connection.api(format!("STREAM.INFO.{name}"), &json!({})).await {
        Ok(info) => Ok(Some(info)),
        Err(error) if error.is(STREAM_NOT_FOUND) => Ok(None),
        Err(error) => Err(failed(name, &error)),
    }
}

/// What came of creating a stream that was not there.
enum Created {
    Now,
    BySomebodyElse(Box<Info>),
}

async fn create(connection: &Connection, wanted: &Config) -> Result<Created, TopologyError> {
    let name = &wanted.name;
    for subject in &wanted.subjects {
        if let Some(owner) = owner_of(connection, subject).await?
            && owner != *name
        {
            let (subject, wanted) = (subject.clone(), name.clone());
            return Err(TopologyError::SubjectTaken { subject, owner, wanted });
        }
    }
    match connection.api::<Info>(format!("STREAM.CREATE.{name}"), &json!(wanted)).await {
        Ok(_) => Ok(Created::Now),
        Err(error) if error.is(STREAM_NAME_EXIST) => {
            let found = stream_info(connection, name).await?;
            let found = found.ok_or_else(|| TopologyError::Missing(name.clone()))?;
            Ok(Created::BySomebodyElse(Box::new(found)))
        }
        Err(error) if NO_ROOM.iter().any(|code| error.is(*code)) => {
            Err(TopologyError::NoRoom { name: name.clone(), reason: error.to_string() })
        }
        Err(error) => Err(failed(name, &error)),
    }
}

/// A stream whose subjects overlap with this one.
async fn owner_of(connection: &Connection, subject: &str) -> Result<Option<String>, TopologyError> {
    let answer: Value = connection
        .api("STREAM.NAMES".into(), &json!({ "subject": subject }))
        .await
        .map_err(|error| failed(subject, &error))?;
    Ok(answer["streams"][0].as_str().map(str::to_owned))
}

fn failed(name: &str, error: &ApiError) -> TopologyError {
    TopologyError::Failed { name: name.to_owned(), reason: error.to_string() }
}
