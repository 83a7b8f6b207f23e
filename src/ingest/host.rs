//! The host as samples: CPU, memory, disks, network, load and chosen processes.
//!
//! Names and units follow `node_exporter` where it has the same reading:
//!
//! | metric | labels | what |
//! |---|---|---|
//! | `node_cpu_utilization_ratio` | | busy share of all cores since the last look, 0 to 1 |
//! | `node_cpu_core_utilization_ratio` | `cpu` | the same of one core |
//! | `node_load1`, `node_load5`, `node_load15` | | run queue, averaged |
//! | `node_memory_MemTotal_bytes`, `…MemFree_bytes`, `…MemAvailable_bytes` | | memory |
//! | `node_memory_SwapTotal_bytes`, `…SwapFree_bytes` | | swap |
//! | `node_filesystem_size_bytes`, `…avail_bytes` | `device`, `fstype`, `mountpoint` | room on mounted disks |
//! | `node_disk_read_bytes_total`, `…written_bytes_total` | `device` | counters |
//! | `node_network_receive_bytes_total`, `…transmit_bytes_total` and `…packets_total`, `…errs_total` | `device` | counters |
//! | `process_resident_memory_bytes`, `process_cpu_seconds_total` | `process`, `pid` | chosen processes |
//!
//! [`Host::look`] asks the system; [`HostReading::samples`] is a pure function of what it saw.

use std::collections::BTreeSet;

use sysinfo::{
    CpuRefreshKind, Disks, MemoryRefreshKind, Networks, Pid, Process, ProcessRefreshKind, ProcessesToUpdate,
    System,
};

use crate::model::{Labels, LabelsError, METRIC_NAME, Sample, Timestamp};

/// Processes in one reading, however many match: each is two series more, and new ones after each restart.
const PROCESSES_MAX: usize = 100;

/// Which processes are read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ProcessChoice {
    /// None.
    #[default]
    None,
    /// The largest by resident memory and the busiest by CPU, so many of each.
    Top(usize),
    /// Those of these names.
    Named(Vec<String>),
}

/// The system cannot be read here.
#[derive(Debug, thiserror::Error)]
#[error("cannot read this host")]
pub struct HostError(#[source] sysinfo::Error);

/// The host this process runs on, with what must be kept between two looks.
pub struct Host {
    system: System,
    disks: Disks,
    networks: Networks,
    choice: ProcessChoice,
}

/// What one look saw.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HostReading {
    /// Busy share of all cores, 0 to 1.
    pub cpu_ratio: f64,
    /// Name and busy share of each core.
    pub cores: Vec<(String, f64)>,
    /// Over one, five and fifteen minutes; `None` where the system has no such thing.
    pub load: Option<[f64; 3]>,
    /// In bytes: total, free, available.
    pub memory: [u64; 3],
    /// In bytes: total, free.
    pub swap: [u64; 2],
    /// Mounted disks.
    pub disks: Vec<DiskReading>,
    /// Network interfaces.
    pub networks: Vec<NetworkReading>,
    /// The chosen processes.
    pub processes: Vec<ProcessReading>,
}

/// One mounted disk.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct DiskReading {
    /// As the system names it.
    pub device: String,
    /// Where it is mounted.
    pub mountpoint: String,
    /// The kind of file system.
    pub fstype: String,
    /// In bytes.
    pub size: u64,
    /// In bytes, for users that are not root.
    pub available: u64,
    /// Bytes since the system started.
    pub read: u64,
    /// Bytes since the system started.
    pub written: u64,
}

/// One network interface; counters since the system started.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct NetworkReading {
    /// As the system names it.
    pub device: String,
    /// Bytes, packets, errors received.
    pub received: [u64; 3],
    /// Bytes, packets, errors transmitted.
    pub transmitted: [u64; 3],
}

/// One process.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct ProcessReading {
    /// Its name, without its arguments.
    pub process: String,
    /// Its id.
    pub pid: u32,
    /// Resident memory in bytes.
    pub resident: u64,
    /// CPU time since it started.
    pub cpu_millis: u64,
}

