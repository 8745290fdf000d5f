//! Metrics of this process, with the names of Prometheus' client libraries; on Linux only.
//!
//! They are written beside the recorder's metrics: processor time is a counter with a fraction, and the recorder's
//! counters are integers.

use std::{fmt::Write, fs};

/// Linux counts processor time in ticks of 10 ms in `/proc`, whatever the kernel's own rate (proc(5), `USER_HZ`).
const TICKS_A_SECOND: f64 = 100.0;

/// Appends the current values in Prometheus' text format.
pub(crate) fn render(text: &mut String) {
    if let Ok(stat) = fs::read_to_string("/proc/self/stat") {
        let ticks = |place| number(stat_field(&stat, place)).map(|ticks| ticks / TICKS_A_SECOND);
        if let (Some(user), Some(system)) = (ticks(14), ticks(15)) {
            let help = "Processor time used, user and system";
            family(text, "process_cpu_seconds_total", "counter", help, user + system);
        }
        let boot = fs::read_to_string("/proc/stat").ok().and_then(|stat| field(&stat, "btime "));
        if let (Some(boot), Some(after)) = (boot, ticks(22)) {
            let help = "When the process started, in seconds since 1970";
            family(text, "process_start_time_seconds", "gauge", help, boot + after);
        }
        if let Some(bytes) = number(stat_field(&stat, 23)) {
            family(text, "process_virtual_memory_bytes", "gauge", "Virtual memory", bytes);
        }
    }
    if let Ok(status) = fs::read_to_string("/proc/self/status") {
        if let Some(kilobytes) = field(&status, "VmRSS:") {
            family(text, "process_resident_memory_bytes", "gauge", "Resident memory", kilobytes * 1024.0);
        }
        if let Some(threads) = field(&status, "Threads:") {
            family(text, "process_threads", "gauge", "Threads", threads);
        }
    }
    if let Ok(files) = fs::read_dir("/proc/self/fd") {
        let open = files.map(|_| 1.0).sum::<f64>();
        family(text, "process_open_fds", "gauge", "Open file descriptors", open);
    }
    if let Some(most) =
        fs::read_to_string("/proc/self/limits").ok().and_then(|limits| field(&limits, "Max open files"))
    {
        family(text, "process_max_fds", "gauge", "How many file descriptors may be open", most);
    }
}

fn family(text: &mut String, name: &str, kind: &str, help: &str, value: f64) {
    // Writing to a string can't fail.
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n");
}

/// The field with this number (from one, as proc(5) counts), found after the command's closing bracket because a
/// command may hold blanks.
fn stat_field(stat: &str, place: usize) -> Option<&str> {
    stat.rsplit_once(')')?.1.split_whitespace().nth(place.checked_sub(3)?)
}

fn field(lines: &str, name: &str) -> Option<f64> {
    let line = lines.lines().find_map(|line| line.strip_prefix(name))?;
    number(line.split_whitespace().next())
}

fn number(text: Option<&str>) -> Option<f64> {
    text?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_found_behind_an_odd_command_name() {
        let stat = "42 (a) b) S 1 2 3 4 5 6 7 8 9 10 250 50 0 0";
        assert_eq!(
            (stat_field(stat, 3), stat_field(stat, 14), stat_field(stat, 15)),
            (Some("S"), Some("250"), Some("50"))
        );
        assert_eq!((stat_field(stat, 40), stat_field("garbage", 14)), (None, None));
    }

    #[test]
    fn a_status_field_is_found_by_its_name() {
        assert_eq!(field("VmPeak:\t9 kB\nVmRSS:\t  17 kB\n", "VmRSS:"), Some(17.0));
        assert_eq!(
            field("Max open files            1024                 4096", "Max open files"),
            Some(1024.0)
        );
    }

    #[test]
    fn each_figure_has_its_help_and_its_type() {
        let mut text = String::new();
        family(&mut text, "process_threads", "gauge", "Threads", 3.0);
        assert_eq!(
            text,
            "# HELP process_threads Threads\n# TYPE process_threads gauge\nprocess_threads 3\n\n"
        );
    }
}
