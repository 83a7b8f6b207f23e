//! Frames on the wire: three columns of numbers, so that reading a row is three loads and no decision.
//!
//! The column of times holds the distance to the frame's base in 32 bits, which is 24 days either way; where that is
//! not enough 64 bits; and nothing at all where every row has the base's time, as in a scrape. Which of them it is
//! follows from its length.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::body;
use super::envelope::{Envelope, Kind, Message, Source};
use super::error::{DecodeError, EncodeError};
use super::msgpack;
use super::subject::{BUCKETS_MAX, Subjects, token};
use super::table::{TABLE_LIMITS, TableColumns, TableShape};
use crate::model::{Frame, Row, ScrapePart, SeriesTable, TableHash, Timestamp};
use crate::wire::ContentType;

/// Ten times a frame of 16 KiB, which is as large as frames should be; more belongs into another frame.
pub const ROWS_PER_FRAME_MAX: usize = 8_192;

/// A frame as it is written.
#[derive(Serialize, Deserialize)]
struct FrameShape<'a> {
    producer: &'a str,
    epoch: u64,
    sequence: u64,
    bucket: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    scrape: Option<PartShape>,
    table: u64,
    base: i64,
    #[serde(with = "serde_bytes")]
    series: &'a [u8],
    #[serde(with = "serde_bytes")]
    times: &'a [u8],
    #[serde(with = "serde_bytes")]
    values: &'a [u8],
    #[serde(default, borrow, skip_serializing_if = "Option::is_none")]
    labels: Option<TableShape<'a>>,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
struct PartShape {
    part: u16,
    parts: u16,
}

/// The message of a frame. It has no `Nats-Msg-Id`: samples are counted, not deduplicated.
pub fn message(
    subjects: &Subjects,
    cell: &str,
    frame: &Frame,
    table: Option<&SeriesTable>,
) -> Result<Message, EncodeError> {
    let Frame { producer, epoch, sequence, bucket, .. } = frame;
    let envelope = Envelope {
        kind: Kind::Samples,
        id: format!("{producer}.{epoch}.{bucket}.{sequence}"),
        source: Source { cell, role: "producer", instance: producer }.to_string(),
        at: None,
        trace: None,
        content: ContentType::MessagePack,
    };
    let payload = encode(frame, table)?;
    Ok(Message { subject: subjects.samples(*bucket), headers: envelope.headers(), payload })
}

/// Writes a frame, with its series table where the readers may not know it.
pub fn encode(frame: &Frame, table: Option<&SeriesTable>) -> Result<Bytes, EncodeError> {
    let count = frame.rows.len();
    if count > ROWS_PER_FRAME_MAX {
        return Err(EncodeError::TooMany { what: "rows", count, max: ROWS_PER_FRAME_MAX });
    }
    token(&frame.producer).map_err(|error| EncodeError::Refused(error.to_string()))?;
    check_numbers(frame.bucket, frame.scrape).map_err(|error| EncodeError::Refused(error.to_string()))?;
    if table.is_some_and(|table| table.hash != frame.table) {
        return Err(EncodeError::Refused("the table is not the one that the frame refers to".into()));
    }
    let base = frame.rows.first().map_or(0, |row| row.at.as_millis());
    let mut series = Vec::with_capacity(2 * count);
    let mut values = Vec::with_capacity(8 * count);
    for row in &frame.rows {
        series.extend(row.series.to_le_bytes());
        values.extend(row.value.to_le_bytes());
    }
    let times = times_column(&frame.rows, base);
    let columns = table.map(TableColumns::of).transpose()?;
    let shape = FrameShape {
        producer: &frame.producer,
        epoch: frame.epoch,
        sequence: frame.sequence,
        bucket: frame.bucket,
        scrape: frame.scrape.map(|ScrapePart { part, parts }| PartShape { part, parts }),
        table: frame.table.0,
        base,
        series: &series,
        times: &times,
        values: &values,
        labels: columns.as_ref().map(TableColumns::shape),
    };
    body::encode_within(&shape, &TABLE_LIMITS).map(Bytes::from)
}

