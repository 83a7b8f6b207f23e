//! Reads an export back, into a new generation that counts only once the trailer agrees with all that was read.

use std::io::{self, BufReader, Read};
use std::path::Path;

use super::change::{VALUE_BYTES_MAX, check_key};
use super::error::StoreError;
use super::export::{Copied, EXPORT_FORMAT, EXPORT_MAGIC, PAYLOAD_BYTES_MAX, Tally};
use super::fresh::Fresh;
use super::header::{Header, Identity};
use super::probe::Trouble;
use super::row::{self, take};
use super::store::{BYTES_MAX, ROWS_MAX, Store};
use super::table::Table;
use crate::model::Timestamp;

impl Store {
    /// Replaces what the store holds by an export of the same ledger and schema that is not older. An export that is
    /// damaged, cut off or of something else is refused with the place, and the store stays as it was.
    pub fn import(&self, export: &mut dyn Read) -> Result<Copied, StoreError> {
        let _turn = self.writing()?;
        let applied = self.reading().header.applied;
        let mut frames = Frames::new(BufReader::new(export));
        frames.expect_header(&self.identity)?;
        let mut copied = None;
        self.replace(|fresh, path| {
            let header = frames.fill(fresh, path, self.identity.clone())?;
            if header.applied < applied {
                let older = format!("it ends at sequence {}, the store is at {applied}", header.applied);
                return Err(frames.refuse(older));
            }
            copied = Some(Copied {
                records: frames.tally.records,
                bytes: frames.next_offset,
                applied: header.applied,
            });
            Ok(header)
        })?;
        copied.ok_or_else(|| frames.refuse("it was not read".to_owned()))
    }
}

/// What a frame holds.
enum Frame {
    Record { table: Table, key: Vec<u8>, value: Vec<u8> },
    Trailer { applied: u64, stored_at: Timestamp, records: u64, checksum: u64 },
}

struct Frames<R> {
    input: R,
    /// Where the frame at hand begins, and where it ends.
    offset: u64,
    next_offset: u64,
    tally: Tally,
}

impl<R: Read> Frames<R> {
    fn new(input: R) -> Self {
        Self { input, offset: 0, next_offset: 0, tally: Tally::default() }
    }

    fn expect_header(&mut self, wanted: &Identity) -> Result<(), StoreError> {
        let payload = self.payload().map_err(|error| self.foreign(error))?;
        let rest = payload.strip_prefix(b"H").and_then(|rest| rest.strip_prefix(EXPORT_MAGIC));
        let Some((format, rest)) = rest.and_then(take) else {
            return Err(self.refuse("not an export of a store".to_owned()));
        };
        let format = u16::from_be_bytes(format);
        if format != EXPORT_FORMAT {
            return Err(self.refuse(format!("format {format}, not {EXPORT_FORMAT}")));
        }
        let Some((identity, [])) = Identity::decode(rest) else {
            return Err(self.refuse("a header that cannot be read".to_owned()));
        };
        match identity.doubt(wanted) {
            Some(doubt) => Err(self.refuse(doubt.to_string())),
            None => Ok(()),
        }
    }

    /// Everything up to the trailer and the end of the stream.
    fn fill(&mut self, fresh: &mut Fresh, path: &Path, identity: Identity) -> Result<Header, StoreError> {
        loop {
            let payload = self.payload()?;
            match parse(&payload).ok_or_else(|| self.refuse("a frame that cannot be read".to_owned()))? {
                Frame::Record { table, key, value } => {
                    check_key(table, &key).map_err(|error| self.refuse(error.to_string()))?;
                    for (row_key, stored) in row::split(table, &key, &value) {
                        let pushed = fresh.push(&row_key, &stored);
                        pushed.map_err(|error| Trouble::from(error).into_error(path))?;
                    }
                    let totals = *fresh.totals();
                    if totals.rows > ROWS_MAX || totals.bytes > BYTES_MAX {
                        return Err(StoreError::Full { rows: totals.rows, bytes: totals.bytes });
                    }
                    self.tally.add(&payload);
                }
                Frame::Trailer { applied, stored_at, records, checksum } => {
                    if (records, checksum) != (self.tally.records, self.tally.checksum) {
                        return Err(self.refuse(format!("the trailer counts {records} other records")));
                    }
                    self.expect_end()?;
                    let totals = *fresh.totals();
                    return Ok(Header { identity, applied, stored_at, totals });
                }
            }
        }
    }

