//! Ledger messages: a batch of entries, one decision.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::body::{self, ContentType};
use super::envelope::{Envelope, Kind, MESSAGE_ID, Message, Source, Trace};
use super::error::{DecodeError, EncodeError};
use super::subject::Subjects;
use crate::model::{Batch, ENTRIES_PER_BATCH_MAX, Entry, Record, Timestamp, Topic};

/// The message that tells a batch; its `Nats-Msg-Id` is the batch's id.
pub fn message(subjects: &Subjects, cell: &str, topic: Topic, batch: &Batch) -> Result<Message, EncodeError> {
    let source = Source { cell, role: batch.role.as_str(), instance: &batch.instance };
    let envelope = Envelope {
        kind: Kind::Ledger,
        id: batch.id.to_string(),
        source: source.to_string(),
        at: Some(batch.at),
        trace: Trace::of(batch.trace, batch.id),
        content: ContentType::MessagePack,
    };
    let mut headers = envelope.headers();
    headers.push(MESSAGE_ID, envelope.id);
    Ok(Message { subject: subjects.ledger(topic), headers, payload: encode(batch)? })
}

/// The batch in a message of the ledger.
pub fn open(message: &Message) -> Result<Arc<Batch>, DecodeError> {
    let envelope =
        Envelope::read(&message.headers)?.ok_or_else(|| DecodeError::malformed("no CloudEvents headers"))?;
    if envelope.kind != Kind::Ledger {
        let kind = envelope.kind.as_str();
        return Err(DecodeError::malformed(format_args!("a `{kind}` does not belong on the ledger")));
    }
    let batch = decode(envelope.content, &message.payload)?;
    if batch.id.to_string() != envelope.id {
        let cause = format_args!("the header says `{}`, the body `{}`", envelope.id, batch.id);
        return Err(DecodeError::malformed(cause).in_field("id"));
    }
    Ok(Arc::new(batch))
}

/// The body alone, as MessagePack.
pub fn encode(batch: &Batch) -> Result<Bytes, EncodeError> {
    let count = batch.entries.len();
    if count == 0 {
        return Err(EncodeError::Empty);
    }
    if count > ENTRIES_PER_BATCH_MAX {
        return Err(EncodeError::TooMany { what: "entries", count, max: ENTRIES_PER_BATCH_MAX });
    }
    body::encode(batch).map(Bytes::from)
}

/// The body alone.
pub fn decode(content: ContentType, payload: &[u8]) -> Result<Batch, DecodeError> {
    let batch: Batch = body::decode(content, payload)?;
    let count = batch.entries.len();
    if count == 0 {
        return Err(DecodeError::malformed("there are none").in_field("entries"));
    }
    if count > ENTRIES_PER_BATCH_MAX {
        let cause = format_args!("{count} entries, at most {ENTRIES_PER_BATCH_MAX} are taken");
        return Err(DecodeError::limit(cause).in_field("entries"));
    }
    Ok(batch)
}

/// A record as it is kept, with its place.
pub fn keep(record: &Record) -> Result<Bytes, EncodeError> {
    let Record { sequence, stored_at, topic, batch } = record;
    body::encode(&Kept {
        sequence: *sequence,
        stored_at: *stored_at,
        topic: topic.to_string(),
        batch: Cow::Borrowed(batch),
    })
    .map(Bytes::from)
}

/// A record that was kept.
pub fn kept(bytes: &[u8]) -> Result<Record, DecodeError> {
    let Kept { sequence, stored_at, topic, batch } = body::decode(ContentType::MessagePack, bytes)?;
    let topic = super::subject::topic(&topic).ok_or_else(|| {
        DecodeError::unknown(format_args!("`{topic}` is no topic of the ledger")).in_field("topic")
    })?;
    Ok(Record { sequence, stored_at, topic, batch: Arc::new(batch.into_owned()) })
}

#[derive(Serialize, Deserialize)]
struct Kept<'a> {
    sequence: u64,
    stored_at: Timestamp,
    topic: String,
    batch: Cow<'a, Batch>,
}

