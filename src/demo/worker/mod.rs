//! The worker: answers requests of its own from a table in memory, tells how it is, and fails when told to.
//!
//! What it measures is real: real memory, real time. It ends by itself when its stdin closes (its supervisor is gone,
//! however it went), when nobody reads it any more, or when its life is over.

mod latency;
mod sessions;
mod table;

use std::io::{BufRead, Write};
use std::num::ParseIntError;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use std::{io, thread};

use sysinfo::{ProcessRefreshKind, ProcessesToUpdate, System};

use self::latency::Recent;
use self::sessions::Sessions;
use self::table::Table;
use super::protocol::{Fault, Order, Status};
use crate::model::Timestamp;

/// Between two requests: with it a healthy worker is idle nine tenths of the time, on a slow machine too.
const THINK: Duration = Duration::from_millis(4);
/// How many keys a request asks for.
const LOOKUPS_PER_REQUEST: u64 = 24;
/// How often sessions are forgotten while it leaks.
const LEAK_EVERY: Duration = Duration::from_millis(20);
/// What is forgotten each time: 150 MiB a second, so that a minute of failing fits into a second of showing.
const LEAK_BYTES: usize = 3 << 20;
/// Orders that wait for the request before them to end. The supervisor sends the next one when the last is done.
const ORDERS_QUEUED_MAX: usize = 16;

/// Within which bounds it works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Between two readings.
    pub report_every: Duration,
    /// What its sessions may hold: a leak ends here.
    pub leak_bytes_max: u64,
    /// It ends by itself after this long, whatever happens around it.
    pub life_max: Duration,
    /// Results it keeps at first.
    pub cache_size: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            report_every: Duration::from_millis(25),
            leak_bytes_max: 400 << 20,
            life_max: Duration::from_mins(10),
            cache_size: 256,
        }
    }
}

/// Why options cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OptionsError {
    /// There is no such option.
    #[error("`{0}` is not an option of the worker")]
    Unknown(String),
    /// An option without its value.
    #[error("`{0}` wants a number")]
    Missing(String),
    /// The value is no number.
    #[error("`{option}` wants a number, not `{value}`")]
    Number {
        /// Of which option.
        option: String,
        /// What stood there.
        value: String,
        /// Why it is none.
        #[source]
        cause: ParseIntError,
    },
}

impl Options {
    /// Reads what [`Options::to_arguments`] writes; what is not given is the default.
    pub fn from_arguments(arguments: impl IntoIterator<Item = String>) -> Result<Self, OptionsError> {
        let mut options = Self::default();
        let mut arguments = arguments.into_iter();
        while let Some(option) = arguments.next() {
            let value = arguments.next().ok_or_else(|| OptionsError::Missing(option.clone()))?;
            let number = value.parse().map_err(|cause| OptionsError::Number {
                option: option.clone(),
                value,
                cause,
            })?;
            match option.as_str() {
                "--report-every-ms" => options.report_every = Duration::from_millis(number),
                "--leak-bytes-max" => options.leak_bytes_max = number,
                "--life-max-ms" => options.life_max = Duration::from_millis(number),
                "--cache-size" => options.cache_size = number,
                _ => return Err(OptionsError::Unknown(option)),
            }
        }
        Ok(options)
    }

    /// The options as arguments of a worker process.
    pub fn to_arguments(&self) -> Vec<String> {
        let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        [
            ("--report-every-ms", millis(self.report_every)),
            ("--leak-bytes-max", self.leak_bytes_max),
            ("--life-max-ms", millis(self.life_max)),
            ("--cache-size", self.cache_size),
        ]
        .into_iter()
        .flat_map(|(option, number)| [option.to_owned(), number.to_string()])
        .collect()
    }
}

/// How the worker learns the time.
#[derive(Clone)]
pub struct Time {
    /// The time of day, for readings.
    pub now: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    /// Time since some fixed moment, finer than a microsecond, for durations.
    pub elapsed: Arc<dyn Fn() -> Duration + Send + Sync>,
}

/// Why the worker ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Its orders ended: the supervisor is gone.
    Orphaned,
    /// Nobody reads what it says.
    Unheard,
    /// It has lived long enough.
    OfAge,
}

