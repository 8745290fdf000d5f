//! Writes history entries as runs: one row for entries that differ only in their step, times and output.

use std::{
    fmt::{Display, Write as _},
    time::Duration,
};

use sqlx::PgConnection;

use crate::{
    model::{ids::WorkerId, views::HistoryOutcome},
    store::commits::{HistoryRow, error_json},
};

/// The most entries of a run, so that the one that is read last is not far from the first.
const MAX_ENTRIES: usize = 64;

/// The most bytes of outputs in a run of more than one entry. Outputs that fill a row of their own gain nothing, and a
/// reader of one entry reads the outputs of the whole run.
const MAX_OUTPUT_BYTES: usize = 8 * 1024;

/// Entries of one saga in order: alone, or alike in everything but their step, times and output.
struct Run<'a> {
    first: &'a HistoryRow,
    next: &'a [&'a HistoryRow],
}

/// Appends history entries.
pub(crate) async fn append(
    conn: &mut PgConnection,
    entries: &[HistoryRow],
    worker: WorkerId,
) -> Result<(), sqlx::Error> {
    let mut sorted: Vec<&HistoryRow> = entries.iter().collect();
    sorted.sort_unstable_by_key(|entry| (entry.saga_id, entry.seq));
    let runs: Vec<Run<'_>> = runs(&sorted).collect();
    sqlx::query(
        "insert into engine.history_run (saga_id, seq, step, direction, outcome, attempt, started_at, duration_ms, output, \
             error, details, worker, epoch, next_steps, next_offsets_us, next_durations_ms, next_outputs) \
         select saga_id, seq, step, direction, outcome, attempt, \
             statement_timestamp() - started_ago_us * interval '1 microsecond', duration_ms, output::jsonb, \
             error::jsonb, details::jsonb, $1, epoch, \
             string_to_array(steps, ' '), offsets_us::int[], durations_ms::int[], outputs::jsonb \
         from unnest((select $2::uuid[]), $3::int[], $4::text[], $5::text[], $6::text[], $7::int[], $8::bigint[], $9::bigint[], \
             $10::text[], $11::text[], $12::text[], $13::bigint[], $14::text[], $15::text[], $16::text[], $17::text[]) \
             as r (saga_id, seq, step, direction, outcome, attempt, started_ago_us, duration_ms, output, error, details, \
                 epoch, steps, offsets_us, durations_ms, outputs)",
    )
    .bind(worker)
    .bind(runs.iter().map(|run| run.first.saga_id).collect::<Vec<_>>())
    .bind(runs.iter().map(|run| run.first.seq).collect::<Vec<_>>())
    .bind(runs.iter().map(|run| run.first.step.as_str()).collect::<Vec<_>>())
    .bind(runs.iter().map(|run| run.first.direction).collect::<Vec<_>>())
    .bind(runs.iter().map(|run| run.first.outcome.name()).collect::<Vec<_>>())
    .bind(runs.iter().map(|run| run.first.attempt).collect::<Vec<_>>())
    .bind(runs.iter().map(|run| micros(run.first.started.elapsed())).collect::<Vec<_>>())
    .bind(runs.iter().map(|run| millis(run.first.duration)).collect::<Vec<_>>())
    .bind(runs.iter().map(|run| run.first.output_json()).collect::<Vec<_>>())
    .bind(runs.iter().map(|run| error_json(&run.first.error)).collect::<Vec<_>>())
    .bind(runs.iter().map(|run| run.first.details.as_deref()).collect::<Vec<_>>())
    .bind(runs.iter().map(|run| run.first.epoch).collect::<Vec<_>>())
    .bind(runs.iter().map(Run::next_steps).collect::<Vec<_>>())
    .bind(runs.iter().map(Run::next_offsets).collect::<Vec<_>>())
    .bind(runs.iter().map(Run::next_durations).collect::<Vec<_>>())
    .bind(runs.iter().map(Run::next_outputs).collect::<Vec<_>>())
    .execute(conn)
    .await
    .map(drop)
}

/// Splits entries, ordered by saga and number, into the longest runs that may share a row.
fn runs<'a>(sorted: &'a [&'a HistoryRow]) -> impl Iterator<Item = Run<'a>> {
    let mut rest = sorted;
    std::iter::from_fn(move || {
        let first = *rest.first()?;
        let mut bytes = output_bytes(first);
        let longest = rest.windows(2).take(MAX_ENTRIES - 1).take_while(|pair| {
            bytes += output_bytes(pair[1]);
            bytes <= MAX_OUTPUT_BYTES && follows(first, pair[0], pair[1])
        });
        let (run, left) = rest.split_at(1 + longest.count());
        rest = left;
        Some(Run { first, next: &run[1..] })
    })
}

/// Whether `entry` may stand in the row of `first`, whose last entry is `last` so far.
fn follows(first: &HistoryRow, last: &HistoryRow, entry: &HistoryRow) -> bool {
    let like_first = (entry.saga_id, entry.direction, entry.epoch, entry.output.is_some())
        == (first.saga_id, first.direction, first.epoch, first.output.is_some());
    let fits = |number: i64| i32::try_from(number).is_ok();
    like_first
        && is_plain(first)
        && is_plain(entry)
        && entry.seq == last.seq + 1
        && fits(offset_us(first, entry))
        && fits(millis(entry.duration))
}

/// Whether an entry has nothing to say but that a step was done at once.
fn is_plain(entry: &HistoryRow) -> bool {
    entry.outcome == HistoryOutcome::Done
        && entry.attempt == 1
        && entry.error.is_empty()
        && entry.details.is_none()
}

impl Run<'_> {
    /// The steps of the entries after the first, separated by spaces, which names of steps don't contain.
    fn next_steps(&self) -> Option<String> {
        self.join("", " ", "", |entry| entry.step.as_str())
    }

    fn next_offsets(&self) -> Option<String> {
        self.join("{", ",", "}", |entry| offset_us(self.first, entry))
    }

    fn next_durations(&self) -> Option<String> {
        self.join("{", ",", "}", |entry| millis(entry.duration))
    }

    fn next_outputs(&self) -> Option<String> {
        self.first.output.as_ref()?;
        self.join("[", ",", "]", |entry| entry.output_json().unwrap_or("null"))
    }

    /// Joins a value of each entry after the first; `None` if there is none.
    fn join<'a, T: Display>(
        &'a self,
        open: &str,
        separator: &str,
        close: &str,
        value: impl Fn(&'a HistoryRow) -> T,
    ) -> Option<String> {
        let (first, others) = self.next.split_first()?;
        let mut joined = String::from(open);
        let _ = write!(joined, "{}", value(first));
        for entry in others {
            let _ = write!(joined, "{separator}{}", value(entry));
        }
        joined.push_str(close);
        Some(joined)
    }
}

