//! Finds PostgreSQL's server binaries, wherever this machine keeps them.

use std::{
    env,
    ffi::OsString,
    fmt, fs,
    path::{Path, PathBuf},
    process::Command,
};

/// The oldest major version that Sagaline's SQL and the launcher's options work with.
const OLDEST_MAJOR: u32 = 14;

/// Folders that systems install servers in; one `*` stands for a part of a name.
const PATTERNS: [&str; 9] = [
    "/usr/lib/postgresql/*/bin",
    "/usr/pgsql-*/bin",
    "/usr/libexec/postgresql*",
    "/usr/local/pgsql/bin",
    "/opt/homebrew/opt/postgresql*/bin",
    "/usr/local/opt/postgresql*/bin",
    "/home/linuxbrew/.linuxbrew/opt/postgresql*/bin",
    "/Applications/Postgres.app/Contents/Versions/*/bin",
    "/opt/local/lib/postgresql*/bin",
];

/// A folder with a server's binaries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installation {
    /// Where `postgres` and `initdb` are.
    pub bin_dir: PathBuf,
    /// The major version, such as 17.
    pub major: u32,
}

/// The places to look in, in order.
#[derive(Debug, Clone)]
pub struct Search {
    places: Vec<Place>,
}

/// One place: its name for people, and the folders that it stands for on this machine.
#[derive(Debug, Clone)]
struct Place {
    name: String,
    dirs: Vec<PathBuf>,
}

/// No installation fits; the message lists the places searched and what can be done.
#[derive(Debug)]
pub struct NotFound {
    needed: Option<u32>,
    searched: Vec<String>,
    unfit: Vec<Installation>,
}

impl Search {
    /// `SAGALINE_PG_BIN` alone when that is set, else the directory that `pg_config` names, `PATH`, and the folders of
    /// Debian, Red Hat, Alpine, Homebrew, Postgres.app and MacPorts.
    pub fn from_env() -> Self {
        if let Some(dir) = env::var_os("SAGALINE_PG_BIN").filter(|dir| !dir.is_empty()) {
            let name = format!("SAGALINE_PG_BIN, which is {}", Path::new(&dir).display());
            return Self { places: vec![Place { name, dirs: vec![dir.into()] }] };
        }
        let path: OsString = env::var_os("PATH").unwrap_or_default();
        let mut places = vec![
            Place { name: "SAGALINE_PG_BIN, which is not set".to_owned(), dirs: Vec::new() },
            Place {
                name: "pg_config --bindir".to_owned(),
                dirs: bin_dir_of_pg_config().into_iter().collect(),
            },
            Place {
                name: format!("PATH, which is {}", Path::new(&path).display()),
                dirs: env::split_paths(&path).filter(|dir| dir.is_absolute()).collect(),
            },
        ];
        places.extend(PATTERNS.map(|pattern| Place { name: pattern.to_owned(), dirs: expand(pattern) }));
        Self { places }
    }

    /// The given folders only.
    pub fn in_dirs(dirs: impl IntoIterator<Item = PathBuf>) -> Self {
        let place = |dir: PathBuf| Place { name: dir.display().to_string(), dirs: vec![dir] };
        Self { places: dirs.into_iter().map(place).collect() }
    }

    /// The newest installation, or one of the needed major version when there is existing data.
    ///
    /// # Errors
    /// [`NotFound`] when no installation fits.
    pub fn find(&self, needed: Option<u32>) -> Result<Installation, Box<NotFound>> {
        let mut found: Vec<Installation> = Vec::new();
        for dir in self.places.iter().flat_map(|place| &place.dirs) {
            if found.iter().all(|known| known.bin_dir != *dir) {
                found.extend(Installation::probe(dir));
            }
        }
        let fits = |major: u32| needed.map_or(major >= OLDEST_MAJOR, |needed| major == needed);
        let (fit, unfit): (Vec<_>, Vec<_>) = found.into_iter().partition(|found| fits(found.major));
        let newest = fit.iter().map(|found| found.major).max();
        // The first place wins among equals.
        fit.into_iter().find(|found| Some(found.major) == newest).ok_or_else(|| {
            let searched = self.places.iter().map(|place| place.name.clone()).collect();
            Box::new(NotFound { needed, searched, unfit })
        })
    }
}

