//! A cell: a server, its targets, and one or more processes of each role.

use std::path::PathBuf;
use std::time::Duration;

use homeostat::bus::nats::{Connection, Ledger, Objects, Publisher, Topology};
use homeostat::clock::Clock;
use homeostat::config;
use homeostat::role::applying::Shelf;
use homeostat::wire::Subjects;
use tempfile::TempDir;

use crate::chronicle::Chronicle;
use crate::member::Member;
use crate::support::Bed;
use crate::target::Targets;
use crate::work::Work;

/// How often processes are looked after.
const TEND_EVERY: Duration = Duration::from_millis(25);

/// Processes are killed before their server.
pub(crate) struct Cell {
    pub(crate) members: Vec<Member>,
    pub(crate) work: Work,
    pub(crate) targets: Targets,
    pub(crate) chronicle: Chronicle,
    pub(crate) bed: Bed,
    folder: TempDir,
}

impl Cell {
    /// A cell with its streams and its configuration, in which units begin to break. An attempt may take
    /// `attempt_seconds`: what is in doubt is known to be so that much later.
    pub(crate) async fn start(roles: &[&str], attempt_seconds: u32) -> Self {
        let mut bed = Bed::start().await;
        // As `homeostat run` makes it, which verifies what is there.
        bed.topology = Topology::new("homeostat", "default").unwrap();
        let connection = bed.connect().await;
        bed.topology.ensure(&connection).await.unwrap();
        let targets = Targets::start(bed.connect().await).await;
        let folder = tempfile::tempdir().unwrap();
        let chronicle = Chronicle::open(&bed, bed.connect().await).await;
        apply(&bed, &connection, configuration(&folder, &targets.http, attempt_seconds)).await;
        let work = Work::start([bed.connect().await, bed.connect().await], &bed.names, &targets).await;
        let mut cell = Self { members: Vec::new(), work, targets, chronicle, bed, folder };
        for role in roles {
            cell.add(role).await;
        }
        for member in &mut cell.members {
            member.ready().await;
        }
        cell
    }

    /// One more process.
    pub(crate) async fn add(&mut self, role: &str) {
        let member = self.member(role).await;
        self.members.push(member);
    }

    pub(crate) async fn member(&self, role: &str) -> Member {
        Member::start(role, &self.bed.server.url(), self.folder.path(), None).await
    }

    /// One more process, whose files can be limited.
    pub(crate) async fn limitable(&self, roles: &str) -> Member {
        Member::start_limitable(roles, &self.bed.server.url(), self.folder.path()).await
    }

    /// Where processes keep their stores.
    pub(crate) fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Takes out the first process of a role.
    pub(crate) fn take(&mut self, role: &str) -> Member {
        let place = self.members.iter().position(|member| member.role == role);
        self.members.remove(place.unwrap_or_else(|| panic!("no {role} runs")))
    }

    /// Starts again what has ended by itself, as whatever watches over processes does: one that loses its server while
    /// it starts gives up. Waits meanwhile for what is to happen.
    pub(crate) async fn tended(&mut self, what: &str, mut has_happened: impl FnMut(&Self) -> bool) {
        let waiting = async {
            while !has_happened(self) {
                tokio::time::sleep(TEND_EVERY).await;
                for place in 0..self.members.len() {
                    if !self.members[place].is_running() {
                        println!("the {} ended by itself and is started again", self.members[place].role);
                        self.members[place] = self.member(&self.members[place].role).await;
                    }
                }
            }
        };
        crate::support::soon(what, waiting).await;
    }

    /// A unit breaks, and the loop mends it.
    pub(crate) async fn heal(&self, unit: &str) {
        self.targets.break_unit(unit);
        self.targets.until("a unit that is well again", |world| !world.units[unit]).await;
    }

