//! The engine as a separate package: it contains everything that it needs.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::Command,
};

/// The files of the engine's package.
fn packaged() -> BTreeSet<PathBuf> {
    let output = Command::new(env!("CARGO"))
        .args(["package", "--package", "sagaline-engine", "--list", "--allow-dirty", "--offline"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().lines().map(PathBuf::from).collect()
}

/// The files below a folder of the engine, relative to the engine.
fn files(dir: &str) -> BTreeSet<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("engine");
    let mut folders = vec![root.join(dir)];
    let mut files = BTreeSet::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                files.insert(path.strip_prefix(&root).unwrap().to_owned());
            }
        }
    }
    files
}

#[test]
fn the_package_of_the_engine_contains_its_sources_and_migrations() {
    let packaged = packaged();
    for dir in ["src", "migrations"] {
        let files = files(dir);
        assert!(!files.is_empty() && files.is_subset(&packaged), "{:?}", files.difference(&packaged));
    }
}

#[test]
fn the_link_in_migrations_points_to_those_of_the_engine() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let linked = root.join("migrations/engine").canonicalize().unwrap();
    assert_eq!(linked, root.join("engine/migrations").canonicalize().unwrap());
}
