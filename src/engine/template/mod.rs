//! The templates of rules: Go's text/template with the functions that Prometheus gives to labels and annotations.
//!
//! The whole language is taken: fields, variables, pipelines, `if`, `with`, `range`, `define`, `template`, `block`,
//! comments and trimming, Go's functions and Prometheus' own, `query` among them. Where a template cannot be expanded,
//! Prometheus puts the error in the text's place, in the words of Go's library; so does [`Template::expand_or_error`].
//!
//! ```
//! use homeostat::engine::template::{Data, Template};
//! use homeostat::model::{Labels, Timestamp};
//!
//! let template = Template::parse("{{ $labels.job }} is at {{ $value | humanizePercentage }}")?;
//! let labels = Labels::new([("job", "api")])?;
//! assert_eq!(template.expand("Full", &Data::new(&labels, 0.971, Timestamp::default()))?, "api is at 97.1%");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod builtins;
mod error;
mod functions;
mod lex;
mod links;
mod node;
mod parse;
mod printf;
mod prometheus;
mod querying;
mod run;
#[cfg(test)]
mod tests;
mod value;

use std::borrow::Cow;
use std::fmt;
use std::sync::{Arc, LazyLock};

pub use error::{ExpandError, ParseCause, ParseError};
pub use querying::query_store;

use crate::model::{Labels, Timestamp};
use node::{Node, Tree};
use value::Value;

/// Longest template in bytes: runbooks belong behind a link.
pub(crate) const TEMPLATE_BYTES_MAX: usize = 65_536;
/// Most parts inside of each other, and most templates that call each other.
pub(crate) const DEPTH_MAX: usize = 100;
/// Most pipelines and rounds of one expansion: a template that runs longer was not meant so.
const STEPS_MAX: usize = 100_000;
/// Longest text that an expansion becomes.
const OUTPUT_BYTES_MAX: usize = 1_048_576;

/// What Prometheus puts before each template. It is not written out here, but places in errors count it.
const PREFIX: &str = "{{$labels := .Labels}}{{$externalLabels := .ExternalLabels}}{{$externalURL := .ExternalURL}}\
                      {{$value := .Value}}";
/// The variables that this declares.
const VARIABLES: [&str; 4] = ["$labels", "$externalLabels", "$externalURL", "$value"];

static NO_LABELS: LazyLock<Labels> = LazyLock::new(Labels::empty);

/// One element of what a query found.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Its labels, the metric's name among them.
    pub labels: Labels,
    /// Its value.
    pub value: f64,
    /// The text, where the query's value is one.
    pub text: Option<Arc<str>>,
}

/// Asks a query: an expression, evaluated at the time of the alert.
pub type Query<'a> = &'a dyn Fn(&str) -> Result<Vec<Sample>, String>;

/// What a template is expanded with.
#[derive(Clone, Copy)]
pub struct Data<'a> {
    /// The labels of the expression's element, the metric's name among them.
    pub labels: &'a Labels,
    /// Its value.
    pub value: f64,
    /// What is put on everything that leaves this installation.
    pub external_labels: &'a Labels,
    /// Where this installation is reached.
    pub external_url: &'a str,
    /// The time of the evaluation.
    pub now: Timestamp,
    /// Answers `query`.
    pub query: Query<'a>,
}

impl<'a> Data<'a> {
    /// Of an element alone: no external labels, and no series to query.
    pub fn new(labels: &'a Labels, value: f64, now: Timestamp) -> Self {
        let query: Query<'a> = &|_| Err("nothing can be queried here".to_owned());
        Self { labels, value, external_labels: &NO_LABELS, external_url: "", now, query }
    }
}

impl fmt::Debug for Data<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Data")
            .field("labels", self.labels)
            .field("value", &self.value)
            .finish_non_exhaustive()
    }
}

/// A template that was read.
#[derive(Clone, PartialEq)]
pub struct Template {
    source: Arc<str>,
    tree: Arc<Tree>,
}

impl Template {
    /// Reads one.
    pub fn parse(source: &str) -> Result<Self, ParseError> {
        let tree = parse::parse(source, &VARIABLES)?;
        Ok(Self { source: source.into(), tree: Arc::new(tree) })
    }

    /// A template that is just this text, whatever it contains.
    pub fn verbatim(text: &str) -> Self {
        let source: Arc<str> = text.into();
        let tree = Tree { body: vec![Node::Text(Arc::clone(&source))], ..Tree::default() };
        Self { source, tree: Arc::new(tree) }
    }

    /// The text it was read from.
    pub fn source(&self) -> &Arc<str> {
        &self.source
    }

    /// The text, where there is nothing to expand.
    pub fn literal(&self) -> Option<&Arc<str>> {
        match self.tree.body.as_slice() {
            [] => Some(&self.source).filter(|source| source.is_empty()),
            [Node::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// The text with everything filled in. `alert` is in the words of the error.
    pub fn expand(&self, alert: &str, data: &Data<'_>) -> Result<String, ExpandError> {
        if let Some(text) = self.literal() {
            return Ok(text.to_string());
        }
        let known = [
            (VARIABLES[0], Value::Labels(Cow::Borrowed(data.labels))),
            (VARIABLES[1], Value::Labels(Cow::Borrowed(data.external_labels))),
            (VARIABLES[2], Value::Text(Cow::Borrowed(data.external_url))),
            (VARIABLES[3], Value::Float(data.value)),
        ];
        run::expand(&self.tree, &self.source, alert, data, &known).map_err(|error| error.of_rule(alert))
    }

    /// The text, or what Prometheus puts in its place.
    pub fn expand_or_error(&self, alert: &str, data: &Data<'_>) -> Arc<str> {
        if let Some(text) = self.literal() {
            return Arc::clone(text);
        }
        match self.expand(alert, data) {
            Ok(text) => text.into(),
            Err(error) => format!("<error expanding template: {error}>").into(),
        }
    }
}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.source)
    }
}
