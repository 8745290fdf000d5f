//! What every request passes on its way in and out, outermost first: [`trace`] (span, metrics, problems written out),
//! [`security_headers`], [`cors`], [`timeout`] (time-out and panics), [`limit_headers`], [`authorize`] (who may do
//! what), and [`load_shed`] (limits that protect the rest).

mod authorize;
mod limit_headers;
mod load_shed;
mod security_headers;
mod timeout;
mod trace;

pub(crate) use authorize::authorize;
pub(crate) use limit_headers::limit_headers;
pub(crate) use load_shed::load_shed;
pub(crate) use security_headers::{cors, security_headers};
pub(crate) use timeout::timeout;
pub(crate) use trace::trace;
