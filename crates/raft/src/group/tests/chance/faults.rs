//! What goes wrong, and who makes it: crashes, cuts, wrong evidence, and an operator with too many ideas.

use super::*;

impl World {
    /// Breaks things, and asks for things.
    pub(super) fn operator(&mut self) {
        if !self.faults || self.endings.is_drained {
            return;
        }
        let count = self.nodes.len() as u64;
        let (mut a, b) = (self.chance.below(count) as usize, self.chance.below(count) as usize);
        if self.chance.percent(30) {
            a = self.leader().unwrap_or(a);
        }
        let kinds = if self.members_change { 27 } else { 18 };
        match self.chance.below(kinds) {
            0..=2 => self.crash_for_a_while(a),
            3 => (0..self.nodes.len()).for_each(|node| self.crash_for_a_while(node)),
            4..=6 if a != b => self.part(a, b),
            7..=9 => (0..self.nodes.len()).filter(|b| *b != a).for_each(|b| self.part(a, b)),
            10 => {
                let target = self.chance.percent(50).then(|| self.nodes[b].id());
                self.tell(a, Input::Transfer(target));
            }
            11 => self.tell(a, Input::Campaign),
            12 => self.tell(a, Input::ForgetLeader),
            13 => (0..self.nodes.len()).for_each(|node| self.tell(node, Input::ForgetLeader)),
            // Wrong evidence, withdrawn later.
            14 if a != b => {
                let wrong = [Liveness::Suspected, Liveness::Dead][self.chance.below(2) as usize];
                self.notice(a, b, Duration::ZERO, Some(wrong));
                let delay = self.chance.millis(10, 100);
                self.notice(a, b, delay, Some(Liveness::Alive));
            }
            // The group starts again, and its node never had an interruption that anyone could see.
            15 | 16 => {
                let node = self.leader().unwrap_or(a);
                if !self.is_down(node) {
                    self.nodes[node].crash();
                    self.start_life(node);
                }
            }
            17..=19 => self.churn(),
            20 | 21 => self.wipe(a),
            22..=24 => self.compact(a),
            25 | 26 if a != b => self.outlast(a, b),
            _ => {}
        }
        let delay = self.chance.millis(5, 120);
        self.after(delay, Happening::Operator);
    }

    pub(super) fn leader(&self) -> Option<usize> {
        let leads = |node: &usize| {
            let group = self.nodes[*node].group.as_ref();
            group.is_some_and(|group| group.role() == Role::Leader) && !self.is_gone(*node)
        };
        (0..self.nodes.len()).find(leads)
    }

    /// One hears its leader no more; when it is about to stand, the others restart, and don't hear it either.
    pub(super) fn outlast(&mut self, leader: usize, candidate: usize) {
        let leader = self.leader().unwrap_or(leader);
        // Else the candidate's log would be shorter than those of the others.
        self.wishes.quiet_until = self.now + self.chance.millis(0, 200);
        for voter in (0..self.nodes.len()).filter(|voter| *voter != leader) {
            let delay = if voter == candidate {
                Duration::ZERO
            } else {
                self.chance.millis(50, 110)
            };
            let restarts = voter != candidate;
            self.after(
                delay,
                Happening::Outlast {
                    leader,
                    voter,
                    restarts,
                },
            );
        }
    }

    pub(super) fn outlast_one(&mut self, leader: usize, voter: usize, restarts: bool) {
        if !self.faults {
            return;
        }
        for (a, b) in [(leader, voter), (voter, leader)] {
            self.cut(a, b);
            let delay = self.chance.millis(100, 300);
            self.after(delay, Happening::Mend { a, b });
        }
        if restarts && !self.is_down(voter) {
            self.nodes[voter].crash();
            self.start_life(voter);
        }
    }

    pub(super) fn crash_for_a_while(&mut self, node: usize) {
        if self.is_down(node) {
            return;
        }
        self.crash(node);
        let quick = self.chance.percent(40);
        let delay = if quick {
            self.chance.millis(0, 5)
        } else {
            self.chance.millis(20, 500)
        };
        self.after(delay, Happening::Restart { node });
    }

    /// Cuts one way or both; each is mended at its own time.
    pub(super) fn part(&mut self, a: usize, b: usize) {
        self.cut(a, b);
        let delay = self.chance.millis(20, 400);
        self.after(delay, Happening::Mend { a, b });
        if self.chance.percent(80) {
            self.cut(b, a);
            let delay = self.chance.millis(20, 400);
            self.after(delay, Happening::Mend { a: b, b: a });
        }
    }

    /// Repairs everything, but for those that don't come back, and says so to all.
    pub(super) fn heal(&mut self) {
        self.faults = false;
        self.begin_ending();
        for node in 0..self.nodes.len() {
            if self.is_down(node) {
                self.restart(node);
            }
        }
        for a in 0..self.nodes.len() {
            for b in 0..self.nodes.len() {
                if a != b && self.cut[a][b] {
                    self.mend(a, b);
                }
                if a != b {
                    let delay = self.chance.millis(60, 80);
                    self.notice(a, b, delay, Some(Liveness::Alive));
                }
            }
        }
    }
}
