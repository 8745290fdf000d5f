//! What the caller of a start tells its entry step.

use std::{any::Any, fmt, sync::Arc};

/// A value of any type that a start carries to its entry step, in this process. It is not stored.
#[derive(Clone, Default)]
pub(crate) struct StartContext(Option<Arc<dyn Any + Send + Sync>>);

impl StartContext {
    pub(crate) fn new(value: impl Any + Send + Sync) -> Self {
        Self(Some(Arc::new(value)))
    }

    pub(crate) fn get<C: Any>(&self) -> Option<&C> {
        self.0.as_deref()?.downcast_ref()
    }
}

impl fmt::Debug for StartContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "StartContext(..)" } else { "StartContext(none)" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_type_that_was_given_is_found() {
        let context = StartContext::new(7_u8);
        assert_eq!((context.get::<u8>(), context.get::<u16>()), (Some(&7), None));
        assert_eq!(StartContext::default().get::<u8>(), None);
    }
}
