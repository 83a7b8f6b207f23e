//! What a rule writes on its violations: labels and annotations, made from the expression's element.

use std::sync::Arc;

use super::intake::ALERT_NAME;
use crate::engine::promql::SeriesStore;
use crate::engine::template::{Data, Template, query_store};
use crate::model::{Labels, LabelsError, Rule, Timestamp};

/// One annotation, filled in.
const ANNOTATION_BYTES_MAX: usize = 4_096;

/// The texts of one rule.
#[derive(Debug)]
pub(super) struct Texts {
    /// The name of the label that names the alert: one text for all violations.
    alert_name: Arc<str>,
    alert: Arc<str>,
    labels: Vec<(Arc<str>, Template)>,
    annotations: Vec<(Arc<str>, Template)>,
}

/// An element of an expression, and where and when it was found.
#[derive(Clone, Copy)]
pub(super) struct Found<'a> {
    /// Its labels, the metric's name among them.
    pub(super) element: &'a Labels,
    pub(super) value: f64,
    pub(super) at: Timestamp,
    /// What the templates may query.
    pub(super) store: &'a SeriesStore,
}

impl Texts {
    /// Reads the templates of a rule.
    pub(super) fn of(rule: &Rule) -> Result<Self, String> {
        let read = |texts: &[(Arc<str>, Arc<str>)]| -> Result<Vec<_>, String> {
            let read = |(name, text): &(Arc<str>, Arc<str>)| match Template::parse(text) {
                Ok(template) => Ok((Arc::clone(name), template)),
                Err(error) => Err(format!("`{name}`: {error}")),
            };
            texts.iter().map(read).collect()
        };
        Ok(Self {
            alert_name: ALERT_NAME.into(),
            alert: Arc::clone(&rule.name.alert),
            labels: read(&rule.labels)?,
            annotations: read(&rule.annotations)?,
        })
    }

    /// The labels of a violation, made of those of the expression's element: without the metric's name, with the
    /// rule's own and the alert's name, in Prometheus' order.
    pub(super) fn labels(&self, found: Found<'_>) -> Result<Labels, LabelsError> {
        let own = self.labels.iter();
        let own = own.map(|(name, template)| (Arc::clone(name), self.expanded(template, found)));
        found.element.overlaid(own.chain([(Arc::clone(&self.alert_name), Arc::clone(&self.alert))]))
    }

    pub(super) fn annotations(&self, found: Found<'_>) -> Vec<(Arc<str>, Arc<str>)> {
        let render = |(name, template): &(Arc<str>, Template)| {
            (Arc::clone(name), shortened(self.expanded(template, found)))
        };
        let mut annotations: Vec<_> = self.annotations.iter().map(render).collect();
        annotations.sort();
        annotations
    }

    fn expanded(&self, template: &Template, found: Found<'_>) -> Arc<str> {
        let query = |text: &str| query_store(found.store, found.at, text);
        let data = Data { query: &query, ..Data::new(found.element, found.value, found.at) };
        template.expand_or_error(&self.alert, &data)
    }
}

/// An annotation that labels made long is for nobody to read; 32 of them fit beside the labels in half a row of the store.
fn shortened(text: Arc<str>) -> Arc<str> {
    if text.len() <= ANNOTATION_BYTES_MAX {
        return text;
    }
    let end = text.floor_char_boundary(ANNOTATION_BYTES_MAX);
    format!("{}…", &text[..end]).into()
}
