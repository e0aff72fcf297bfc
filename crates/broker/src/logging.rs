//! Logs to standard error, and the limits on them: what strangers can cause must not fill a disk, and a reader that
//! stalls must not stop the broker. Beside the number of a group stands the partition that it is of.

mod lines;
mod names;

pub(crate) use names::name_groups;

use lines::{Lines, Sender};
use std::collections::HashMap;
use std::io::IsTerminal;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};
use tracing::callsite::Identifier;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Filter, SubscriberExt};
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{EnvFilter, Layer, fmt};

/// Lines that one place in the code may log in one [`WINDOW`]. A person reads the first few; what only counts is a
/// metric.
const BURST: u32 = 20;

/// How long a place that has used up its lines is silent, at most.
const WINDOW: Duration = Duration::from_secs(1);

/// Lines that were left out since the start of the process, for the metrics.
static LEFT_OUT: AtomicU64 = AtomicU64::new(0);

/// How long a process that ends waits for its last lines to be written.
const LAST_LINES: Duration = Duration::from_secs(1);

/// The lines on their way to standard error; none before [`start`].
static LINES: OnceLock<Arc<Lines>> = OnceLock::new();

/// Why nothing can be logged.
#[derive(Debug)]
pub(crate) enum StartError {
    /// Something logs already.
    Twice(TryInitError),
    /// The system has no thread to give.
    System(std::io::Error),
}

impl std::fmt::Display for StartError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            StartError::Twice(error) => error.fmt(f),
            StartError::System(error) => error.fmt(f),
        }
    }
}

/// Logs what `filter` lets through to standard error, at most [`BURST`] lines a second of each kind. Logging never
/// blocks: while nobody reads standard error, lines are dropped. Panics are logged, too.
///
/// # Errors
/// If something logs already, or the system has no thread to give.
pub(crate) fn start(filter: EnvFilter) -> Result<(), StartError> {
    let lines = Arc::new(Lines::default());
    let layer = fmt::layer()
        .fmt_fields(names::fields())
        .with_writer(Sender(Arc::clone(&lines)))
        .with_ansi(std::io::stderr().is_terminal())
        .with_filter(Moderate::default());
    let subscriber = tracing_subscriber::registry().with(filter).with(layer);
    subscriber.try_init().map_err(StartError::Twice)?;
    // Set once: what starts twice has failed above.
    let _ = LINES.set(Arc::clone(&lines));
    std::thread::Builder::new()
        .name("log".to_owned())
        .spawn(move || lines.write_to(std::io::stderr(), say_dropped))
        .map_err(StartError::System)?;
    std::panic::set_hook(Box::new(log_panic));
    Ok(())
}

fn say_dropped(lines: u64) {
    tracing::warn!(lines, "log lines were dropped: standard error was not read in time");
}

/// The usual hook writes to standard error, and waits for its reader.
fn log_panic(panic: &std::panic::PanicHookInfo<'_>) {
    let thread = std::thread::current();
    let name = thread.name().unwrap_or("without a name");
    let backtrace = std::backtrace::Backtrace::capture();
    match backtrace.status() {
        std::backtrace::BacktraceStatus::Captured => tracing::error!("thread `{name}` {panic}\n{backtrace}"),
        _ => tracing::error!("thread `{name}` {panic}"),
    }
}

/// The last thing that a process has to say. What was logged before goes first; a reader that stalls gets a moment.
pub(crate) fn say_last(text: &str) {
    match LINES.get() {
        Some(lines) => {
            lines.push(format!("trimaran: {text}\n").as_bytes(), true);
            flush();
        }
        None => eprintln!("trimaran: {text}"),
    }
}

/// Waits for what was logged to be written, for a moment.
pub(crate) fn flush() {
    if let Some(lines) = LINES.get() {
        lines.flush(LAST_LINES);
    }
}

/// Lines that were dropped since the start of the process, because standard error was not read in time.
pub(crate) fn dropped() -> u64 {
    LINES.get().map_or(0, |lines| lines.dropped())
}

/// Lines that were left out since the start of the process.
pub(crate) fn left_out() -> u64 {
    LEFT_OUT.load(Ordering::Relaxed)
}

/// Lets a burst of each kind of line through, and then none until the window ends. Debug lines and below are asked for
/// by the operator who sets the level, and are not limited.
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
