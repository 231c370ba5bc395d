//! What is to be measured is asked for, measured, and printed.

mod arrivals;
#[allow(dead_code)]
#[path = "../../tests/it/support/certs.rs"]
mod certs;
mod floor;
mod ledger;
mod lines;
mod load;
mod options;
mod process;
mod relay;
mod report;
mod rig;
mod scenarios;
mod tracer;
mod upstream;

use std::process::ExitCode;

use clap::Parser;

use options::{Arguments, Command, Options, Scenario};
use report::Report;

/// The key that the daemon adds, and the floor as well.
const KEY: &str = "01234567-89ab-cdef-0123-456789abcdef";

/// Fails where lines were lost that should not have been, or came twice or
/// harmed.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let scenarios = match arguments.command {
        Some(Command::Floor { tcp, upstream }) => {
            floor::run(tcp, upstream);
            return ExitCode::SUCCESS;
        }
        Some(Command::Run(scenario)) => vec![scenario],
        None => options::all(),
    };
    sidecarbon::os::raise_file_limit();
    if arguments.options.pin {
        process::pin_load();
    }
    let reports = scenarios
        .iter()
        .map(|scenario| run(scenario, arguments.options));
    if reports.fold(true, |sound, report| sound & report.is_sound()) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Floor and daemon in turn, as often as asked for.
fn run(scenario: &Scenario, options: Options) -> Report {
    let title = scenarios::title(scenario);
    let mut report = Report::new(title, scenarios::may_lose(scenario));
    for _ in 0..options.runs {
        for kind in scenarios::kinds(scenario) {
            match scenarios::measure(scenario, *kind, options) {
                Ok(figures) => report.add(*kind, figures),
                Err(reason) => println!("{}: {reason}", scenarios::title(scenario)),
            }
        }
    }
    report.print();
    report
}
