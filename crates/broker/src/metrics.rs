//! What `/metrics` shows: one registry, and the counters that the threads add to.

use crate::engine::ClusterView;
use crate::journal::JournalQueue;
use crate::memory::MemoryBudget;
use crate::shards::Mailboxes;
use crate::workers::Workers;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::watch;
use trimaran_transport::{PeerLinks, Statistics};

/// Counters, gauges and histograms that the broker's threads add to. Their parts are shared with the [`Exporter`].
#[derive(Debug)]
pub struct Metrics {
    /// Elections begun by replicas on this broker.
    pub elections: Counter,
    /// Partitions (and the metadata group) led here.
    pub leaderships: Gauge,
    /// Replicas held here.
    pub replicas: Gauge,
    /// Partitions led here whose in-sync replicas are fewer than their replicas.
    pub under_replicated: Gauge,
    /// Replicas here that hold nothing, or not all, of what they had promised, and are being filled.
    pub repairing: Gauge,
    /// Replicas that were found damaged or lost, and opened to be filled again.
    pub lost: Counter,
    /// Times that a group was led here of which too many voters have lost what they had promised.
    pub stranded: Counter,
    /// Leaders that contradicted what a replica here holds.
    pub contradictions: Counter,
    /// Idempotent producers forgotten before they have been silent for a day.
    pub producers_forgotten: Counter,
    /// Writes of records to segments that failed.
    pub flush_failures: Counter,
    /// Reads that were wrong, and right when they were repeated.
    pub misreads: Counter,
    /// Replicas of groups led here that are being filled, and don't count yet.
    pub learners: Gauge,
    /// Changes of members of groups led here.
    pub member_changes: Counter,
    /// Logs here that were started over behind a position of their leader's.
    pub log_resets: Counter,
    /// Brokers believed alive, this one included.
    pub brokers_alive: Gauge,
    /// Messages of peers that were dropped because a mailbox was full.
    pub dropped_messages: Counter,
    /// Frames of peers that could not be read.
    pub bad_frames: Counter,
    /// 1 while the failover budget is not safe with the disk and scheduler as they are.
    pub budget_unsafe: Gauge,
    append_seconds: Histogram,
    failover_seconds: Histogram,
    journal_seconds: Histogram,
    journal_batches: Counter,
    journal_bytes: Counter,
    flushed_bytes: Counter,
}

impl Metrics {
    /// All at zero.
    pub fn new() -> Metrics {
        // From 50 µs, a fast disk's sync, to 6.5 s; each bucket twice the one before.
        let latency = || Histogram::new(exponential_buckets(0.000_05, 2.0, 18));
        Metrics {
            elections: Counter::default(),
            leaderships: Gauge::default(),
            replicas: Gauge::default(),
            under_replicated: Gauge::default(),
            repairing: Gauge::default(),
            lost: Counter::default(),
            stranded: Counter::default(),
            contradictions: Counter::default(),
            producers_forgotten: Counter::default(),
            flush_failures: Counter::default(),
            misreads: Counter::default(),
            learners: Gauge::default(),
            member_changes: Counter::default(),
            log_resets: Counter::default(),
            brokers_alive: Gauge::default(),
            dropped_messages: Counter::default(),
            bad_frames: Counter::default(),
            budget_unsafe: Gauge::default(),
            append_seconds: latency(),
            failover_seconds: latency(),
            journal_seconds: latency(),
            journal_batches: Counter::default(),
            journal_bytes: Counter::default(),
            flushed_bytes: Counter::default(),
        }
    }

    /// What prints these and what is counted elsewhere.
    pub(crate) fn exporter(&self, elsewhere: Elsewhere) -> Exporter {
        let mut registry = Registry::with_prefix("trimaran");
        self.register(&mut registry);
        registry.register_collector(Box::new(elsewhere));
        Exporter { registry }
    }

    fn register_repair(&self, to: &mut Registry) {
        to.register(
            "replicas_repairing",
            "Replicas on this broker that were lost or damaged, and are being filled by the others",
            self.repairing.clone(),
        );
        to.register(
            "replicas_lost",
            "Replicas on this broker that were found lost or damaged",
            self.lost.clone(),
        );
        to.register(
            "groups_stranded",
            "Times that a group led by this broker was found unable to decide, since too many of its voters lost their disks",
            self.stranded.clone(),
        );
        to.register(
            "safety_violations",
            "Leaders that contradicted what a replica on this broker knows to be committed, or another leader of their term",
            self.contradictions.clone(),
        );
        to.register(
            "producers_forgotten",
            "Idempotent producers that this broker has forgotten for lack of room",
            self.producers_forgotten.clone(),
        );
        to.register(
            "flush_failures",
            "Writes of records to segments on this broker that failed, and are tried again",
            self.flush_failures.clone(),
        );
        to.register(
            "misreads",
            "Reads of this broker's disk that were wrong, and right when they were repeated",
            self.misreads.clone(),
        );
        to.register(
            "learners",
            "Replicas of groups led by this broker that are being filled and don't count yet",
            self.learners.clone(),
        );
        to.register(
            "member_changes",
            "Changes of the members of groups led by this broker",
            self.member_changes.clone(),
        );
        to.register(
            "log_resets",
            "Logs on this broker begun anew behind a position of their leader's",
            self.log_resets.clone(),
        );
    }

