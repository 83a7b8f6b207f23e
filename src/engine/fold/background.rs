//! How often each label value stands on a violation that fires: what the violations of an incident are told apart from.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::model::{METRIC_NAME, Violation};

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Background {
    firing: usize,
    /// By value and name. Looked up, never iterated.
    counts: FxHashMap<Arc<str>, FxHashMap<Arc<str>, usize>>,
}

impl Background {
    /// How many fire.
    pub fn firing(&self) -> usize {
        self.firing
    }

    /// How many of them have this label value.
    pub fn with(&self, name: &str, value: &str) -> usize {
        self.counts.get(name).and_then(|values| values.get(value)).copied().unwrap_or(0)
    }

    pub(super) fn add(&mut self, violation: &Violation) {
        self.firing += 1;
        for (name, value) in telling_labels(violation) {
            if let Some(values) = self.counts.get_mut(name) {
                if let Some(count) = values.get_mut(value) {
                    *count += 1;
                } else {
                    values.insert(value.into(), 1);
                }
            } else {
                self.counts.insert(name.into(), FxHashMap::from_iter([(value.into(), 1)]));
            }
        }
    }

    pub(super) fn remove(&mut self, violation: &Violation) {
        self.firing -= 1;
        for (name, value) in telling_labels(violation) {
            let Some(values) = self.counts.get_mut(name) else { continue };
            if let Some(count) = values.get_mut(value) {
                *count -= 1;
                if *count == 0 {
                    values.remove(value);
                }
            }
            if values.is_empty() {
                self.counts.remove(name);
            }
        }
    }
}

/// Labels that say where: not what it is called and how bad it is.
pub fn telling_labels(violation: &Violation) -> impl Iterator<Item = (&str, &str)> {
    let says_where = |name: &str| !matches!(name, METRIC_NAME | "alertname" | "severity");
    violation.labels.iter().filter(move |(name, _)| says_where(name))
}