fn times_column(rows: &[Row], base: i64) -> Vec<u8> {
    // Wrapping here and in the reader: then there is no distance that is too far for 64 bits.
    let distances = || rows.iter().map(|row| row.at.as_millis().wrapping_sub(base));
    if distances().all(|distance| distance == 0) {
        return Vec::new();
    }
    let near: Option<Vec<[u8; 4]>> =
        distances().map(|distance| i32::try_from(distance).ok().map(i32::to_le_bytes)).collect();
    match near {
        Some(near) => near.into_flattened(),
        None => distances().flat_map(i64::to_le_bytes).collect(),
    }
}

/// Reads a frame, and the table where it brings one. The table is checked against its hash.
pub fn decode(payload: &[u8]) -> Result<(Frame, Option<SeriesTable>), DecodeError> {
    let view = FrameView::new(payload)?;
    Ok((view.to_frame(), view.table()?))
}

/// A frame that lies in its message: checked, but not copied.
#[derive(Clone, Debug)]
pub struct FrameView<'a> {
    /// Who sends.
    pub producer: &'a str,
    /// Grows with each restart of the producer.
    pub epoch: u64,
    /// Grows by one with each frame of this producer, epoch and bucket.
    pub sequence: u64,
    /// The bucket.
    pub bucket: u32,
    /// Set where the rows are (part of) one scrape.
    pub scrape: Option<ScrapePart>,
    /// The table that the rows refer to.
    pub table_hash: TableHash,
    base: i64,
    series: &'a [[u8; 2]],
    times: Times<'a>,
    values: &'a [[u8; 8]],
    table: Option<TableShape<'a>>,
}

#[derive(Clone, Copy, Debug)]
enum Times<'a> {
    Same,
    Near(&'a [[u8; 4]]),
    Far(&'a [[u8; 8]]),
}

impl<'a> FrameView<'a> {
    /// Checks everything but the table, which most readers know already.
    pub fn new(payload: &'a [u8]) -> Result<Self, DecodeError> {
        let shape: FrameShape<'a> = msgpack::decode(payload, &TABLE_LIMITS)?;
        token(shape.producer).map_err(|error| DecodeError::malformed(error).in_field("producer"))?;
        let scrape = shape.scrape.map(|PartShape { part, parts }| ScrapePart { part, parts });
        check_numbers(shape.bucket, scrape)?;
        let series = cells::<2>(shape.series, None, "series")?;
        let count = series.len();
        if count > ROWS_PER_FRAME_MAX {
            return Err(DecodeError::limit(format_args!(
                "{count} rows, at most {ROWS_PER_FRAME_MAX} are taken"
            )));
        }
        let times = match shape.times.len() {
            0 => Times::Same,
            bytes if bytes == 8 * count => Times::Far(cells(shape.times, Some(count), "times")?),
            _ => Times::Near(cells(shape.times, Some(count), "times")?),
        };
        let values = cells::<8>(shape.values, Some(count), "values")?;
        let table_hash = TableHash(shape.table);
        if shape.labels.as_ref().is_some_and(|table| table.hash() != table_hash) {
            return Err(DecodeError::malformed("not the table that the frame refers to").in_field("labels"));
        }
        Ok(Self {
            producer: shape.producer,
            epoch: shape.epoch,
            sequence: shape.sequence,
            bucket: shape.bucket,
            scrape,
            table_hash,
            base: shape.base,
            series,
            times,
            values,
            table: shape.labels,
        })
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.series.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.series.is_empty()
    }

    /// The rows, in the producer's order.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = Row> + use<'a> {
        let Self { base, series, times, values, .. } = *self;
        (0..series.len()).map(move |index| {
            let distance = match times {
                Times::Same => 0,
                Times::Near(times) => i64::from(i32::from_le_bytes(times[index])),
                Times::Far(times) => i64::from_le_bytes(times[index]),
            };
            Row {
                series: u16::from_le_bytes(series[index]),
                at: Timestamp::from_millis(base.wrapping_add(distance)),
                value: f64::from_le_bytes(values[index]),
            }
        })
    }

    /// Whether the frame brings its table.
    pub fn has_table(&self) -> bool {
        self.table.is_some()
    }

    /// The table that the frame brings, checked against its hash.
    pub fn table(&self) -> Result<Option<SeriesTable>, DecodeError> {
        self.table.as_ref().map(TableShape::read).transpose().map_err(|error| error.in_field("labels"))
    }

    /// A copy that outlives the message.
    pub fn to_frame(&self) -> Frame {
        Frame {
            producer: self.producer.into(),
            epoch: self.epoch,
            sequence: self.sequence,
            bucket: self.bucket,
            scrape: self.scrape,
            table: self.table_hash,
            rows: self.rows().collect(),
        }
    }
}

