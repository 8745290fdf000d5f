//! What every request passes on its way in and out, outermost first: [`trace`] (span, metrics, problems written
//! out), [`timeout`] (time-out and panics), [`authorize`] (who may do what), [`load_shed`] (limits that protect the rest).

mod admit;
mod finish;
mod guard;
mod headers;
mod observe;
mod pool_gate;

pub(crate) use admit::{limit_headers, load_shed};
pub(crate) use finish::timeout;
pub(crate) use guard::authorize;
pub(crate) use headers::{cors, security_headers};
pub(crate) use observe::{TraceId, trace};
pub(crate) use pool_gate::PoolGate;
