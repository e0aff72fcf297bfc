//! A short time of all faults; `cargo xtask torture` does the same for as long as one likes.

use std::fs;
use std::time::Duration;
use trimaran_tests::checker::Law;
use trimaran_tests::process::{announce, binary};
use trimaran_tests::torture::faults::Kind;
use trimaran_tests::torture::{Options, run};

/// What is asserted is that nothing is lost, and that everything works again in the end: nothing about how fast.
#[test]
fn half_a_minute_of_all_faults() {
    let mut options = Options::new(3, Duration::from_secs(25), binary().to_path_buf());
    options.patience = Duration::from_secs(300);
    let report = run(&options).unwrap_or_else(|failure| panic!("{failure}"));
    announce(&format!("torture: {report}"));
    assert!(report.tally.acknowledged > 0 && report.tally.read > 0, "{report}");
}

/// What the cluster can't keep must be missed: otherwise the other test shows nothing.
#[test]
fn disks_that_are_set_back_are_noticed() {
    let mut options = Options::new(1, Duration::from_secs(60), binary().to_path_buf());
    options.kinds = [Kind::Rewind].into_iter().collect();
    options.keep_data = false;
    let folder = tempfile::tempdir().expect("a temporary folder");
    options.out = folder.path().to_path_buf();
    let failure = run(&options).expect_err("all brokers have forgotten what they had, and nobody has noticed");
    let laws: Vec<Law> = failure.violations.iter().map(|violation| violation.law).collect();
    assert!(laws.contains(&Law::AcknowledgedStays), "{failure}");
    // An idempotent producer goes on where it was, and is blamed for the gap; or it has seen a later leader epoch than those that
    // come now, and waits for its like (KIP-320). Which of them depends on how many elections there were before and after.
    assert!(
        laws.contains(&Law::NoFalseAccusation) || laws.contains(&Law::Converges),
        "{failure}"
    );
    let report = failure.folder.expect("the folder for a bug report can be written");
    for name in ["summary.txt", "timeline.txt", "broker-1.log", "broker-3.toml"] {
        assert!(report.join(name).is_file(), "{name} is missing");
    }
    let timeline = fs::read_to_string(report.join("timeline.txt")).expect("it can be read");
    assert!(timeline.contains("is set back"), "{timeline}");
}
