//! `trimaran broker`: configuration, logging, signals.

use super::{Exit, Failure};
use crate::config::{Settings, keys};
use crate::engine::ClusterView;
use crate::server::{Server, StartError};
use clap::{Arg, ArgMatches, Command, Error, FromArgMatches};
use std::path::PathBuf;
use std::sync::Arc;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tracing_subscriber::EnvFilter;

const EXAMPLES: &str = "\
Configuration comes from the file, then from the environment (broker.id is TRIMARAN_BROKER_ID), then from flags; later
ones win. Topic defaults are keys as well: `retention.ms = 3600000` in the file's table [topic].

Try it:
  trimaran broker                            one broker on 127.0.0.1:9092, its data in ./trimaran-data
  trimaran broker --config broker.toml       the same configuration on every broker but for [broker] and [listeners]

A file for the first of three brokers:
  [broker]
  id = 1
  data = \"/var/lib/trimaran\"
  [listeners]
  client = \"10.0.0.1:9092\"
  peer = \"10.0.0.1:9192\"
  [cluster]
  id = \"orders\"
  voters = [\"1@10.0.0.1:9192\", \"2@10.0.0.2:9192\", \"3@10.0.0.3:9192\"]

SIGTERM or Ctrl-C: hands leaderships over, then stops. A second one: stops at once. SIGHUP is ignored.";

/// What the command line says: a file, and keys with their values.
#[derive(Clone, Debug)]
pub(super) struct Arguments {
    file: Option<PathBuf>,
    flags: Vec<(String, String)>,
}

/// One flag a key: the table of keys is the only list of them.
impl clap::Args for Arguments {
    fn augment_args(command: Command) -> Command {
        let file = Arg::new("config")
            .long("config")
            .short('c')
            .value_name("FILE")
            .value_parser(clap::value_parser!(PathBuf))
            .help("A TOML file with the keys below [env: TRIMARAN_CONFIG]");
        command.arg(file).args(keys::KEYS.iter().map(flag)).after_help(EXAMPLES)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Arguments::augment_args(command)
    }
}

fn flag(key: &'static keys::Key) -> Arg {
    let default = if key.default.is_empty() {
        String::new()
    } else {
        format!(" [default: {}]", key.default)
    };
    let agreed = if key.agreed { " (the same on every broker)" } else { "" };
    Arg::new(key.name)
        .long(keys::flag(key.name))
        .value_name(key.value)
        .allow_hyphen_values(true)
        .help(format!("{}{agreed} [{}]{default}", key.help, key.name))
}

impl FromArgMatches for Arguments {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Arguments, Error> {
        let given = keys::KEYS.iter().filter_map(|key| {
            let value = matches.get_one::<String>(key.name)?;
            Some((key.name.to_owned(), value.clone()))
        });
        Ok(Arguments {
            file: matches
                .get_one::<PathBuf>("config")
                .cloned()
                .or_else(|| super::client::variable("TRIMARAN_CONFIG").map(PathBuf::from)),
            flags: given.collect(),
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Arguments::from_arg_matches(matches)?;
        Ok(())
    }
}

/// Runs a broker until a signal or a failure ends it.
pub(super) fn run(arguments: &Arguments) -> Result<Exit, Failure> {
    // Variables that are not UTF-8 are none of ours.
    let environment =
        std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let settings = Settings::load(arguments.file.as_deref(), environment, &arguments.flags)
        .map_err(|error| Failure::usage(error.to_string()))?;
    log_to_stderr(&settings.broker.log)?;
    let limit = crate::descriptors::raise_limit();
    if let Some(warning) = crate::descriptors::warning(limit, settings.limits.connections) {
        tracing::warn!("{warning}");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .thread_name("sockets")
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format!("the system refuses: {error}")))?;
    let result = runtime.block_on(serve(settings));
    // A blocked read of a segment must not keep a broker that has stopped.
    runtime.shutdown_background();
    crate::logging::flush();
    result
}

fn log_to_stderr(filter: &str) -> Result<(), Failure> {
    let filter = EnvFilter::try_new(filter).map_err(|error| {
        Failure::usage(format!(
            "`broker.log` is `{filter}`, which is no filter ({error}); use a level such as `info`, or `info,trimaran_raft=debug`"
        ))
    })?;
    crate::logging::start(filter).map_err(|error| Failure::failed(format!("logging can't be set up: {error}")))
}

async fn serve(settings: Settings) -> Result<Exit, Failure> {
    let refused = |error: std::io::Error| Failure::failed(format!("the system refuses: {error}"));
    let mut stop = StopSignals::new().map_err(refused)?;
    let hangup = signal(SignalKind::hangup()).map_err(refused)?;
    tokio::spawn(ignore_hangups(hangup));
    let started = tokio::select! {
        started = Server::start(settings) => started,
        name = stop.next() => {
            tracing::info!(signal = name, "stopped before it had started");
            return Ok(Exit::Done);
        }
    };
    let server = started.map_err(|error| Failure {
        exit: match error {
            StartError::Settings(_) => Exit::Usage,
            StartError::Bind { .. }
            | StartError::Folder(_)
            | StartError::Journal(_)
            | StartError::System(_)
            | StartError::Occupied { .. } => Exit::Failed,
        },
        text: error.to_string(),
    })?;
    tokio::spawn(name_groups(server.engine().views()));
    tokio::select! {
        error = server.failed() => return Err(Failure::failed(error)),
        name = stop.next() => tracing::info!(signal = name, "leaves: hands its leaderships over (a second signal stops at once)"),
    }
    tokio::select! {
        _ = server.leave() => {
            tracing::info!("stopped");
            Ok(Exit::Done)
        }
        name = stop.next() => Err(Failure::failed(format!("stopped at once by a second signal ({name})"))),
    }
}

/// Lets the log name the partitions of groups, as the cluster knows them.
async fn name_groups(mut views: watch::Receiver<Arc<ClusterView>>) {
    loop {
        let view = Arc::clone(&views.borrow_and_update());
        crate::logging::name_groups(move |group| view.group_name(trimaran_registry::GroupId(group)));
        if views.changed().await.is_err() {
            return;
        }
    }
}

/// A closed terminal, or a habit of log rotation: no reason to stop, and there is nothing to read again.
async fn ignore_hangups(mut hangup: tokio::signal::unix::Signal) {
    while hangup.recv().await.is_some() {
        tracing::info!(
            "SIGHUP is ignored: the configuration is read at start only, and the log goes to standard error"
        );
    }
}

struct StopSignals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl StopSignals {
    fn new() -> std::io::Result<StopSignals> {
        Ok(StopSignals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
