//! Questions about the past, and their answers as JSON.

use serde_json::{Value, json};

use super::facts::{self, id};
use super::rings::{self, Ring};
use super::{Knowledge, KnowledgeError};
use crate::model::{
    ActionId, Admission, AnalysisId, AttemptId, Entry, EpisodeId, IncidentId, IncidentPhase, Labels, PlanId,
    Record,
};
use crate::store::{KeyRange, Table};
use crate::wire;

/// Rows of one incident in one answer: as many as are kept of one.
const ROWS_MAX: usize = facts::ROWS_PER_INCIDENT_MAX as usize;
/// Incidents, plans or learned pairs in one answer.
const LISTED_MAX: usize = 500;
/// An answer is one message: what would make it larger is left out, and said so.
const ANSWER_BYTES_MAX: usize = 900_000;

/// What may be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// How much is kept.
    Stats,
    /// The newest incidents, newest first.
    Incidents {
        /// How many.
        limit: usize,
    },
    /// The newest plans, newest first.
    Plans {
        /// How many.
        limit: usize,
    },
    /// Everything about an incident, by the id of the incident, one of its episodes, plans, analyses, actions or attempts.
    Explain {
        /// The id in its text form.
        id: String,
    },
    /// What was learned.
    Learned,
}

impl Question {
    /// From an endpoint's name and the question's body.
    pub fn read(endpoint: &str, body: &[u8]) -> Result<Self, String> {
        let asked: Value = if body.is_empty() {
            Value::Null
        } else {
            serde_json::from_slice(body).map_err(|error| format!("the question is not JSON: {error}"))?
        };
        let limit = asked["limit"].as_u64().and_then(|limit| usize::try_from(limit).ok());
        let limit = limit.unwrap_or(50).clamp(1, LISTED_MAX);
        match endpoint {
            "stats" => Ok(Self::Stats),
            "incidents" => Ok(Self::Incidents { limit }),
            "plans" => Ok(Self::Plans { limit }),
            "learned" => Ok(Self::Learned),
            "explain" => match asked["id"].as_str() {
                Some(id) => Ok(Self::Explain { id: id.to_owned() }),
                None => Err("`id` is missing: an incident, plan, analysis or action".to_owned()),
            },
            other => Err(format!("nobody answers `{other}`")),
        }
    }
}

impl Knowledge {
    /// Answers; `None` where what is asked for is not known.
    pub fn answer(&self, question: &Question) -> Result<Option<Value>, KnowledgeError> {
        match question {
            Question::Stats => self.stats().map(Some),
            Question::Incidents { limit } => self.incidents(*limit).map(Some),
            Question::Plans { limit } => self.plans(*limit).map(Some),
            Question::Explain { id } => self.explain(id),
            Question::Learned => self.learned().map(Some),
        }
    }

    fn stats(&self) -> Result<Value, KnowledgeError> {
        let stats = self.store.stats()?;
        Ok(json!({
            "applied": stats.applied,
            "stored_at": stats.stored_at.to_rfc3339(),
            "incidents": rings::count(&self.store, Ring::Incidents)?,
            "incidents_max": Ring::Incidents.max(),
            "full_thousandths": self.store.fullness(),
            "records": stats.records,
            "live_bytes": stats.live_bytes,
            "disk_bytes": stats.disk_bytes,
            "doubtful_folders": stats.doubtful,
            "rebuilt": self.rebuilt,
            "refusing": stats.refusing,
        }))
    }

    fn incidents(&self, limit: usize) -> Result<Value, KnowledgeError> {
        let mut listed = Vec::new();
        for incident in self.newest(limit)? {
            let rows = self.rows_of(&incident)?;
            let newest = rows.iter().rev().flat_map(|row| &row.batch.entries).find_map(Entry::as_incident);
            let cause = rows.iter().rev().flat_map(|row| &row.batch.entries).find_map(|entry| {
                let Entry::Analysis(analysis) = entry else { return None };
                analysis.causes.first().cloned()
            });
            let plans =
                rows.iter().flat_map(|row| &row.batch.entries).filter(|it| matches!(it, Entry::Plan(_)));
            if let Some(newest) = newest {
                listed.push(json!({
                    "id": newest.id.to_string(),
                    "phase": newest.phase.as_str(),
                    "severity": newest.severity.as_str(),
                    "scope": pairs(&newest.scope),
                    "violations": newest.violations,
                    "opened_at": newest.opened_at.to_rfc3339(),
                    "closed_at": (newest.phase == IncidentPhase::Closed).then(|| newest.changed_at.to_rfc3339()),
                    "cause": cause.as_ref().map(|cause| cause.name.to_string()),
                    "confidence": cause.as_ref().map(|cause| cause.confidence.as_f64()),
                    "plans": plans.count(),
                }));
            }
        }
        Ok(Value::Array(listed))
    }