    /// The processes of a role.
    pub(crate) fn of(&self, role: &str) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(move |member| member.role == role)
    }

    /// Ends the work and waits until everything that was begun has ended. What the loop did not heal is made well by
    /// hand; returns how much that was.
    pub(crate) async fn settle(&self) -> usize {
        self.work.stop_breaking();
        let patience = crate::support::PATIENCE;
        // What can be healed is: an attempt that failed for good leaves its unit ill.
        let mut world = self.targets.world.subscribe();
        let healed = world.wait_for(|world| world.ill().is_empty());
        let _ = tokio::time::timeout(patience / 4, healed).await;
        let by_hand = self.targets.ill();
        self.targets.world.send_modify(|world| world.units.values_mut().for_each(|is_ill| *is_ill = false));
        let all = self.chronicle.until("the end of all", |story| story.unfinished().is_empty());
        // A little earlier than its own patience, which could not say what is left.
        let in_time = tokio::time::timeout(patience.mul_f64(0.99), all).await.is_ok();
        assert!(in_time, "begun and not ended: {:#?}", self.chronicle.so_far().unfinished());
        for unit in &by_hand {
            println!("{unit} was healed by hand: {:?}", self.chronicle.so_far().attempts_on(unit));
        }
        by_hand.len()
    }
}

impl Drop for Cell {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.folder.disable_cleanup(true);
            eprintln!("the logs of the processes are in {}", self.folder.path().display());
        }
    }
}

async fn apply(bed: &Bed, connection: &Connection, folder: PathBuf) {
    let shelf = Shelf {
        objects: Objects::open(connection.clone(), &bed.names).await.unwrap(),
        ledger: Ledger::open(connection.clone(), &bed.names).await.unwrap(),
        publisher: Publisher::new(connection.clone(), &bed.names.ledger),
        subjects: Subjects::new("homeostat").unwrap(),
        cell: "default".into(),
        instance: "test".into(),
    };
    let bundle = config::read_bundle(&folder).unwrap();
    shelf.apply(&bundle, Clock::system().now()).await.unwrap();
}

/// Units that are seen broken are fixed over NATS; units that are reported are mended over HTTP.
fn configuration(folder: &TempDir, http: &str, attempt_seconds: u32) -> PathBuf {
    let root = folder.path().join("configuration");
    for (name, text) in [
        ("analysis.yaml", "scope_labels: [unit]\n".to_owned()),
        ("charter.yaml", CHARTER.to_owned()),
        ("rules/units.yaml", RULES.to_owned()),
        ("playbooks/fix.yaml", playbook("fix", ["UnitBroken", "unit_broken"], FIX, attempt_seconds)),
        (
            "playbooks/mend.yaml",
            playbook(
                "mend",
                ["UnitDegraded", "unit_degraded"],
                &MEND.replace("ADDRESS", http),
                attempt_seconds,
            ),
        ),
    ] {
        let file = root.join(name);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, text).unwrap();
    }
    root
}

const CHARTER: &str = "mode: auto
armed: [fix, mend]
concurrent_plans_max: 1000
actions_per_hour_max: 100000
cooldown: 1s
storm_violations: 10000
";

/// Windows of a second and not the five minutes of a bare selector: what ended while neither the monitor nor the server's
/// memory was there is known to be over when a window is whole again.
const RULES: &str = "groups:
  - name: units
    rules:
      - alert: UnitBroken
        expr: min_over_time(unit_broken[1s]) > 0
        labels: {severity: critical}
      # A second symptom at the same moment, on another subject: both belong to one incident.
      - alert: UnitLoud
        expr: min_over_time(unit_broken[1s]) >= 1
        labels: {severity: warning}
";

const FIX: &str = r#"    nats_request: {subject: "fleet.fix.{{ $labels.unit }}", body: "{}"}
    idempotency: key"#;

const MEND: &str = r#"    webhook: {url: "http://ADDRESS/mend/{{ $labels.unit }}"}
    idempotency: none"#;

fn playbook(name: &str, [alert, metric]: [&str; 2], step: &str, attempt_seconds: u32) -> String {
    format!(
        r#"playbook: {name}
answers: [{{cause: "symptom:{alert}"}}]
settle: 0s
steps:
  - name: {name}
{step}
    timeout: {attempt_seconds}s
verify:
  expr: {metric}{{unit="{{{{ $labels.unit }}}}"}} == 0
  within: 10s
"#
    )
}
