//! Errors are logged with their causes.

use std::path::{Path, PathBuf};

/// The sources of the product.
const FOLDERS: [&str; 6] = ["engine/src", "breakers/src", "workflows/src", "workers/src", "api/src", "src"];

/// What logs an error without its causes: as its own text alone, or as a value of which JSON shows no more than that.
const WITHOUT_CAUSES: [&str; 6] =
    ["error = %error", "(%error,", " %error,", "source = %", "as &dyn std::error::Error", "as &(dyn "];

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn errors_are_logged_with_their_causes() {
    let mut paths = Vec::new();
    for folder in FOLDERS {
        sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join(folder), &mut paths);
    }
    let mut flaws = Vec::new();
    for path in paths {
        let text = std::fs::read_to_string(&path).unwrap();
        let lines = text.lines().enumerate();
        let flawed = lines.filter(|(_, line)| WITHOUT_CAUSES.iter().any(|part| line.contains(part)));
        flaws.extend(flawed.map(|(at, line)| format!("{}:{}: {}", path.display(), at + 1, line.trim())));
    }
    assert!(flaws.is_empty(), "log `error = %ErrorChain(&error)` instead:\n{}", flaws.join("\n"));
}