    /// The next payload, whole and with the right CRC.
    fn payload(&mut self) -> Result<Vec<u8>, StoreError> {
        self.offset = self.next_offset;
        let mut head = [0; 8];
        self.read(&mut head)?;
        let [a, b, c, d, crc @ ..] = head;
        let len = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
        if len > PAYLOAD_BYTES_MAX {
            return Err(
                self.refuse(format!("a frame of {len} bytes, at most {PAYLOAD_BYTES_MAX} are allowed"))
            );
        }
        let mut payload = vec![0; len];
        self.read(&mut payload)?;
        if crc32fast::hash(&payload) != u32::from_be_bytes(crc) {
            return Err(self.refuse("a frame whose CRC differs".to_owned()));
        }
        Ok(payload)
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<(), StoreError> {
        match self.input.read_exact(buffer) {
            Ok(()) => {
                self.next_offset += buffer.len() as u64;
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Err(self.refuse("cut off: it ends without a trailer".to_owned()))
            }
            Err(error) => Err(self.refuse(error.to_string())),
        }
    }

    fn expect_end(&mut self) -> Result<(), StoreError> {
        match self.input.read(&mut [0]) {
            Ok(0) => Ok(()),
            Ok(_) => Err(self.refuse("bytes follow the trailer".to_owned())),
            Err(error) => Err(self.refuse(error.to_string())),
        }
    }

    /// What is wrong with a first frame: mostly that the file is another one.
    fn foreign(&self, error: StoreError) -> StoreError {
        let StoreError::Import { problem, .. } = &error else { return error };
        self.refuse(format!("not an export of a store, or damaged at its very beginning: {problem}"))
    }

    fn refuse(&self, problem: String) -> StoreError {
        StoreError::Import { offset: self.offset, record: self.tally.records, problem }
    }
}

fn parse(payload: &[u8]) -> Option<Frame> {
    let (kind, rest) = payload.split_first()?;
    match kind {
        b'R' => {
            let (table, rest) = rest.split_first()?;
            let (len, rest) = take(rest)?;
            let (key, value) = rest.split_at_checked(usize::from(u16::from_be_bytes(len)))?;
            let fits = value.len() <= VALUE_BYTES_MAX;
            let table = Table::from_byte(*table)?;
            fits.then(|| Frame::Record { table, key: key.to_vec(), value: value.to_vec() })
        }
        b'T' => {
            let (applied, rest) = take(rest)?;
            let (stored_at, rest) = take(rest)?;
            let (records, rest) = take(rest)?;
            let (checksum, rest) = take(rest)?;
            rest.is_empty().then(|| Frame::Trailer {
                applied: u64::from_be_bytes(applied),
                stored_at: Timestamp::from_millis(i64::from_be_bytes(stored_at)),
                records: u64::from_be_bytes(records),
                checksum: u64::from_be_bytes(checksum),
            })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::tests::{Home, filled};
    use crate::store::{Found, KeyRange, Options};

    fn exported(home: &Home) -> Vec<u8> {
        let store = home.open().store;
        let long = vec![7; 50_000];
        let records = [(Table::Plans, b"p".as_slice(), b"plan".as_slice()), (Table::Reports, b"r", &long)];
        store.apply(&filled(9, &records)).unwrap();
        let mut file = Vec::new();
        let copied = store.export(&mut file).unwrap();
        assert_eq!(copied, Copied { records: 2, bytes: file.len() as u64, applied: 9 });
        file
    }

    #[test]
    fn an_export_comes_back_whole_into_an_empty_store() {
        let (from, to) = (Home::new(), Home::new());
        let file = exported(&from);
        let store = to.open().store;
        let copied = store.import(&mut file.as_slice()).unwrap();
        assert_eq!((copied.records, copied.applied), (2, 9));
        assert_eq!(store.get(Table::Reports, b"r").unwrap(), Some(vec![7; 50_000]));
        assert_eq!(store.applied(), 9);
        let mut again = Vec::new();
        store.export(&mut again).unwrap();
        assert_eq!(again, file, "the same contents give the same bytes");
        store.close();
        assert_eq!(to.open().found, Found::Intact { applied: 9 });
    }

    #[test]
    fn a_cut_or_altered_export_is_refused_with_the_place_and_changes_nothing() {
        let (from, to) = (Home::new(), Home::new());
        let file = exported(&from);
        let store = to.open().store;
        store.apply(&filled(1, &[(Table::Plans, b"mine", b"1")])).unwrap();
        for end in [0, 7, 40, 60, 100, file.len() - 1] {
            let refused = store.import(&mut &file[..end]);
            assert!(matches!(refused, Err(StoreError::Import { .. })), "cut at {end}: {refused:?}");
        }
        for at in [0, 5, 12, 30, 60, 100, 10_000, file.len() - 3] {
            let mut damaged = file.clone();
            damaged[at] ^= 4;
            let Err(StoreError::Import { offset, .. }) = store.import(&mut damaged.as_slice()) else {
                panic!("byte {at} was altered and nobody noticed");
            };
            assert!(offset <= at as u64, "{offset} is after {at}");
        }
        let mut longer = file.clone();
        longer.push(0);
        assert!(store.import(&mut longer.as_slice()).is_err());
        assert_eq!(store.applied(), 1);
        let page = store.scan(Table::Plans, &KeyRange::all(), 10).unwrap();
        assert_eq!(page.records.len(), 1);
        store.apply(&filled(2, &[])).unwrap();
        let text = store.import(&mut &file[..100]).unwrap_err().to_string();
        assert_eq!(text, "export refused at byte 53, record 1: cut off: it ends without a trailer");
    }

    #[test]
    fn an_export_that_is_older_or_of_another_ledger_is_refused() {
        let (from, to) = (Home::new(), Home::new());
        let file = exported(&from);
        let store = to.open().store;
        store.apply(&filled(10, &[])).unwrap();
        let refused = store.import(&mut file.as_slice()).unwrap_err();
        assert!(refused.to_string().contains("sequence 9, the store is at 10"), "{refused}");

        let dir = tempfile::tempdir().unwrap();
        let other = Identity::new(1, b"another").unwrap();
        let options = Options { ballast_bytes: 0, ..Options::default() };
        let store = Store::open(&dir.path().join("kb"), &other, options).unwrap().store;
        let refused = store.import(&mut file.as_slice()).unwrap_err();
        assert!(refused.to_string().contains("another ledger"), "{refused}");
    }
}
