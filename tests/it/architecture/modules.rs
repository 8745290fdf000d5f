//! Reads a crate's modules: what each declares and imports, and every path that it contains.

use std::collections::{BTreeMap, BTreeSet};

use super::lexer::{Kind, Token, tokens};

/// A crate's source files by their path below its source folder, as `store/claims.rs`.
pub(super) type Files = BTreeMap<String, String>;

/// The path of a module from the root of its crate; the root's is empty.
pub(super) type ModulePath = Vec<String>;

/// A module, inline or in a separate file.
#[derive(Debug, Default)]
pub(super) struct Module {
    pub(super) file: String,
    pub(super) children: BTreeSet<String>,
    pub(super) items: BTreeSet<String>,
    /// Imported names with the paths that they stand for, as written after `use`.
    pub(super) imports: BTreeMap<String, Vec<String>>,
    pub(super) globs: Vec<Vec<String>>,
}

/// A path in the source of a module.
#[derive(Debug)]
pub(super) struct Mention {
    pub(super) module: ModulePath,
    pub(super) segments: Vec<String>,
    pub(super) line: usize,
    pub(super) kind: MentionKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MentionKind {
    /// A `use` with a visibility.
    ReExport,
    Import,
    /// Anywhere else in the code.
    Inline,
}

impl Mention {
    /// Whether a module mentions its own children in this way: by a re-export, or by a path that begins with a child's
    /// name.
    pub(super) fn is_of_its_own_child(&self) -> bool {
        let first = self.segments.first().map(String::as_str);
        self.kind == MentionKind::ReExport || !matches!(first, Some("crate" | "super"))
    }
}

/// A crate as its files declare it.
#[derive(Debug, Default)]
pub(super) struct Crate {
    pub(super) modules: BTreeMap<ModulePath, Module>,
    pub(super) mentions: Vec<Mention>,
}

impl Crate {
    pub(super) fn read(files: &Files) -> Self {
        let mut read = Self::default();
        for (file, source) in files {
            // A binary beside a library is a separate crate, which uses the library by name.
            if file == "main.rs" && files.contains_key("lib.rs") {
                continue;
            }
            let path = module_path(file);
            read.modules.insert(path.clone(), Module { file: file.clone(), ..Module::default() });
            Reader {
                tokens: &tokens(source),
                at: 0,
                depth: 0,
                inline: Vec::new(),
                module: path,
                read: &mut read,
            }
            .read();
        }
        read
    }
}

/// `store/claims.rs` is the module `store::claims`, `lib.rs` and `main.rs` are the root.
fn module_path(file: &str) -> ModulePath {
    let stem = file.strip_suffix(".rs").unwrap_or(file);
    if stem == "lib" || stem == "main" { Vec::new() } else { stem.split('/').map(str::to_owned).collect() }
}

struct Reader<'a> {
    tokens: &'a [Token],
    at: usize,
    depth: usize,
    /// The brace depths at which inline modules began.
    inline: Vec<usize>,
    module: ModulePath,
    read: &'a mut Crate,
}

