//! Splits Rust source into the tokens that make up paths, without comments and the text of strings.

/// A token and the line it is on, counted from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) kind: Kind,
    pub(super) line: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A name, a keyword or a number.
    Word(String),
    /// `::`
    PathSeparator,
    /// Any other character.
    Other(char),
}

/// Tokenizes a file, without comments, strings, characters and lifetimes.
pub(super) fn tokens(source: &str) -> Vec<Token> {
    let mut lexer = Lexer { rest: source, line: 1, tokens: Vec::new() };
    while !lexer.rest.is_empty() {
        lexer.step();
    }
    lexer.tokens
}

struct Lexer<'a> {
    rest: &'a str,
    line: usize,
    tokens: Vec<Token>,
}

impl Lexer<'_> {
    fn step(&mut self) {
        if self.rest.starts_with("//") {
            self.skip(self.rest.find('\n').unwrap_or(self.rest.len()));
        } else if self.rest.starts_with("/*") {
            self.skip(block_comment(self.rest));
        } else if let Some(length) = raw_string(self.rest) {
            self.skip(length);
        } else if let Some(prefix) =
            ["\"", "b\"", "c\""].into_iter().find(|start| self.rest.starts_with(start))
        {
            self.skip(quoted(self.rest, prefix.len(), '"'));
        } else if self.rest.starts_with("b'") {
            self.skip(quoted(self.rest, 2, '\''));
        } else if self.rest.starts_with('\'') {
            self.skip(character_or_lifetime(self.rest));
        } else if self.rest.starts_with("::") {
            self.push(Kind::PathSeparator, 2);
        } else {
            self.word_or_other();
        }
    }

    fn word_or_other(&mut self) {
        let raw = if self.rest.starts_with("r#") { 2 } else { 0 };
        let name = &self.rest[raw..];
        let length = name.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(name.len());
        if length > 0 {
            self.push(Kind::Word(name[..length].to_owned()), raw + length);
            return;
        }
        let Some(first) = self.rest.chars().next() else { return };
        if first.is_whitespace() {
            self.skip(first.len_utf8());
        } else {
            self.push(Kind::Other(first), first.len_utf8());
        }
    }

    fn push(&mut self, kind: Kind, length: usize) {
        self.tokens.push(Token { kind, line: self.line });
        self.skip(length);
    }

    fn skip(&mut self, length: usize) {
        let (skipped, rest) = self.rest.split_at(length);
        self.line += skipped.matches('\n').count();
        self.rest = rest;
    }
}

/// The length of a comment that starts here; such comments nest.
fn block_comment(text: &str) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < text.len() {
        if text[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if text[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += text[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    text.len()
}

/// The length of a raw string that starts here.
fn raw_string(text: &str) -> Option<usize> {
    let prefix = ["r", "br", "cr"].into_iter().find(|prefix| {
        text.strip_prefix(prefix).is_some_and(|rest| rest.trim_start_matches('#').starts_with('"'))
    })?;
    let hashes = text[prefix.len()..].len() - text[prefix.len()..].trim_start_matches('#').len();
    let start = prefix.len() + hashes + 1;
    let end = format!("\"{}", "#".repeat(hashes));
    Some(text[start..].find(&end).map_or(text.len(), |at| start + at + end.len()))
}

/// The length of a string or character whose text begins at `start`.
fn quoted(text: &str, start: usize, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text[start..].char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return start + at + 1,
            _ => {}
        }
    }
    text.len()
}

/// The length of `'a'`, `'\n'` or `'lifetime`.
fn character_or_lifetime(text: &str) -> usize {
    let mut after = text.chars().skip(1);
    let (first, second) = (after.next(), after.next());
    if first == Some('\\') || second == Some('\'') {
        return quoted(text, 1, '\'');
    }
    let name = &text[1..];
    1 + name.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(name.len())
}
