//! Computes which file of a crate imports which, and the import cycles.

use std::collections::{BTreeMap, BTreeSet};

use super::modules::{Crate, Files, Mention, Module, ModulePath};

/// A file that uses an item of another file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Arrow {
    pub(super) from: String,
    pub(super) to: String,
    pub(super) line: usize,
    /// The path as written.
    pub(super) path: String,
}

/// Every use of one file by another, once, with its first line. What a parent declares or names of its own children
/// (`mod`, re-exports, and paths that begin with a child, as `child::run()`) is not counted, because it is the module
/// tree. A path from a child to its parent is counted.
pub(super) fn arrows(files: &Files) -> Vec<Arrow> {
    let read = Crate::read(files);
    let mut first = BTreeMap::<(String, String), Arrow>::new();
    for mention in &read.mentions {
        let Some(target) = read.target_of(mention) else { continue };
        let from = &read.modules[&mention.module];
        let to = &read.modules[&target];
        let is_below = target.starts_with(&module_of_file(&read, &from.file));
        if from.file == to.file || (is_below && mention.is_of_its_own_child()) {
            continue;
        }
        let arrow = Arrow {
            from: from.file.clone(),
            to: to.file.clone(),
            line: mention.line,
            path: mention.segments.join("::"),
        };
        let known = first.entry((arrow.from.clone(), arrow.to.clone())).or_insert_with(|| arrow.clone());
        if arrow.line < known.line {
            *known = arrow;
        }
    }
    first.into_values().collect()
}

/// The groups of files that import each other in a cycle, each sorted by name.
pub(super) fn cycles(arrows: &[Arrow]) -> Vec<Vec<String>> {
    let files: BTreeSet<&str> =
        arrows.iter().flat_map(|arrow| [arrow.from.as_str(), arrow.to.as_str()]).collect();
    let reached: BTreeMap<&str, BTreeSet<&str>> =
        files.iter().map(|file| (*file, reachable(file, arrows))).collect();
    let mut found = BTreeSet::new();
    for file in &files {
        let circle: Vec<String> = files
            .iter()
            .filter(|other| reached[file].contains(*other) && reached[*other].contains(file))
            .map(|other| (*other).to_owned())
            .collect();
        if circle.len() > 1 {
            found.insert(circle);
        }
    }
    found.into_iter().collect()
}

fn reachable<'a>(start: &str, arrows: &'a [Arrow]) -> BTreeSet<&'a str> {
    let mut reached = BTreeSet::new();
    let mut next = vec![start];
    while let Some(file) = next.pop() {
        for arrow in arrows.iter().filter(|arrow| arrow.from == file) {
            if reached.insert(arrow.to.as_str()) {
                next.push(&arrow.to);
            }
        }
    }
    reached
}

/// The module of a file, regardless of inline modules.
fn module_of_file(read: &Crate, file: &str) -> ModulePath {
    let of_file = read.modules.iter().filter(|(_, module)| module.file == file).map(|(path, _)| path);
    of_file.min_by_key(|path| path.len()).cloned().unwrap_or_default()
}

impl Crate {
    /// The module whose file defines the mentioned item; `None` if it is outside the crate.
    fn target_of(&self, mention: &Mention) -> Option<ModulePath> {
        self.resolve(&mention.module, &mention.segments, 0)
    }

    /// Resolves a path from the module in which it is written.
    fn resolve(&self, from: &ModulePath, segments: &[String], depth: usize) -> Option<ModulePath> {
        let (first, rest) = segments.split_first()?;
        let mut rest = rest;
        let mut module = match first.as_str() {
            "crate" => Vec::new(),
            "self" => from.clone(),
            "super" => parent(from)?,
            name => {
                let here = &self.modules[from];
                if here.children.contains(name)
                    || here.imports.contains_key(name)
                    || here.items.contains(name)
                {
                    return self.walk(from.clone(), segments, depth);
                }
                return here.globs.iter().find_map(|glob| self.through_glob(from, glob, segments, depth));
            }
        };
        while let Some((first, more)) = rest.split_first().filter(|(first, _)| *first == "super") {
            debug_assert_eq!(first, "super");
            module = parent(&module)?;
            rest = more;
        }
        self.walk(module, rest, depth)
    }

    /// Descends from a module, through its children and imports.
    fn walk(&self, mut module: ModulePath, segments: &[String], depth: usize) -> Option<ModulePath> {
        for (nth, name) in segments.iter().enumerate() {
            let here = self.modules.get(&module)?;
            if has_child(self, here, &module, name) {
                module.push(name.clone());
                continue;
            }
            if let Some(import) = here.imports.get(name) {
                return self.through_import(&module, import, &segments[nth..], depth);
            }
            if here.items.contains(name) {
                return Some(module);
            }
            let mut globs = here.globs.iter();
            let through = globs.find_map(|glob| self.through_glob(&module, glob, &segments[nth..], depth));
            return Some(through.unwrap_or(module));
        }
        self.modules.contains_key(&module).then_some(module)
    }

    fn through_import(
        &self,
        module: &ModulePath,
        import: &[String],
        segments: &[String],
        depth: usize,
    ) -> Option<ModulePath> {
        // A name that is imported under itself, as by `use serde;`, is a crate.
        let is_itself = import.len() == 1 && import[0] == segments[0];
        if is_itself || depth > 20 {
            return None;
        }
        let path: Vec<String> = import.iter().chain(&segments[1..]).cloned().collect();
        self.resolve(module, &path, depth + 1)
    }

    /// Searches the glob imports of a module for a name.
    fn through_glob(
        &self,
        module: &ModulePath,
        glob: &[String],
        segments: &[String],
        depth: usize,
    ) -> Option<ModulePath> {
        if depth > 20 {
            return None;
        }
        let target = self.resolve(module, glob, depth + 1)?;
        let (there, name) = (self.modules.get(&target)?, segments.first()?);
        let knows = has_child(self, there, &target, name)
            || there.imports.contains_key(name)
            || there.items.contains(name);
        (knows && target != *module).then(|| self.walk(target, segments, depth + 1)).flatten()
    }
}

fn has_child(read: &Crate, module: &Module, path: &ModulePath, name: &str) -> bool {
    let mut child = path.clone();
    child.push(name.to_owned());
    module.children.contains(name) && read.modules.contains_key(&child)
}

fn parent(module: &ModulePath) -> Option<ModulePath> {
    let (_, parent) = module.split_last()?;
    Some(parent.to_vec())
}
