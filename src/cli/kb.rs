//! `kb`: what the loop remembers, how it is carried away and brought back.

use std::fs::{self, File};
use std::io::{self, IsTerminal as _, Read, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressFinish, ProgressStyle};
use serde_json::{Value, json};

use super::exit::{Failure, Outcome, outside};
use super::output::{self, Column, Format};
use super::{Context, args, ask, bus, printed, run};
use crate::bus::nats::Objects;
use crate::role::knowledge::{Export, ExportError, Knowledge};

/// How long the knowledge role may take to write an export: a gigabyte, over a slow network.
const EXPORT_TIMEOUT: Duration = Duration::from_mins(10);
/// How often a bar moves that has nothing to count.
const TICK: Duration = Duration::from_millis(100);

const LEARNED: [Column; 7] = [
    ("PLAYBOOK", "playbook"),
    ("CAUSE", "cause"),
    ("SCOPE", "scope"),
    ("HELPED", "helped"),
    ("FAILED", "failed"),
    ("EXPECTED", "expected"),
    ("AT LEAST", "at_least"),
];

pub(super) async fn kb(command: args::Kb, context: &Context) -> Outcome {
    match command {
        args::Kb::Stats(bus) => {
            let answer = ask::ask(&bus, context, "stats", Value::Null).await?;
            output::one(context.format, &answer).or_else(printed)
        }
        args::Kb::Learned(bus) => {
            let answer = ask::ask(&bus, context, "learned", Value::Null).await?;
            ask::list(&answer, &LEARNED, context)
        }
        args::Kb::Export { bus, file } => export(&file, &bus, context).await,
        args::Kb::Import { file, data, bus } => import(&file, data, &bus, context).await,
    }
}

async fn export(file: &Path, bus: &args::Bus, context: &Context) -> Outcome {
    // Before the work is done that it is for.
    let (mut out, place) = Place::create(file)?;
    let reached = bus::reach(bus, context).await?;
    let bar = bar("the knowledge role writes its export");
    let answer = ask::ask_on(&reached, "export", Value::Null, EXPORT_TIMEOUT).await?;
    let export = Export::read(&answer)
        .ok_or_else(|| outside(anyhow::anyhow!("the knowledge role is of another version")))?;
    let objects = Objects::open(reached.connection.clone(), &reached.topology.names()).await;
    let objects = objects.map_err(outside)?;
    count_bytes(&bar, export.bytes);
    let fetched = fetch(&export, &objects, (&mut out, file), &bar).await;
    let kept =
        fetched.and_then(|()| place.keep(&out).map_err(|error| of_file(error, file, "cannot be written")));
    bar.finish_and_clear();
    // What took its place is somebody else's.
    let is_replaced = matches!(&kept, Err(Failure::Outside(error)) if is_replaced(error));
    if !is_replaced && let Err(error) = export.forget(&objects).await {
        tracing::debug!(%error, "the export stays in the object store until the next one");
    }
    kept?;
    let Export { bytes, records, applied, .. } = export;
    let told =
        json!({ "bytes": bytes, "records": records, "applied": applied, "file": file.to_string_lossy() });
    let text = format!(
        "{records} records as of ledger sequence {applied}, {bytes} bytes, written to {}",
        file.display()
    );
    done(context, &text, &told)
}

async fn fetch(
    export: &Export,
    objects: &Objects,
    (out, file): (&mut File, &Path),
    bar: &ProgressBar,
) -> Result<(), Failure> {
    let mut written = 0;
    for number in 1..=export.parts {
        let part = export.part(objects, number).await.map_err(outside)?;
        out.write_all(&part).map_err(|error| of_file(error, file, "cannot be written"))?;
        written += part.len() as u64;
        bar.inc(part.len() as u64);
    }
    if written != export.bytes {
        let text = format!("the export has {written} bytes, and {} were announced", export.bytes);
        return Err(outside(anyhow::anyhow!(text)));
    }
    Ok(())
}

fn is_replaced(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(ExportError::Replaced(_)))
}

async fn import(file: &Path, data: Option<PathBuf>, bus: &args::Bus, context: &Context) -> Outcome {
    let data = run::data_folder(data, context)?;
    let input = File::open(file).map_err(|error| of_file(error, file, "cannot be read"))?;
    let length = input.metadata().map_or(0, |found| found.len());
    let ledger = bus::reach(bus, context).await?.ledger().await?;
    let created = ledger.tail().await.map_err(outside)?.created;
    let knowledge = Knowledge::open(&data.join("knowledge"), created).map_err(outside)?;
    let bar = bar("reading");
    count_bytes(&bar, length);
    let copied = knowledge.store().import(&mut Counted { input, bar: &bar });
    bar.finish_and_clear();
    let copied = copied.map_err(|error| of_file(error, file, "cannot be imported"))?;
    let told = json!({ "records": copied.records, "applied": copied.applied });
    let text = format!("{} records read, as of ledger sequence {}", copied.records, copied.applied);
    done(context, &text, &told)
}

/// A file that takes its name only when it is whole.
struct Place {
    partial: PathBuf,
    file: Option<PathBuf>,
}

impl Place {
    /// Something that is no file, a pipe or a device, is written to as it is.
    fn create(file: &Path) -> Result<(File, Self), Failure> {
        let is_special = fs::metadata(file).is_ok_and(|found| !found.is_file() && !found.is_dir());
        let mut partial = file.as_os_str().to_owned();
        if !is_special {
            partial.push(".partial");
        }
        let place = Self { partial: partial.into(), file: (!is_special).then(|| file.to_owned()) };
        if file.is_dir() {
            return Err(outside(anyhow::anyhow!("`{}` is a folder", file.display())));
        }
        let out = File::create(&place.partial).map_err(|error| of_file(error, file, "cannot be written"))?;
        Ok((out, place))
    }

    fn keep(mut self, out: &File) -> io::Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        out.sync_all()?;
        fs::rename(&self.partial, file)?;
        self.file = None;
        Ok(())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.file.is_some() {
            let _ = fs::remove_file(&self.partial);
        }
    }
}

/// Shows how far the reading is.
struct Counted<'a> {
    input: File,
    bar: &'a ProgressBar,
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.input.read(buffer)?;
        self.bar.inc(count as u64);
        Ok(count)
    }
}

fn bar(text: &'static str) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new_spinner().with_message(text).with_finish(ProgressFinish::AndClear);
    bar.enable_steady_tick(TICK);
    bar
}

fn count_bytes(bar: &ProgressBar, bytes: u64) {
    let style = ProgressStyle::with_template(
        "{bar:30} {binary_bytes} of {binary_total_bytes}, {binary_bytes_per_sec}",
    );
    if let Ok(style) = style {
        bar.set_style(style);
    }
    bar.set_length(bytes);
}

fn of_file(error: impl Into<anyhow::Error>, file: &Path, what: &str) -> Failure {
    outside(error.into().context(format!("`{}` {what}", file.display())))
}

/// What was done: a sentence for people, its figures for programs.
fn done(context: &Context, text: &str, told: &Value) -> Outcome {
    match context.format {
        Format::Table => output::line(text),
        format @ (Format::Json | Format::Jsonl | Format::Yaml) => output::one(format, told),
    }
    .or_else(printed)
}
