//! What the control thread makes of its own start when it is not accepted any more.

use super::ControlParts;
use crate::ids;
use crate::starts;
use trimaran_raft::NodeId;
use trimaran_registry::starts::Start;
use trimaran_wire::peer as wire;

/// A peer takes nothing from this process.
pub(super) fn disowned(parts: &mut ControlParts, by: NodeId, refused: &wire::Refused) {
    let by = ids::broker_name(ids::broker(by));
    match refused {
        wire::Refused::Superseded(seen) => superseded(parts, &by, starts::from_wire(*seen)),
        wire::Refused::RolledBack(seen) => {
            if let Err(error) = parts.notes.lost() {
                tracing::error!(%error, "can't note in identity.toml of the data folder that the folder is too old to be used");
            }
            parts.fatal.fail(format!(
                "the data folder {} is older than what this broker has promised since: {by} has seen {}. It is a former folder of \
                 this broker, or an old copy. Start the broker again: nothing in the folder will be relied on, and the others fill \
                 it again. See \"Former data folders\" in docs/operations.md",
                parts.settings.broker.data.display(),
                starts::from_wire(*seen)
            ));
        }
        wire::Refused::AnotherRuns(alive) => parts.fatal.fail(format!(
            "another process runs as broker {} of this cluster: {by} is in contact with {}. Give each broker its own `broker.id`",
            parts.broker.id,
            starts::from_wire(*alive)
        )),
        _ => {}
    }
}

/// There is a later start of this broker.
pub(super) fn superseded(parts: &mut ControlParts, by: &str, later: Start) {
    // So that the next start has a larger number, whatever the clock says, and knows that its folder is behind.
    if let Err(error) = parts.starts.note(parts.broker.id, later) {
        tracing::error!(%error, "can't note a later start of this broker in starts.toml of the data folder");
    }
    parts.fatal.fail(format!(
        "broker {} of this cluster has been started again since this process was, as {by} tells: {later}. If that is another \
         process, give each broker its own `broker.id`; if not, start this broker again",
        parts.broker.id
    ));
}
