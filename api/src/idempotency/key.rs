//! The key by which a caller names a request.

/// What a caller names a request by, so that sending it again has no further effect.
#[derive(Clone, Debug)]
pub(crate) struct IdempotencyKey {
    /// What the caller chose, if anything.
    pub(crate) key: Option<String>,
    /// The name of the caller's API key, which stays when the key is replaced.
    pub(crate) holder: Option<String>,
}

impl IdempotencyKey {
    /// Where the key is unique: in one operation, for one holder, so that no caller is given another's answers.
    pub(super) fn scope(&self, operation: &str) -> String {
        match &self.holder {
            Some(holder) => format!("{operation}@{holder}"),
            None => operation.to_owned(),
        }
    }
}
