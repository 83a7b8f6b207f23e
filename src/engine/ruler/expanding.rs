//! Templates of labels and annotations, filled in for one alert: the one place where rules do it.

use std::sync::Arc;

use crate::engine::promql::{Element, SeriesStore};
use crate::model::{Labels, Template, Timestamp};

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
    /// The element that the alert is made of: `$labels` and `$value`.
    pub(super) element: &'a Element,
    /// For `query`.
    pub(super) _store: &'a SeriesStore,
    /// When `query` asks.
    pub(super) _at: Timestamp,
    /// What is known of the outside.
    pub(super) _external: &'a External,
}

/// The text of a template.
pub(super) fn expand(template: &Template, scene: &Scene<'_>) -> Arc<str> {
    template.render(&scene.element.labels, scene.element.value)
}
