//! What ends the broker at once: a disk that can't be trusted any longer.

use std::sync::OnceLock;
use tokio::sync::Notify;

/// The first fatal error. A stopped broker is safer than one that acknowledges what it may not hold.
#[derive(Debug, Default)]
pub(crate) struct Fatal {
    error: OnceLock<String>,
    failed: Notify,
}

impl Fatal {
    /// Nothing has failed yet.
    pub(crate) fn new() -> Fatal {
        Fatal::default()
    }

    /// Something did. Only the first error counts: the others follow from it.
    pub(crate) fn fail(&self, error: String) {
        tracing::error!("{error}");
        if self.error.set(error).is_ok() {
            self.failed.notify_waiters();
            self.failed.notify_one();
        }
    }

    /// What failed, if anything did.
    pub(crate) fn error(&self) -> Option<&str> {
        self.error.get().map(String::as_str)
    }

    /// Completes when something has failed.
    pub(crate) async fn failed(&self) -> &str {
        loop {
            let notified = self.failed.notified();
            if let Some(error) = self.error() {
                return error;
            }
            notified.await;
        }
    }
}