/// Works until there is a reason to end. Orders come as lines on `orders`, readings go as lines to `readings`.
///
/// The threads at the streams are not joined: they end with their stream, or with the process. A stream that is stuck
/// does not keep the worker from ending.
pub fn run(
    options: &Options,
    time: &Time,
    orders: impl BufRead + Send + 'static,
    readings: impl Write + Send + 'static,
) -> io::Result<Ended> {
    let (sender, receiver) = sync_channel(ORDERS_QUEUED_MAX);
    thread::Builder::new().name("orders".into()).spawn(move || read_orders(orders, &sender))?;
    let mut worker = Worker::new(options, time);
    let (shared, every, clock) = (Arc::clone(&worker.shared), options.report_every, time.clone());
    let report = move || report(every, &clock, &shared, readings);
    thread::Builder::new().name("readings".into()).spawn(report)?;
    let ended = worker.work(&receiver);
    worker.shared.over.store(true, Ordering::Relaxed);
    Ok(ended)
}

/// What the reporter reads of the worker.
#[derive(Default)]
struct Shared {
    progress: Mutex<Progress>,
    /// The worker has ended, or nobody hears it.
    over: AtomicBool,
}

#[derive(Default)]
struct Progress {
    recent: Recent,
    requests: u64,
    pages: u64,
    cache_size: u64,
    fault: Option<Fault>,
}

impl Shared {
    fn with<T>(&self, look: impl FnOnce(&mut Progress) -> T) -> T {
        look(&mut self.progress.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

struct Worker<'a> {
    options: &'a Options,
    time: &'a Time,
    shared: Arc<Shared>,
    table: Table,
    sessions: Sessions,
    fault: Option<Fault>,
    leaked_at: Duration,
    /// Which keys are asked for.
    dice: u64,
}

impl<'a> Worker<'a> {
    fn new(options: &'a Options, time: &'a Time) -> Self {
        let shared = Arc::<Shared>::default();
        shared.with(|progress| progress.cache_size = options.cache_size);
        Self {
            options,
            time,
            shared,
            table: Table::build(options.cache_size),
            sessions: Sessions::default(),
            fault: None,
            leaked_at: Duration::ZERO,
            dice: 0,
        }
    }

    fn work(&mut self, orders: &Receiver<Order>) -> Ended {
        let started = (self.time.elapsed)();
        loop {
            match orders.recv_timeout(THINK) {
                Ok(order) => self.obey(order),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ended::Orphaned,
            }
            let now = (self.time.elapsed)();
            if now.saturating_sub(started) >= self.options.life_max {
                return Ended::OfAge;
            }
            if self.shared.over.load(Ordering::Relaxed) {
                return Ended::Unheard;
            }
            if self.fault == Some(Fault::Leak) {
                self.leak(now);
            }
            self.serve();
        }
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Fail(fault) => {
                self.fault = Some(fault);
                match fault {
                    Fault::Leak => self.leaked_at = (self.time.elapsed)(),
                    Fault::LostIndex => self.table.lose_index(),
                }
                self.shared.with(|progress| progress.fault = Some(fault));
            }
            Order::CacheSize(size) => {
                self.table.set_cache_size(size);
                self.shared.with(|progress| progress.cache_size = size);
            }
        }
    }

    fn leak(&mut self, now: Duration) {
        let has_room = |sessions: &Sessions| sessions.bytes() < self.options.leak_bytes_max;
        while self.leaked_at + LEAK_EVERY <= now && has_room(&self.sessions) {
            self.leaked_at += LEAK_EVERY;
            self.sessions.open(LEAK_BYTES);
        }
    }

    /// One request: looks through the sessions, as for its own, and finds its keys.
    fn serve(&mut self) {
        let started = (self.time.elapsed)();
        std::hint::black_box(self.sessions.sweep());
        for _ in 0..LOOKUPS_PER_REQUEST {
            let key = self.roll() % table::KEYS;
            std::hint::black_box(self.table.find(key));
        }
        let ended = (self.time.elapsed)();
        let pages = self.table.pages_read();
        self.shared.with(|progress| {
            progress.recent.record(ended, ended.saturating_sub(started));
            progress.requests += 1;
            progress.pages = pages;
        });
    }

    /// The next number of Steele, Lea and Flood's `SplitMix64` (OOPSLA 2014).
    fn roll(&mut self) -> u64 {
        self.dice = self.dice.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.dice;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }
}

/// Until the stream ends; what is no order is said on stderr and skipped.
fn read_orders(orders: impl BufRead, sender: &SyncSender<Order>) {
    for line in orders.lines().map_while(Result::ok) {
        match line.parse() {
            Ok(order) if sender.send(order).is_err() => return,
            Ok(_) => {}
            Err(why) => tracing::warn!("{why}"),
        }
    }
}

/// Says how the worker is until it is over, and that it is over once nobody reads any more.
fn report(every: Duration, time: &Time, shared: &Shared, mut readings: impl Write) {
    let mut memory = Memory::new();
    while !shared.over.load(Ordering::Relaxed) {
        let (now, resident) = ((time.elapsed)(), memory.resident());
        let status = shared.with(|progress| Status {
            at: (time.now)(),
            resident,
            p95: progress.recent.p95(now).as_secs_f64(),
            requests: progress.requests,
            pages: progress.pages,
            cache_size: progress.cache_size,
            fault: progress.fault,
        });
        // Before the first request there is nothing to say: a latency of zero would look like a very good one.
        if status.requests > 0 {
            let said = writeln!(readings, "{}", status.to_line()).and_then(|()| readings.flush());
            if said.is_err() {
                shared.over.store(true, Ordering::Relaxed);
            }
        }
        thread::sleep(every);
    }
}

/// Reads what this process really has of the machine's memory.
struct Memory(Option<(System, sysinfo::Pid)>);

impl Memory {
    fn new() -> Self {
        Self(System::new().ok().zip(sysinfo::get_current_pid().ok()))
    }

