//! What every request passes on its way in and out, outermost first: [`trace`] (span, metrics, problems written out),
//! [`security_headers`], [`cors`], [`compress`], [`timeout`] (time-out and panics), [`limit_headers`], [`authorize`] (who
//! may do what), [`load_shed`] (limits that protect the rest), and [`entity_tag`].

mod authorize;
mod compress;
mod entity_tag;
mod held_body;
mod limit_headers;
mod load_shed;
mod security_headers;
mod timeout;
mod trace;

pub(crate) use authorize::authorize;
pub(crate) use compress::compress;
pub(crate) use entity_tag::entity_tag;
pub(crate) use limit_headers::limit_headers;
pub(crate) use load_shed::load_shed;
pub(crate) use security_headers::{cors, security_headers};
pub(crate) use timeout::timeout;
pub(crate) use trace::trace;
