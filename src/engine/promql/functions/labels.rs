//! Functions that change labels and leave values alone.

use std::sync::Arc;

use regex::Regex;

use crate::engine::promql::error::EvalError;
use crate::engine::promql::signature::{Item, Tag};

#[derive(Clone, Debug)]
pub(in crate::engine::promql) enum Relabel {
    /// `label_replace(v, target, template, source, pattern)`
    Replace { target: Arc<str>, template: Box<str>, source: Arc<str>, pattern: Regex },
    /// `label_join(v, target, separator, sources…)`
    Join { target: Arc<str>, separator: Box<str>, sources: Box<[Arc<str>]> },
}

/// The elements with other labels. Nobody has looked yet whether two became the same.
pub(in crate::engine::promql) fn relabel<'s>(
    relabel: &Relabel,
    items: Vec<Item<'s>>,
) -> Result<Vec<Item<'s>>, EvalError> {
    items.into_iter().map(|Item { tag, value }| Ok(Item { tag: relabelled(relabel, tag)?, value })).collect()
}

fn relabelled<'s>(relabel: &Relabel, tag: Tag<'s>) -> Result<Tag<'s>, EvalError> {
    match relabel {
        Relabel::Replace { target, template, source, pattern } => {
            let Some(found) = pattern.captures(tag.get(source).unwrap_or("")) else { return Ok(tag) };
            let mut value = String::new();
            found.expand(template, &mut value);
            tag.with(target, &value)
        }
        Relabel::Join { target, separator, sources } => {
            let values: Vec<&str> = sources.iter().map(|source| tag.get(source).unwrap_or("")).collect();
            let value = values.join(separator);
            tag.with(target, &value)
        }
    }
}
