//! The processor time that processes of this machine have used, for the benches.
//!
//! It is read from `/proc` (see proc(5)); systems without one give `None`.

use std::fs;

/// Linux reports processor time to programs in hundredths of a second on every architecture (`USER_HZ`).
const TICKS_PER_SECOND: f64 = 100.0;

/// The processor time that this process and its reaped children have used, in seconds.
pub fn own() -> Option<f64> {
    of_process("self")
}

/// The processor time of a process and its children, living and reaped, in seconds. The id of a PostgreSQL postmaster gives
/// the time of the whole server.
pub fn with_children(pid: u32) -> Option<f64> {
    let parent = of_process(&pid.to_string())?;
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    Some(parent + children.split_whitespace().filter_map(of_process).sum::<f64>())
}

fn of_process(pid: &str) -> Option<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    ticks(&stat).map(|ticks| ticks / TICKS_PER_SECOND)
}

/// Sums utime, stime, cutime and cstime: fields 14 to 17 of `/proc/…/stat`, counted from one. The command's name
/// (field 2) is in brackets and may contain anything, so counting starts after its end.
fn ticks(stat: &str) -> Option<f64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().skip(11).take(4).collect();
    if fields.len() < 4 {
        return None;
    }
    fields.iter().map(|field| field.parse::<f64>().ok()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_read_after_a_name_with_brackets() {
        let stat = "7 (a) b (c)) S 1 7 7 0 -1 4194560 2 3 4 5 100 50 25 25 20 0 1 0 9";
        assert_eq!(ticks(stat), Some(200.0));
    }
}
