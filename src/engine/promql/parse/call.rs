//! Calls of functions: how many arguments there are, of which types, and what becomes of them.

use std::sync::Arc;

use crate::engine::promql::ast::{
    Histogram, HistogramFunction, Instant, OfQuery, Samples, Scalar, Vector, Window,
};
use crate::engine::promql::functions::calendar::Calendar;
use crate::engine::promql::functions::labels::Relabel;
use crate::engine::promql::functions::map::{MapFunction, Math};
use crate::engine::promql::functions::order::Order;
use crate::engine::promql::functions::window::{Statistic, WindowFunction};
use crate::engine::promql::operator::{Arithmetic, Operator};
use crate::engine::promql::pattern;
use crate::engine::promql::scan::Token;
use crate::model::Labels;

use super::expression::fold;
use super::text::quoted;
use super::{Operand, Parsed, Parser, Refusal, Typed};

/// Functions of Prometheus that we refuse. All but the first five, which read native histograms, are experiments.
const REFUSED: [&str; 7] = [
    "histogram_avg",
    "histogram_count",
    "histogram_sum",
    "histogram_stddev",
    "histogram_stdvar",
    "info",
    "start_timestamp",
];
/// The most arguments of those that take any number.
const ANY: usize = usize::MAX;

/// The fewest and the most arguments of a function; `None` where there is none of this name.
fn arity(name: &str) -> Option<(usize, usize)> {
    if Math::named(name).is_some() || Statistic::named(name).is_some() {
        return Some((1, 1));
    }
    if Calendar::named(name).is_some() {
        return Some((0, 1));
    }
    Some(match name {
        "time" | "pi" | "start" | "end" | "step" | "range" => (0, 0),
        "vector" | "scalar" | "absent" | "absent_over_time" | "timestamp" | "sort" | "sort_desc" => (1, 1),
        "round" => (1, 2),
        "clamp_min" | "clamp_max" | "quantile_over_time" | "predict_linear" | "min_of" | "max_of"
        | "histogram_quantile" => (2, 2),
        "clamp" | "double_exponential_smoothing" | "histogram_fraction" => (3, 3),
        "label_replace" => (5, 5),
        "label_join" | "histogram_quantiles" => (3, ANY),
        "sort_by_label" | "sort_by_label_desc" => (2, ANY),
        _ => return None,
    })
}

/// The arguments of a call, taken one by one.
struct Arguments {
    rest: std::vec::IntoIter<Operand>,
    /// As Prometheus describes where they stand.
    context: String,
    /// Where the call stands in the text, in bytes.
    at: usize,
}