fn output_bytes(entry: &HistoryRow) -> usize {
    entry.output_json().map_or(0, str::len)
}

fn offset_us(first: &HistoryRow, entry: &HistoryRow) -> i64 {
    micros(entry.started.saturating_duration_since(first.started))
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Instant};

    use serde_json::value::RawValue;
    use uuid::Uuid;

    use super::*;

    fn output(json: &str) -> Arc<RawValue> {
        RawValue::from_string(json.into()).expect("it is JSON").into()
    }

    /// Three entries of one saga that may share a row, the second 1.5 ms after the first.
    fn entries() -> Vec<HistoryRow> {
        let started = Instant::now();
        let entry = |seq: i32, step: &str, after_us: u64| HistoryRow {
            saga_id: Uuid::from_u128(7),
            seq,
            step: step.into(),
            direction: "action",
            outcome: HistoryOutcome::Done,
            attempt: 1,
            started: started + Duration::from_micros(after_us),
            duration: Duration::from_micros(2300),
            output: Some(output(&seq.to_string())),
            error: Vec::new(),
            details: None,
            epoch: 1,
        };
        vec![entry(1, "pack", 0), entry(2, "seal", 1500), entry(3, "file", 4000)]
    }

    /// The numbers of the entries of each run.
    fn split(entries: &[HistoryRow]) -> Vec<Vec<i32>> {
        let sorted: Vec<_> = entries.iter().collect();
        runs(&sorted)
            .map(|run| std::iter::once(run.first.seq).chain(run.next.iter().map(|entry| entry.seq)).collect())
            .collect()
    }

    #[test]
    fn like_entries_share_a_run_with_their_steps_times_and_outputs() {
        let entries = entries();
        assert_eq!(split(&entries), [[1, 2, 3]]);
        let sorted: Vec<_> = entries.iter().collect();
        let run = runs(&sorted).next().expect("there are entries");
        assert_eq!(run.next_steps().as_deref(), Some("seal file"));
        assert_eq!(run.next_offsets().as_deref(), Some("{1500,4000}"));
        assert_eq!(run.next_durations().as_deref(), Some("{2,2}"));
        assert_eq!(run.next_outputs().as_deref(), Some("[2,3]"));
    }

    #[test]
    fn an_entry_that_is_not_alike_splits_the_run() {
        type Change = fn(&mut HistoryRow);
        let splits: [(&str, Change); 8] = [
            ("outcome", |entry| entry.outcome = HistoryOutcome::Retry),
            ("attempt", |entry| entry.attempt = 2),
            ("error", |entry| entry.error = vec!["no".into()]),
            ("details", |entry| entry.details = Some("{}".into())),
            ("no output", |entry| entry.output = None),
            ("direction", |entry| entry.direction = "undo"),
            ("epoch", |entry| entry.epoch = 2),
            ("output", |entry| entry.output = Some(output(&format!("\"{}\"", "x".repeat(MAX_OUTPUT_BYTES))))),
        ];
        for (field, change) in splits {
            let mut entries = entries();
            change(&mut entries[1]);
            assert_eq!(split(&entries), [[1], [2], [3]], "{field}");
        }
    }

    #[test]
    fn another_saga_a_gap_and_a_long_time_split_the_run() {
        let mut other_saga = entries();
        other_saga[1].saga_id = Uuid::from_u128(8);
        other_saga[2].saga_id = Uuid::from_u128(8);
        assert_eq!(split(&other_saga), [vec![1], vec![2, 3]]);
        let mut gap = entries();
        gap[2].seq = 4;
        assert_eq!(split(&gap), [vec![1, 2], vec![4]]);
        let mut late = entries();
        late[2].started += Duration::from_hours(1);
        assert_eq!(split(&late), [vec![1, 2], vec![3]]);
        let mut long = entries();
        long[1].duration = Duration::from_hours(24 * 30);
        assert_eq!(split(&long), [vec![1], vec![2, 3]]);
    }

    #[test]
    fn a_run_has_at_most_so_many_entries() {
        let first = entries().remove(0);
        let numbers = 1..=i32::try_from(MAX_ENTRIES).expect("it is small") + 1;
        let many: Vec<_> = numbers.map(|seq| HistoryRow { seq, ..first.clone() }).collect();
        assert_eq!(split(&many).iter().map(Vec::len).collect::<Vec<_>>(), [MAX_ENTRIES, 1]);
        assert!(split(&[]).is_empty());
    }
}
