//! The body of a remote-write 1.0 request: protobuf, in a snappy block.

use prost::Message;

use crate::fleet::Fleet;

/// Longest literal that a two-byte length can tell.
const LITERAL_BYTES_MAX: usize = 1 << 16;
/// The tag of a literal whose length, less one, follows in two bytes.
const LITERAL: u8 = 61 << 2;

#[derive(Clone, PartialEq, Message)]
struct WriteRequest {
    #[prost(message, repeated, tag = "1")]
    timeseries: Vec<TimeSeries>,
}

#[derive(Clone, PartialEq, Message)]
struct TimeSeries {
    #[prost(message, repeated, tag = "1")]
    labels: Vec<Label>,
    #[prost(message, repeated, tag = "2")]
    samples: Vec<Sample>,
}

#[derive(Clone, PartialEq, Message)]
struct Label {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    value: String,
}

#[derive(Clone, PartialEq, Message)]
struct Sample {
    #[prost(double, tag = "1")]
    value: f64,
    /// In milliseconds since the epoch.
    #[prost(int64, tag = "2")]
    timestamp: i64,
}

/// All series of a fleet, in its order: Prometheus goes through its series in the order in which it met them.
pub(crate) fn body(fleet: &Fleet) -> Vec<u8> {
    let timeseries = fleet.0.iter().map(|series| TimeSeries {
        labels: series.labels.iter().map(|(name, value)| label(name, value)).collect(),
        samples: series.samples.iter().map(|&(at, value)| Sample { value, timestamp: at * 1_000 }).collect(),
    });
    block(&WriteRequest { timeseries: timeseries.collect() }.encode_to_vec())
}

fn label(name: &str, value: &str) -> Label {
    Label { name: name.to_owned(), value: value.to_owned() }
}

/// A snappy block without any compression: its length, and literals. Every reader takes it.
fn block(bytes: &[u8]) -> Vec<u8> {
    let mut block = Vec::with_capacity(bytes.len() + 64);
    prost::encoding::encode_varint(bytes.len() as u64, &mut block);
    for literal in bytes.chunks(LITERAL_BYTES_MAX) {
        let [low, high, ..] = (literal.len() - 1).to_le_bytes();
        block.extend([LITERAL, low, high]);
        block.extend_from_slice(literal);
    }
    block
}
