//! Checks `docs/coverage.md`: every promise of the product has a row with a test.

use std::{collections::BTreeSet, fs};

use serde_json::Value;

use super::docs_match_metrics::{read, root, rust_files, source_folders};

/// The families of routing keys.
const FAMILIES: [&str; 7] =
    ["order.", "return.", "inventory.", "notification.", "workflow.", "dead_job.", "product."];

/// The texts in backticks.
fn quoted(text: &str) -> BTreeSet<String> {
    text.lines().flat_map(|line| line.split('`').skip(1).step_by(2)).map(ToOwned::to_owned).collect()
}

fn operations() -> Vec<String> {
    let document: Value = serde_json::from_str(&read("openapi/openapi.json")).unwrap();
    let paths = document["paths"].as_object().unwrap().iter();
    paths
        .flat_map(|(path, methods)| {
            let methods = methods.as_object().unwrap().keys();
            methods.map(move |method| format!("{} {path}", method.to_uppercase()))
        })
        .collect()
}

/// `.env.example` lists all variables; a test in `src/config.rs` checks that.
fn variables() -> Vec<String> {
    let example = read(".env.example");
    let set = example.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once('='));
    set.map(|(name, _)| name.to_owned()).collect()
}

fn routing_keys() -> BTreeSet<String> {
    let mut keys = BTreeSet::new();
    for file in source_folders().iter().flat_map(|folder| rust_files(folder)) {
        let text = fs::read_to_string(&file).unwrap();
        let text = text.split("#[cfg(test)]").next().unwrap();
        for family in FAMILIES {
            let start = format!("\"{family}");
            let literals = text.split(&start).skip(1).filter_map(|rest| rest.split('"').next());
            let is_key = |rest: &&str| {
                !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
            };
            keys.extend(literals.filter(is_key).map(|rest| format!("{family}{rest}")));
        }
    }
    keys
}

#[test]
fn every_operation_variable_and_event_has_its_row() {
    let quoted = quoted(&read("docs/coverage.md"));
    let keys = routing_keys();
    assert!(keys.contains("order.confirmed") && keys.len() >= 10, "{keys:?}");
    let all = operations().into_iter().chain(variables()).chain(keys);
    let missing: Vec<_> = all
        .filter(|name| !quoted.contains(name))
        .map(|name| format!("| `{name}` | `tests/it/…` |"))
        .collect();
    assert!(
        missing.is_empty(),
        "docs/coverage.md lacks {} rows; add each with the test that shows it:\n{}",
        missing.len(),
        missing.join("\n")
    );
}

#[test]
fn every_row_names_existing_tests() {
    let mut wrong = Vec::new();
    for (number, line) in read("docs/coverage.md").lines().enumerate() {
        let is_row =
            line.starts_with("| ") && !["| what", "| variable"].iter().any(|head| line.starts_with(head));
        let tests: Vec<_> =
            line.split('`').skip(1).step_by(2).filter(|name| name.contains(".rs::")).collect();
        if is_row && tests.is_empty() {
            wrong.push(format!("line {}: no test is named: {line}", number + 1));
        }
        for test in tests {
            let (file, name) = test.split_once("::").unwrap();
            let text = fs::read_to_string(root().join(file)).unwrap_or_default();
            if !text.contains(&format!("fn {name}(")) {
                wrong.push(format!("line {}: there is no {test}", number + 1));
            }
        }
    }
    assert!(wrong.is_empty(), "docs/coverage.md:\n{}", wrong.join("\n"));
}

/// The numbers of lines that look like a table row but are outside every table; Markdown shows them with their bars.
fn stray_rows(text: &str) -> Vec<usize> {
    let lines: Vec<_> = text.lines().collect();
    let is_row = |line: &str| line.starts_with('|');
    let begins_a_table = |number: usize| lines.get(number + 1).is_some_and(|next| next.starts_with("|---"));
    let is_stray = |number: &usize| {
        let follows = *number > 0 && is_row(lines[number - 1]);
        is_row(lines[*number]) && !follows && !begins_a_table(*number)
    };
    (0..lines.len()).filter(is_stray).map(|number| number + 1).collect()
}

#[test]
fn every_row_is_in_a_table() {
    assert_eq!(stray_rows(&read("docs/coverage.md")), Vec::<usize>::new());
    let broken = "| what | test |\n|---|---|\n| a | `b` |\n\n| c | `d` |\n";
    assert_eq!(stray_rows(broken), [5]);
}