    fn register(&self, to: &mut Registry) {
        to.register(
            "leaderships",
            "Groups led by this broker, the metadata group included",
            self.leaderships.clone(),
        );
        to.register("replicas", "Replicas open on this broker", self.replicas.clone());
        to.register(
            "under_replicated",
            "Groups led by this broker with replicas out of sync",
            self.under_replicated.clone(),
        );
        self.register_repair(to);
        to.register(
            "brokers_alive",
            "Brokers believed alive, this one included",
            self.brokers_alive.clone(),
        );
        to.register(
            "elections",
            "Elections begun by replicas on this broker",
            self.elections.clone(),
        );
        to.register(
            "failover_budget_unsafe",
            "1 while this broker's disk or scheduler is too slow for failover_budget_ms",
            self.budget_unsafe.clone(),
        );
        to.register_with_unit(
            "failover",
            "From losing sight of a group's leader to serving the group here",
            Unit::Seconds,
            self.failover_seconds.clone(),
        );
        to.register_with_unit(
            "commit",
            "From accepting a batch to its acknowledgement",
            Unit::Seconds,
            self.append_seconds.clone(),
        );
        to.register_with_unit(
            "journal_write",
            "One journal write with its sync",
            Unit::Seconds,
            self.journal_seconds.clone(),
        );
        to.register("journal_batches", "Journal writes", self.journal_batches.clone());
        to.register_with_unit(
            "journal",
            "Payload bytes written to the journal",
            Unit::Bytes,
            self.journal_bytes.clone(),
        );
        to.register_with_unit(
            "flushed",
            "Bytes written to segments",
            Unit::Bytes,
            self.flushed_bytes.clone(),
        );
        to.register(
            "dropped_messages",
            "Messages of peers dropped because a mailbox was full",
            self.dropped_messages.clone(),
        );
        to.register(
            "bad_frames",
            "Frames of peers that could not be read",
            self.bad_frames.clone(),
        );
    }

    /// What Prometheus is shown of these, without what is counted elsewhere.
    #[cfg(test)]
    pub(crate) fn text(&self) -> String {
        let mut registry = Registry::with_prefix("trimaran");
        self.register(&mut registry);
        Exporter { registry }.text()
    }

    /// A batch was acknowledged after so long. Once a batch: not for what is refused, nor again for its request.
    pub fn appended(&self, took: Duration) {
        self.append_seconds.observe(took.as_secs_f64());
    }

    /// A group whose leader was lost is served here after so long.
    pub fn failed_over(&self, took: Duration) {
        self.failover_seconds.observe(took.as_secs_f64());
    }

    /// The journal wrote so many bytes, and synced.
    pub fn journal_written(&self, bytes: u64, took: Duration) {
        self.journal_batches.inc();
        self.journal_bytes.inc_by(bytes);
        self.journal_seconds.observe(took.as_secs_f64());
    }

    /// So many bytes went to segments.
    pub fn flushed(&self, bytes: u64) {
        self.flushed_bytes.inc_by(bytes);
    }
}

/// Prints all metrics.
#[derive(Debug)]
pub struct Exporter {
    registry: Registry,
}

impl Exporter {
    /// The text that Prometheus scrapes.
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a string fails only if a collector does; what is there until then is still the truth.
        let _ = prometheus_client::encoding::text::encode(&mut text, &self.registry);
        text
    }
}

impl Default for Metrics {
    fn default() -> Metrics {
        Metrics::new()
    }
}

/// What other parts count, read when Prometheus asks.
pub(crate) struct Elsewhere {
    pub(crate) clients: Arc<Statistics>,
    pub(crate) links: PeerLinks,
    pub(crate) mailboxes: Mailboxes,
    pub(crate) journal: Arc<JournalQueue>,
    pub(crate) workers: Arc<Workers>,
    pub(crate) memory: Arc<MemoryBudget>,
    pub(crate) view: watch::Receiver<Arc<ClusterView>>,
}

impl std::fmt::Debug for Elsewhere {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Elsewhere")
    }
}

fn read(value: &AtomicU64) -> u64 {
    value.load(Ordering::Relaxed)
}