impl Host {
    /// Makes ready to look. CPU shares are right from the second look on, and that not sooner than
    /// [`sysinfo::MINIMUM_CPU_UPDATE_INTERVAL`] after the first.
    pub fn new(choice: ProcessChoice) -> Result<Self, HostError> {
        Ok(Self {
            system: System::new().map_err(HostError)?,
            disks: Disks::new_with_refreshed_list().map_err(HostError)?,
            networks: Networks::new_with_refreshed_list().map_err(HostError)?,
            choice,
        })
    }

    /// Looks at the host. It reads files of the system, so call it where blocking is allowed.
    pub fn look(&mut self) -> HostReading {
        self.system.refresh_cpu_specifics(CpuRefreshKind::nothing().with_usage());
        self.system.refresh_memory_specifics(MemoryRefreshKind::everything());
        self.disks.refresh(true);
        self.networks.refresh(true);
        if self.choice != ProcessChoice::None {
            let kind = ProcessRefreshKind::nothing().with_cpu().with_memory().without_tasks();
            self.system.refresh_processes_specifics(ProcessesToUpdate::All, true, kind);
        }
        HostReading {
            cpu_ratio: f64::from(self.system.global_cpu_usage()) / 100.0,
            cores: self.cores(),
            load: System::load_average().ok().map(|load| [load.one, load.five, load.fifteen]),
            memory: [self.system.total_memory(), self.system.free_memory(), self.system.available_memory()],
            swap: [self.system.total_swap(), self.system.free_swap()],
            disks: self.disks(),
            networks: self.networks(),
            processes: self.processes(),
        }
    }

    fn cores(&self) -> Vec<(String, f64)> {
        let cores = self.system.cpus().iter();
        cores
            .map(|core| (core.name().trim_start_matches("cpu").to_owned(), f64::from(core.usage()) / 100.0))
            .collect()
    }

    fn disks(&self) -> Vec<DiskReading> {
        let mut disks: Vec<DiskReading> = self
            .disks
            .iter()
            .map(|disk| {
                let usage = disk.usage();
                DiskReading {
                    device: disk.name().to_string_lossy().into_owned(),
                    mountpoint: disk.mount_point().to_string_lossy().into_owned(),
                    fstype: disk.file_system().to_string_lossy().into_owned(),
                    size: disk.total_space(),
                    available: disk.available_space(),
                    read: usage.total_read_bytes,
                    written: usage.total_written_bytes,
                }
            })
            .collect();
        disks.sort_unstable();
        disks
    }

    fn networks(&self) -> Vec<NetworkReading> {
        let mut networks: Vec<NetworkReading> = self
            .networks
            .iter()
            .map(|(device, counters)| NetworkReading {
                device: device.to_string_lossy().into_owned(),
                received: [
                    counters.total_received(),
                    counters.total_packets_received(),
                    counters.total_errors_on_received(),
                ],
                transmitted: [
                    counters.total_transmitted(),
                    counters.total_packets_transmitted(),
                    counters.total_errors_on_transmitted(),
                ],
            })
            .collect();
        networks.sort_unstable();
        networks
    }

    fn processes(&self) -> Vec<ProcessReading> {
        let all: Vec<&Process> = self.system.processes().values().collect();
        let chosen: BTreeSet<Pid> = match &self.choice {
            ProcessChoice::None => BTreeSet::new(),
            ProcessChoice::Named(names) => {
                let is_named = |process: &&&Process| names.iter().any(|name| process.name() == name.as_str());
                let pids: BTreeSet<Pid> = all.iter().filter(is_named).map(|process| process.pid()).collect();
                pids.into_iter().take(PROCESSES_MAX).collect()
            }
            ProcessChoice::Top(count) => {
                let count = (*count).min(PROCESSES_MAX / 2);
                let mut largest = all.clone();
                largest.sort_by_key(|process| (std::cmp::Reverse(process.memory()), process.pid()));
                let mut busiest = all.clone();
                busiest.sort_by(|one, other| {
                    other.cpu_usage().total_cmp(&one.cpu_usage()).then(one.pid().cmp(&other.pid()))
                });
                let pids = |sorted: Vec<&Process>| sorted.into_iter().take(count).map(Process::pid).collect();
                let (mut chosen, busiest): (BTreeSet<Pid>, BTreeSet<Pid>) = (pids(largest), pids(busiest));
                chosen.extend(busiest);
                chosen
            }
        };
        let read = |pid: &Pid| {
            let process = self.system.process(*pid)?;
            Some(ProcessReading {
                process: process.name().to_string_lossy().into_owned(),
                pid: pid.as_u32(),
                resident: process.memory(),
                cpu_millis: process.accumulated_cpu_time(),
            })
        };
        chosen.iter().filter_map(read).collect()
    }
}