impl Reader<'_> {
    fn read(mut self) {
        while self.at < self.tokens.len() {
            match self.word(0) {
                Some("mod") => self.module_declaration(),
                Some("use") if !self.is(1, '<') => self.use_declaration(),
                Some("fn" | "struct" | "enum" | "trait" | "type" | "const" | "static" | "union") => {
                    self.item();
                }
                Some("macro_rules") => self.macro_definition(),
                Some(_) if self.starts_path() => self.inline_path(),
                Some(_) => self.at += 1,
                None => self.punctuation(),
            }
        }
    }

    fn punctuation(&mut self) {
        if self.is(0, '{') {
            self.depth += 1;
        } else if self.is(0, '}') {
            self.depth = self.depth.saturating_sub(1);
            if self.inline.last() == Some(&self.depth) {
                self.inline.pop();
                self.module.pop();
            }
        }
        self.at += 1;
    }

    fn module_declaration(&mut self) {
        let Some(name) = self.word(1).map(str::to_owned) else {
            self.at += 1;
            return;
        };
        if self.is(2, ';') {
            self.here().children.insert(name);
        } else if self.is(2, '{') {
            let file = self.here().file.clone();
            self.here().children.insert(name.clone());
            self.module.push(name);
            self.read.modules.insert(self.module.clone(), Module { file, ..Module::default() });
            self.inline.push(self.depth);
            self.depth += 1;
        }
        self.at += 3;
    }

    /// Records an item of the module; items inside functions and implementations are ignored.
    fn item(&mut self) {
        let is_of_the_module = self.depth == self.inline.last().map_or(0, |depth| depth + 1);
        if is_of_the_module && let Some(name) = self.word(1).map(str::to_owned) {
            self.here().items.insert(name);
        }
        self.at += 1;
    }

    fn macro_definition(&mut self) {
        if let Some(name) = self.word(2).map(str::to_owned) {
            self.here().items.insert(name);
        }
        self.at += 1;
    }

    fn use_declaration(&mut self) {
        let is_public =
            self.at > 0 && (self.word_at(self.at - 1) == Some("pub") || self.is_at(self.at - 1, ')'));
        let kind = if is_public { MentionKind::ReExport } else { MentionKind::Import };
        self.at += 1;
        if self.kind(0) == Some(&Kind::PathSeparator) {
            self.at += 1;
        }
        self.use_tree(&[], kind);
    }

    /// Reads `a::b`, `a::b as c` or `a::{b, c::*}` up to the following comma, brace or semicolon.
    fn use_tree(&mut self, prefix: &[String], kind: MentionKind) {
        let mut path = prefix.to_vec();
        let line = self.line();
        loop {
            if self.is(0, '{') {
                self.at += 1;
                while self.at < self.tokens.len() && !self.is(0, '}') {
                    self.use_tree(&path, kind);
                    if self.is(0, ',') {
                        self.at += 1;
                    }
                }
                self.at += 1;
                return;
            }
            if self.is(0, '*') {
                self.at += 1;
                self.mention(path.clone(), line, kind);
                self.here().globs.push(path);
                return;
            }
            let Some(word) = self.word(0).map(str::to_owned) else { break };
            self.at += 1;
            if word != "self" || path.is_empty() {
                path.push(word);
            }
            if self.kind(0) != Some(&Kind::PathSeparator) {
                break;
            }
            self.at += 1;
        }
        let mut name = path.last().cloned().unwrap_or_default();
        if self.word(0) == Some("as") {
            self.word(1).unwrap_or("_").clone_into(&mut name);
            self.at += 2;
        }
        self.mention(path.clone(), line, kind);
        self.here().imports.insert(name, path);
        // Skips tokens that are not understood, so that reading always advances.
        while self.at < self.tokens.len() && !self.is(0, ',') && !self.is(0, '}') && !self.is(0, ';') {
            self.at += 1;
        }
    }

    /// Whether a path of several segments starts here, rather than continues.
    fn starts_path(&self) -> bool {
        let follows = self.at > 0
            && (self.tokens[self.at - 1].kind == Kind::PathSeparator || self.is_at(self.at - 1, '.'));
        let is_visibility = self.at > 0 && self.word_at(self.at - 1) == Some("in");
        !follows && !is_visibility && self.kind(1) == Some(&Kind::PathSeparator)
    }

    fn inline_path(&mut self) {
        let (line, mut path) = (self.line(), Vec::new());
        while let Some(word) = self.word(0).map(str::to_owned) {
            path.push(word);
            self.at += 1;
            if self.kind(0) != Some(&Kind::PathSeparator) || self.word(1).is_none() {
                break;
            }
            self.at += 1;
        }
        self.mention(path, line, MentionKind::Inline);
    }

    fn mention(&mut self, segments: Vec<String>, line: usize, kind: MentionKind) {
        self.read.mentions.push(Mention { module: self.module.clone(), segments, line, kind });
    }

    fn here(&mut self) -> &mut Module {
        self.read.modules.entry(self.module.clone()).or_default()
    }

    fn line(&self) -> usize {
        self.tokens.get(self.at).map_or(0, |token| token.line)
    }

    fn kind(&self, ahead: usize) -> Option<&Kind> {
        self.tokens.get(self.at + ahead).map(|token| &token.kind)
    }

    fn word(&self, ahead: usize) -> Option<&str> {
        self.word_at(self.at + ahead)
    }

    fn word_at(&self, at: usize) -> Option<&str> {
        match &self.tokens.get(at)?.kind {
            Kind::Word(word) => Some(word),
            Kind::PathSeparator | Kind::Other(_) => None,
        }
    }

    fn is(&self, ahead: usize, wanted: char) -> bool {
        self.is_at(self.at + ahead, wanted)
    }

    fn is_at(&self, at: usize, wanted: char) -> bool {
        self.tokens.get(at).is_some_and(|token| token.kind == Kind::Other(wanted))
    }
}
