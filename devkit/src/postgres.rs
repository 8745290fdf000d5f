//! The embedded default: a private PostgreSQL that `sagaline dev` and the tests run by themselves.
//!
//! A fresh clone needs no configuration, so something has to bring the database:
//!
//! 1. our own cluster, when it already runs: adopted;
//! 2. PostgreSQL's binaries, wherever this machine keeps them: started on a unix socket only, so that it
//!    can't meet a server on 5432;
//! 3. an error that lists every place searched and what to do about it.
//!
//! Several processes share one cluster: each holds a shared lock, the last one out stops the server, and
//! a process that is killed leaves a server that the next one adopts.

mod binaries;
mod cluster;
mod error;
mod initdb;
mod launch;
mod lock;
mod owner;
mod postmaster;
mod reset;
mod socket;
mod state_dir;

pub use binaries::{Installation, NotFound, Search};
pub use cluster::{Cluster, Durability, Options};
pub use error::EmbeddedError;
pub use reset::reset;
pub use state_dir::StateDir;

/// Names the database that holds Sagaline's schemas in the embedded cluster.
pub const DATABASE: &str = "sagaline";

/// Names the cluster's only role; nobody else can reach its socket, so it has no password.
const ROLE: &str = "sagaline";

/// Is part of the socket file's name only: the server listens on no TCP port.
const PORT: u16 = 5432;