impl Installation {
    /// The path of one of its programs.
    pub fn program(&self, name: &str) -> PathBuf {
        self.bin_dir.join(name)
    }

    fn probe(dir: &Path) -> Option<Self> {
        let server = dir.join("postgres");
        if !server.is_file() || !dir.join("initdb").is_file() {
            return None;
        }
        let output = Command::new(server).arg("--version").output().ok()?;
        let major = major_of(&String::from_utf8_lossy(&output.stdout))?;
        Some(Self { bin_dir: dir.to_owned(), major })
    }
}

/// Reads `postgres (PostgreSQL) 15.20 (Debian 15.20-0+deb12u1)` and `… 19beta1`.
fn major_of(version: &str) -> Option<u32> {
    let number = version.split_once("(PostgreSQL) ")?.1;
    let end = number.find(|c: char| !c.is_ascii_digit()).unwrap_or(number.len());
    number[..end].parse().ok()
}

fn bin_dir_of_pg_config() -> Option<PathBuf> {
    let output = Command::new("pg_config").arg("--bindir").output().ok()?;
    let dir = String::from_utf8(output.stdout).ok()?;
    Some(PathBuf::from(dir.trim())).filter(|dir| dir.is_absolute())
}

/// Expands the `*` of a pattern to the names that exist, in alphabetical order.
fn expand(pattern: &str) -> Vec<PathBuf> {
    let Some((before, after)) = pattern.split_once('*') else {
        return vec![PathBuf::from(pattern)];
    };
    let (parent, prefix) = before.rsplit_once('/').unwrap_or(("", before));
    let Ok(entries) = fs::read_dir(parent) else {
        return Vec::new();
    };
    let mut dirs: Vec<PathBuf> = entries
        .filter_map(Result::ok)
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix))
        .map(|entry| entry.path().join(after.trim_start_matches('/')))
        .collect();
    dirs.sort();
    dirs
}

impl fmt::Display for NotFound {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.needed {
            None => writeln!(out, "no PostgreSQL {OLDEST_MAJOR} or newer on this machine. Searched:")?,
            Some(major) => writeln!(out, "no PostgreSQL {major}, which the existing data need. Searched:")?,
        }
        for place in &self.searched {
            writeln!(out, "  - {place}")?;
        }
        if !self.unfit.is_empty() {
            writeln!(out, "Found, but of another version:")?;
        }
        for found in &self.unfit {
            writeln!(out, "  - PostgreSQL {} in {}", found.major, found.bin_dir.display())?;
        }
        let version = self.needed.map_or(String::new(), |major| format!("-{major}"));
        let brew = self.needed.unwrap_or(17);
        writeln!(out, "Any one of these helps:")?;
        writeln!(out, "  - Debian, Ubuntu: apt-get install postgresql{version}")?;
        writeln!(out, "  - Fedora: dnf install postgresql-server")?;
        writeln!(out, "  - macOS: brew install postgresql@{brew}")?;
        writeln!(out, "  - set SAGALINE_PG_BIN to the folder that holds postgres and initdb")?;
        write!(out, "  - set DATABASE_URL (or --database-url) to a PostgreSQL that is already running")
    }
}

impl std::error::Error for NotFound {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_major_version_is_read_from_every_flavour() {
        assert_eq!(major_of("postgres (PostgreSQL) 15.20 (Debian 15.20-0+deb12u1)\n"), Some(15));
        assert_eq!(major_of("postgres (PostgreSQL) 19beta1\n"), Some(19));
        assert_eq!(major_of("postgres (EnterpriseDB) what\n"), None);
    }

    #[test]
    fn the_error_for_existing_data_names_their_version() {
        let error = NotFound { needed: Some(16), searched: vec!["here".to_owned()], unfit: Vec::new() };
        assert!(error.to_string().starts_with("no PostgreSQL 16, which the existing data need"));
        assert!(error.to_string().contains("apt-get install postgresql-16"));
    }
}
