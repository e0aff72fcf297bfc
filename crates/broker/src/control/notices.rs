//! What a node has to say, in the log and in the metrics.

use super::{ControlParts, METADATA, starts};
use crate::ids;
use trimaran_multiraft::{Contradiction, QuorumLost, RefusedEntries, Safety};
use trimaran_node::{Fatal, Notice};
use trimaran_raft::GroupId;
use trimaran_registry::founding::Decision;
use trimaran_storage::log::LogError;

pub(super) fn note(parts: &ControlParts, notice: Notice) {
    let metrics = &parts.metrics;
    match notice {
        Notice::Founding(decision) => say_founding(parts, &decision),
        Notice::FoundingWaitsFor(silent) => {
            let silent: Vec<String> = silent.into_iter().map(ids::broker_name).collect();
            tracing::warn!(
                waits_for = silent.join(", "),
                "the data folder holds nothing of the cluster's metadata: whether the cluster is new, or this broker \
                 has lost its disk, only the others can tell, and all of them must"
            );
        }
        Notice::Opening(replica) => tracing::debug!(
            group = %replica.group, topic = %replica.topic, partition = %replica.partition,
            standing = ?replica.standing, "opens a replica"
        ),
        Notice::Opened(group) => tracing::debug!(%group, "a replica is open"),
        Notice::Closed(group) => tracing::debug!(%group, "a replica is closed"),
        Notice::Lost(group) => {
            metrics.lost.inc();
            tracing::info!(%group, "a replica here holds nothing of what it may have promised: the others fill it");
        }
        Notice::Damaged(group, error) => tracing::error!(
            %group, %error,
            "a replica is damaged: what it held is set aside, and the others fill it again. See \"A disk is damaged\" \
             in docs/operations.md"
        ),
        Notice::Unwritable(group, error) => tracing::error!(
            %group, %error,
            "a replica's records can't be written: its partition goes on without it. It is filled again as soon as its \
             folder can be written; that is tried every minute. See \"A folder can't be written\" in docs/operations.md"
        ),
        Notice::CannotOpen(group, error) => say_cannot_open(parts, group, &error),
        Notice::Whole(group) => tracing::info!(%group, "a replica here that had lost what it held is whole again"),
        Notice::Leadership { group, term, leads } => tracing::debug!(%group, %term, leads, "leadership"),
        Notice::FailedOver(_, took) => metrics.failed_over(took),
        Notice::Members(report) => {
            metrics.member_changes.inc();
            tracing::info!(
                group = %report.group, term = %report.term, voters = ?report.voters, learners = ?report.learners,
                "the members of a group led here have changed"
            );
        }
        Notice::QuorumLost(lost) => {
            metrics.stranded.inc();
            say_quorum_lost(&lost);
        }
        Notice::Refused(refused) => say_refused(&refused),
        Notice::ProducersForgotten(group, count) => {
            metrics.producers_forgotten.inc_by(count);
            tracing::warn!(
                %group, count,
                "forgets idempotent producers for lack of room: they have sent nothing for a quarter of an hour at \
                 least, and what one of them sends again would be stored twice. Too many clients with new producer ids \
                 write to one partition, or to this broker; see \"Many producers\" in docs/operations.md"
            );
        }
        Notice::Contradiction(found, partition) => {
            metrics.contradictions.inc();
            say_contradiction(&found, &partition);
        }
        Notice::Rejected(from, error) => {
            metrics.bad_frames.inc();
            tracing::warn!(
                broker = %from, %error,
                "a message of this broker can't be used: do both run the same version?"
            );
        }
        Notice::Liveness(node, liveness) => tracing::info!(broker = %node, ?liveness, "a broker's liveness changed"),
        Notice::Rerouted { to, through } => tracing::warn!(
            broker = %to, %through,
            "the link to a broker is cut that another one hears: what the cluster has to know goes through that one"
        ),
        Notice::Budget(safety) => say_budget(parts, safety),
        Notice::Ready(replicas) => tracing::info!(replicas, "ready"),
    }
}

