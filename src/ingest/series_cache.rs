//! The label sets of series texts that were read before: a repeated series costs one lookup.

use std::collections::HashMap;

use crate::model::Labels;

/// Half a million series of a hundred bytes; beyond, the cache starts again, so that a file in which every row is
/// another series costs time and not memory.
const TEXT_BYTES_MAX: usize = 64 << 20;

/// Known texts. The standard hasher, because texts come from outside; the order of the map is never looked at.
pub(crate) struct SeriesCache {
    known: HashMap<Box<[u8]>, Labels>,
    bytes: usize,
    bytes_max: usize,
}

impl Default for SeriesCache {
    fn default() -> Self {
        Self { known: HashMap::new(), bytes: 0, bytes_max: TEXT_BYTES_MAX }
    }
}

impl SeriesCache {
    /// The label set of a text, made once.
    pub(crate) fn series<E>(
        &mut self,
        text: &[u8],
        make: impl FnOnce() -> Result<Labels, E>,
    ) -> Result<Labels, E> {
        if let Some(labels) = self.known.get(text) {
            return Ok(labels.clone());
        }
        let labels = make()?;
        if self.bytes + text.len() > self.bytes_max {
            self.known.clear();
            self.bytes = 0;
        }
        self.bytes += text.len();
        self.known.insert(text.into(), labels.clone());
        Ok(labels)
    }
}

/// Adds one part of a series' text, with its length, so that no two series share a text.
pub(crate) fn push_part(text: &mut Vec<u8>, part: &str) {
    text.extend_from_slice(&part.len().to_le_bytes());
    text.extend_from_slice(part.as_bytes());
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    #[test]
    fn a_text_is_read_once() {
        let mut cache = SeriesCache::default();
        let mut made = 0;
        for _ in 0..3 {
            let labels = cache.series::<Infallible>(b"up", || {
                made += 1;
                Ok(Labels::empty())
            });
            assert_eq!(labels, Ok(Labels::empty()));
        }
        assert_eq!(made, 1);
    }

    #[test]
    fn a_refusal_is_not_remembered() {
        let mut cache = SeriesCache::default();
        assert_eq!(cache.series(b"up", || Err("no")), Err("no"));
        assert_eq!(cache.series::<&str>(b"up", || Ok(Labels::empty())), Ok(Labels::empty()));
    }

    #[test]
    fn memory_is_bounded() {
        let mut cache = SeriesCache { bytes_max: 20, ..SeriesCache::default() };
        for text in ["one", "two", "three", "four", "five", "six", "more than twenty bytes"] {
            let made = cache.series::<Infallible>(text.as_bytes(), || Ok(Labels::empty()));
            assert_eq!(made, Ok(Labels::empty()));
            assert!(cache.bytes <= 20 || cache.known.len() == 1);
        }
    }
}
