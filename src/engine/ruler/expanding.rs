//! Templates of labels and annotations, filled in for one alert: the one place where rules do it.

use std::sync::Arc;

use crate::engine::promql::{Element, SeriesStore};
use crate::engine::template::{Data, Template, query_store};
use crate::model::{Labels, Timestamp};

/// What templates are told of the outside.
#[derive(Clone, Debug, Default)]
pub struct External {
    /// `$externalLabels`
    pub labels: Labels,
    /// `$externalURL`
    pub url: Arc<str>,
}

/// What a template can see.
pub(super) struct Scene<'a> {
    /// The alert's name, for errors.
    pub(super) alert: &'a str,
    /// The element that the alert is made of: `$labels` and `$value`.
    pub(super) element: &'a Element,
    /// For `query`.
    pub(super) store: &'a SeriesStore,
    /// When `query` asks.
    pub(super) at: Timestamp,
    /// What is known of the outside.
    pub(super) external: &'a External,
}

/// The text of a template, or what is wrong with it.
pub(super) fn expand(template: &Template, scene: &Scene<'_>) -> Arc<str> {
    let query = |text: &str| query_store(scene.store, scene.at, text);
    let data = Data {
        external_labels: &scene.external.labels,
        external_url: &scene.external.url,
        query: &query,
        ..Data::new(&scene.element.labels, scene.element.value, scene.at)
    };
    template.expand_or_error(scene.alert, &data)
}
