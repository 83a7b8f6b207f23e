//! Lines of a possibly compressed stream: numbered, bounded, without a copy of the whole.

use std::io::{self, BufRead, BufReader, Cursor, Read};

use flate2::bufread::MultiGzDecoder;

use super::error::RowError;

/// What VictoriaMetrics takes on import too: its export writes all values of a series on one line.
pub(crate) const LINE_BYTES_MAX: usize = 10 << 20;

/// Large enough that the cost of a read call disappears beside parsing.
const READ_AHEAD_BYTES: usize = 128 << 10;

const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// A stream of lines.
pub(crate) struct Lines {
    reader: Box<dyn BufRead + Send>,
    line: Vec<u8>,
    number: u64,
}

/// Why there is no line.
#[derive(Debug)]
pub(crate) enum LineError {
    /// This line is refused; the next one may be fine.
    Row(RowError),
    /// The stream is broken.
    Read(io::Error),
}

impl Lines {
    /// Reads plain text or gzip, told apart by the first two bytes.
    pub(crate) fn new(mut reader: impl Read + Send + 'static) -> io::Result<Self> {
        let mut head = Vec::new();
        reader.by_ref().take(GZIP_MAGIC.len() as u64).read_to_end(&mut head)?;
        let compressed = head == GZIP_MAGIC;
        let raw = BufReader::with_capacity(READ_AHEAD_BYTES, Cursor::new(head).chain(reader));
        let reader: Box<dyn BufRead + Send> = if compressed {
            Box::new(BufReader::with_capacity(READ_AHEAD_BYTES, MultiGzDecoder::new(raw)))
        } else {
            Box::new(raw)
        };
        Ok(Self { reader, line: Vec::new(), number: 0 })
    }

    /// The number of the line that was given last, from 1.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// The next line without its end, or `None` at the end of the stream. A line above [`LINE_BYTES_MAX`] is skipped.
    pub(crate) fn next(&mut self) -> Result<Option<&str>, LineError> {
        const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();
        self.line.clear();
        self.number += 1;
        let limit = LINE_BYTES_MAX as u64 + 1;
        let read =
            self.reader.by_ref().take(limit).read_until(b'\n', &mut self.line).map_err(LineError::Read)?;
        if read == 0 {
            return Ok(None);
        }
        let ended = self.line.last() == Some(&b'\n');
        if !ended && self.line.len() > LINE_BYTES_MAX {
            self.reader.skip_until(b'\n').map_err(LineError::Read)?;
            return Err(LineError::Row(RowError::LineTooLong));
        }
        let mut line = self.line.strip_suffix(b"\n").unwrap_or(&self.line);
        line = line.strip_suffix(b"\r").unwrap_or(line);
        if self.number == 1 {
            line = line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line);
        }
        match std::str::from_utf8(line) {
            Ok(text) => Ok(Some(text)),
            Err(error) => Err(LineError::Row(RowError::NotUtf8(error.valid_up_to() + 1))),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn all(bytes: impl Into<Vec<u8>>) -> Vec<Result<String, RowError>> {
        let mut lines = Lines::new(Cursor::new(bytes.into())).unwrap();
        let mut found = Vec::new();
        loop {
            match lines.next() {
                Ok(Some(line)) => found.push(Ok(line.to_owned())),
                Ok(None) => return found,
                Err(LineError::Row(cause)) => found.push(Err(cause)),
                Err(LineError::Read(error)) => panic!("{error}"),
            }
        }
    }

    fn gzip(text: &str) -> Vec<u8> {
        let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        writer.write_all(text.as_bytes()).unwrap();
        writer.finish().unwrap()
    }

    #[test]
    fn line_ends_and_the_byte_order_mark_are_taken_off() {
        let expected: Vec<_> = ["a", "b", "", "c"].into_iter().map(|line| Ok(line.to_owned())).collect();
        assert_eq!(all("\u{feff}a\r\nb\n\nc"), expected);
        assert_eq!(all("a\nb\n\nc\n"), expected);
        assert_eq!(all(""), []);
    }

    #[test]
    fn gzip_is_read_also_where_members_follow_one_another() {
        let mut bytes = gzip("a\nb");
        bytes.extend(gzip("c\nd\n"));
        assert_eq!(all(bytes), ["a", "bc", "d"].map(|line| Ok(line.to_owned())));
    }

    #[test]
    fn a_truncated_gzip_is_an_error_and_not_an_end() {
        let mut bytes = gzip(&"some line\n".repeat(100_000));
        bytes.truncate(bytes.len() / 2);
        let mut lines = Lines::new(Cursor::new(bytes)).unwrap();
        let error = loop {
            match lines.next() {
                Ok(Some(_)) => {}
                other => break other.map(|line| line.map(str::to_owned)),
            }
        };
        assert!(matches!(error, Err(LineError::Read(_))), "{error:?}");
    }

    #[test]
    fn what_is_too_long_or_not_text_costs_one_line() {
        let mut bytes = b"a\n".to_vec();
        bytes.extend(std::iter::repeat_n(b'x', LINE_BYTES_MAX + 1));
        bytes.extend(b"\nok\xff\nb");
        assert_eq!(
            all(bytes),
            [Ok("a".to_owned()), Err(RowError::LineTooLong), Err(RowError::NotUtf8(3)), Ok("b".to_owned())]
        );
        let longest = "x".repeat(LINE_BYTES_MAX);
        assert_eq!(all(format!("{longest}\nb")), [Ok(longest), Ok("b".to_owned())]);
    }
}
