//! What one start of a broker publishes and answers, against what it has done by then.

use super::{Law, Violation};
use std::collections::BTreeSet;

/// The replicas that one start of a broker has opened, and those that it must open before it is ready.
#[derive(Debug, Default)]
pub struct Views {
    /// What the catalog gave it when it was registered.
    given: Option<BTreeSet<u64>>,
    opened: BTreeSet<u64>,
}

impl Views {
    /// The shard of this group has its replica, or knows that it takes no part.
    pub fn opened(&mut self, group: u64) {
        self.opened.insert(group);
    }

    /// The replica is the broker's no more.
    pub fn closed(&mut self, group: u64) {
        self.opened.remove(&group);
        if let Some(given) = &mut self.given {
            given.remove(&group);
        }
    }

    /// A view was published: whether this start is registered in it, whether it says that the broker is ready, and the
    /// groups that it places here.
    pub fn published(
        &mut self,
        registered: bool,
        ready: bool,
        placed: impl IntoIterator<Item = u64>,
    ) -> Result<(), Violation> {
        if registered && self.given.is_none() {
            self.given = Some(placed.into_iter().collect());
        }
        let broken = |what: String| Err(Violation::new(Law::ViewsAreTrue, what));
        match &self.given {
            _ if !ready => Ok(()),
            None => broken("it says that it is ready, and is not registered".to_owned()),
            Some(given) => match given.difference(&self.opened).next() {
                None => Ok(()),
                Some(group) => broken(format!("it says that it is ready, and has not opened group {group}")),
            },
        }
    }

    /// An answer leaves that follows from this command, and the view shows what follows from that one.
    pub fn answered(answer: u64, view: u64) -> Result<(), Violation> {
        if view >= answer {
            return Ok(());
        }
        let what = format!("an answer follows from command {answer}, and the view beside it from command {view}");
        Err(Violation::new(Law::ViewsAreTrue, what))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_that_is_ready_has_opened_what_it_was_given() {
        let mut views = Views::default();
        assert!(views.published(false, false, [1, 2]).is_ok());
        let early = views.published(false, true, [1, 2]).unwrap_err();
        assert_eq!(early.law, Law::ViewsAreTrue);
        views.opened(1);
        assert!(views.published(true, false, [1, 2]).is_ok());
        let early = views.published(true, true, [1, 2]).unwrap_err();
        assert!(early.detail.contains("group 2"), "{early:?}");
        views.opened(2);
        assert!(
            views.published(true, true, [1, 2, 3]).is_ok(),
            "what is created later makes nobody wait"
        );
    }

    #[test]
    fn what_is_closed_is_not_waited_for() {
        let mut views = Views::default();
        assert!(views.published(true, false, [1]).is_ok());
        views.closed(1);
        assert!(views.published(true, true, []).is_ok());
    }

    #[test]
    fn an_answer_is_not_ahead_of_the_view() {
        assert!(Views::answered(7, 7).is_ok());
        assert_eq!(Views::answered(8, 7).unwrap_err().law, Law::ViewsAreTrue);
    }
}
