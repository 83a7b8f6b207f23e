//! Answers what is asked about the past, over NATS's service protocol.

use tokio_util::sync::CancellationToken;

use super::keeping::{Keeping, Shelf};
use super::{Question, explain};
use crate::bus::nats::{self, Answer, Objects, Refusal, ServiceSpec};
use crate::role::RoleError;

/// What can be asked, below `<prefix>.v1.kb.`.
const ENDPOINTS: [&str; 6] = ["stats", "incidents", "plans", "explain", "learned", "export"];
/// Questions that are answered at the same time.
const QUESTIONS_AT_ONCE_MAX: usize = 4;
/// The object that an export is put into.
const EXPORT: &str = "export.knowledge";

/// Answers until it is told to stop.
pub(super) async fn serve(keeping: &Keeping, shelf: Shelf, stop: CancellationToken) -> Result<(), RoleError> {
    let Keeping { services, subjects, objects, .. } = keeping;
    let endpoint = |name: &str| (name.to_owned(), format!("{subjects}.kb.{name}"));
    let spec = ServiceSpec {
        name: "homeostat-kb".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        description: "What the loop remembers".to_owned(),
        queue_group: "kb".to_owned(),
        endpoints: ENDPOINTS.map(endpoint).to_vec(),
        concurrency: QUESTIONS_AT_ONCE_MAX,
    };
    nats::serve(services, spec, stop, move |asked| answer(shelf.clone(), objects.clone(), asked)).await?;
    Ok(())
}

async fn answer(shelf: Shelf, objects: Objects, asked: nats::Question) -> Result<Answer, Refusal> {
    let endpoint = asked.subject.rsplit('.').next().unwrap_or_default().to_owned();
    if endpoint == "export" {
        let exported = tokio::task::spawn_blocking(move || {
            shelf.with(|knowledge| {
                let mut out = Vec::new();
                knowledge.store().export(&mut out).map(|_| out)
            })
        });
        let out = exported.await.map_err(|panic| failed(&panic))?.map_err(|cause| closed(&cause))?;
        let out = out.map_err(|error| failed(&error))?;
        objects.put(EXPORT, &out).await.map_err(|error| failed(&error))?;
        return Ok(json(&serde_json::json!({ "object": EXPORT, "bytes": out.len() })));
    }
    let question =
        Question::read(&endpoint, &asked.payload).map_err(|status| Refusal { code: 400, status })?;
    let answered = tokio::task::spawn_blocking(move || shelf.with(|knowledge| knowledge.answer(&question)));
    let answered = answered.await.map_err(|panic| failed(&panic))?.map_err(|cause| closed(&cause))?;
    match answered.map_err(|error| failed(&error))? {
        Some(value) => Ok(json(&value)),
        None => Err(Refusal { code: 404, status: "nothing is known under this id".to_owned() }),
    }
}

fn failed(error: &dyn std::error::Error) -> Refusal {
    Refusal { code: 500, status: explain(error) }
}

fn closed(cause: &str) -> Refusal {
    Refusal { code: 503, status: format!("the store is not open: {cause}") }
}

fn json(value: &serde_json::Value) -> Answer {
    let headers = vec![("Content-Type".to_owned(), "application/json".to_owned())];
    Answer { headers, payload: value.to_string().into() }
}
