//! Answers what is asked about the past, over NATS's service protocol.

use std::sync::Arc;

use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use super::exporting::{self, ExportError};
use super::keeping::{Keeping, Shelf};
use super::{Question, explain};
use crate::bus::nats::{self, Answer, ObjectError, Objects, Refusal, ServiceSpec};
use crate::clock::Clock;
use crate::model::MessageId;
use crate::role::RoleError;

/// What can be asked, below `<prefix>.v1.kb.`.
const ENDPOINTS: [&str; 6] = ["stats", "incidents", "plans", "explain", "learned", "export"];
/// Questions that are answered at the same time.
const QUESTIONS_AT_ONCE_MAX: usize = 4;
/// As HTTP has it, for an export that there is no room for.
const INSUFFICIENT_STORAGE: u16 = 507;

/// Answers until it is told to stop.
pub(super) async fn serve(keeping: &Keeping, shelf: Shelf, stop: CancellationToken) -> Result<(), RoleError> {
    let Keeping { services, subjects, objects, instance, clock, .. } = keeping;
    let endpoint = |name: &str| (name.to_owned(), format!("{subjects}.kb.{name}"));
    let spec = ServiceSpec {
        name: "homeostat-kb".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        description: "What the loop remembers".to_owned(),
        queue_group: "kb".to_owned(),
        endpoints: ENDPOINTS.map(endpoint).to_vec(),
        concurrency: QUESTIONS_AT_ONCE_MAX,
    };
    let answering = Arc::new(Answering {
        shelf,
        objects: objects.clone(),
        instance: Arc::clone(instance),
        clock: clock.clone(),
        exporting: Mutex::new(()),
    });
    nats::serve(services, spec, stop, move |asked| answer(Arc::clone(&answering), asked)).await?;
    Ok(())
}

/// What an answer needs.
struct Answering {
    shelf: Shelf,
    objects: Objects,
    instance: Arc<str>,
    clock: Clock,
    /// Held by the one export that may be under way.
    exporting: Mutex<()>,
}

async fn answer(answering: Arc<Answering>, asked: nats::Question) -> Result<Answer, Refusal> {
    let endpoint = asked.subject.rsplit('.').next().unwrap_or_default().to_owned();
    if endpoint == "export" {
        return export(&answering).await;
    }
    let question =
        Question::read(&endpoint, &asked.payload).map_err(|status| Refusal { code: 400, status })?;
    let answered =
        tokio::task::spawn_blocking(move || answering.shelf.with(|knowledge| knowledge.answer(&question)));
    let answered = answered.await.map_err(|panic| failed(&panic))?;
    let answered =
        answered.map_err(|cause| Refusal { code: 503, status: format!("the store is not open: {cause}") })?;
    match answered.map_err(|error| failed(&error))? {
        Some(value) => Ok(json(&value)),
        None => Err(Refusal { code: 404, status: "nothing is known under this id".to_owned() }),
    }
}

async fn export(answering: &Answering) -> Result<Answer, Refusal> {
    let Ok(_under_way) = answering.exporting.try_lock() else {
        return Err(Refusal { code: 409, status: "another export is under way".to_owned() });
    };
    // One at a time is written by one process.
    let id = MessageId::of(&[&answering.instance.as_ref(), &answering.clock.now()]);
    let written = exporting::write(id.as_u128(), answering.shelf.clone(), &answering.objects).await;
    written.map(|export| json(&export.told())).map_err(|error| match error {
        ExportError::Objects(ObjectError::NoRoom { .. }) => {
            Refusal { code: INSUFFICIENT_STORAGE, status: explain(&error) }
        }
        ExportError::Objects(_) | ExportError::Store(_) | ExportError::Replaced(_) => failed(&error),
    })
}

fn failed(error: &dyn std::error::Error) -> Refusal {
    Refusal { code: 500, status: explain(error) }
}

fn json(value: &serde_json::Value) -> Answer {
    let headers = vec![("Content-Type".to_owned(), "application/json".to_owned())];
    Answer { headers, payload: value.to_string().into() }
}