pub(super) fn fail(parts: &mut ControlParts, fatal: Fatal) {
    let data = parts.settings.broker.data.display();
    let error = match fatal {
        Fatal::BadEntry(index, error) => format!(
            "entry {index} of the metadata group is not a record batch ({error}): this broker's catalog would differ from \
             the others'"
        ),
        Fatal::Unreadable(index, error) => format!(
            "command {index} of the metadata group can't be read ({error}): it was written by a later version; update \
             this broker"
        ),
        Fatal::Metadata(error) => format!(
            "the log of the metadata group in {data} can't be opened: {error}. The broker stops before it can do harm. \
             See \"A disk is damaged\" in docs/operations.md"
        ),
        Fatal::OtherFounders { configured, noted } => format!(
            "`cluster.voters` names the brokers {configured}, but the cluster in {data} was founded by {noted}: the list \
             says who founded the cluster, and never changes. Name those again; a broker that is to be added is started \
             without being listed. See \"Growing a cluster\" in docs/operations.md"
        ),
        Fatal::OtherCluster => format!(
            "the other brokers belong to another cluster than `{}`: correct `cluster.id`, or the addresses in \
             `cluster.voters`",
            parts.settings.cluster.id
        ),
        Fatal::Superseded(start) => return starts::superseded(parts, "the catalog", start),
    };
    parts.fatal.fail(error);
}

fn say_founding(parts: &ControlParts, decision: &Decision) {
    match decision {
        Decision::Resume => {}
        Decision::Found(with) => tracing::info!(
            with = with.len(),
            "founds the cluster: none of its brokers holds anything yet"
        ),
        Decision::Join if parts.is_member => tracing::error!(
            "the journal holds nothing of the cluster's metadata, and this folder was part of it: what it held is lost, \
             and the other brokers fill it again"
        ),
        Decision::Join if parts.settings.is_newcomer() => {
            tracing::info!("joins the cluster: its metadata comes from the founders");
        }
        Decision::Join => tracing::warn!(
            "the data folder is empty, but the cluster is not new: this broker is refilled by the others"
        ),
    }
}

/// A partition goes on with its other replicas.
fn say_cannot_open(parts: &ControlParts, group: GroupId, error: &LogError) {
    debug_assert_ne!(group, METADATA, "fatal instead");
    tracing::error!(
        %group, %error, data = %parts.settings.broker.data.display(),
        "a replica's log can't be opened: it takes no part in its partition, which goes on without it. It is tried \
         again every minute. See \"A folder can't be written\" in docs/operations.md"
    );
}

fn say_quorum_lost(quorum_lost: &QuorumLost) {
    let QuorumLost { group, term, lost } = quorum_lost;
    tracing::error!(
        %group, %term, ?lost,
        "a majority is needed, and these brokers have lost what they had promised: nothing can be decided until one of \
         them is started with the disk that it had. See \"When one is lost\" in docs/operations.md"
    );
}

fn say_refused(refused: &RefusedEntries) {
    let RefusedEntries {
        group,
        leader,
        term,
        error,
    } = refused;
    tracing::error!(
        %group, ?leader, %term, %error,
        "a replica's log refuses what its leader sent: it takes no part in its partition, which goes on without it. Start this          broker again; if the same comes back, stop the leader's broker, and report it as a bug"
    );
}

/// The strongest sign that there are two clusters, or that a disk lies.
fn say_contradiction(found: &Contradiction, partition: &str) {
    let Contradiction {
        group,
        leader,
        term,
        violation,
    } = found;
    let leader = ids::broker_name(ids::broker(*leader));
    tracing::error!(
        %group, partition, leader, %term, ?violation,
        "safety violated: this leader contradicts what this broker knows to be committed. A broker has lost what it had \
         promised (an old data folder, a disk that lies), or brokers of two clusters mix. Stop that leader's broker, and \
         see \"A leader contradicts a replica\" in docs/operations.md"
    );
}

/// Says so when the own disk or scheduler makes the budget unsafe, and when it is safe again.
fn say_budget(parts: &ControlParts, safety: Safety) {
    let budget = parts.plan.budget;
    match safety {
        Safety::Safe => tracing::info!(?budget, "disk and scheduler fit the failover budget again"),
        Safety::Slow { expected } => tracing::warn!(
            ?budget,
            ?expected,
            "the disk is too slow for the failover budget: a failover would take longer; raise \
             `cluster.failover_budget_ms`"
        ),
        Safety::Jittery { delay } => tracing::warn!(
            ?budget,
            ?delay,
            "this machine is too busy for the failover budget: others may take this broker for dead; raise \
             `cluster.failover_budget_ms`"
        ),
    }
}
