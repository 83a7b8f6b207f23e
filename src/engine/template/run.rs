//! Expands a template: walks its nodes with the data, writes the text.

use std::sync::Arc;

use super::error::ExpandError;
use super::functions::Function;
use super::node::{Branch, Command, List, Node, Operand, OperandKind, Pipeline, Span, Tree};
use super::value::Value;
use super::{DEPTH_MAX, Data, OUTPUT_BYTES_MAX, STEPS_MAX};

/// What a list of nodes ended with.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Flow {
    Goes,
    Breaks,
    Continues,
}

/// Expands it.
pub(super) fn expand<'a>(
    tree: &'a Tree,
    source: &'a str,
    name: &'a str,
    data: &'a Data<'a>,
    known: &[(&'static str, Value<'a>)],
) -> Result<String, ExpandError> {
    let mut run = Run {
        tree,
        source,
        name,
        data,
        variables: vec![(Arc::from("$"), Value::Data(data))],
        text: String::new(),
        steps: 0,
        depth: 0,
    };
    run.variables.extend(known.iter().map(|(name, value)| (Arc::from(*name), value.clone())));
    run.list(&tree.body, &Value::Data(data))?;
    Ok(run.text)
}

struct Run<'a> {
    tree: &'a Tree,
    source: &'a str,
    name: &'a str,
    data: &'a Data<'a>,
    variables: Vec<(Arc<str>, Value<'a>)>,
    text: String,
    steps: usize,
    depth: usize,
}

impl<'a> Run<'a> {
    fn fail(&self, span: Span, cause: impl Into<String>) -> ExpandError {
        ExpandError::new(self.name, self.source, span, cause.into())
    }

    fn step(&mut self, span: Span) -> Result<(), ExpandError> {
        self.steps += 1;
        if self.steps > STEPS_MAX {
            return Err(self.fail(span, format!("more than {STEPS_MAX} steps")));
        }
        Ok(())
    }

    fn write(&mut self, span: Span, text: &str) -> Result<(), ExpandError> {
        if self.text.len() + text.len() > OUTPUT_BYTES_MAX {
            return Err(self.fail(span, format!("the text becomes longer than {OUTPUT_BYTES_MAX} bytes")));
        }
        self.text.push_str(text);
        Ok(())
    }

    fn list(&mut self, nodes: &'a List, dot: &Value<'a>) -> Result<Flow, ExpandError> {
        for node in nodes {
            let flow = match node {
                Node::Text(text) => self.write((0, 0), text).map(|()| Flow::Goes)?,
                Node::Action(pipeline) => {
                    let value = self.pipeline(pipeline, dot)?;
                    if pipeline.variables.is_empty() {
                        if let Value::Text(text) = &value {
                            self.write(pipeline.span, text)?;
                        } else {
                            self.write(pipeline.span, &value.printed())?;
                        }
                    }
                    Flow::Goes
                }
                Node::If(branch) => self.branch(branch, dot, false)?,
                Node::With(branch) => self.branch(branch, dot, true)?,
                Node::Range(branch) => self.range(branch, dot)?,
                Node::Call { name, argument, span } => self.call(name, argument.as_ref(), *span, dot)?,
                Node::Break => Flow::Breaks,
                Node::Continue => Flow::Continues,
            };
            if flow != Flow::Goes {
                return Ok(flow);
            }
        }
        Ok(Flow::Goes)
    }

    fn branch(&mut self, branch: &'a Branch, dot: &Value<'a>, sets_dot: bool) -> Result<Flow, ExpandError> {
        let mark = self.variables.len();
        let value = self.pipeline(&branch.pipeline, dot)?;
        let flow = if !value.is_true() {
            self.list(&branch.otherwise, dot)
        } else if sets_dot {
            self.list(&branch.then, &value)
        } else {
            self.list(&branch.then, dot)
        };
        self.variables.truncate(mark);
        flow
    }

    fn range(&mut self, branch: &'a Branch, dot: &Value<'a>) -> Result<Flow, ExpandError> {
        let mark = self.variables.len();
        let value = self.pipeline(&branch.pipeline, dot)?;
        self.variables.truncate(mark);
        let items: Vec<(Value<'a>, Value<'a>)> = match &value {
            Value::List(items) => {
                items.iter().enumerate().map(|(index, item)| (int(index), item.clone())).collect()
            }
            Value::Labels(labels) => {
                labels.iter().map(|(name, value)| (Value::text(name), Value::text(value))).collect()
            }
            Value::Arguments(arguments) => {
                arguments.iter().map(|(name, value)| (Value::text(name.as_str()), value.clone())).collect()
            }
            Value::Int(count) => {
                let count = usize::try_from(*count).unwrap_or(0).min(STEPS_MAX);
                (0..count).map(|index| (int(index), int(index))).collect()
            }
            Value::Missing | Value::Nil => Vec::new(),
            Value::Bool(_)
            | Value::Float(_)
            | Value::Text(_)
            | Value::Sample(_)
            | Value::Data(_)
            | Value::Time(_)
            | Value::Duration(_) => {
                let cause = format!("range can't iterate over {}", value.printed());
                return Err(self.fail(branch.pipeline.span, cause));
            }
        };
        if items.is_empty() {
            let flow = self.list(&branch.otherwise, dot);
            self.variables.truncate(mark);
            return flow;
        }
        let names = &branch.pipeline.variables;
        for (key, item) in items {
            self.step(branch.pipeline.span)?;
            let values = match names.as_slice() {
                [] => vec![],
                [one] => vec![(one, item.clone())],
                [first, second, ..] => vec![(first, key), (second, item.clone())],
            };
            for (name, value) in values {
                if branch.pipeline.assigns {
                    self.assign(name, value);
                } else {
                    self.variables.push((Arc::clone(name), value));
                }
            }
            let flow = self.list(&branch.then, &item)?;
            self.variables.truncate(mark);
            if flow == Flow::Breaks {
                break;
            }
        }
        Ok(Flow::Goes)
    }