    fn plans(&self, limit: usize) -> Result<Value, KnowledgeError> {
        let mut listed = Vec::new();
        for incident in self.newest(limit)? {
            let rows = self.rows_of(&incident)?;
            let entries: Vec<&Entry> = rows.iter().flat_map(|row| &row.batch.entries).collect();
            for entry in entries.iter().rev() {
                if let Entry::Plan(plan) = entry {
                    let verdict = entries.iter().find_map(|entry| {
                        let Entry::Verdict(verdict) = entry else { return None };
                        (verdict.plan == plan.id).then(|| verdict.kind.as_str())
                    });
                    let end = entries.iter().find_map(|entry| {
                        let Entry::Admission(crate::model::Admission::Release(release)) = entry else {
                            return None;
                        };
                        (release.plan == plan.id).then(|| release.end.as_str())
                    });
                    listed.push(json!({
                        "id": plan.id.to_string(),
                        "incident": plan.incident.to_string(),
                        "generation": plan.generation,
                        "playbook": plan.playbook.to_string(),
                        "cause": plan.cause.to_string(),
                        "confidence": plan.confidence.as_f64(),
                        "scope": pairs(&plan.scope),
                        "mode": plan.mode.as_str(),
                        "verdict": verdict,
                        "end": end,
                        "actions": plan.steps.iter().map(|step| step.id.to_string()).collect::<Vec<_>>(),
                        "at": plan.at.to_rfc3339(),
                    }));
                }
            }
        }
        listed.truncate(limit);
        Ok(Value::Array(listed))
    }

    /// The chain from the violations to the end, in the order of the ledger.
    fn explain(&self, text: &str) -> Result<Option<Value>, KnowledgeError> {
        let Some(incident) = self.incident_of(text)? else { return Ok(None) };
        let mut rows = self.rows_of(&incident)?;
        let joined: Vec<_> = rows
            .iter()
            .flat_map(|row| row.batch.entries.iter().filter_map(Entry::as_incident))
            .flat_map(|incident| incident.joined.clone())
            .collect();
        for episode in joined.into_iter().take(ROWS_MAX) {
            let range = KeyRange::prefix(&id(episode.as_u128()));
            for row in self.store.scan(Table::Violations, &range, ROWS_MAX)?.records {
                rows.push(wire::ledger::kept(&row.value)?);
            }
        }
        if rows.is_empty() {
            return Ok(None);
        }
        rows.sort_by_key(|row| row.sequence);
        let mut bytes = 0;
        let mut chain = Vec::new();
        let mut left_out = 0;
        for row in &rows {
            let row = wire::ledger::to_json(row);
            bytes += row.to_string().len();
            if bytes > ANSWER_BYTES_MAX {
                left_out += 1;
            } else {
                chain.push(row);
            }
        }
        Ok(Some(json!({ "asked": text, "chain": chain, "left_out": left_out })))
    }

    fn learned(&self) -> Result<Value, KnowledgeError> {
        let rows = self.store.scan(Table::Learned, &KeyRange::all(), LISTED_MAX)?.records;
        let rows: Result<Vec<Value>, _> = rows
            .iter()
            .map(|row| {
                wire::knowledge::decode_learned(&row.value).map(|row| wire::knowledge::learned_json(&row))
            })
            .collect();
        Ok(Value::Array(rows?))
    }

    fn incident_of(&self, text: &str) -> Result<Option<Vec<u8>>, KnowledgeError> {
        if let Ok(incident) = text.parse::<IncidentId>() {
            return Ok(Some(id(incident.as_u128()).to_vec()));
        }
        let lookup = [
            (Table::Plans, text.parse::<PlanId>().map(PlanId::as_u128).ok()),
            (Table::Actions, text.parse::<ActionId>().map(ActionId::as_u128).ok()),
            (Table::Analyses, text.parse::<AnalysisId>().map(AnalysisId::as_u128).ok()),
        ];
        for (table, bits) in lookup {
            if let Some(bits) = bits {
                return Ok(self.store.get(table, &id(bits))?);
            }
        }
        if let Ok(episode) = text.parse::<EpisodeId>() {
            // The first episode of an incident has its bits.
            let first = id(IncidentId::of_episode(episode).as_u128());
            if !self.rows_of(&first)?.is_empty() {
                return Ok(Some(first.to_vec()));
            }
            return self.newest_with(
                |entry| matches!(entry, Entry::Incident(incident) if incident.joined.contains(&episode)),
            );
        }
        if let Ok(attempt) = text.parse::<AttemptId>() {
            return self.newest_with(|entry| {
                matches!(entry, Entry::Admission(Admission::Intent(intent)) if intent.attempt == attempt)
            });
        }
        Ok(None)
    }

    /// The newest incident of which something is so, among the [`LISTED_MAX`] newest: there is no index to ask.
    fn newest_with(&self, is_it: impl Fn(&Entry) -> bool) -> Result<Option<Vec<u8>>, KnowledgeError> {
        for incident in self.newest(LISTED_MAX)? {
            if self.rows_of(&incident)?.iter().flat_map(|row| &row.batch.entries).any(&is_it) {
                return Ok(Some(incident));
            }
        }
        Ok(None)
    }

    fn newest(&self, limit: usize) -> Result<Vec<Vec<u8>>, KnowledgeError> {
        let mut newest = std::collections::VecDeque::new();
        let (table, mut range) = Ring::Incidents.in_time();
        loop {
            let page = self.store.scan(table, &range, ROWS_MAX)?;
            for row in &page.records {
                newest.extend(Ring::subject(&row.key).map(<[u8]>::to_vec));
                if newest.len() > limit {
                    newest.pop_front();
                }
            }
            match page.records.last() {
                Some(last) if page.more => range = range.after(&last.key),
                Some(_) | None => break,
            }
        }
        Ok(newest.into_iter().rev().collect())
    }

    fn rows_of(&self, incident: &[u8]) -> Result<Vec<Record>, KnowledgeError> {
        let rows = self.store.scan(Table::Incidents, &facts::rows_of(incident), ROWS_MAX)?.records;
        rows.iter().map(|row| Ok(wire::ledger::kept(&row.value)?)).collect()
    }
}

fn pairs(labels: &Labels) -> Value {
    labels.iter().map(|(name, value)| (name.to_owned(), Value::from(value))).collect()
}
