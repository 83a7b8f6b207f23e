//! The worker's data: a table of pages with checksums, an index over it and a cache before it.

use std::collections::{HashMap, VecDeque};

const PAGE_BYTES: usize = 4_096;
const ROW_BYTES: usize = 128;
const ROWS_PER_PAGE: usize = PAGE_BYTES / ROW_BYTES;
/// 4 MiB in all: small beside a leak, and a millisecond or two to read through on any machine.
const PAGES: usize = 1_024;
/// How many keys there are, counted from 0.
pub(super) const KEYS: u64 = (PAGES * ROWS_PER_PAGE) as u64;

struct Page {
    bytes: Box<[u8]>,
    checksum: blake3::Hash,
}

/// Rows by key.
pub(super) struct Table {
    pages: Vec<Page>,
    /// The page of each key. Built at the start and never again.
    index: Option<Vec<u32>>,
    cache: Cache,
    pages_read: u64,
}

impl Table {
    pub(super) fn build(cache_size: u64) -> Self {
        let mut index = vec![0; PAGES * ROWS_PER_PAGE];
        let pages = (0..PAGES)
            .map(|number| {
                let mut bytes = vec![0_u8; PAGE_BYTES];
                for (slot, row) in bytes.chunks_exact_mut(ROW_BYTES).enumerate() {
                    let key = scatter((number * ROWS_PER_PAGE + slot) as u64);
                    row[..8].copy_from_slice(&key.to_be_bytes());
                    row[8..40].copy_from_slice(blake3::hash(&key.to_be_bytes()).as_bytes());
                    if let (Some(entry), Ok(number)) =
                        (usize::try_from(key).ok().and_then(|key| index.get_mut(key)), u32::try_from(number))
                    {
                        *entry = number;
                    }
                }
                Page { checksum: blake3::hash(&bytes), bytes: bytes.into() }
            })
            .collect();
        Self { pages, index: Some(index), cache: Cache::new(cache_size), pages_read: 0 }
    }

    pub(super) fn lose_index(&mut self) {
        self.index = None;
    }

    pub(super) fn set_cache_size(&mut self, size: u64) {
        self.cache.resize(size);
    }

    /// Pages read since the start.
    pub(super) const fn pages_read(&self) -> u64 {
        self.pages_read
    }

    /// The value of a key: from the cache, or from the page the index names, or from the first page that has it.
    pub(super) fn find(&mut self, key: u64) -> Option<u64> {
        if let Some(value) = self.cache.get(key) {
            return Some(value);
        }
        let place = usize::try_from(key).ok()?;
        let candidates = match &self.index {
            Some(index) => {
                let page = usize::try_from(*index.get(place)?).ok()?;
                page..page + 1
            }
            None => 0..self.pages.len(),
        };
        for page in &self.pages[candidates] {
            self.pages_read += 1;
            if let Some(value) = page.find(key) {
                self.cache.put(key, value);
                return Some(value);
            }
        }
        None
    }
}

impl Page {
    /// A page is believed only after its checksum was seen to be right, as in any storage engine.
    fn find(&self, key: u64) -> Option<u64> {
        if blake3::hash(&self.bytes) != self.checksum {
            return None;
        }
        let wanted = key.to_be_bytes();
        let row = self.bytes.chunks_exact(ROW_BYTES).find(|row| row[..8] == wanted)?;
        row[8..16].try_into().ok().map(u64::from_be_bytes)
    }
}

/// The latest results, first in first out.
struct Cache {
    size: usize,
    values: HashMap<u64, u64>,
    order: VecDeque<u64>,
}

impl Cache {
    fn new(size: u64) -> Self {
        let mut cache = Self { size: 0, values: HashMap::new(), order: VecDeque::new() };
        cache.resize(size);
        cache
    }

    fn resize(&mut self, size: u64) {
        self.size = usize::try_from(size).unwrap_or(usize::MAX);
        self.shrink();
    }

    fn get(&self, key: u64) -> Option<u64> {
        self.values.get(&key).copied()
    }

    fn put(&mut self, key: u64, value: u64) {
        if self.size > 0 && self.values.insert(key, value).is_none() {
            self.order.push_back(key);
            self.shrink();
        }
    }

    fn shrink(&mut self) {
        while self.order.len() > self.size {
            let Some(oldest) = self.order.pop_front() else { return };
            self.values.remove(&oldest);
        }
    }
}

/// Puts neighbouring keys on different pages: an odd factor and a power of two give each key one place.
const fn scatter(place: u64) -> u64 {
    place.wrapping_mul(0x9E37_79B9) % KEYS
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expected(key: u64) -> Option<u64> {
        blake3::hash(&key.to_be_bytes()).as_bytes()[..8].try_into().ok().map(u64::from_be_bytes)
    }

    #[test]
    fn every_key_is_found_with_and_without_the_index() {
        let mut table = Table::build(0);
        assert!((0..KEYS).all(|key| table.find(key) == expected(key)));
        assert_eq!((table.pages_read(), table.find(KEYS)), (KEYS, None));
        table.lose_index();
        assert!((0..KEYS).step_by(997).all(|key| table.find(key) == expected(key)));
        assert_eq!(table.find(KEYS), None);
    }

    #[test]
    fn without_the_index_hundreds_of_pages_are_read_for_a_key() {
        let mut table = Table::build(0);
        table.lose_index();
        let keys: Vec<u64> = (0..KEYS).step_by(331).collect();
        assert!(keys.iter().all(|key| table.find(*key).is_some()));
        let mean = table.pages_read() / keys.len() as u64;
        assert!((300..700).contains(&mean), "{mean}");
    }

    #[test]
    fn a_page_that_was_damaged_is_not_believed() {
        let mut table = Table::build(0);
        table.pages[0].bytes[4_000] ^= 1;
        assert_eq!(table.find(scatter(0)), None);
        assert!(table.find(scatter(ROWS_PER_PAGE as u64)).is_some());
    }

    #[test]
    fn the_cache_spares_the_page_and_forgets_the_oldest() {
        let mut table = Table::build(2);
        assert!([1, 2, 1, 2].iter().all(|key| table.find(*key).is_some()));
        assert_eq!(table.pages_read(), 2);
        assert!([3, 1].iter().all(|key| table.find(*key).is_some()));
        assert_eq!(table.pages_read(), 4);
        table.set_cache_size(0);
        assert_eq!(table.find(1), table.find(1));
        assert_eq!(table.pages_read(), 6);
    }
}
