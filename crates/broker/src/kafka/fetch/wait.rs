//! Waiting for something new in any of a request's partitions.

use super::{Found, Plan, Wanted};
use crate::engine::{Engine, ReadError, ReadResult, Reading};
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use trimaran_wire::batch::Offset;

/// When a shard has too many waiting readers it answers at once, with nothing new. Asking it again without a pause would
/// make matters worse.
const PAUSE: Duration = Duration::from_millis(50);

/// Completes when one of the partitions has records beyond those that were found, or an error.
pub(super) async fn for_news(engine: &Engine, plan: &Plan, found: &[Found]) {
    let waiting = plan
        .wanted
        .iter()
        .zip(found)
        .filter_map(|(wanted, found)| wait(engine, plan, wanted, found));
    let news = First {
        waiting: waiting.collect(),
    };
    if !news.await {
        tokio::time::sleep(PAUSE).await;
    }
}

/// A read of one partition that is answered once there is something beyond what is known.
fn wait(engine: &Engine, plan: &Plan, wanted: &Wanted, found: &Found) -> Option<Waiting> {
    let (Ok(group), Found::Read(result)) = (&wanted.group, found) else {
        return None;
    };
    // A position above the high watermark is not wrong, only early.
    let from = result.high_watermark.0.max(wanted.from);
    let beyond = Wanted { from, ..wanted.clone() };
    let request = plan.reader.request(*group, &beyond, 1, true);
    Some(Waiting {
        known: from,
        reading: engine.read(request),
    })
}

struct Waiting {
    /// Everything below is known.
    known: Offset,
    reading: Reading,
}

/// Completes with the first of its reads. Says whether that was news.
struct First {
    waiting: Vec<Waiting>,
}

impl Future for First {
    type Output = bool;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<bool> {
        for waiting in &mut self.waiting {
            if let Poll::Ready(answer) = Pin::new(&mut waiting.reading).poll(context) {
                return Poll::Ready(is_news(&answer, waiting.known));
            }
        }
        Poll::Pending
    }
}

fn is_news(answer: &Result<ReadResult, ReadError>, known: Offset) -> bool {
    match answer {
        Ok(result) => result.high_watermark.0 > known,
        Err(ReadError::NotServing) => false,
        Err(
            ReadError::UnknownGroup
            | ReadError::NotLeader { .. }
            | ReadError::FencedEpoch
            | ReadError::UnknownEpoch
            | ReadError::OutOfRange { .. }
            | ReadError::Cancelled
            | ReadError::Storage,
        ) => true,
    }
}
