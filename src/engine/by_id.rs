//! What is known under ids: a hash map whose order nobody can see.
//!
//! An id is a hash already, so half of it finds its place at the cost of one step in memory; a tree of ids took five, and
//! compared 16 bytes at each. Decisions have to come out the same everywhere, so it is looked up and never iterated; who
//! wants everything gets it in the order of the ids, and pays for sorting it.

use std::fmt;
use std::hash::Hash;

use rustc_hash::FxHashMap;

/// See the module.
#[derive(Clone)]
pub struct ById<Id, T>(FxHashMap<Id, T>);

impl<Id: Copy + Eq + Hash + Ord, T> ById<Id, T> {
    /// What is known under an id.
    #[inline]
    pub fn get(&self, id: Id) -> Option<&T> {
        self.0.get(&id)
    }

    /// The same, to be changed.
    #[inline]
    pub fn get_mut(&mut self, id: Id) -> Option<&mut T> {
        self.0.get_mut(&id)
    }

    /// Whether anything is known under it.
    #[inline]
    pub fn contains(&self, id: Id) -> bool {
        self.0.contains_key(&id)
    }

    /// Puts something under an id, and returns what was there.
    #[inline]
    pub fn insert(&mut self, id: Id, known: T) -> Option<T> {
        self.0.insert(id, known)
    }

    /// What is known under an id, or else what `make` says.
    #[inline]
    pub fn get_or_insert_with(&mut self, id: Id, make: impl FnOnce() -> T) -> &mut T {
        self.0.entry(id).or_insert_with(make)
    }

    /// Forgets what is known under an id, and returns it.
    #[inline]
    pub fn remove(&mut self, id: Id) -> Option<T> {
        self.0.remove(&id)
    }

    /// Forgets what is not to be kept. It is asked in no order.
    #[inline]
    pub fn retain(&mut self, mut keep: impl FnMut(Id, &T) -> bool) {
        self.0.retain(|id, known| keep(*id, known));
    }

    /// How much is known.
    #[inline]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nothing is.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Everything, in the order of the ids: it is sorted for each call.
    #[inline]
    pub fn sorted(&self) -> impl Iterator<Item = (Id, &T)> {
        let mut all: Vec<(Id, &T)> = self.0.iter().map(|(id, known)| (*id, known)).collect();
        all.sort_unstable_by_key(|(id, _)| *id);
        all.into_iter()
    }

    /// Everything, for sums and other things that have no order.
    #[inline]
    pub fn unsorted(&self) -> impl Iterator<Item = &T> {
        self.0.values()
    }
}

impl<Id, T> Default for ById<Id, T> {
    fn default() -> Self {
        Self(FxHashMap::default())
    }
}

impl<Id: Copy + Eq + Hash + Ord + fmt::Debug, T: fmt::Debug> fmt::Debug for ById<Id, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.sorted()).finish()
    }
}