impl Collector for Elsewhere {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let links = self.links.statistics();
        let total = |of: fn(&trimaran_transport::LinkStatistics) -> &AtomicU64| {
            links.iter().map(|(_, link)| read(of(link))).sum::<u64>()
        };
        let clients = &self.clients;
        let closed = &clients.closed;
        let turned_away =
            read(&closed.oversized) + read(&closed.stalled) + read(&closed.slow_reader) + read(&closed.by_service);
        let mailboxes = self.mailboxes.all();
        let waiting = mailboxes.iter().map(crate::shards::Mailbox::len).sum::<usize>();
        let view = Arc::clone(&self.view.borrow());
        let partitions = view.partition_health();
        let gauges = [
            (
                "partitions_offline",
                "Partitions of the cluster without a leader, as this broker sees it",
                partitions.offline,
            ),
            (
                "partitions_without_quorum",
                "Partitions of the cluster of whose replicas a majority is out of contact or has lost its disk, as this broker \
                 sees it",
                partitions.without_quorum,
            ),
            (
                "partitions_under_replicated",
                "Partitions of the cluster with replicas out of sync, as this broker sees it",
                partitions.under_replicated,
            ),
            ("connections", "Client connections", read(&clients.open)),
            (
                "requests_in_flight",
                "Client requests being handled",
                read(&clients.in_flight),
            ),
            ("mailbox_inputs", "Inputs that wait for a shard", waiting as u64),
            (
                "journal_backlog_bytes",
                "Bytes that wait for the journal",
                self.journal.backlog_bytes(),
            ),
            (
                "peer_links_connected",
                "Links to other brokers that are up",
                total(|link| &link.connected),
            ),
            (
                "peer_queued_bytes",
                "Bytes that wait for other brokers",
                total(|link| &link.queued_bytes),
            ),
        ];
        for (name, help, value) in gauges {
            let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
            gauge.encode(encoder.encode_descriptor(name, help, None, metric_type(&gauge))?)?;
        }
        self.encode_memory(&mut encoder)?;
        let counters = [
            (
                "connections_accepted",
                "Client connections accepted",
                read(&clients.accepted),
            ),
            (
                "connections_turned_away",
                "Client connections over a limit",
                read(&clients.turned_away),
            ),
            (
                "connections_cut",
                "Client connections closed for what they sent or did not take",
                turned_away,
            ),
            ("requests", "Requests of clients", read(&clients.frames_in)),
            ("request_bytes", "Bytes from clients", read(&clients.bytes_in)),
            ("response_bytes", "Bytes to clients", read(&clients.bytes_out)),
            ("peer_frames", "Frames to other brokers", total(|link| &link.frames_out)),
            ("peer_bytes", "Bytes to other brokers", total(|link| &link.bytes_out)),
            (
                "peer_dropped_frames",
                "Frames to other brokers that were dropped",
                total(|link| &link.dropped_frames),
            ),
            (
                "peer_connects",
                "Connections made to other brokers",
                total(|link| &link.connects),
            ),
            (
                "peer_closes",
                "Connections to other brokers lost",
                total(|link| &link.closes),
            ),
            (
                "log_lines_left_out",
                "Log lines left out because there were too many of their kind",
                crate::logging::left_out(),
            ),
            (
                "log_lines_dropped",
                "Log lines dropped because standard error was not read in time",
                crate::logging::dropped(),
            ),
        ];
        for (name, help, value) in counters {
            let counter = ConstCounter::new(value);
            counter.encode(encoder.encode_descriptor(name, help, None, metric_type(&counter))?)?;
        }
        self.encode_workers(&mut encoder)
    }
}

impl Elsewhere {
    fn encode_workers(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let mut family = encoder.encode_descriptor(
            "thread_busy_seconds",
            "How long each thread has been busy with one thing; 0 if it is idle",
            None,
            MetricType::Gauge,
        )?;
        for activity in self.workers.all() {
            let gauge = ConstGauge::new(activity.busy_for().as_secs_f64());
            let label = [("thread", activity.name())];
            gauge.encode(family.encode_family(&label)?)?;
        }
        Ok(())
    }
}

impl Elsewhere {
    /// Limit and use of each share of the memory budget, and what was refused for want of it.
    fn encode_memory(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let memory = &self.memory;
        let shares = memory.shares();
        let mut limits = vec![("tails", memory.tails()), ("requests", memory.requests())];
        limits.extend(shares.iter().map(|share| (share.name(), share.bytes())));
        let mut held = vec![
            ("tails", memory.tails_held()),
            ("requests", read(&self.clients.request_bytes)),
        ];
        held.extend(shares.iter().map(|share| (share.name(), share.held())));
        let refused: Vec<_> = shares.iter().map(|share| (share.name(), share.refused())).collect();
        let families = [
            (
                "memory_limit_bytes",
                "Bytes that a share of the memory budget has",
                limits,
            ),
            (
                "memory_used_bytes",
                "Bytes in use of a share of the memory budget",
                held,
            ),
        ];
        for (name, help, values) in families {
            let of = |value| ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
            let mut family = encoder.encode_descriptor(name, help, None, metric_type(&of(0)))?;
            for (share, value) in values {
                of(value).encode(family.encode_family(&[("share", share)])?)?;
            }
        }
        let (name, help) = (
            "memory_refused",
            "Times that a share of the memory budget had too little left",
        );
        let mut family = encoder.encode_descriptor(name, help, None, metric_type(&ConstCounter::new(0u64)))?;
        for (share, count) in refused {
            ConstCounter::new(count).encode(family.encode_family(&[("share", share)])?)?;
        }
        Ok(())
    }
}

fn metric_type(metric: &impl EncodeMetric) -> MetricType {
    metric.metric_type()
}
