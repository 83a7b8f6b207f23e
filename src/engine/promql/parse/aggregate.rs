//! `sum by (job) (x)` and its like.

use std::sync::Arc;

use crate::engine::promql::ast::{Aggregation, Grouping, Quantile, Rank, Vector};
use crate::engine::promql::rank::Ranking;

use super::text::quoted;
use super::{Operand, Parsed, Parser, Refusal, Typed};

/// What an aggregation does, by its name. Aggregations are keywords: the case of their letters does not matter.
enum Kind {
    Of(Aggregation),
    Quantile,
    CountValues,
    Rank(Ranking),
}

fn named(name: &str) -> Option<Kind> {
    let all = [
        ("sum", Aggregation::Sum),
        ("avg", Aggregation::Average),
        ("min", Aggregation::Minimum),
        ("max", Aggregation::Maximum),
        ("count", Aggregation::Count),
        ("group", Aggregation::Group),
        ("stddev", Aggregation::Deviation),
        ("stdvar", Aggregation::Variance),
    ];
    let is = |known: &str| known.eq_ignore_ascii_case(name);
    match all.into_iter().find(|(known, _)| is(known)) {
        Some((_, aggregation)) => Some(Kind::Of(aggregation)),
        None if is("quantile") => Some(Kind::Quantile),
        None if is("count_values") => Some(Kind::CountValues),
        None => Ranking::named(name).map(Kind::Rank),
    }
}

impl Parser<'_> {
    /// An aggregation, where the next word is one: by itself it is a metric.
    pub(super) fn aggregation(&mut self) -> Result<Option<Box<Operand>>, Refusal> {
        let Some((word, kind)) = self.peek().and_then(|word| Some((word, named(word.text)?))) else {
            return Ok(None);
        };
        let next = self.tokens.get(self.next + 1);
        if !next.is_some_and(|next| next.is_mark("(") || next.is_word("by") || next.is_word("without")) {
            return Ok(None);
        }
        self.next += 1;
        let before = self.grouping()?;
        let arguments = self.arguments()?;
        let grouping = match before {
            Some(grouping) => grouping,
            None => self.grouping()?.unwrap_or_else(|| Grouping::By([].into())),
        };
        self.aggregated(word.at, kind, grouping, arguments).map(Some)
    }

    fn aggregated(&self, at: usize, kind: Kind, grouping: Grouping, arguments: Vec<Operand>) -> Parsed {
        let wanted = if matches!(kind, Kind::Of(_)) { 1 } else { 2 };
        let given = arguments.len();
        if given == 0 {
            return Err(self.invalid(at, "no arguments for aggregate expression provided"));
        }
        let depth = 1 + arguments.iter().map(|argument| argument.depth).max().unwrap_or(0);
        let mut arguments = arguments.into_iter();
        let (first, second) = (arguments.next(), arguments.next());
        let (parameter, argument) = match (first, second) {
            (Some(argument), None) if wanted == 1 => (None, argument),
            (Some(parameter), Some(argument)) if wanted == 2 && given == 2 => (Some(parameter), argument),
            _ => {
                let message = format!(
                    "wrong number of arguments for aggregate expression provided, expected {wanted}, got {given}"
                );
                return Err(self.invalid(at, &message));
            }
        };
        let argument = self.typed_vector(argument, "aggregation expression")?.0;
        let vector = self.aggregate(kind, parameter, grouping, argument)?;
        self.operand_of(Typed::Vector(vector), at, depth)
    }

    fn grouping(&mut self) -> Result<Option<Grouping>, Refusal> {
        let Some(word) = self.take(|token| token.is_word("by") || token.is_word("without")) else {
            return Ok(None);
        };
        let labels = self.label_list()?.into();
        Ok(Some(if word.is_word("by") { Grouping::By(labels) } else { Grouping::Without(labels) }))
    }

    fn aggregate(
        &self,
        kind: Kind,
        parameter: Option<Operand>,
        grouping: Grouping,
        argument: Vector,
    ) -> Result<Vector, Refusal> {
        const PARAMETER: &str = "aggregation parameter";
        match (kind, parameter) {
            (Kind::Of(aggregation), _) => {
                Ok(Vector::Aggregate { aggregation, grouping, argument: Box::new(argument) })
            }
            (Kind::Quantile, Some(parameter)) => {
                let (quantile, quantile_at) = self.typed_scalar(parameter, PARAMETER)?;
                Ok(Vector::Quantile(Box::new(Quantile { quantile, quantile_at, grouping, argument })))
            }
            (Kind::Rank(ranking), Some(parameter)) => {
                let (count, count_at) = self.typed_scalar(parameter, PARAMETER)?;
                Ok(Vector::Rank(Box::new(Rank { ranking, count, count_at, grouping, argument })))
            }
            (Kind::CountValues, Some(parameter)) => {
                let (bytes, at) = self.typed_text(parameter, PARAMETER)?;
                let label: Option<Arc<str>> = std::str::from_utf8(&bytes).ok().map(Arc::from);
                let Some(label) = label.filter(|label| !label.is_empty()) else {
                    return Err(self.invalid(at, &format!("invalid label name {}", quoted(&bytes))));
                };
                Ok(Vector::CountValues { label, grouping, argument: Box::new(argument) })
            }
            (Kind::Quantile | Kind::Rank(_) | Kind::CountValues, None) => {
                Err(self.invalid(0, "no arguments for aggregate expression provided"))
            }
        }
    }
}
