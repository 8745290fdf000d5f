//! Arranges tables within a width.

use comfy_table::{ColumnConstraint, ContentArrangement, Table, Width, presets};
use console::measure_text_width;

/// White space at both sides of a cell, and the border at one.
const AROUND_CELL: usize = 3;

/// Words that are cut into pieces of fewer characters can't be read.
const NARROW: usize = 8;

/// Arranges rows under a header. Within a width, text wraps between words; inside of a word only if nothing else helps,
/// and then in the column with the longest one.
pub(super) fn arrange(
    header: &[&str],
    rows: Vec<Vec<String>>,
    is_interactive: bool,
    width: Option<u16>,
) -> Table {
    let mut table = Table::new();
    let preset = if is_interactive { presets::UTF8_FULL_CONDENSED } else { presets::ASCII_MARKDOWN };
    table
        .load_style(preset)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_header(header.iter().copied());
    let bounds = width.map(|width| lower_bounds(&longest_words(header, &rows), width.into()));
    for row in rows {
        table.add_row(row);
    }
    if let Some((width, bounds)) = width.zip(bounds) {
        table.set_width(width);
        for (column, bound) in table.column_iter_mut().zip(bounds) {
            column.set_constraint(ColumnConstraint::LowerBoundary(Width::Fixed(bound)));
        }
    }
    table
}

/// The width of the longest word of each column.
fn longest_words(header: &[&str], rows: &[Vec<String>]) -> Vec<usize> {
    let longest = |text: &str| text.split_whitespace().map(measure_text_width).max().unwrap_or_default();
    let of_column = |(nth, title): (usize, &&str)| {
        rows.iter().filter_map(|row| row.get(nth)).map(|cell| longest(cell)).chain([longest(title)]).max()
    };
    header.iter().enumerate().map(|column| of_column(column).unwrap_or_default()).collect()
}

/// The least widths of the columns, with the white space in their cells: those of their words. If these don't fit into the
/// width together, the longest is cut, and the next one only when that has become narrow.
fn lower_bounds(words: &[usize], width: usize) -> Vec<u16> {
    let space = width.saturating_sub(AROUND_CELL * words.len() + 1);
    let mut bounds = words.to_vec();
    let mut longest_first: Vec<usize> = (0..words.len()).collect();
    longest_first.sort_by_key(|&nth| std::cmp::Reverse(words[nth]));
    for least in [NARROW, 1] {
        for &nth in &longest_first {
            let excess = bounds.iter().sum::<usize>().saturating_sub(space);
            bounds[nth] -= excess.min(bounds[nth].saturating_sub(least));
        }
    }
    bounds.iter().map(|&bound| u16::try_from(bound + AROUND_CELL - 1).unwrap_or(u16::MAX)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A table with rows as they can be, and words that are typed or read as a whole.
    struct Example {
        header: &'static [&'static str],
        rows: &'static [&'static [&'static str]],
        whole: &'static [&'static str],
    }

    /// One for each table that a command prints.
    const EXAMPLES: [Example; 6] = [
        Example {
            header: &["id", "name", "role", "state", "created", "last used"],
            rows: &[
                &[
                    "dc6eaabd6060022c",
                    "web",
                    "write",
                    "revoked 2026-11-27 07:43",
                    "2026-11-27 07:43",
                    "never",
                ],
                &[
                    "a3afe6daac9cd1f7",
                    "the-integration-partner-of-the-warehouse",
                    "operate",
                    "usable until 2027-02-25 07:43",
                    "2026-11-27 07:29",
                    "2026-11-27 07:31",
                ],
            ],
            whole: &["dc6eaabd6060022c", "a3afe6daac9cd1f7", "operate", "2026-11-27"],
        },
        Example {
            header: &[
                "consumer",
                "last event",
                "events behind",
                "behind for",
                "has a publisher",
                "last change",
            ],
            rows: &[
                &["redis", "123456789", "1234567", "86400 s", "yes", "2026-11-27 07:43"],
                &["amqp", "123456789012", "123456789", "2592000 s", "no", "2026-11-27 07:43"],
            ],
            whole: &["redis", "123456789012", "2592000 s", "2026-11-27"],
        },
        Example {
            header: &["", "no.", "invariant", "result"],
            rows: &[
                &["✓", "1", "every acknowledged order exists, and no key maps to two orders", "holds"],
                &[
                    "✗",
                    "2",
                    "no saga is unfinished and overdue, and nothing waits for ever",
                    "saga 01a21bea-6565-73fb-9d41-8fdf4a377bde (deliver-notification) at send-mail is overdue by 1 day 02:03:04\n\
                     order 01a21be9-29d4-7422-9728-4f674d8a1f7f is cancelling, and no saga moves it",
                ],
            ],
            whole: &[
                "01a21bea-6565-73fb-9d41-8fdf4a377bde",
                "01a21be9-29d4-7422-9728-4f674d8a1f7f",
                "unfinished",
            ],
        },
        Example {
            header: &["", "what", "expected", "seen"],
            rows: &[
                &["✓", "acknowledged orders that exist", "320", "320"],
                &["✓", "mails delivered again after a crash", "any, same Message-ID", "3"],
            ],
            whole: &["acknowledged", "Message-ID"],
        },
        Example {
            header: &["bench orders", ""],
            rows: &[
                &["processor time, server (with warm-up)", "not known"],
                &[
                    "durability",
                    "fsync=on, synchronous_commit=on, full_page_writes=on, wal_sync_method=fdatasync",
                ],
            ],
            whole: &["durability", "wal_sync_method=fdatasync"],
        },
        Example {
            header: &["64 callers, mail server: hangs, profile dist", "before", "during", "after"],
            rows: &[
                &["orders a second", "12345", "12345", "12345"],
                &["p99", "20.71 ms", "18.80 ms", "34.10 ms"],
            ],
            whole: &["20.71 ms", "orders a second"],
        },
    ];

    fn arranged(example: &Example, is_interactive: bool, width: Option<u16>) -> String {
        let rows = example.rows.iter().map(|row| row.iter().map(ToString::to_string).collect());
        arrange(example.header, rows.collect(), is_interactive, width).to_string()
    }

    #[test]
    fn every_table_fits_the_terminal_and_breaks_no_word_that_is_read_as_a_whole() {
        for example in &EXAMPLES {
            for width in [80, 100, 120] {
                let table = arranged(example, true, Some(width));
                let widest = table.lines().map(measure_text_width).max().unwrap();
                assert!(widest <= width.into(), "{widest} of {width}:\n{table}");
                for word in example.whole {
                    assert!(table.contains(word), "{word} is broken:\n{table}");
                }
            }
        }
    }

    #[test]
    fn a_terminal_that_is_too_narrow_for_the_words_breaks_the_longest() {
        for example in &EXAMPLES {
            let table = arranged(example, true, Some(40));
            assert!(table.lines().all(|line| measure_text_width(line) <= 40), "{table}");
        }
        assert_eq!(lower_bounds(&[4, 20, 30], 50), [6, 22, 18]);
        assert_eq!(lower_bounds(&[4, 20, 30], 40), [6, 20, 10]);
        assert_eq!(lower_bounds(&[4, 20, 30], 16), [6, 3, 3]);
        assert_eq!(lower_bounds(&[4, 6], 80), [6, 8]);
    }

    #[test]
    fn without_a_terminal_each_row_is_one_line() {
        for example in EXAMPLES.iter().filter(|example| !example.rows.concat().join("").contains('\n')) {
            assert_eq!(arranged(example, false, None).lines().count(), 2 + example.rows.len());
        }
    }
}