    /// In bytes; 0 where the system does not tell.
    fn resident(&mut self) -> u64 {
        let Some((system, own)) = &mut self.0 else { return 0 };
        let kind = ProcessRefreshKind::nothing().with_memory();
        system.refresh_processes_specifics(ProcessesToUpdate::Some(&[*own]), false, kind);
        system.process(*own).map_or(0, sysinfo::Process::memory)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufReader, Read};

    use super::*;

    #[test]
    fn options_survive_being_arguments() {
        let options = Options {
            report_every: Duration::from_millis(7),
            leak_bytes_max: 1 << 20,
            life_max: Duration::from_secs(3),
            cache_size: 0,
        };
        assert_eq!(Options::from_arguments(options.to_arguments()), Ok(options));
        assert_eq!(Options::from_arguments([]), Ok(Options::default()));
        for arguments in [&["--cache-size"][..], &["--cache-size", "x"], &["--nice", "1"]] {
            assert!(
                Options::from_arguments(arguments.iter().map(ToString::to_string)).is_err(),
                "{arguments:?}"
            );
        }
    }

    /// A clock that moves when somebody looks.
    fn time() -> Time {
        let looks = Arc::new(std::sync::atomic::AtomicU64::new(0));
        let elapsed = move || Duration::from_millis(looks.fetch_add(1, Ordering::Relaxed));
        Time { now: Arc::new(|| Timestamp::from_millis(7)), elapsed: Arc::new(elapsed) }
    }

    /// Orders that never come.
    struct Silence(Receiver<()>);

    impl Read for Silence {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            let _ = self.0.recv();
            Ok(0)
        }
    }

    struct Deaf;

    impl Write for Deaf {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn it_ends_when_its_orders_end() {
        let ended = run(&Options::default(), &time(), io::empty(), io::sink());
        assert_eq!(ended.unwrap(), Ended::Orphaned);
    }

    #[test]
    fn it_ends_when_nobody_reads() {
        let (_open, silence) = sync_channel(0);
        let ended = run(&Options::default(), &time(), BufReader::new(Silence(silence)), Deaf);
        assert_eq!(ended.unwrap(), Ended::Unheard);
    }

    #[test]
    fn it_ends_when_its_life_is_over() {
        let (_open, silence) = sync_channel(0);
        let options = Options { life_max: Duration::from_millis(20), ..Options::default() };
        let ended = run(&options, &time(), BufReader::new(Silence(silence)), io::sink());
        assert_eq!(ended.unwrap(), Ended::OfAge);
    }

    #[test]
    fn a_leak_ends_at_its_bound() {
        let (options, time) = (Options { leak_bytes_max: 8 << 20, ..Options::default() }, time());
        let mut worker = Worker::new(&options, &time);
        worker.obey(Order::Fail(Fault::Leak));
        worker.leak(Duration::from_mins(1));
        assert_eq!(worker.sessions.bytes(), 9 << 20);
        assert_eq!(worker.sessions.sweep(), 3);
    }

    #[test]
    fn a_larger_cache_does_not_help_where_the_index_is_lost() {
        let (options, time) = (Options::default(), time());
        let mut worker = Worker::new(&options, &time);
        let pages_of_requests = |worker: &mut Worker<'_>| {
            let before = worker.table.pages_read();
            (0..10).for_each(|_| worker.serve());
            worker.table.pages_read() - before
        };
        let healthy = pages_of_requests(&mut worker);
        worker.obey(Order::Fail(Fault::LostIndex));
        let failing = pages_of_requests(&mut worker);
        worker.obey(Order::CacheSize(4_096));
        let remedied = pages_of_requests(&mut worker);
        assert!(failing > 200 * healthy && remedied > 200 * healthy, "{healthy} {failing} {remedied}");
    }
}