/// A record for people and scripts: its place in the ledger beside the fields of its batch.
pub fn to_json(record: &Record) -> Value {
    #[derive(Serialize)]
    struct Shown<'a> {
        sequence: u64,
        stored_at: Timestamp,
        topic: String,
        #[serde(flatten)]
        batch: &'a Batch,
    }
    let Record { sequence, stored_at, topic, batch } = record;
    let shown = Shown { sequence: *sequence, stored_at: *stored_at, topic: topic.to_string(), batch };
    // Every key is a text and every number has a form in JSON, so there is nothing that could fail.
    serde_json::to_value(shown).unwrap_or(Value::Null)
}

/// One entry as JSON for people and pipes, without the name of its kind.
pub fn entry_to_json(entry: &Entry) -> Value {
    match serde_json::to_value(entry) {
        Ok(Value::Object(named)) => named.into_iter().next().map_or(Value::Null, |(_, body)| body),
        Ok(_) | Err(_) => Value::Null,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::model::{
        Action, ActionId, ActionSpec, Basis, Confidence, EpisodeId, Generation, HttpMethod, Idempotency,
        IncidentId, Labels, MessageId, Mode, Phase, Plan, PlanId, Reason, Report, ReportId, Role, RuleName,
        Severity, Verdict, VerdictKind, Verification, Violation,
    };
    use crate::wire::{Fault, Headers};

    fn batch(entries: Vec<Entry>) -> Batch {
        Batch {
            id: MessageId::of(&[&"batch"]),
            role: Role::Monitor,
            instance: "host-1".into(),
            at: Timestamp::from_millis(1_700_000_000_000),
            basis: Basis { ledger: 41, generation: Generation(3) },
            trace: 0x00ab_0000_0000_0000_0000_0000_0000_0001,
            entries,
        }
    }

    fn applied() -> Entry {
        Entry::Applied { generation: Generation(7), hash: "abc".into() }
    }

    fn labels() -> impl Strategy<Value = Labels> {
        proptest::collection::btree_map("[a-z_]{1,8}", ".{1,12}", 0..6)
            .prop_map(|pairs| Labels::new(pairs).unwrap())
    }

    fn reading() -> impl Strategy<Value = f64> {
        // Each of its kind, infinities included; NaN has a test of its own, because it is not equal to itself.
        use proptest::num::f64::{INFINITE, NEGATIVE, NORMAL, POSITIVE, SUBNORMAL, ZERO};
        POSITIVE | NEGATIVE | NORMAL | SUBNORMAL | ZERO | INFINITE
    }

    fn firing(value: f64) -> Violation {
        Violation {
            episode: EpisodeId::of(&[&1_u64]),
            rev: 1,
            rule: RuleName { group: "g".into(), alert: "A".into() },
            severity: Severity::Warning,
            phase: Phase::Firing,
            labels: Labels::empty(),
            annotations: Vec::new(),
            since: Timestamp::MIN,
            at: Timestamp::MAX,
            value,
            sample_interval: Duration::ZERO,
        }
    }

    fn violation() -> impl Strategy<Value = Entry> {
        let annotations = proptest::collection::btree_map("[a-z]{1,6}", ".{0,20}", 0..4);
        (any::<u32>(), labels(), annotations, any::<i64>(), reading()).prop_map(
            |(rev, labels, annotations, at, value)| {
                Entry::Violation(Arc::new(Violation {
                    rev,
                    labels,
                    annotations: annotations.into_iter().map(|(k, v)| (k.into(), v.into())).collect(),
                    since: Timestamp::from_millis(at),
                    sample_interval: Duration::from_millis(u64::from(rev)),
                    ..firing(value)
                }))
            },
        )
    }

    fn action() -> impl Strategy<Value = Action> {
        let text = || ".{0,20}".prop_map(Arc::<str>::from);
        let spec = prop_oneof![
            (text(), text()).prop_map(|(subject, body)| ActionSpec::NatsPublish { subject, body }),
            (text(), text()).prop_map(|(subject, body)| ActionSpec::NatsRequest { subject, body }),
            (text(), text()).prop_map(|(url, body)| ActionSpec::Webhook {
                method: HttpMethod::Put,
                url,
                body
            }),
            (text(), proptest::collection::vec(text(), 0..3))
                .prop_map(|(program, arguments)| ActionSpec::Command { program, arguments }),
        ];
        (spec, any::<u32>()).prop_map(|(spec, timeout)| Action {
            id: ActionId::of(&[&u64::from(timeout)]),
            name: "step".into(),
            spec,
            timeout: Duration::from_millis(timeout.into()),
            idempotency: Idempotency::Fence,
        })
    }

    fn plan() -> impl Strategy<Value = Entry> {
        let steps = || proptest::collection::vec(action(), 0..3);
        (any::<bool>(), steps(), steps(), labels(), 0.0..=1.0).prop_map(
            |(first, steps, undo, scope, confidence)| {
                Entry::Plan(Arc::new(Plan {
                    id: PlanId::of(&[&1_u64]),
                    incident: IncidentId::of(&[&1_u64]),
                    generation: 2,
                    parent: (!first).then(|| PlanId::of(&[&2_u64])),
                    playbook: "restart".into(),
                    cause: "leak".into(),
                    confidence: Confidence::new(confidence).unwrap(),
                    scope,
                    mode: Mode::Auto,
                    steps,
                    verify: Verification {
                        expr: "up".into(),
                        harm: first.then(|| "down".into()),
                        settle: Duration::ZERO,
                        within: Duration::from_secs(5),
                        evaluations: 3,
                    },
                    undo,
                    at: Timestamp::MIN,
                }))
            },
        )
    }

    fn verdict() -> impl Strategy<Value = Entry> {
        (proptest::option::of(reading()), proptest::option::of(reading())).prop_map(|(before, after)| {
            Entry::Verdict(Arc::new(Verdict {
                plan: PlanId::of(&[&1_u64]),
                incident: IncidentId::of(&[&1_u64]),
                playbook: "restart".into(),
                cause: "leak".into(),
                scope: Labels::empty(),
                kind: VerdictKind::Harmful,
                reason: "worse".into(),
                before,
                after,
                evaluations: 1,
                at: Timestamp::MAX,
            }))
        })
    }

    fn entries() -> impl Strategy<Value = Vec<Entry>> {
        proptest::collection::vec(prop_oneof![violation(), plan(), verdict(), Just(applied())], 1..6)
    }

    #[test]
    fn a_message_carries_its_batch_and_says_what_it_is() {
        let batch = batch(vec![applied()]);
        let message = message(&Subjects::default(), "eu", Topic::Control, &batch).unwrap();
        assert_eq!(message.subject, "homeostat.v1.control");
        assert_eq!(message.headers.get(MESSAGE_ID), Some(batch.id.to_string().as_str()));
        assert_eq!(message.headers.get("ce-source"), Some("/homeostat/eu/monitor/host-1"));
        let trace = message.headers.get("traceparent").unwrap();
        assert!(trace.starts_with("00-00ab0000000000000000000000000001-"), "{trace}");
        assert_eq!(open(&message), Ok(batch.into()));
    }

    #[test]
    fn a_message_that_is_not_what_it_says_is_malformed() {
        let batch = batch(vec![applied()]);
        let good = message(&Subjects::default(), "eu", Topic::Control, &batch).unwrap();
        let changed = |name: &str, value: &str| {
            let with = |(known, old): (&str, &str)| {
                (known.to_owned(), if known == name { value.to_owned() } else { old.to_owned() })
            };
            Message { headers: good.headers.iter().map(with).collect(), ..good.clone() }
        };
        let cases = [
            (Message { headers: Headers::new(), ..good.clone() }, "no CloudEvents headers"),
            (changed("ce-type", "io.homeostat.samples.v1"), "does not belong on the ledger"),
            (changed("ce-id", "ms-1"), "`id`: the header says `ms-1`"),
            (changed("Content-Type", "text/plain"), "`Content-Type`: the content type `text/plain`"),
            (Message { payload: Bytes::new(), ..good.clone() }, "cut off at byte 0"),
        ];
        for (message, expected) in cases {
            let error = open(&message).unwrap_err();
            assert_eq!(error.fault(), Fault::Malformed);
            assert!(error.to_string().contains(expected), "{error}");
        }
    }

    #[test]
    fn a_newer_entry_is_unknown_with_its_place() {
        let mut json = serde_json::to_value(batch(vec![applied(), applied()])).unwrap();
        json["entries"][1] = serde_json::json!({"forecast": {"of": "tomorrow"}});
        let error = decode(ContentType::Json, json.to_string().as_bytes()).unwrap_err();
        assert_eq!(error.fault(), Fault::Unknown);
        assert!(
            error.to_string().starts_with("`entries[1]`: `forecast` is not one of violation,"),
            "{error}"
        );
    }

    #[test]
    fn newer_fields_are_ignored_and_fields_that_an_old_writer_did_not_know_have_a_meaning() {
        let batch = Batch { trace: 0, ..batch(vec![applied()]) };
        let mut json = serde_json::to_value(&batch).unwrap();
        json["colour"] = serde_json::json!({"deep": [[[1]]]});
        json["entries"][0]["applied"]["by"] = "kim".into();
        assert!(json.get("trace").is_none());
        assert_eq!(decode(ContentType::Json, json.to_string().as_bytes()), Ok(batch));
    }

    #[test]
    fn a_batch_has_at_least_one_entry_and_not_too_many() {
        assert_eq!(encode(&batch(vec![])), Err(EncodeError::Empty));
        assert!(encode(&batch(vec![applied(); ENTRIES_PER_BATCH_MAX])).is_ok());
        assert!(encode(&batch(vec![applied(); ENTRIES_PER_BATCH_MAX + 1])).is_err());
        for count in [0, ENTRIES_PER_BATCH_MAX + 1] {
            let bytes = body::encode(&batch(vec![applied(); count])).unwrap();
            let error = decode(ContentType::MessagePack, &bytes).unwrap_err();
            assert_eq!(error.place(), "entries");
        }
    }

    #[test]
    fn errors_name_the_field_in_the_entry() {
        let report = Report {
            id: ReportId::of(&[&1_u64]),
            reason: Reason::Shadow,
            text: "t".into(),
            incident: None,
            plan: None,
            at: Timestamp::MIN,
        };
        let mut json = serde_json::to_value(batch(vec![Entry::Report(Arc::new(report))])).unwrap();
        json["entries"][0]["report"]["id"] = "re-1".into();
        let error = decode(ContentType::Json, json.to_string().as_bytes()).unwrap_err();
        let expected =
            "`entries[0].report.id`: `re-1` is not an id of the form `re-` and 26 letters or digits";
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn readings_that_are_no_numbers_survive_json() {
        for (value, text) in [(f64::NAN, "NaN"), (f64::INFINITY, "+Inf"), (f64::NEG_INFINITY, "-Inf")] {
            let entry = Entry::Violation(Arc::new(firing(value)));
            let json = serde_json::to_value(batch(vec![entry])).unwrap();
            assert_eq!(json["entries"][0]["violation"]["value"], text);
            let read = decode(ContentType::Json, json.to_string().as_bytes()).unwrap();
            let again = read.entries[0].as_violation().unwrap().value;
            assert_eq!(again.to_bits(), value.to_bits());
        }
    }

    #[test]
    fn a_record_is_shown_with_its_place_and_readable_times() {
        let batch = batch(vec![applied()]);
        let stored_at = Timestamp::from_millis(1_700_000_000_005);
        let record = Record {
            sequence: 42,
            stored_at,
            topic: Topic::Verdicts(VerdictKind::Verified),
            batch: batch.into(),
        };
        let json = to_json(&record);
        assert_eq!(json["sequence"], 42);
        assert_eq!(json["stored_at"], "2023-11-14T22:13:20.005Z");
        assert_eq!(json["topic"], "verdicts.verified");
        assert_eq!(json["basis"]["ledger"], 41);
        assert_eq!(json["entries"][0]["applied"]["generation"], 7);
    }

    proptest! {
        #[test]
        fn any_batch_reads_back(entries in entries(), trace in any::<u128>()) {
            let batch = Batch { trace, ..batch(entries) };
            let bytes = encode(&batch).unwrap();
            prop_assert_eq!(&decode(ContentType::MessagePack, &bytes).unwrap(), &batch);
            let json = serde_json::to_vec(&batch).unwrap();
            prop_assert_eq!(&decode(ContentType::Json, &json).unwrap(), &batch);
        }

        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = decode(ContentType::MessagePack, &bytes);
            let _ = decode(ContentType::Json, &bytes);
        }
    }
}
