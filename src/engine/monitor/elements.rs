//! Elements of an expression against the violations that are there: a violation is known by its labels, which two
//! elements can have one after the other, and must not have at once.

use std::collections::BTreeSet;

use super::evaluation::Evaluation;
use super::live::Source;
use crate::engine::promql::Element;
use crate::model::{Labels, Timestamp};

impl Evaluation {
    /// Gives violations whose element has another name now to that one. False where two elements have the labels of one
    /// violation: the evaluation fails then, as in Prometheus.
    pub(super) fn recognise(&mut self, rule: u32, elements: &[Element], at: Timestamp) -> bool {
        let known = &self.rules[rule as usize];
        let is_fresh = |element: &&Element| !known.state.by_element.contains_key(&element.labels);
        let mut taken = BTreeSet::new();
        let mut adopted = Vec::new();
        for element in elements.iter().filter(is_fresh) {
            // Labels that cannot be are refused where the violation begins.
            let Ok(labels) = known.texts.labels(self.found(&element.labels, element.value, at)) else {
                continue;
            };
            if let Some(place) = known.state.violations.get(&labels).copied() {
                let Some(live) = self.lives.get(place).filter(|live| live.source == Source::Element) else {
                    continue;
                };
                if elements.iter().any(|other| other.labels == live.element) {
                    return false;
                }
                adopted.push((place, element.labels.clone()));
            }
            if !taken.insert(labels) {
                return false;
            }
        }
        for (place, element) in adopted {
            self.rename(rule, place, element);
        }
        true
    }

    fn rename(&mut self, rule: u32, place: u32, element: Labels) {
        let Some(live) = self.lives.get_mut(place) else { return };
        let old = std::mem::replace(&mut live.element, element.clone());
        let by_element = &mut self.rules[rule as usize].state.by_element;
        by_element.remove(&old);
        by_element.insert(element, place);
    }
}
