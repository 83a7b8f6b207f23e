//! A sorted set that mostly has one member, or none: an incident's violations, its plans.

use std::collections::BTreeSet;
use std::fmt;

/// See the module. One member takes no memory of its own.
#[derive(Clone, PartialEq, Eq)]
pub enum Few<T> {
    /// At most one.
    One(Option<T>),
    /// More, once.
    More(BTreeSet<T>),
}

impl<T: Copy + Ord> Few<T> {
    /// Adds a member; whether it is new.
    #[inline]
    pub fn insert(&mut self, member: T) -> bool {
        match self {
            Self::One(one @ None) => {
                *one = Some(member);
                true
            }
            Self::One(Some(one)) if *one == member => false,
            Self::One(Some(one)) => {
                *self = Self::More(BTreeSet::from([*one, member]));
                true
            }
            Self::More(more) => more.insert(member),
        }
    }

    /// Takes a member out; whether it was there.
    #[inline]
    pub fn remove(&mut self, member: T) -> bool {
        match self {
            Self::One(one) => one.take_if(|one| *one == member).is_some(),
            Self::More(more) => more.remove(&member),
        }
    }

    /// Takes out the first.
    #[inline]
    pub fn pop_first(&mut self) -> Option<T> {
        match self {
            Self::One(one) => one.take(),
            Self::More(more) => more.pop_first(),
        }
    }

    /// The first.
    #[inline]
    pub fn first(&self) -> Option<&T> {
        match self {
            Self::One(one) => one.as_ref(),
            Self::More(more) => more.first(),
        }
    }

    /// The last.
    #[inline]
    pub fn last(&self) -> Option<&T> {
        match self {
            Self::One(one) => one.as_ref(),
            Self::More(more) => more.last(),
        }
    }

    /// How many there are.
    #[inline]
    pub fn len(&self) -> usize {
        match self {
            Self::One(one) => usize::from(one.is_some()),
            Self::More(more) => more.len(),
        }
    }

    /// Whether there are none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The members in their order.
    #[inline]
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &T> {
        let (one, more) = match self {
            Self::One(one) => (one.as_ref(), None),
            Self::More(more) => (None, Some(more)),
        };
        one.into_iter().chain(more.into_iter().flatten())
    }
}

impl<T> Default for Few<T> {
    fn default() -> Self {
        Self::One(None)
    }
}

impl<T: Copy + Ord> FromIterator<T> for Few<T> {
    fn from_iter<I: IntoIterator<Item = T>>(members: I) -> Self {
        let mut few = Self::default();
        for member in members {
            few.insert(member);
        }
        few
    }
}

impl<T: Copy + Ord + fmt::Debug> fmt::Debug for Few<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_a_sorted_set_whatever_is_put_in_and_taken_out() {
        // Every sequence of six operations on three members, beside a set that is known to be right.
        for sequence in 0..6_u32.pow(6) {
            let (mut few, mut known) = (Few::default(), BTreeSet::new());
            for step in 0..6 {
                let operation = sequence / 6_u32.pow(step) % 6;
                let member = operation % 3;
                if operation < 3 {
                    assert_eq!(few.insert(member), known.insert(member));
                } else {
                    assert_eq!(few.remove(member), known.remove(&member));
                }
                assert_eq!((few.len(), few.is_empty()), (known.len(), known.is_empty()));
                assert!(few.iter().eq(known.iter()) && few.iter().rev().eq(known.iter().rev()));
                assert_eq!((few.first(), few.last()), (known.first(), known.last()));
            }
            assert_eq!(few.pop_first(), known.pop_first());
        }
    }
}
