//! Starting the broker's own threads.

use crate::fatal::Fatal;
use std::sync::Arc;
use std::thread::JoinHandle;

/// Starts a named thread. If it panics (a broken invariant of our own), the whole broker ends: without this thread it
/// would only seem to live.
///
/// # Errors
/// When the system has no thread to give.
pub(crate) fn spawn(
    name: &str,
    fatal: &Arc<Fatal>,
    body: impl FnOnce() + Send + 'static,
) -> std::io::Result<JoinHandle<()>> {
    let guard = Guard {
        name: name.to_owned(),
        fatal: Arc::clone(fatal),
    };
    std::thread::Builder::new().name(name.to_owned()).spawn(move || {
        let _guard = guard;
        body();
    })
}

struct Guard {
    name: String,
    fatal: Arc<Fatal>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.fatal.fail(format!(
                "the thread `{}` has panicked, which is a bug of Trimaran: please report it with the lines above. The broker \
                 stops, and can be started again",
                self.name
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_fatal_and_an_ordinary_end_is_not() {
        let fatal = Arc::new(Fatal::new());
        spawn("fine", &fatal, || ()).unwrap().join().unwrap();
        assert_eq!(fatal.error(), None);
        assert!(spawn("bad", &fatal, || panic!("on purpose")).unwrap().join().is_err());
        assert!(fatal.error().unwrap().contains("`bad`"));
    }
}