fn check_numbers(bucket: u32, scrape: Option<ScrapePart>) -> Result<(), DecodeError> {
    if bucket >= BUCKETS_MAX {
        let cause = format_args!("`{bucket}` is not below {BUCKETS_MAX}");
        return Err(DecodeError::malformed(cause).in_field("bucket"));
    }
    match scrape {
        Some(ScrapePart { part, parts }) if part >= parts => {
            let cause = format_args!("part {part} of {parts} does not exist");
            Err(DecodeError::malformed(cause).in_field("scrape"))
        }
        Some(_) | None => Ok(()),
    }
}

/// A column as cells of `N` bytes each, as many as there are rows.
fn cells<'a, const N: usize>(
    column: &'a [u8],
    count: Option<usize>,
    name: &str,
) -> Result<&'a [[u8; N]], DecodeError> {
    let (cells, rest) = column.as_chunks::<N>();
    let count = count.unwrap_or(cells.len());
    if rest.is_empty() && cells.len() == count {
        return Ok(cells);
    }
    let bytes = column.len();
    Err(DecodeError::malformed(format_args!("{bytes} bytes are not {count} cells of {N}")).in_field(name))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::Labels;

    fn frame(rows: Vec<Row>) -> Frame {
        let table = TableHash(7);
        Frame { producer: "web-1".into(), epoch: 2, sequence: 3, bucket: 4, scrape: None, table, rows }
    }

    fn row(series: u16, at: i64, value: f64) -> Row {
        Row { series, at: Timestamp::from_millis(at), value }
    }

    #[test]
    fn a_frame_reads_back_with_and_without_its_table() {
        let series = vec![Labels::new([("__name__", "up"), ("job", "api")]).unwrap()];
        let table = SeriesTable::new(series);
        let scrape = Some(ScrapePart { part: 0, parts: 2 });
        let frame =
            Frame { table: table.hash, scrape, ..frame(vec![row(0, 1_000, 1.5), row(0, 2_000, -0.0)]) };
        assert_eq!(decode(&encode(&frame, None).unwrap()).unwrap(), (frame.clone(), None));
        let bytes = encode(&frame, Some(&table)).unwrap();
        assert!(FrameView::new(&bytes).unwrap().has_table());
        assert_eq!(decode(&bytes).unwrap(), (frame, Some(table)));
    }

    #[test]
    fn times_take_the_room_they_need() {
        let bytes_of = |rows: &[i64]| {
            let frame = frame(rows.iter().map(|at| row(1, *at, 0.5)).collect());
            let bytes = encode(&frame, None).unwrap();
            assert_eq!(decode(&bytes).unwrap().0, frame);
            bytes.len()
        };
        let same = bytes_of(&[5, 5, 5]);
        assert_eq!(bytes_of(&[5, 5, 6]), same + 3 * 4);
        assert_eq!(bytes_of(&[5, 5, 6 + i64::from(i32::MAX)]), same + 3 * 8);
        bytes_of(&[i64::MAX, i64::MIN, 0]);
        bytes_of(&[]);
    }

    #[test]
    fn readings_keep_their_bits() {
        let nan = f64::from_bits(0x7ff8_0000_0000_0001);
        let bytes = encode(&frame(vec![row(0, 0, nan), row(0, 0, f64::NEG_INFINITY)]), None).unwrap();
        let values: Vec<u64> =
            FrameView::new(&bytes).unwrap().rows().map(|row| row.value.to_bits()).collect();
        assert_eq!(values, [nan.to_bits(), f64::NEG_INFINITY.to_bits()]);
    }

    #[test]
    fn what_is_no_frame_is_refused_with_its_place() {
        let shape = || FrameShape {
            producer: "web-1",
            epoch: 1,
            sequence: 1,
            bucket: 0,
            scrape: None,
            table: 7,
            base: 0,
            series: &[0; 4],
            times: &[0; 8],
            values: &[0; 16],
            labels: None,
        };
        let many = vec![0; 20_000];
        let part = |part, parts| Some(PartShape { part, parts });
        let cases = [
            (FrameShape { series: &[0; 3], ..shape() }, "`series`: 3 bytes are not 1 cells of 2"),
            (FrameShape { times: &[0; 9], ..shape() }, "`times`: 9 bytes are not 2 cells of 4"),
            (FrameShape { values: &[0; 8], ..shape() }, "`values`: 8 bytes are not 2 cells of 8"),
            (FrameShape { bucket: 5_000, ..shape() }, "`bucket`: `5000` is not below 1024"),
            (FrameShape { scrape: part(2, 2), ..shape() }, "`scrape`: part 2 of 2 does not exist"),
            (FrameShape { scrape: part(0, 0), ..shape() }, "`scrape`: part 0 of 0 does not exist"),
            (
                FrameShape { producer: "a.b", ..shape() },
                "`producer`: `a.b` is not 1 to 64 letters, digits, `-` or `_`",
            ),
            (FrameShape { series: &many, ..shape() }, "10000 rows, at most 8192 are taken"),
        ];
        for (shape, expected) in cases {
            let bytes = body::encode_within(&shape, &TABLE_LIMITS).unwrap();
            assert_eq!(FrameView::new(&bytes).unwrap_err().to_string(), expected);
        }
        let other = SeriesTable::new(vec![Labels::new([("__name__", "up")]).unwrap()]);
        let columns = TableColumns::of(&other).unwrap();
        let bytes =
            body::encode_within(&FrameShape { labels: Some(columns.shape()), ..shape() }, &TABLE_LIMITS)
                .unwrap();
        assert_eq!(
            decode(&bytes).unwrap_err().to_string(),
            "`labels`: not the table that the frame refers to"
        );
    }

    #[test]
    fn what_readers_would_refuse_is_not_written() {
        let other = SeriesTable::new(vec![Labels::new([("__name__", "up")]).unwrap()]);
        assert!(encode(&frame(vec![]), Some(&other)).is_err());
        assert!(encode(&Frame { bucket: BUCKETS_MAX, ..frame(vec![]) }, None).is_err());
        assert!(encode(&Frame { producer: "a b".into(), ..frame(vec![]) }, None).is_err());
        assert!(encode(&frame(vec![row(0, 0, 0.0); ROWS_PER_FRAME_MAX + 1]), None).is_err());
    }

    #[test]
    fn the_message_says_what_it_carries() {
        let message = message(&Subjects::default(), "eu", &frame(vec![row(0, 0, 0.0)]), None).unwrap();
        assert_eq!(message.subject, "homeostat.v1.samples.4");
        let envelope = Envelope::read(&message.headers).unwrap().unwrap();
        assert_eq!((envelope.kind, envelope.id.as_str()), (Kind::Samples, "web-1.2.4.3"));
        assert_eq!(envelope.source, "/homeostat/eu/producer/web-1");
    }

    proptest! {
        #[test]
        fn any_frame_reads_back(rows in proptest::collection::vec((any::<u16>(), any::<i64>(), any::<f64>()), 0..50)) {
            let frame = frame(rows.into_iter().map(|(series, at, value)| row(series, at, value)).collect());
            prop_assert_eq!(decode(&encode(&frame, None).unwrap()).unwrap().0, frame);
        }

        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = decode(&bytes);
        }
    }
}
