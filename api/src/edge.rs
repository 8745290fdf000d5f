//! What every request passes on its way in and out, outermost first: [`observe`] (span, metrics, problems written
//! out), [`finish`] (time-out and panics), [`guard`] (who may do what), [`admit`] (limits that protect the rest).

mod admit;
mod finish;
mod guard;
mod headers;
mod observe;
mod pool_gate;

pub(crate) use admit::{admit, bound_headers};
pub(crate) use finish::finish;
pub(crate) use guard::guard;
pub(crate) use headers::{cors, secured};
pub(crate) use observe::{TraceId, observe};
pub(crate) use pool_gate::PoolGate;