impl HostReading {
    /// The reading as samples of one time, in a fixed order. `common` labels (say `instance` and `job`) are put on each.
    pub fn samples(&self, at: Timestamp, common: &Labels) -> Result<Vec<Sample>, LabelsError> {
        let mut out = Writer { at, common, samples: Vec::new() };
        self.write_totals(&mut out)?;
        for (cpu, ratio) in &self.cores {
            out.write("node_cpu_core_utilization_ratio", &[("cpu", cpu)], *ratio)?;
        }
        let mut devices = BTreeSet::new();
        for disk in &self.disks {
            let labels =
                [("device", &*disk.device), ("fstype", &*disk.fstype), ("mountpoint", &*disk.mountpoint)];
            out.write("node_filesystem_size_bytes", &labels, disk.size as f64)?;
            out.write("node_filesystem_avail_bytes", &labels, disk.available as f64)?;
            // A device can be mounted several times; its counters are one.
            if devices.insert(&disk.device) {
                out.write("node_disk_read_bytes_total", &labels[..1], disk.read as f64)?;
                out.write("node_disk_written_bytes_total", &labels[..1], disk.written as f64)?;
            }
        }
        for network in &self.networks {
            for (direction, counters) in [("receive", network.received), ("transmit", network.transmitted)] {
                for (unit, counter) in ["bytes", "packets", "errs"].into_iter().zip(counters) {
                    let name = format!("node_network_{direction}_{unit}_total");
                    out.write(&name, &[("device", &network.device)], counter as f64)?;
                }
            }
        }
        for process in &self.processes {
            let pid = process.pid.to_string();
            let labels = [("pid", &*pid), ("process", &*process.process)];
            out.write("process_resident_memory_bytes", &labels, process.resident as f64)?;
            out.write("process_cpu_seconds_total", &labels, process.cpu_millis as f64 / 1_000.0)?;
        }
        Ok(out.samples)
    }

    fn write_totals(&self, out: &mut Writer<'_>) -> Result<(), LabelsError> {
        out.write("node_cpu_utilization_ratio", &[], self.cpu_ratio)?;
        for (name, load) in
            ["node_load1", "node_load5", "node_load15"].into_iter().zip(self.load.iter().flatten())
        {
            out.write(name, &[], *load)?;
        }
        let memory = ["MemTotal", "MemFree", "MemAvailable", "SwapTotal", "SwapFree"];
        for (name, bytes) in memory.into_iter().zip(self.memory.iter().chain(&self.swap)) {
            out.write(&format!("node_memory_{name}_bytes"), &[], *bytes as f64)?;
        }
        Ok(())
    }
}

struct Writer<'a> {
    at: Timestamp,
    common: &'a Labels,
    samples: Vec<Sample>,
}

