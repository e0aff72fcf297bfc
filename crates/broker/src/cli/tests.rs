use super::*;
use clap::CommandFactory;

fn parse(line: &str) -> Result<Arguments, clap::Error> {
    Arguments::try_parse_from(std::iter::once("trimaran").chain(line.split_whitespace()))
}

#[test]
fn the_commands_are_consistent() {
    Arguments::command().debug_assert();
}

#[test]
fn every_command_teaches_by_example() {
    fn visit(command: &clap::Command, path: &str, poor: &mut Vec<String>) {
        let leaf = command.get_subcommands().next().is_none();
        let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        let trivial = ["trimaran topic list"].contains(&path);
        if leaf && !trivial && !help.contains("Try it:") {
            poor.push(path.to_owned());
        }
        for inner in command.get_subcommands() {
            visit(inner, &format!("{path} {}", inner.get_name()), poor);
        }
    }
    let mut poor = Vec::new();
    visit(&Arguments::command(), "trimaran", &mut poor);
    assert!(poor.is_empty(), "no examples in the help of {poor:?}");
}

#[test]
fn good_lines_are_understood() {
    for line in [
        "broker",
        "broker --broker-id 3 --listeners-client 127.0.0.1:1 --cluster-voters 3@h:1",
        "topic create a -p 3 -r 2 --config retention.ms=-1 --if-not-exists",
        "topic list --bootstrap a:1,b:2",
        "topic describe a --all",
        "topic delete a --if-exists",
        "produce a -k : --acks 1 --partition 0",
        "produce a --acks all",
        "consume a --from-beginning --max-messages 1",
        "consume a --partition 0 --offset 5 --until-end --show-position",
        "cluster status --bootstrap [::1]:9092,localhost:9093",
        "cluster drain 3 --wait --timeout-ms 5000",
        "node",
    ] {
        parse(line).unwrap_or_else(|error| panic!("{line}: {error}"));
    }
}

#[test]
fn bad_lines_are_usage_errors() {
    for line in [
        "",
        "brokre",
        "topic create",
        "topic create a --partitions 0",
        "topic create a --config x",
        "produce a --acks 2",
        "produce a --partition -1",
        "consume a --offset 5",
        "consume a --partition 0 --offset 5 --from-beginning",
        "consume a --max-messages 0",
        "topic list --timeout-ms 0",
        "topic list --bootstrap ::1",
        "topic list --bootstrap localhost",
        "broker --no-such-key 1",
    ] {
        let error = parse(line).expect_err(line);
        assert!(error.use_stderr(), "{line}");
    }
}

#[test]
fn a_wrong_configuration_is_a_usage_error_that_names_the_key() {
    let Ok(Arguments {
        command: Command::Broker(arguments),
    }) = parse("broker --broker-id x")
    else {
        panic!("clap takes any text; the configuration does not")
    };
    let failure = broker::run(&arguments).unwrap_err();
    assert_eq!(failure.exit, Exit::Usage);
    assert!(failure.text.contains("`broker.id` is `x`"), "{}", failure.text);
}
