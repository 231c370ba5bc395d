//! The steps as they are shown: a verdict each, and what is being waited for.

use anstyle::Style;

use crate::exit::Exit;
use crate::pipeline::sink::Failure;
use crate::stats::FailureKind;

use crate::commands::printed;
use crate::commands::screen::{BAD, FAINT, GOOD, ODD, STRONG, Screen, paint};
use crate::format::escape;

/// Where the text begins: behind the verdict and the step.
const MARGIN: usize = 14;

/// The way ends here, with this code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stop(Exit);

/// Shows steps.
#[derive(Debug)]
pub struct Report {
    screen: Screen,
    is_waiting: bool,
    failed_at: &'static str,
    has_oddities: bool,
}

impl Report {
    /// On standard output.
    pub fn new() -> Self {
        Self {
            screen: Screen::new(),
            is_waiting: false,
            failed_at: "",
            has_oddities: false,
        }
    }

    /// Shows on a terminal what the next verdict depends on.
    pub fn waits(&mut self, step: &str, text: &str) {
        if self.screen.is_terminal {
            self.clear();
            let room = self.screen.width().saturating_sub(MARGIN + 1);
            let text: String = escape(text).chars().take(room).collect();
            // Nobody to tell if that fails; the verdict will notice.
            let _ = self
                .screen
                .print(&paint(FAINT, &format!("{:<5}{step:<9}{text}…", "")));
            self.is_waiting = true;
        }
    }

    /// Takes back what was waited for.
    pub fn clear(&mut self) {
        if std::mem::take(&mut self.is_waiting) {
            let _ = self.screen.control("\r\x1b[K");
        }
    }

    /// A step that is as it should be.
    pub fn good(&mut self, step: &str, text: &str) {
        self.row(GOOD, "ok", step, text);
    }

    /// More about the step above.
    pub fn fact(&mut self, text: &str) {
        self.row(Style::new(), "", "", text);
    }

    /// A step that works, or cannot be proven, with something to know about it.
    pub fn odd(&mut self, step: &str, text: &str) {
        self.has_oddities = true;
        self.row(ODD, "note", step, text);
    }

    /// A step that what is written here makes impossible.
    pub fn misconfigured(&mut self, step: &'static str, problems: &str) -> Stop {
        for (index, problem) in problems.lines().enumerate() {
            let step = if index == 0 { step } else { "" };
            self.row(BAD, "FAIL", step, problem);
        }
        self.failed_at = step;
        Stop(Exit::Configuration)
    }

    /// A step that the upstream makes impossible.
    pub fn failed(&mut self, step: &'static str, failure: &Failure) -> Stop {
        self.failed_for(step, &failure.to_string(), remedy(failure.cause().kind))
    }

    /// The same, in other words.
    pub fn failed_for(&mut self, step: &'static str, text: &str, remedy: &str) -> Stop {
        self.row(BAD, "FAIL", step, text);
        self.row(STRONG, "", "", remedy);
        self.failed_at = step;
        Stop(Exit::Unavailable)
    }

    /// The sum of it.
    pub fn end(mut self, outcome: Result<(), Stop>) -> Exit {
        self.clear();
        let (style, sum, exit) = match outcome {
            Ok(()) if self.has_oddities => {
                (GOOD, "usable, with the notes above".to_owned(), Exit::Done)
            }
            Ok(()) => (GOOD, "usable".to_owned(), Exit::Done),
            Err(Stop(exit)) => {
                let at = self.failed_at;
                let sum = format!("not usable: it fails at {at}, later steps were skipped");
                (BAD, sum, exit)
            }
        };
        let printed_all = self.screen.print(&format!("\n{}\n", paint(style, &sum)));
        printed(printed_all.map(|()| exit))
    }

    fn row(&mut self, style: Style, verdict: &str, step: &str, text: &str) {
        self.clear();
        if text.is_empty() {
            return;
        }
        let verdict = paint(style, &format!("{verdict:<5}"));
        // Names in certificates, answers, addresses: the text of others.
        let row = format!("{verdict}{step:<9}{}", escape(text));
        let row = self.screen.wrap(&row, MARGIN);
        let _ = self.screen.print(&format!("{row}\n"));
    }
}

/// What to do, where the failure's own words do not say it.
fn remedy(kind: FailureKind) -> &'static str {
    match kind {
        FailureKind::Dns => {
            "check the host in the URL, and this host's resolver (/etc/resolv.conf)"
        }
        FailureKind::Connect => {
            "check host and port in the URL, and firewalls on the way; Hosted Graphite takes TLS on 20030 and plain lines on 2003"
        }
        // Its words say it.
        FailureKind::Tls => "",
        FailureKind::Ended => {
            "check that the URL names the port that speaks TLS, and whether the upstream wants a client certificate (sink.tls.client_cert_file)"
        }
        FailureKind::Certificate => {
            "lines wait until that is corrected: nothing is ever sent to an upstream that is not verified"
        }
        FailureKind::Unauthorized => {
            "compare the key with the one on your account page; sidecarbon reads its file again by itself"
        }
        FailureKind::Proxy => "check sink.proxy, or HTTPS_PROXY, ALL_PROXY and NO_PROXY",
        FailureKind::Timeout | FailureKind::Closed | FailureKind::Io => {
            "try again; if it stays so, something between here and there cuts connections"
        }
        FailureKind::Throttled => "try again later: the upstream limits the rate; try again later",
        // Its words say it.
        FailureKind::Status => "",
    }
}
