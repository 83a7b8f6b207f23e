//! Operators between operands.

use std::sync::Arc;

use crate::engine::promql::ast::{Cardinality, Fill, Grouping, Join, Scalar, Set, Vector, WithScalar};
use crate::engine::promql::operator::{Arithmetic, Comparison, Operator, SetOperator};
use crate::engine::promql::scan::{Kind, Token};

use super::{Operand, Parsed, Parser, Refusal, Typed};

/// How tightly operators bind, from the loosest.
const OR: u8 = 1;
const AND: u8 = 2;
const COMPARISON: u8 = 3;
const SUM: u8 = 4;
const PRODUCT: u8 = 5;
/// Signs bind less than powers: `-2 ^ 2` is -4.
const POWER: u8 = 6;

/// An operator as it is written, and how tightly it binds.
#[derive(Clone, Copy)]
enum Written {
    Arithmetic(Arithmetic),
    Comparison(Comparison),
    Set(SetOperator),
}

/// What stands between an operator and its right side.
#[derive(Default)]
struct Modifiers {
    to_bool: bool,
    matching: Option<Grouping>,
    /// Whether the left side is the one with many, and the labels it takes over.
    group: Option<(bool, Box<[Arc<str>]>)>,
    fill: Fill,
}

impl Parser<'_> {
    /// An expression of operators that bind at least so tightly.
    pub(super) fn expression(&mut self, least: u8) -> Parsed {
        self.enter()?;
        let mut left = self.signed()?;
        while let Some((token, written, precedence)) = self.operator(least) {
            self.next += 1;
            let modifiers = self.modifiers()?;
            // Powers are grouped from the right, everything else from the left.
            let right = self.expression(if precedence == POWER { POWER } else { precedence + 1 })?;
            left = self.binary(left, (written, token), modifiers, right)?;
        }
        self.leave();
        Ok(left)
    }

    /// The next operator, where it binds tightly enough.
    fn operator(&self, least: u8) -> Option<(Token<'static>, Written, u8)> {
        let token = self.peek()?;
        let (name, written, precedence) = written(&token)?;
        (precedence >= least).then_some((
            Token { kind: token.kind, text: name, at: token.at },
            written,
            precedence,
        ))
    }

    fn signed(&mut self) -> Parsed {
        let Some(sign) = self.take(|token| token.is_mark("-") || token.is_mark("+")) else {
            return self.operand();
        };
        let argument = self.expression(POWER)?;
        let (is_negative, depth) = (sign.text == "-", argument.depth);
        let value = match argument.value {
            Typed::Scalar(Scalar::Number(number)) if is_negative => Typed::Scalar(Scalar::Number(-number)),
            Typed::Scalar(scalar) if is_negative => Typed::Scalar(Scalar::Negate(Box::new(scalar))),
            Typed::Vector(vector) if is_negative => Typed::Vector(Vector::Negate(Box::new(vector))),
            value @ (Typed::Scalar(_) | Typed::Vector(_)) => value,
            value @ (Typed::Samples(_) | Typed::Text(_)) => {
                let message = format!(
                    "unary expression only allowed on expressions of type scalar or instant vector, got {:?}",
                    value.name()
                );
                return Err(self.invalid(sign.at, &message));
            }
        };
        self.operand_of(value, sign.at, depth + usize::from(is_negative))
    }

    fn modifiers(&mut self) -> Result<Modifiers, Refusal> {
        let mut modifiers = Modifiers { to_bool: self.take_word("bool").is_some(), ..Modifiers::default() };
        let has_matching = self.next_is(&["on", "ignoring"]) && self.is_followed_by("(");
        if let Some(word) = self.take(|_| has_matching) {
            let labels = self.label_list()?.into();
            let is_on = word.is_word("on");
            modifiers.matching = Some(if is_on { Grouping::By(labels) } else { Grouping::Without(labels) });
            let has_group = self.next_is(&["group_left", "group_right"]);
            if let Some(word) = self.take(|_| has_group) {
                let has_list = self.peek().is_some_and(|token| token.is_mark("("));
                let labels = if has_list { self.label_list()? } else { Vec::new() };
                modifiers.group = Some((word.is_word("group_left"), labels.into()));
            }
        }
        self.fills(&mut modifiers.fill)?;
        Ok(modifiers)
    }

    fn next_is(&self, words: &[&str]) -> bool {
        self.peek().is_some_and(|token| words.iter().any(|word| token.is_word(word)))
    }

    /// `fill(0)`, or one or both of `fill_left(0)` and `fill_right(0)`. By themselves these words are metrics.
    fn fills(&mut self, fill: &mut Fill) -> Result<(), Refusal> {
        while self.is_followed_by("(") {
            let is_free = |token: &Token<'_>| {
                (token.is_word("fill") && *fill == Fill::default())
                    || (token.is_word("fill_left") && fill.left.is_none())
                    || (token.is_word("fill_right") && fill.right.is_none())
            };
            let Some(word) = self.take(is_free) else { break };
            self.wants("(", "`(`")?;
            let number = Some(self.signed_number("a number")?);
            self.wants(")", "`)`")?;
            if !word.is_word("fill_right") {
                fill.left = number;
            }
            if !word.is_word("fill_left") {
                fill.right = number;
            }
        }
        Ok(())
    }

    pub(super) fn signed_number(&mut self, expected: &str) -> Result<f64, Refusal> {
        let sign = self.take(|token| token.is_mark("-") || token.is_mark("+"));
        let is_negative = sign.is_some_and(|sign| sign.is_mark("-"));
        match self.peek().map(|token| token.kind) {
            Some(Kind::Number(number)) => {
                self.next += 1;
                Ok(if is_negative { -number } else { number })
            }
            Some(Kind::Text | Kind::Word | Kind::Mark) | None => Err(self.unexpected(expected)),
        }
    }

    fn binary(
        &self,
        left: Box<Operand>,
        (written, token): (Written, Token<'_>),
        modifiers: Modifiers,
        right: Box<Operand>,
    ) -> Parsed {
        let (start, depth) = (left.start, left.depth.max(right.depth) + 1);
        let (left_text, right_text) = (left.start..left.end, right.start..right.end);
        self.check(&left, (written, token), &modifiers, &right)?;
        let operator = match written {
            Written::Arithmetic(arithmetic) => Operator::Arithmetic(arithmetic),
            Written::Comparison(comparison) => {
                Operator::Comparison { comparison, to_bool: modifiers.to_bool }
            }
            Written::Set(operator) => {
                let set = self.set(operator, *left, modifiers, *right)?;
                return self.operand_of(Typed::Vector(set), start, depth);
            }
        };
        let with_scalar = |vector, scalar, scalar_is_left| {
            let vector_text = if scalar_is_left { right_text } else { left_text.clone() };
            let operation = WithScalar { operator, vector, scalar, scalar_is_left, vector_text };
            Typed::Vector(Vector::WithScalar(Box::new(operation)))
        };
        let value = match (left.value, right.value) {
            (Typed::Scalar(left), Typed::Scalar(right)) => Typed::Scalar(fold(operator, left, right)),
            (Typed::Vector(vector), Typed::Scalar(scalar)) => with_scalar(vector, scalar, false),
            (Typed::Scalar(scalar), Typed::Vector(vector)) => with_scalar(vector, scalar, true),
            (Typed::Vector(left), Typed::Vector(right)) => {
                let Modifiers { matching, group, fill, .. } = modifiers;
                let grouping = matching.unwrap_or_else(|| Grouping::Without([].into()));
                let cardinality = match group {
                    None => Cardinality::OneToOne,
                    Some((true, labels)) => Cardinality::ManyToOne(labels),
                    Some((false, labels)) => Cardinality::OneToMany(labels),
                };
                let join = Join { operator, left, right, grouping, cardinality, fill, left_text };
                Typed::Vector(Vector::Join(Box::new(join)))
            }
            // Refused by `check`.
            (value @ (Typed::Samples(_) | Typed::Text(_)), _) | (_, value) => value,
        };
        self.operand_of(value, start, depth)
    }

    /// What Prometheus does not let stand together.
    fn check(
        &self,
        left: &Operand,
        (written, token): (Written, Token<'_>),
        modifiers: &Modifiers,
        right: &Operand,
    ) -> Result<(), Refusal> {
        let invalid = |message: &str| Err(self.invalid(token.at, message));
        let is_comparison = matches!(written, Written::Comparison(_));
        let is_set = matches!(written, Written::Set(_));
        let is_scalar = |side: &Operand| matches!(side.value, Typed::Scalar(_));
        let is_vector = |side: &Operand| matches!(side.value, Typed::Vector(_));
        let (are_vectors, has_fill) =
            (is_vector(left) && is_vector(right), modifiers.fill != Fill::default());
        if modifiers.to_bool && !is_comparison {
            return invalid("bool modifier can only be used on comparison operators");
        }
        if is_comparison && !modifiers.to_bool && is_scalar(left) && is_scalar(right) {
            return invalid("comparisons between scalars must use BOOL modifier");
        }
        if let (Some(Grouping::By(matching)), Some((_, include))) = (&modifiers.matching, &modifiers.group)
            && let Some(label) = matching.iter().find(|label| include.contains(label))
        {
            return invalid(&format!("label {label:?} must not occur in ON and GROUP clause at once"));
        }
        if let Some(side) = [left, right].into_iter().find(|side| !is_scalar(side) && !is_vector(side)) {
            let message = "binary expression must contain only scalar and instant vector types";
            return Err(self.invalid(side.start, message));
        }
        let is_matched = match &modifiers.matching {
            Some(Grouping::By(labels) | Grouping::Without(labels)) => !labels.is_empty(),
            None => false,
        };
        match () {
            () if is_matched && !are_vectors => {
                invalid("vector matching only allowed between instant vectors")
            }
            () if has_fill && !are_vectors => {
                invalid("filling in missing series only allowed between instant vectors")
            }
            () if is_set && !are_vectors => {
                invalid(&format!("set operator {:?} not allowed in binary scalar expression", token.text))
            }
            () if is_set && modifiers.group.is_some() => {
                invalid(&format!("no grouping allowed for {:?} operation", token.text))
            }
            () if is_set && has_fill => invalid("filling in missing series not allowed for set operators"),
            () => Ok(()),
        }
    }

    fn set(
        &self,
        operator: SetOperator,
        left: Operand,
        modifiers: Modifiers,
        right: Operand,
    ) -> Result<Vector, Refusal> {
        let at = left.start;
        match (left.value, right.value) {
            (Typed::Vector(left), Typed::Vector(right)) => {
                let grouping = modifiers.matching.unwrap_or_else(|| Grouping::Without([].into()));
                Ok(Vector::Set(Box::new(Set { operator, left, right, grouping })))
            }
            _ => Err(self.invalid(at, "set operators stand between vectors")),
        }
    }
}

/// Thresholds are often written as products; a number is one wherever it can be.
pub(super) fn fold(operator: Operator, left: Scalar, right: Scalar) -> Scalar {
    match (operator, &left, &right) {
        (Operator::Arithmetic(arithmetic), &Scalar::Number(left), &Scalar::Number(right)) => {
            Scalar::Number(arithmetic.apply(left, right))
        }
        _ => Scalar::Binary { operator, left: Box::new(left), right: Box::new(right) },
    }
}

/// The operator that a token is, by its name.
fn written(token: &Token<'_>) -> Option<(&'static str, Written, u8)> {
    use Arithmetic::{Add, ArcTangent, Divide, Multiply, Power, Remainder, Subtract};
    use Comparison::{Equal, Greater, GreaterOrEqual, Less, LessOrEqual, NotEqual};
    use SetOperator::{And, Or, Unless};
    let all = [
        ("or", Written::Set(Or), OR),
        ("and", Written::Set(And), AND),
        ("unless", Written::Set(Unless), AND),
        ("==", Written::Comparison(Equal), COMPARISON),
        ("!=", Written::Comparison(NotEqual), COMPARISON),
        ("<", Written::Comparison(Less), COMPARISON),
        ("<=", Written::Comparison(LessOrEqual), COMPARISON),
        (">", Written::Comparison(Greater), COMPARISON),
        (">=", Written::Comparison(GreaterOrEqual), COMPARISON),
        ("+", Written::Arithmetic(Add), SUM),
        ("-", Written::Arithmetic(Subtract), SUM),
        ("*", Written::Arithmetic(Multiply), PRODUCT),
        ("/", Written::Arithmetic(Divide), PRODUCT),
        ("%", Written::Arithmetic(Remainder), PRODUCT),
        ("atan2", Written::Arithmetic(ArcTangent), PRODUCT),
        ("^", Written::Arithmetic(Power), POWER),
    ];
    all.into_iter().find(|(name, ..)| token.is_mark(name) || token.is_word(name))
}