impl Writer<'_> {
    fn write(&mut self, name: &str, labels: &[(&str, &str)], value: f64) -> Result<(), LabelsError> {
        let pairs = [(METRIC_NAME, name)].into_iter().chain(labels.iter().copied()).chain(self.common.iter());
        self.samples.push(Sample { series: Labels::new(pairs)?, at: self.at, value });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: Timestamp = Timestamp::from_millis(7);

    #[test]
    fn a_reading_becomes_samples_in_a_fixed_order() {
        let disk = |mountpoint: &str| DiskReading {
            device: "/dev/sda1".into(),
            mountpoint: mountpoint.into(),
            fstype: "ext4".into(),
            size: 100,
            available: 40,
            read: 5,
            written: 6,
        };
        let reading = HostReading {
            cpu_ratio: 0.5,
            cores: vec![("0".into(), 0.25), ("1".into(), 0.75)],
            load: Some([1.0, 2.0, 3.0]),
            memory: [10, 4, 6],
            swap: [2, 1],
            disks: vec![disk("/"), disk("/home")],
            networks: vec![NetworkReading {
                device: "eth0".into(),
                received: [1, 2, 3],
                transmitted: [4, 5, 6],
            }],
            processes: vec![ProcessReading {
                process: "web".into(),
                pid: 12,
                resident: 7,
                cpu_millis: 1_500,
            }],
        };
        let common = Labels::new([("instance", "a")]).unwrap();
        let samples = reading.samples(AT, &common).unwrap();
        assert!(samples.iter().all(|sample| sample.at == AT && sample.series.get("instance") == Some("a")));
        let without = reading.samples(AT, &Labels::empty()).unwrap();
        let lines: Vec<String> =
            without.iter().map(|sample| format!("{} {}", sample.series, sample.value)).collect();
        let root = r#"{device="/dev/sda1",fstype="ext4",mountpoint="/"}"#;
        let home = r#"{device="/dev/sda1",fstype="ext4",mountpoint="/home"}"#;
        let expected = [
            "node_cpu_utilization_ratio 0.5",
            "node_load1 1",
            "node_load5 2",
            "node_load15 3",
            "node_memory_MemTotal_bytes 10",
            "node_memory_MemFree_bytes 4",
            "node_memory_MemAvailable_bytes 6",
            "node_memory_SwapTotal_bytes 2",
            "node_memory_SwapFree_bytes 1",
            "node_cpu_core_utilization_ratio{cpu=\"0\"} 0.25",
            "node_cpu_core_utilization_ratio{cpu=\"1\"} 0.75",
            &format!("node_filesystem_size_bytes{root} 100"),
            &format!("node_filesystem_avail_bytes{root} 40"),
            "node_disk_read_bytes_total{device=\"/dev/sda1\"} 5",
            "node_disk_written_bytes_total{device=\"/dev/sda1\"} 6",
            &format!("node_filesystem_size_bytes{home} 100"),
            &format!("node_filesystem_avail_bytes{home} 40"),
            "node_network_receive_bytes_total{device=\"eth0\"} 1",
            "node_network_receive_packets_total{device=\"eth0\"} 2",
            "node_network_receive_errs_total{device=\"eth0\"} 3",
            "node_network_transmit_bytes_total{device=\"eth0\"} 4",
            "node_network_transmit_packets_total{device=\"eth0\"} 5",
            "node_network_transmit_errs_total{device=\"eth0\"} 6",
            "process_resident_memory_bytes{pid=\"12\",process=\"web\"} 7",
            "process_cpu_seconds_total{pid=\"12\",process=\"web\"} 1.5",
        ];
        assert_eq!(lines, expected);
    }

    #[test]
    fn a_common_label_that_is_taken_already_is_refused() {
        let reading = HostReading { cores: vec![("0".into(), 0.0)], ..HostReading::default() };
        let common = Labels::new([("cpu", "x")]).unwrap();
        assert_eq!(reading.samples(AT, &common), Err(LabelsError::Twice("cpu".into())));
    }

    #[test]
    fn this_host_can_be_read_and_each_series_is_one() {
        let mut host = Host::new(ProcessChoice::Top(3)).unwrap();
        let reading = host.look();
        assert!(reading.memory[0] > 0 && !reading.cores.is_empty());
        assert!((1..=6).contains(&reading.processes.len()));
        let samples = reading.samples(AT, &Labels::empty()).unwrap();
        let series: BTreeSet<&Labels> = samples.iter().map(|sample| &sample.series).collect();
        assert_eq!(series.len(), samples.len());
    }

    #[test]
    fn this_process_is_found_by_its_name() {
        let mut all = Host::new(ProcessChoice::Top(1)).unwrap();
        all.look();
        let own = all.system.process(Pid::from_u32(std::process::id())).unwrap();
        let name = own.name().to_string_lossy().into_owned();
        let mut host = Host::new(ProcessChoice::Named(vec![name.clone()])).unwrap();
        let reading = host.look();
        let found = reading.processes.iter().find(|process| process.pid == std::process::id()).unwrap();
        assert!(found.resident > 1 << 20 && found.process == name);
        assert!(
            Host::new(ProcessChoice::Named(vec!["no such process".into()]))
                .unwrap()
                .look()
                .processes
                .is_empty()
        );
    }
}
