//! A PromQL expression as text with holes, so that parts of it can be put in the place of others.

use std::fmt;

/// What an expression's value is, in the words of the language's grammar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Scalar,
    Vector,
    Matrix,
    Text,
}

/// Values a little larger, a little smaller, and each a little different from the others; infinity stays. A nudge is
/// fifty times what two libraries may differ by, and still far below the tolerance of the comparison.
const VECTOR_NUDGES: [&str; 3] = [
    "({} * 1.00000000000001)",
    "({} * 0.99999999999999)",
    "(({} * (1 + 1e-14 * sin({} * 1e9)) > -Inf) or {})",
];
const SCALAR_NUDGES: [&str; 2] = ["({} * 1.00000000000001)", "({} * 0.99999999999999)"];

/// Why the value of an expression may not be defined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hazard {
    /// It chooses among the elements of its vectors: not defined among equals.
    Choice,
    /// It compares elements of two vectors and drops some: whether it fails where several match the same one depended
    /// on the values until prometheus#17668.
    Filter,
    /// The last digit of its value is up to a mathematics library: not defined where much is made of it.
    Rounding,
    /// Series may become one by it: where they do at different times of one question, it failed until
    /// prometheus#18631 and prometheus#15114.
    Merge,
}

/// An expression, or a part of one.
#[derive(Clone, Debug)]
pub(crate) struct Expression {
    pub kind: Kind,
    /// Why its value may not be defined, where it may not.
    pub hazard: Option<Hazard>,
    pieces: Vec<Piece>,
}

#[derive(Clone, Debug)]
enum Piece {
    Text(String),
    Part(Expression),
}

impl Expression {
    /// An expression of `kind`: each `{}` of the template is one of the parts, in their order.
    pub(crate) fn new(kind: Kind, template: &str, parts: impl IntoIterator<Item = Self>) -> Self {
        let mut parts = parts.into_iter();
        let mut pieces = Vec::new();
        for (index, text) in template.split("{}").enumerate() {
            if index > 0 {
                pieces.extend(parts.next().map(Piece::Part));
            }
            if !text.is_empty() {
                pieces.push(Piece::Text(text.to_owned()));
            }
        }
        Self { kind, hazard: None, pieces }
    }

    /// The same with a hazard.
    pub(crate) fn with_hazard(self, hazard: Option<Hazard>) -> Self {
        Self { hazard, ..self }
    }

    /// Whether it or a part of it has this hazard.
    pub(crate) fn has(&self, hazard: Hazard) -> bool {
        self.parts().into_iter().any(|part| part.hazard == Some(hazard))
    }

    /// Its parts, parts of parts included, itself first.
    pub(crate) fn parts(&self) -> Vec<&Self> {
        let mut found = vec![self];
        found.extend(self.children().flat_map(Self::parts));
        found
    }

    /// What stands before its first part; nothing where it has no parts.
    pub(crate) fn head(&self) -> &str {
        match self.pieces.as_slice() {
            [Piece::Text(text), Piece::Part(_), ..] => text,
            _ => "",
        }
    }

    /// Its direct parts.
    pub(crate) fn children(&self) -> impl Iterator<Item = &Self> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Part(part) => Some(part),
            Piece::Text(_) => None,
        })
    }

    /// Simpler expressions of the same kind, the simplest first: one of the parts alone, or with one part replaced.
    pub(crate) fn simpler(&self) -> Vec<Self> {
        let own = self.parts().into_iter().skip(1).filter(|part| part.kind == self.kind);
        let mut found: Vec<Self> = own.cloned().collect();
        found.extend(self.plainer());
        found.sort_by_key(|expression| expression.to_string().len());
        for (index, piece) in self.pieces.iter().enumerate() {
            let Piece::Part(part) = piece else { continue };
            found.extend(part.simpler().into_iter().map(|simpler| self.with_part(index, simpler)));
        }
        found
    }

    /// The same with one part's value a little larger or smaller, for each part whose last digit is not defined.
    pub(crate) fn nudged(&self) -> Vec<Self> {
        let mut found = Vec::new();
        if self.hazard == Some(Hazard::Rounding) {
            let nudges: &[&str] = if self.kind == Kind::Scalar { &SCALAR_NUDGES } else { &VECTOR_NUDGES };
            let nudged = |nudge: &&str| Self::new(self.kind, nudge, std::iter::repeat_n(self.clone(), 3));
            found.extend(nudges.iter().map(nudged));
        }
        for (index, piece) in self.pieces.iter().enumerate() {
            let Piece::Part(part) = piece else { continue };
            found.extend(part.nudged().into_iter().map(|nudged| self.with_part(index, nudged)));
        }
        found
    }

    /// The same without what a leaf can do without.
    fn plainer(&self) -> Vec<Self> {
        let text = self.to_string();
        let with = |text: &str| Self::new(self.kind, "", []).with_text(text);
        let mut found = Vec::new();
        if self.kind == Kind::Scalar && text.len() > 1 {
            found.extend(["1", "0"].map(with));
        }
        if self.children().next().is_none() {
            found.extend(text.find(['@', ' ']).map(|at| with(text[..at].trim_end())));
        }
        found
    }

    fn with_part(&self, index: usize, part: Self) -> Self {
        let mut changed = self.clone();
        changed.pieces[index] = Piece::Part(part);
        changed
    }

    /// One piece of text that may have braces.
    pub(crate) fn with_text(mut self, text: &str) -> Self {
        self.pieces = vec![Piece::Text(text.to_owned())];
        self
    }
}

impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.pieces.iter().try_for_each(|piece| match piece {
            Piece::Text(text) => f.write_str(text),
            Piece::Part(part) => part.fmt(f),
        })
    }
}
