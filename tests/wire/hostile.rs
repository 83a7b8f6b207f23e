//! Hostile input: every golden file cut at each byte and with each bit flipped is read or refused, and nothing else
//! happens. Refusals name a place and a cause.

use homeostat::wire::frame::FrameView;
use homeostat::wire::{ContentType, DecodeError, bundle, files, frame, intake, ledger, table};

use crate::fixtures;
use homeostat::wire::intake::Received;

type Decoder = fn(&[u8]) -> Result<(), DecodeError>;

fn ledger_message(bytes: &[u8]) -> Result<(), DecodeError> {
    ledger::decode(ContentType::MessagePack, bytes).map(drop)
}

fn frame_message(bytes: &[u8]) -> Result<(), DecodeError> {
    let view = FrameView::new(bytes)?;
    view.rows().for_each(drop);
    frame::decode(bytes).map(drop)
}

/// Every message with its reader.
fn messages() -> Vec<(Vec<u8>, Decoder)> {
    let mut messages: Vec<(Vec<u8>, Decoder)> = Vec::new();
    for (_, entry) in fixtures::entries() {
        let bytes = ledger::encode(&fixtures::batch(vec![entry])).unwrap();
        messages.push((bytes.to_vec(), ledger_message));
    }
    for (_, sent, table) in fixtures::frames() {
        messages.push((frame::encode(&sent, table.as_ref()).unwrap().to_vec(), frame_message));
    }
    messages
        .push((table::encode(&fixtures::table()).unwrap().to_vec(), |bytes| table::decode(bytes).map(drop)));
    messages.push((bundle::encode(&fixtures::bundle()).unwrap().to_vec(), |bytes| {
        bundle::decode(bytes).map(drop)
    }));
    for (_, received) in fixtures::intake() {
        let message: (Vec<u8>, Decoder) = match received {
            Received::Violation(violation) => {
                (intake::encode_violation(&violation).unwrap().to_vec(), |bytes| {
                    intake::decode_violation(ContentType::MessagePack, bytes).map(drop)
                })
            }
            Received::Change(change) => (intake::encode_change(&change).unwrap().to_vec(), |bytes| {
                intake::decode_change(ContentType::MessagePack, bytes).map(drop)
            }),
            Received::Control(_, request) => (intake::encode_control(&request).unwrap().to_vec(), |bytes| {
                intake::decode_control(ContentType::MessagePack, bytes).map(drop)
            }),
        };
        messages.push(message);
    }
    messages
}

#[test]
fn a_message_that_is_cut_off_is_refused() {
    for (bytes, decode) in messages() {
        assert!(decode(&bytes).is_ok());
        for end in 0..bytes.len() {
            assert!(decode(&bytes[..end]).is_err(), "{end} of {} bytes", bytes.len());
        }
        let mut long = bytes.clone();
        long.push(0xc0);
        assert!(decode(&long).is_err());
    }
}

#[test]
fn a_message_with_a_flipped_bit_is_read_or_refused() {
    for (bytes, decode) in messages() {
        let mut bent = bytes.clone();
        for index in 0..bytes.len() {
            for bit in 0..8 {
                bent[index] = bytes[index] ^ (1 << bit);
                if let Err(error) = decode(&bent) {
                    assert!(!error.cause().is_empty());
                    assert!(error.to_string().len() < 4_096);
                }
            }
            bent[index] = bytes[index];
        }
    }
}

#[test]
fn json_that_is_cut_off_or_bent_is_survived() {
    let batch = fixtures::batch(fixtures::entries().into_iter().map(|(_, entry)| entry).collect());
    let json = serde_json::to_vec(&batch).unwrap();
    for index in (0..json.len()).step_by(7) {
        assert!(ledger::decode(ContentType::Json, &json[..index]).is_err());
        let mut bent = json.clone();
        bent[index] ^= 0x15;
        let _ = ledger::decode(ContentType::Json, &bent);
    }
}

#[test]
fn files_that_are_cut_off_or_bent_are_survived() {
    type Parser = fn(&str);
    fn rules(text: &str) {
        let Ok(file) = files::parse_rules("f", text) else { return };
        for rule in file.groups.iter().flat_map(|group| &group.rules) {
            let _ = rule.expr.place(rule.expr.text.len());
        }
    }
    let files: [(&str, Parser); 5] = [
        (
            "groups:\n- name: a\n  rules:\n  - alert: B\n    expr: |\n      up == 0\n    labels: {a: &x 'b'}\n",
            rules,
        ),
        (
            "playbook: p\nanswers: [{cause: c}]\nsteps: [{name: s, webhook: {url: u}}]\nverify: {expr: u, within: 1s}\n",
            |text| drop(files::parse_playbook("f", text)),
        ),
        ("mode: auto\narmed: [a]\ncooldown: 1h\n", |text| drop(files::parse_charter("f", text))),
        ("- cause: c\n  prior: .1\n  symptoms: [{match: {a: b}, weight: 1, because: x}]\n", |text| {
            drop(files::parse_causes("f", text));
        }),
        ("scope_labels: [job, \"zone\"]\n", |text| drop(files::parse_analysis("f", text))),
    ];
    for (text, parse) in files {
        for index in 0..text.len() {
            parse(&text[..index]);
            for byte in b"\n\t:-{}[]&*!|>'\"%@`\0#?," {
                let mut bent = text.to_owned();
                bent.replace_range(index..=index, std::str::from_utf8(&[*byte]).unwrap());
                parse(&bent);
            }
        }
    }
}
