//! The file `invariants.sql`: sections with a number and a name, each of one query or several.

use std::sync::LazyLock;

const SQL: &str = include_str!("../../../invariants.sql");

/// The sections of the file.
pub(super) static SECTIONS: LazyLock<Vec<Section>> = LazyLock::new(|| sections(SQL));

/// One invariant.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Section {
    pub(super) number: u8,
    pub(super) name: &'static str,
    pub(super) queries: Vec<Query>,
}

/// One query, which returns the violations.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Query {
    pub(super) over: Over,
    pub(super) sql: &'static str,
}

/// The rows that a query starts from; the head of the file says what its parameters are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::EnumString)]
#[strum(serialize_all = "lowercase")]
pub(super) enum Over {
    /// Sagas that are unfinished or dead.
    Unfinished,
    /// Rows with ids from a range.
    Ids,
    /// Rows that were created in a time range.
    Times,
    /// Products with SKUs from a range.
    Skus,
    /// Whole tables.
    All,
}

/// Splits the file at its `-- name:` lines, and each section at its `-- over:` lines.
fn sections(file: &'static str) -> Vec<Section> {
    let section = |text: &'static str| {
        let (title, queries) = text.split_once('\n')?;
        let (number, name) = title.split_once(' ')?;
        let queries = queries.split("-- over: ").skip(1).filter_map(query).collect();
        Some(Section { number: number.parse().ok()?, name: name.trim(), queries })
    };
    file.split("-- name: ").skip(1).filter_map(section).collect()
}

fn query(text: &'static str) -> Option<Query> {
    let (over, sql) = text.split_once('\n')?;
    Some(Query { over: over.trim().parse().ok()?, sql })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_section_of_the_file_is_a_query_with_a_number_and_a_name() {
        let numbers: Vec<u8> = SECTIONS.iter().map(|section| section.number).collect();
        assert_eq!(numbers, [1, 2, 3, 4, 5, 6, 7, 10, 11, 12, 13, 14, 15]);
        assert_eq!(SQL.matches("-- name: ").count(), SECTIONS.len());
        let queries: Vec<&Query> = SECTIONS.iter().flat_map(|section| &section.queries).collect();
        assert_eq!(SQL.matches("\n-- over: ").count(), queries.len());
        assert!(SECTIONS.iter().all(|section| !section.queries.is_empty()));
        for query in queries {
            let has_range = query.sql.contains("$1") && query.sql.contains("$2");
            let needs_range = matches!(query.over, Over::Ids | Over::Times | Over::Skus);
            assert_eq!(has_range, needs_range, "{query:?}");
        }
    }
}
