//! The order of folders in each crate: a file may use its own level and the levels below, never those above.

use super::arrows::Arrow;

/// One crate, with its folders from the lowest to the highest.
pub(super) struct Crate {
    /// The folder of its sources.
    pub(super) source: &'static str,
    pub(super) orders: &'static [Order],
}

/// The levels of one folder, from the lowest to the highest. Entries of one level may use each other.
pub(super) struct Order {
    /// The folder, empty for the whole crate.
    pub(super) within: &'static str,
    /// Folders and files, without `.rs`. A `*` stands for everything that is not named elsewhere.
    pub(super) floors: &'static [&'static [&'static str]],
}

/// An import against the order, or a file that no order names.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Violation {
    pub(super) arrow: Arrow,
    pub(super) rule: String,
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Arrow { from, to, line, path } = &self.arrow;
        write!(f, "{from}:{line} uses {to} (`{path}`): {}", self.rule)
    }
}

impl Crate {
    /// The imports that go up.
    pub(super) fn upward(&self, arrows: &[Arrow]) -> Vec<Violation> {
        let of = |arrow: &Arrow| self.orders.iter().find_map(|order| order.violation(arrow));
        arrows.iter().filter_map(of).collect()
    }

    /// The files that no order names.
    pub(super) fn unplaced<'a>(&self, files: impl Iterator<Item = &'a String>) -> Vec<&'a str> {
        let has_none =
            |file: &str| self.orders.iter().any(|order| order.holds(file) && order.floor(file).is_none());
        files.map(String::as_str).filter(|file| has_none(file)).collect()
    }
}

impl Order {
    fn violation(&self, arrow: &Arrow) -> Option<Violation> {
        if !self.holds(&arrow.from) || !self.holds(&arrow.to) {
            return None;
        }
        let (from, to) = (self.floor(&arrow.from)?, self.floor(&arrow.to)?);
        (to > from).then(|| Violation { arrow: arrow.clone(), rule: self.rule() })
    }

    fn holds(&self, file: &str) -> bool {
        self.within.is_empty() || is_in(file, self.within)
    }

    /// The level of a file, by the longest matching name; the file of the crate or folder itself is on top.
    fn floor(&self, file: &str) -> Option<usize> {
        let is_root = file == "lib.rs" || file == "main.rs" || file == format!("{}.rs", self.within);
        if is_root {
            return Some(self.floors.len());
        }
        let below = file.strip_prefix(self.within).unwrap_or(file).trim_start_matches('/');
        let named =
            |floor: &&[&str]| floor.iter().filter(|name| is_in(below, name)).map(|name| name.len()).max();
        let by_name =
            self.floors.iter().enumerate().filter_map(|(nth, floor)| Some((named(floor)?, nth))).max();
        let of_the_rest = || self.floors.iter().position(|floor| floor.contains(&"*"));
        by_name.map(|(_, nth)| nth).or_else(of_the_rest)
    }

    fn rule(&self) -> String {
        let floors: Vec<String> = self.floors.iter().map(|floor| floor.join(", ")).collect();
        let place = if self.within.is_empty() { String::new() } else { format!("in {}: ", self.within) };
        format!("imports go down, {place}{}", floors.join(" < "))
    }
}

/// Whether a file is this one or is in this folder.
fn is_in(file: &str, name: &str) -> bool {
    file.strip_prefix(name).is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
}
