//! Logs to standard error, and the limit on them: what strangers can cause must not fill a disk.

use std::collections::HashMap;
use std::io::IsTerminal;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use tracing::callsite::Identifier;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Filter, SubscriberExt};
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{EnvFilter, Layer, fmt};

/// Lines that one place in the code may log in one [`WINDOW`]. A person reads the first few; what only counts is a metric.
const BURST: u32 = 20;

/// How long a place that has used up its lines is silent, at most.
const WINDOW: Duration = Duration::from_secs(1);

/// Lines that were left out since the start of the process, for the metrics.
static LEFT_OUT: AtomicU64 = AtomicU64::new(0);

/// Logs what `filter` lets through to standard error, at most [`BURST`] lines a second of each kind.
///
/// # Errors
/// If something logs already.
pub(crate) fn start(filter: EnvFilter) -> Result<(), TryInitError> {
    let lines = fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_filter(Moderate::default());
    tracing_subscriber::registry().with(filter).with(lines).try_init()
}

/// Lines that were left out since the start of the process.
pub(crate) fn left_out() -> u64 {
    LEFT_OUT.load(Ordering::Relaxed)
}

/// Lets a burst of each kind of line through, and then none until the window ends. Debug lines and below are asked for
/// by whoever sets the level, and are not limited.
#[derive(Default)]
struct Moderate {
    kinds: Mutex<HashMap<Identifier, Kind>>,
}

struct Kind {
    since: Instant,
    lines: u32,
}

impl Kind {
    fn admits(&mut self, now: Instant) -> bool {
        if now.duration_since(self.since) >= WINDOW {
            *self = Kind { since: now, lines: 0 };
        }
        self.lines = self.lines.saturating_add(1);
        self.lines <= BURST
    }
}

impl Moderate {
    fn admits(&self, kind: Identifier, now: Instant) -> bool {
        let mut kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        kinds.entry(kind).or_insert(Kind { since: now, lines: 0 }).admits(now)
    }
}

impl<S: Subscriber> Filter<S> for Moderate {
    fn enabled(&self, _metadata: &Metadata<'_>, _context: &Context<'_, S>) -> bool {
        true
    }

    fn event_enabled(&self, event: &Event<'_>, _context: &Context<'_, S>) -> bool {
        let metadata = event.metadata();
        let admitted = *metadata.level() > Level::INFO || self.admits(metadata.callsite(), Instant::now());
        if !admitted {
            LEFT_OUT.fetch_add(1, Ordering::Relaxed);
        }
        admitted
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing_subscriber::layer::Layered;

    /// Counts what gets through.
    #[derive(Clone, Default)]
    struct Count(std::sync::Arc<AtomicU64>);

    impl<S: Subscriber> Layer<S> for Count {
        fn on_event(&self, _event: &Event<'_>, _context: Context<'_, S>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn flood(log: impl Fn()) -> u64 {
        let count = Count::default();
        let layer = count.clone().with_filter(Moderate::default());
        let subscriber: Layered<_, _> = tracing_subscriber::registry().with(layer);
        tracing::subscriber::with_default(subscriber, || (0..u64::from(BURST) * 50).for_each(|_| log()));
        count.0.load(Ordering::Relaxed)
    }

    #[test]
    fn a_flood_of_one_kind_of_line_is_cut_and_counted() {
        let before = left_out();
        let lines = flood(|| tracing::warn!("a stranger sent nonsense"));
        // A slow machine may see more than one window.
        assert!(lines >= u64::from(BURST) && lines < u64::from(BURST) * 50);
        assert!(left_out() > before);
    }

    #[test]
    fn what_was_asked_for_is_not_cut() {
        assert_eq!(flood(|| tracing::debug!("detail")), u64::from(BURST) * 50);
    }

    #[test]
    fn a_new_window_begins_anew() {
        let since = Instant::now();
        let mut kind = Kind { since, lines: 0 };
        assert!((0..BURST).all(|_| kind.admits(since)));
        assert!(!kind.admits(since));
        assert!(kind.admits(since + WINDOW));
    }
}
