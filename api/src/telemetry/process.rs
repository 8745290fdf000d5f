//! Figures of this process, named as Prometheus' client libraries name them; Linux only, elsewhere there are none.

use std::fs;

use metrics::{Unit, describe_gauge, gauge};

const MEMORY: &str = "process_resident_memory_bytes";
const CPU: &str = "process_cpu_seconds_total";
const FILES: &str = "process_open_fds";
const THREADS: &str = "process_threads";

/// Linux counts processor time in ticks of 10 ms in `/proc`, whatever the kernel's own rate (proc(5), `USER_HZ`).
const TICKS_A_SECOND: f64 = 100.0;

pub(super) fn describe() {
    describe_gauge!(MEMORY, Unit::Bytes, "Resident memory");
    describe_gauge!(CPU, Unit::Seconds, "Processor time used, user and system");
    describe_gauge!(FILES, "Open file descriptors");
    describe_gauge!(THREADS, "Threads");
}

pub(super) fn record() {
    if let Ok(stat) = fs::read_to_string("/proc/self/stat")
        && let Some(used) = cpu_seconds(&stat)
    {
        gauge!(CPU).set(used);
    }
    if let Ok(status) = fs::read_to_string("/proc/self/status") {
        if let Some(kilobytes) = field(&status, "VmRSS:") {
            gauge!(MEMORY).set(kilobytes * 1024.0);
        }
        if let Some(threads) = field(&status, "Threads:") {
            gauge!(THREADS).set(threads);
        }
    }
    if let Ok(files) = fs::read_dir("/proc/self/fd") {
        gauge!(FILES).set(files.map(|_| 1.0).sum::<f64>());
    }
}

/// Fields 14 and 15, counted after the command's closing bracket because a command may hold blanks.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user + system) / TICKS_A_SECOND)
}

fn field(status: &str, name: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_found_behind_an_odd_command_name() {
        let stat = "42 (a) b) S 1 2 3 4 5 6 7 8 9 10 250 50 0 0";
        assert_eq!(cpu_seconds(stat), Some(3.0));
        assert_eq!(cpu_seconds("garbage"), None);
    }

    #[test]
    fn a_status_field_is_found_by_its_name() {
        assert_eq!(field("VmPeak:\t9 kB\nVmRSS:\t  17 kB\n", "VmRSS:"), Some(17.0));
    }
}
