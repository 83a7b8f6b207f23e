//! Golden files: what is written today is what was written before, and what was written before still reads.

use std::path::PathBuf;

use homeostat::model::{Record, Topic};
use homeostat::wire::files::{FileKind, schema};
use homeostat::wire::intake::Received;
use homeostat::wire::{ContentType, bundle, frame, intake, ledger, subject::Subjects, table};
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use crate::{compare, fixtures, root};

fn path(name: &str, extension: &str) -> PathBuf {
    root("tests/golden").join(format!("{name}.{extension}"))
}

fn check(name: &str, bytes: &[u8], json: &Value) {
    compare(&path(name, "msgpack"), bytes);
    compare(&path(name, "json"), format!("{json:#}\n").as_bytes());
}

fn stored(name: &str, extension: &str) -> Vec<u8> {
    std::fs::read(path(name, extension)).unwrap()
}

/// A message whose JSON nobody writes, as a reader of another language sees it: columns as lists of bytes, readings
/// that JSON cannot say as texts.
fn seen(bytes: &[u8]) -> Value {
    let Seen(value) = rmp_serde::from_slice(bytes).unwrap();
    value
}

struct Seen(Value);

impl<'de> Deserialize<'de> for Seen {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SeenVisitor).map(Seen)
    }
}

struct SeenVisitor;

impl<'de> Visitor<'de> for SeenVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a message")
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(if value.is_finite() { value.into() } else { format!("{value:+}").replace("inf", "Inf").into() })
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(text.into())
    }

    fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Value, E> {
        Ok(bytes.to_vec().into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(Seen(item)) = seq.next_element()? {
            items.push(item);
        }
        Ok(items.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut fields = serde_json::Map::new();
        while let Some((name, Seen(value))) = map.next_entry::<String, Seen>()? {
            fields.insert(name, value);
        }
        Ok(fields.into())
    }
}

#[test]
fn every_entry_of_the_ledger_is_written_and_read_as_ever() {
    for (name, entry) in fixtures::entries() {
        let batch = fixtures::batch(vec![entry]);
        let record =
            Record { sequence: 42, stored_at: batch.at, topic: Topic::Plans, batch: batch.clone().into() };
        check(&format!("ledger_{name}"), &ledger::encode(&batch).unwrap(), &ledger::to_json(&record));
        let bytes = stored(&format!("ledger_{name}"), "msgpack");
        assert_eq!(ledger::decode(ContentType::MessagePack, &bytes).unwrap(), batch, "{name}");
        // What is shown of a record reads as the batch: the place beside it is a field that readers do not know.
        let json = stored(&format!("ledger_{name}"), "json");
        assert_eq!(ledger::decode(ContentType::Json, &json).unwrap(), batch, "{name}");
    }
}

#[test]
fn frames_are_written_and_read_as_ever() {
    for (name, frame, table) in fixtures::frames() {
        let bytes = frame::encode(&frame, table.as_ref()).unwrap();
        check(name, &bytes, &seen(&bytes));
        assert_eq!(frame::decode(&stored(name, "msgpack")).unwrap(), (frame, table), "{name}");
    }
}

#[test]
fn series_tables_are_written_and_read_as_ever() {
    let bytes = table::encode(&fixtures::table()).unwrap();
    check("table", &bytes, &seen(&bytes));
    assert_eq!(table::decode(&stored("table", "msgpack")).unwrap(), fixtures::table());
}

#[test]
fn intake_is_written_and_read_as_ever() {
    for (name, received) in fixtures::intake() {
        let bytes = match &received {
            Received::Violation(violation) => intake::encode_violation(violation).unwrap(),
            Received::Change(change) => intake::encode_change(change).unwrap(),
            Received::Control(_, request) => intake::encode_control(request).unwrap(),
        };
        check(name, &bytes, &seen(&bytes));
        for (content, extension) in [(ContentType::MessagePack, "msgpack"), (ContentType::Json, "json")] {
            let body = stored(name, extension);
            let again = match &received {
                Received::Violation(_) => {
                    Received::Violation(intake::decode_violation(content, &body).unwrap())
                }
                Received::Change(_) => Received::Change(intake::decode_change(content, &body).unwrap()),
                Received::Control(user, _) => {
                    Received::Control(user.clone(), intake::decode_control(content, &body).unwrap())
                }
            };
            assert_eq!(again, received, "{name}.{extension}");
        }
    }
}

#[test]
fn bundles_are_written_and_read_as_ever() {
    let bytes = bundle::encode(&fixtures::bundle()).unwrap();
    check("bundle", &bytes, &seen(&bytes));
    assert_eq!(bundle::decode(&stored("bundle", "msgpack")).unwrap(), fixtures::bundle());
}

#[test]
fn headers_are_written_as_ever() {
    let batch = fixtures::batch(vec![fixtures::entries().swap_remove(0).1]);
    let message = ledger::message(&Subjects::default(), "eu-1", Topic::Plans, &batch).unwrap();
    let mut lines = vec![message.subject.clone()];
    lines.extend(message.headers.iter().map(|(name, value)| format!("{name}: {value}")));
    compare(&path("ledger_headers", "txt"), (lines.join("\n") + "\n").as_bytes());
    assert_eq!(*ledger::open(&message).unwrap(), batch);
}

#[test]
fn the_schemas_are_those_of_the_code() {
    for kind in FileKind::ALL {
        let path = root("deploy/schemas").join(format!("{}.json", kind.as_str()));
        compare(&path, format!("{:#}\n", schema(kind)).as_bytes());
    }
}
