//! The embedded PostgreSQL: a private server that `sagaline dev` and the tests start by themselves.
//!
//! A fresh clone needs no configuration, so the program brings its own database:
//!
//! 1. a server that already runs in the state directory is adopted;
//! 2. otherwise one is started with PostgreSQL's binaries, wherever this machine keeps them. It listens on a unix socket
//!    only, so that it can't collide with a server on port 5432;
//! 3. without binaries the error lists every place that was searched and what to do about it.
//!
//! Several processes share one server: each holds a shared lock, the last one stops the server, and a process that is
//! killed leaves a server that the next one adopts.

mod binaries;
mod cluster;
mod connection;
mod error;
mod initdb;
mod launch;
mod lock;
mod options;
mod postmaster;
mod reset;
mod server_user;
mod socket;
mod standby;
mod state_dir;

pub use binaries::{Installation, NotFound, Search};
pub use cluster::Cluster;
pub(crate) use cluster::create_role;
pub use connection::{DATABASE, PROCESS_ROLE};
pub use error::EmbeddedError;
pub use options::{Durability, Options};
pub use reset::reset;
pub use state_dir::StateDir;
