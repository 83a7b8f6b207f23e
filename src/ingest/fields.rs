//! The fields of one line of CSV.
//!
//! They are split here and not by a library because a field must end on its line: a quote that is never closed then costs
//! one row, where RFC 4180 would have it swallow the rest of the file.

use std::ops::Range;

use super::error::RowError;

/// Columns of a row; the widest public set of one metric a column that we met has 1,300.
pub(crate) const COLUMNS_MAX: usize = 16_384;

/// The fields of one line, without blanks and quotes around them.
#[derive(Default)]
pub(crate) struct Fields {
    places: Vec<Place>,
    /// Fields that held doubled quotes, without the doubling.
    unescaped: String,
}

struct Place {
    range: Range<usize>,
    /// Whether the range is in `unescaped` and not in the line.
    is_unescaped: bool,
}

impl Fields {
    pub(crate) fn split(&mut self, line: &str) -> Result<(), RowError> {
        self.places.clear();
        self.unescaped.clear();
        let bytes = line.as_bytes();
        let mut at = 0;
        loop {
            let found = self.places.len() + 1;
            if found > COLUMNS_MAX {
                return Err(RowError::Columns { expected: COLUMNS_MAX, found });
            }
            let start = at + blanks(&bytes[at..]);
            let end = if bytes.get(start) == Some(&b'"') {
                let behind = self.quoted(line, start + 1).ok_or(RowError::Quotes(found))?;
                let end = behind + blanks(&bytes[behind..]);
                if end < bytes.len() && bytes[end] != b',' {
                    return Err(RowError::Quotes(found));
                }
                end
            } else {
                let length = bytes[start..].iter().position(|byte| *byte == b',');
                let end = length.map_or(bytes.len(), |length| start + length);
                let length = line[start..end].trim_ascii_end().len();
                self.places.push(Place { range: start..start + length, is_unescaped: false });
                end
            };
            if end == bytes.len() {
                return Ok(());
            }
            at = end + 1;
        }
    }

    /// The field behind an opening quote; gives the place behind the closing one.
    fn quoted(&mut self, line: &str, start: usize) -> Option<usize> {
        let mut from = start;
        let copied = self.unescaped.len();
        loop {
            let quote = from + line[from..].find('"')?;
            let is_doubled = line.as_bytes().get(quote + 1) == Some(&b'"');
            if !is_doubled {
                let is_unescaped = from > start;
                let range = if is_unescaped {
                    self.unescaped.push_str(&line[from..quote]);
                    copied..self.unescaped.len()
                } else {
                    start..quote
                };
                self.places.push(Place { range, is_unescaped });
                return Some(quote + 1);
            }
            self.unescaped.push_str(&line[from..=quote]);
            from = quote + 2;
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.places.len()
    }

    pub(crate) fn get<'a>(&'a self, line: &'a str, column: usize) -> &'a str {
        let place = &self.places[column];
        let text = if place.is_unescaped { &self.unescaped } else { line };
        &text[place.range.clone()]
    }

    pub(crate) fn iter<'a>(&'a self, line: &'a str) -> impl Iterator<Item = &'a str> {
        (0..self.places.len()).map(move |column| self.get(line, column))
    }
}

fn blanks(bytes: &[u8]) -> usize {
    bytes.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count()
}