impl Parser<'_> {
    /// A call, from its opening parenthesis.
    pub(super) fn call(&mut self, word: Token<'_>) -> Parsed {
        let (name, arity) = self.known(word)?;
        let arguments = self.arguments()?;
        self.check_arity(word.at, name, arity, arguments.len())?;
        let depth = 1 + arguments.iter().map(|argument| argument.depth).max().unwrap_or(0);
        let value = self.called(name, word.at, arguments)?;
        self.operand_of(value, word.at, depth)
    }

    fn known<'w>(&self, word: Token<'w>) -> Result<(&'w str, (usize, usize)), Refusal> {
        // Keywords are written in any case.
        let keyword = ["start", "end", "step", "range"].into_iter().find(|keyword| word.is_word(keyword));
        let name = keyword.unwrap_or(word.text);
        if REFUSED.contains(&name) {
            return Err(self.unsupported(word.at, name));
        }
        let unknown = || self.invalid_named(word.at, name, format!("unknown function with name {name:?}"));
        Ok((name, arity(name).ok_or_else(unknown)?))
    }

    fn check_arity(
        &self,
        at: usize,
        name: &str,
        (least, most): (usize, usize),
        given: usize,
    ) -> Result<(), Refusal> {
        let (bound, count) = match () {
            () if least == most && given != least => ("", least),
            () if given < least => ("at least ", least),
            () if given > most => ("at most ", most),
            () => return Ok(()),
        };
        let message = format!("expected {bound}{count} argument(s) in call to {name:?}, got {given}");
        Err(self.invalid_named(at, name, message))
    }

    /// Expressions in parentheses, with commas between them.
    pub(super) fn arguments(&mut self) -> Result<Vec<Operand>, Refusal> {
        self.wants("(", "`(`")?;
        let mut arguments = Vec::new();
        if self.take_mark(")").is_some() {
            return Ok(arguments);
        }
        loop {
            arguments.push(*self.expression(0)?);
            if self.take_mark(")").is_some() {
                return Ok(arguments);
            }
            self.wants(",", "an operator or `)`")?;
        }
    }

    fn called(&self, name: &str, at: usize, arguments: Vec<Operand>) -> Result<Typed, Refusal> {
        let context = format!("call to function {name:?}");
        let arguments = &mut Arguments { rest: arguments.into_iter(), context, at };
        if let Some(statistic) = Statistic::named(name) {
            return self.window(WindowFunction::Of(statistic), 0, arguments).map(Typed::Vector);
        }
        if let Some(math) = Math::named(name) {
            return self.map(arguments, |_, _| Ok(MapFunction::Math(math))).map(Typed::Vector);
        }
        if let Some(part) = Calendar::named(name) {
            let function = MapFunction::Calendar(part);
            let argument = match arguments.rest.len() {
                // Of the time of the evaluation.
                0 => Box::new(Vector::Of(Box::new(Scalar::Time))),
                _ => Box::new(self.vector(arguments)?.0),
            };
            return Ok(Typed::Vector(Vector::Map { function, argument }));
        }
        let of_query = |what| Ok(Typed::Scalar(Scalar::OfQuery(what)));
        match name {
            "time" => Ok(Typed::Scalar(Scalar::Time)),
            "pi" => Ok(Typed::Scalar(Scalar::Number(std::f64::consts::PI))),
            "start" => of_query(OfQuery::Start),
            "end" => of_query(OfQuery::End),
            "step" => of_query(OfQuery::Step),
            "range" => of_query(OfQuery::Range),
            "min_of" | "max_of" => {
                let (left, right) = (self.scalar(arguments)?.0, self.scalar(arguments)?.0);
                let extreme = if name == "min_of" { Arithmetic::Smaller } else { Arithmetic::Larger };
                Ok(Typed::Scalar(fold(Operator::Arithmetic(extreme), left, right)))
            }
            "scalar" => {
                self.vector(arguments).map(|(vector, _)| Typed::Scalar(Scalar::Only(Box::new(vector))))
            }
            "vector" => self.scalar(arguments).map(|(scalar, _)| Typed::Vector(Vector::Of(Box::new(scalar)))),
            _ => self.vector_function(name, arguments).map(Typed::Vector),
        }
    }

    fn vector_function(&self, name: &str, arguments: &mut Arguments) -> Result<Vector, Refusal> {
        match name {
            "quantile_over_time" => {
                let (quantile, at) = self.scalar(arguments)?;
                self.window(WindowFunction::Quantile(quantile), at, arguments)
            }
            "predict_linear" | "double_exponential_smoothing" => {
                let (samples, samples_at) = self.samples(arguments)?;
                let (first, number_at) = self.scalar(arguments)?;
                let function = if name == "predict_linear" {
                    WindowFunction::PredictLinear(first)
                } else {
                    WindowFunction::Smoothed { level_weight: first, trend_weight: self.scalar(arguments)?.0 }
                };
                Ok(Vector::Window(Box::new(Window { function, samples, samples_at, number_at })))
            }
            "round" => self.map(arguments, |parser, arguments| {
                let has_nearest = arguments.rest.len() > 0;
                let nearest = if has_nearest { parser.scalar(arguments)?.0 } else { Scalar::Number(1.0) };
                Ok(MapFunction::Round(nearest))
            }),
            "clamp" | "clamp_min" | "clamp_max" => self.map(arguments, |parser, arguments| {
                let (infinity, first) = (f64::INFINITY, parser.scalar(arguments)?.0);
                Ok(match name {
                    "clamp_min" => MapFunction::Clamp { lowest: first, highest: Scalar::Number(infinity) },
                    "clamp_max" => MapFunction::Clamp { lowest: Scalar::Number(-infinity), highest: first },
                    _ => MapFunction::Clamp { lowest: first, highest: parser.scalar(arguments)?.0 },
                })
            }),
            "timestamp" => {
                let argument = self.vector(arguments)?.0;
                Ok(if let Vector::Select(instant) = argument {
                    Vector::Timestamp(instant)
                } else {
                    Vector::Map { function: MapFunction::EvaluationTime, argument: Box::new(argument) }
                })
            }
            "absent" => {
                let (argument, at) = self.vector(arguments)?;
                let labels = if let Vector::Select(Instant { selector, .. }) = &argument {
                    selector.known_labels()
                } else {
                    Ok(Labels::empty())
                };
                let labels = labels.map_err(|error| self.invalid(at, &error.to_string()))?;
                Ok(Vector::Absent { argument: Box::new(argument), labels })
            }
            "absent_over_time" => {
                let (samples, at) = self.samples(arguments)?;
                let labels = match &samples {
                    Samples::Series(range) => range.selector.known_labels(),
                    Samples::Subquery(_) => Ok(Labels::empty()),
                };
                let labels = labels.map_err(|error| self.invalid(at, &error.to_string()))?;
                Ok(Vector::AbsentOverTime { samples, labels })
            }
            "label_replace" => self.label_replace(arguments),
            "label_join" => self.label_join(arguments),
            "histogram_quantile" | "histogram_fraction" | "histogram_quantiles" => {
                self.histogram(name, arguments)
            }
            _ => self.sort(name, arguments),
        }
    }

    fn window(
        &self,
        function: WindowFunction<Scalar>,
        number_at: usize,
        arguments: &mut Arguments,
    ) -> Result<Vector, Refusal> {
        let (samples, samples_at) = self.samples(arguments)?;
        Ok(Vector::Window(Box::new(Window { function, samples, samples_at, number_at })))
    }

    fn map(
        &self,
        arguments: &mut Arguments,
        function: impl FnOnce(&Self, &mut Arguments) -> Result<MapFunction<Scalar>, Refusal>,
    ) -> Result<Vector, Refusal> {
        let argument = Box::new(self.vector(arguments)?.0);
        Ok(Vector::Map { function: function(self, arguments)?, argument })
    }

    fn histogram(&self, name: &str, arguments: &mut Arguments) -> Result<Vector, Refusal> {
        if name == "histogram_quantiles" {
            let (argument, argument_at) = self.vector(arguments)?;
            let label = self.label(arguments, "label name in histogram_quantiles()")?;
            let mut quantiles = Vec::new();
            while arguments.rest.len() > 0 {
                quantiles.push(self.scalar(arguments)?);
            }
            let function = HistogramFunction::Quantiles { label, quantiles: quantiles.into() };
            return Ok(Vector::Histogram(Box::new(Histogram { function, argument, argument_at })));
        }
        let (first, first_at) = self.scalar(arguments)?;
        let function = if name == "histogram_quantile" {
            HistogramFunction::Quantile(first, first_at)
        } else {
            HistogramFunction::Fraction { lower: first, upper: self.scalar(arguments)?.0 }
        };
        let (argument, argument_at) = self.vector(arguments)?;
        Ok(Vector::Histogram(Box::new(Histogram { function, argument, argument_at })))
    }

    fn label_replace(&self, arguments: &mut Arguments) -> Result<Vector, Refusal> {
        let argument = Box::new(self.vector(arguments)?.0);
        let target = self.label(arguments, "destination label name in label_replace()")?;
        let template = self.text(arguments)?.0.into_boxed_str();
        let source = self.text(arguments)?.0.into();
        let (text, at) = self.text(arguments)?;
        let pattern = pattern::compile(&text).map_err(|error| {
            self.invalid(at, &format!("invalid regular expression in label_replace(): {text}: {error}"))
        })?;
        let relabel = Box::new(Relabel::Replace { target, template, source, pattern });
        Ok(Vector::Relabel { relabel, argument })
    }

    fn label_join(&self, arguments: &mut Arguments) -> Result<Vector, Refusal> {
        let argument = Box::new(self.vector(arguments)?.0);
        let target = self.label(arguments, "destination label name in label_join()")?;
        let separator = self.text(arguments)?.0.into_boxed_str();
        let mut sources = Vec::new();
        while arguments.rest.len() > 0 {
            sources.push(self.label(arguments, "source label name in label_join()")?);
        }
        let relabel = Box::new(Relabel::Join { target, separator, sources: sources.into() });
        Ok(Vector::Relabel { relabel, argument })
    }

    fn sort(&self, name: &str, arguments: &mut Arguments) -> Result<Vector, Refusal> {
        let argument = Box::new(self.vector(arguments)?.0);
        let descending = name.ends_with("_desc");
        let mut names: Vec<Arc<str>> = Vec::new();
        while arguments.rest.len() > 0 {
            names.push(self.label(arguments, &format!("label name in {name}()"))?);
        }
        let order = if name.starts_with("sort_by") {
            Order::Labels { names: names.into(), descending }
        } else {
            Order::Value { descending }
        };
        Ok(Vector::Sort { order, argument, at: arguments.at })
    }

    /// The next argument, which is the name of a label.
    fn label(&self, arguments: &mut Arguments, what: &str) -> Result<Arc<str>, Refusal> {
        let (bytes, at) = self.typed_text(self.argument(arguments)?, &arguments.context)?;
        match std::str::from_utf8(&bytes).ok().filter(|label| !label.is_empty()) {
            Some(label) => Ok(label.into()),
            None => Err(self.invalid(at, &format!("invalid {what}: {}", quoted(&bytes)))),
        }
    }

    fn text(&self, arguments: &mut Arguments) -> Result<(String, usize), Refusal> {
        let (bytes, at) = self.typed_text(self.argument(arguments)?, &arguments.context)?;
        let text = String::from_utf8(bytes.into()).map_err(|_| self.invalid(at, "this text is not UTF-8"))?;
        Ok((text, at))
    }

    fn scalar(&self, arguments: &mut Arguments) -> Result<(Scalar, usize), Refusal> {
        self.typed_scalar(self.argument(arguments)?, &arguments.context)
    }

    fn vector(&self, arguments: &mut Arguments) -> Result<(Vector, usize), Refusal> {
        self.typed_vector(self.argument(arguments)?, &arguments.context)
    }

    fn samples(&self, arguments: &mut Arguments) -> Result<(Samples, usize), Refusal> {
        let operand = self.argument(arguments)?;
        match operand.value {
            Typed::Samples(samples) => Ok((samples, operand.inner)),
            Typed::Scalar(_) | Typed::Vector(_) | Typed::Text(_) => {
                Err(self.mismatch(&operand, "range vector", &arguments.context))
            }
        }
    }

    fn argument(&self, arguments: &mut Arguments) -> Result<Operand, Refusal> {
        // How many there are was looked at before.
        arguments.rest.next().ok_or_else(|| self.invalid(arguments.at, "wrong number of arguments"))
    }

    /// A number, and where it stands.
    pub(super) fn typed_scalar(&self, operand: Operand, context: &str) -> Result<(Scalar, usize), Refusal> {
        match operand.value {
            Typed::Scalar(scalar) => Ok((scalar, operand.inner)),
            Typed::Vector(_) | Typed::Samples(_) | Typed::Text(_) => {
                Err(self.mismatch(&operand, "scalar", context))
            }
        }
    }

    /// A vector, and where it stands.
    pub(super) fn typed_vector(&self, operand: Operand, context: &str) -> Result<(Vector, usize), Refusal> {
        match operand.value {
            Typed::Vector(vector) => Ok((vector, operand.inner)),
            Typed::Scalar(_) | Typed::Samples(_) | Typed::Text(_) => {
                Err(self.mismatch(&operand, "instant vector", context))
            }
        }
    }

    /// A text, and where it stands.
    pub(super) fn typed_text(&self, operand: Operand, context: &str) -> Result<(Box<[u8]>, usize), Refusal> {
        match operand.value {
            Typed::Text(text) => Ok((text, operand.inner)),
            Typed::Scalar(_) | Typed::Vector(_) | Typed::Samples(_) => {
                Err(self.mismatch(&operand, "string", context))
            }
        }
    }

    fn mismatch(&self, operand: &Operand, wanted: &str, context: &str) -> Refusal {
        let given = operand.value.name();
        self.invalid(operand.start, &format!("expected type {wanted} in {context}, got {given}"))
    }
}
