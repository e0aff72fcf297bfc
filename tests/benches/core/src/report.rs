//! The tables, in Markdown.

use crate::case::Measured;
use crate::{Idle, Row};
use std::fmt::Write;
use std::time::Duration;

/// Versions as the lock file has them, so that the table can't name others.
const LOCK: &str = include_str!("../Cargo.lock");

const CONTENDERS: [&str; 3] = ["trimaran-raft", "raft", "openraft"];

/// The version of a package.
fn version(package: &str) -> &'static str {
    let mut lines = LOCK.lines().skip_while(|line| *line != format!("name = \"{package}\""));
    let line = lines.nth(1).unwrap_or_default();
    line.trim_start_matches("version = ").trim_matches('"')
}

/// What stands above the tables.
pub fn head(rounds: usize) -> String {
    let versions = CONTENDERS.map(|name| format!("{name} {}", version(name)));
    format!(
        "{}; groups of three members in one process, payloads of {} bytes, medians of {rounds} interleaved rounds \
         (smallest to largest).\n",
        versions.join(", "),
        crate::case::PAYLOAD_BYTES
    )
}

/// Proposals a second.
pub fn proposals(rows: &[Row]) -> String {
    let mut table = String::from(
        "| proposals a second of one core | trimaran-raft | raft-rs | openraft | to the better |\n\
         |---|---:|---:|---:|---:|\n",
    );
    for row in rows {
        let cells = [0, 1, 2].map(|which| cell(row, which));
        let ratio = ratio(&row.measured, Measured::per_second);
        writeln!(table, "| {} | {} | {ratio} |", row.name, cells.join(" | ")).ok();
    }
    table
}

fn cell(row: &Row, which: usize) -> String {
    let spread = Spread::of(row.measured[which].iter().map(Measured::per_second));
    let mut remarks = Vec::new();
    if !row.setups[which].is_empty() {
        remarks.push(row.setups[which].clone());
    }
    if row.groups[which] != row.groups[0] {
        remarks.push(format!("{} groups", thousands(row.groups[which] as f64)));
    }
    let remarks = match remarks.is_empty() {
        true => String::new(),
        false => format!("; {}", remarks.join(", ")),
    };
    format!(
        "**{}** ({}–{}{remarks})",
        thousands(spread.median),
        thousands(spread.least),
        thousands(spread.most)
    )
}

/// Nanoseconds a step, where steps can be counted.
pub fn steps(rows: &[Row]) -> String {
    let mut table = String::from(
        "| nanoseconds a step (steps a proposal) | trimaran-raft | raft-rs | to raft-rs |\n\
         |---|---:|---:|---:|\n",
    );
    for row in rows {
        let cells = [0, 1].map(|which| {
            let measured = &row.measured[which];
            let spread = Spread::of(measured.iter().filter_map(Measured::nanos_a_step));
            let steps = measured.first().and_then(Measured::steps_a_proposal);
            format!("**{:.0}** ({:.1})", spread.median, steps.unwrap_or(f64::NAN))
        });
        let speed = |measured: &Measured| measured.nanos_a_step().map_or(0.0, |nanos| 1.0 / nanos);
        let pair = [&row.measured[0], &row.measured[1]].map(Clone::clone);
        writeln!(
            table,
            "| {} | {} | {} |",
            row.name,
            cells.join(" | "),
            ratio(&pair, speed)
        )
        .ok();
    }
    table
}

/// Idle groups.
pub fn idle(rows: &[Idle]) -> String {
    let mut table = String::from(
        "| a second of idleness, a heartbeat each 100 ms | groups | processor time | a group |\n\
         |---|---:|---:|---:|\n",
    );
    for row in rows {
        let spread = Spread::of(row.took.iter().map(Duration::as_secs_f64));
        writeln!(
            table,
            "| {} | {} | **{:.2} ms** ({:.2}–{:.2}) | {:.2} µs |",
            row.name,
            thousands(row.groups as f64),
            spread.median * 1e3,
            spread.least * 1e3,
            spread.most * 1e3,
            spread.median * 1e6 / row.groups as f64
        )
        .ok();
    }
    table
}

/// How the first contender compares with the better of the others: the median of what each round said, since its
/// measurements lie next to each other in time.
fn ratio(measured: &[Vec<Measured>], speed: impl Fn(&Measured) -> f64) -> String {
    let others = &measured[1..];
    let of_round = |round: usize| {
        let better = others
            .iter()
            .map(|measured| speed(&measured[round]))
            .fold(0.0, f64::max);
        speed(&measured[0][round]) / better
    };
    let spread = Spread::of((0..measured[0].len()).map(of_round));
    format!("**{:.1}×** ({:.1}–{:.1})", spread.median, spread.least, spread.most)
}

struct Spread {
    least: f64,
    median: f64,
    most: f64,
}

impl Spread {
    fn of(values: impl Iterator<Item = f64>) -> Spread {
        let mut values: Vec<f64> = values.collect();
        values.sort_by(f64::total_cmp);
        let at = |place: usize| values.get(place).copied().unwrap_or(f64::NAN);
        Spread {
            least: at(0),
            median: at(values.len() / 2),
            most: at(values.len().saturating_sub(1)),
        }
    }
}

/// A number as people read it: three digits that count, and commas.
fn thousands(number: f64) -> String {
    let mut scale = 1.0;
    while number / scale >= 1000.0 {
        scale *= 10.0;
    }
    let digits = format!("{:.0}", (number / scale).round() * scale);
    let mut shown = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            shown.push(',');
        }
        shown.push(digit);
    }
    shown
}
