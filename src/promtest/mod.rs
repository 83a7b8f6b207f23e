//! What Prometheus' own tools test and check, with their verdicts: PromQL test scripts, unit tests of rules, rule files.
//!
//! [`script`] runs the scripts that Prometheus tests its evaluator with, [`mod@unit`] runs the files of `promtool test rules`,
//! and [`lint`] says of rule files which rules can be used. They decide nothing for the loop: they evaluate over series of
//! their own with the same code (`engine::promql`, `engine::ruler`).

mod compare;
pub mod lint;
mod notation;
mod reading;
pub mod script;
pub mod unit;