    /// Another template, which sees nothing but its argument.
    fn call(
        &mut self,
        name: &str,
        argument: Option<&'a Pipeline>,
        span: Span,
        dot: &Value<'a>,
    ) -> Result<Flow, ExpandError> {
        let Some(body) = self.tree.defined.get(name) else {
            return Err(self.fail(span, format!("template \"{name}\" not defined")));
        };
        if self.depth >= DEPTH_MAX {
            return Err(self.fail(span, format!("exceeded maximum template depth ({DEPTH_MAX})")));
        }
        let value = match argument {
            Some(pipeline) => self.pipeline(pipeline, dot)?,
            None => Value::Missing,
        };
        let outside = std::mem::replace(&mut self.variables, vec![(Arc::from("$"), value.clone())]);
        self.depth += 1;
        let done = self.list(body, &value);
        self.depth -= 1;
        self.variables = outside;
        done.map(|_| Flow::Goes)
    }

    fn assign(&mut self, name: &str, value: Value<'a>) {
        if let Some(variable) = self.variables.iter_mut().rev().find(|(known, _)| known.as_ref() == name) {
            variable.1 = value;
        }
    }

    fn pipeline(&mut self, pipeline: &'a Pipeline, dot: &Value<'a>) -> Result<Value<'a>, ExpandError> {
        self.step(pipeline.span)?;
        let mut value = None;
        for command in &pipeline.commands {
            value = Some(self.command(command, dot, value)?);
        }
        let value = value.unwrap_or(Value::Missing);
        for name in &pipeline.variables {
            if pipeline.assigns {
                self.assign(name, value.clone());
            } else {
                self.variables.push((Arc::clone(name), value.clone()));
            }
        }
        Ok(value)
    }

    fn command(
        &mut self,
        command: &'a Command,
        dot: &Value<'a>,
        piped: Option<Value<'a>>,
    ) -> Result<Value<'a>, ExpandError> {
        let Some((first, others)) = command.operands.split_first() else { return Ok(Value::Missing) };
        if let OperandKind::Function(function) = first.kind {
            return self.function(function, first.span, others, dot, piped);
        }
        if !others.is_empty() || piped.is_some() {
            let written = self.source.get(first.span.0..first.span.1).unwrap_or("");
            return Err(self.fail(first.span, format!("can't give argument to non-function {written}")));
        }
        if first.kind == OperandKind::Nil {
            return Err(self.fail(first.span, "nil is not a command"));
        }
        self.operand(first, dot)
    }

    fn function(
        &mut self,
        function: Function,
        span: Span,
        operands: &'a [Operand],
        dot: &Value<'a>,
        piped: Option<Value<'a>>,
    ) -> Result<Value<'a>, ExpandError> {
        let (name, least, most) = function.shape();
        let count = operands.len() + usize::from(piped.is_some());
        if count < least || count > most {
            let wanted = if least == most { least.to_string() } else { format!("at least {least}") };
            return Err(
                self.fail(span, format!("wrong number of args for {name}: want {wanted} got {count}"))
            );
        }
        let mut arguments = Vec::with_capacity(count);
        for operand in operands {
            let value = self.operand(operand, dot)?;
            if function.is_decided_by(&value) {
                return Ok(value);
            }
            arguments.push(value);
        }
        arguments.extend(piped);
        function
            .call(self.data, &arguments)
            .map_err(|cause| self.fail(span, format!("error calling {name}: {cause}")))
    }

    fn operand(&mut self, operand: &'a Operand, dot: &Value<'a>) -> Result<Value<'a>, ExpandError> {
        let (value, fields) = match &operand.kind {
            OperandKind::Dot => (dot.clone(), &[][..]),
            OperandKind::Nil => (Value::Nil, &[][..]),
            OperandKind::Bool(is) => (Value::Bool(*is), &[][..]),
            OperandKind::Int(number) => (Value::Int(*number), &[][..]),
            OperandKind::Float(number) => (Value::Float(*number), &[][..]),
            OperandKind::Text(text) => (Value::Text(text.as_ref().into()), &[][..]),
            // A function without arguments may be an argument.
            OperandKind::Function(function) => {
                (self.function(*function, operand.span, &[], dot, None)?, &[][..])
            }
            OperandKind::Fields(fields) => (dot.clone(), fields.as_slice()),
            OperandKind::Variable(name, fields) => (self.variable(name), fields.as_slice()),
            OperandKind::Nested(pipeline, fields) => (self.pipeline(pipeline, dot)?, fields.as_slice()),
        };
        let mut value = value;
        for field in fields {
            value = value.field(field).map_err(|cause| self.fail(operand.span, cause))?;
        }
        Ok(value)
    }

    fn variable(&self, name: &str) -> Value<'a> {
        let found = self.variables.iter().rev().find(|(known, _)| known.as_ref() == name);
        found.map_or(Value::Missing, |(_, value)| value.clone())
    }
}

fn int<'a>(number: usize) -> Value<'a> {
    Value::Int(i64::try_from(number).unwrap_or(i64::MAX))
}
