//! The status as a table for people.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anstyle::Style;

use crate::admin::status::{Account, Listener, Status};
use crate::stats::{EXPIRES_SOON, ListenerKind};

use crate::commands::screen::{BAD, FAINT, GOOD, ODD, STRONG, Screen, paint};
use crate::format::{bytes, count, estimate, thousands, visible};

/// Where the second column begins.
const MARGIN: usize = 11;

/// Columns of numbers.
const NUMBER: usize = 14;

/// All of it, in lines that fit.
pub fn render(status: &Status, screen: Screen) -> String {
    let mut table = Table {
        text: String::new(),
        screen,
    };
    table.title(status);
    table.upstream(status);
    table.queue(status);
    table.lines(&status.ledger);
    table.listeners(&status.listeners);
    table.text
}

struct Table {
    text: String,
    screen: Screen,
}

impl Table {
    fn title(&mut self, status: &Status) {
        let up = lasted(as_seconds(status.uptime_seconds));
        let state = if status.draining {
            format!(", {}", paint(ODD, "stopping"))
        } else {
            String::new()
        };
        let name = paint(STRONG, &format!("sidecarbon {}", status.version));
        let _ = writeln!(self.text, "{name}, running for {up}{state}\n");
    }

    fn upstream(&mut self, status: &Status) {
        let sink = &status.sink;
        let is_up = sink.up == Some(true);
        let is_down = sink.up == Some(false);
        let since = sink
            .away_seconds
            .map(|down| format!(" for {}", lasted(down)));
        let since = since.unwrap_or_default();
        let state = match sink.state.as_str() {
            "unauthorized" => paint(BAD, &format!("API key rejected{since}")),
            _ if is_down => paint(BAD, &format!("down{since}")),
            "connecting" => paint(ODD, "connecting"),
            _ if is_up => paint(GOOD, "up"),
            _ => "not tried yet".to_owned(),
        };
        self.row("upstream", &format!("{} {state}", sink.url));
        if let Some(address) = sink.address.as_ref().filter(|_| is_up) {
            self.row("", &paint(FAINT, &format!("connected to {address}")));
        }
        if let Some(failed) = &sink.failed_addresses {
            self.row(
                "",
                &paint(ODD, &format!("other addresses failed: {failed}")),
            );
        }
        if let Some(error) = &sink.last_error {
            let when = if is_up {
                format!(
                    "last error, {} ago, {}:",
                    lasted(error.ago_seconds),
                    error.kind
                )
            } else {
                format!("{}:", error.kind)
            };
            let said = format!("{when} {}", error.message);
            let said = if is_up { paint(FAINT, &said) } else { said };
            self.row("", &said);
        }
        if is_down && let Some(seconds) = sink.next_attempt_seconds {
            let next = if seconds < 1.0 {
                "next attempt now".to_owned()
            } else {
                format!("next attempt in {}", lasted(seconds))
            };
            self.row("", &next);
        }
        let counts = [
            (sink.resent, "sent again"),
            (sink.at_risk, "at risk"),
            (sink.uncertain, "uncertain"),
        ];
        let counts: Vec<String> = counts
            .iter()
            .filter(|(lines, _)| *lines > 0)
            .map(|(lines, what)| format!("{} {what}", thousands(*lines)))
            .collect();
        if !counts.is_empty() {
            self.row("", &paint(ODD, &format!("lines: {}", counts.join(", "))));
        }
        for (what, left) in [
            (
                "the upstream's certificate",
                sink.certificate_expiry_seconds,
            ),
            (
                "our client certificate",
                sink.client_certificate_expiry_seconds,
            ),
        ] {
            if let Some(left) = left.filter(|left| *left < EXPIRES_SOON) {
                let text = match u64::try_from(left) {
                    Ok(left) => format!("{what} expires in {}", lasted(as_seconds(left))),
                    Err(_) => format!("{what} has expired"),
                };
                self.row("", &paint(ODD, &text));
            }
        }
        self.text.push('\n');
    }

    fn queue(&mut self, status: &Status) {
        let queue = &status.queue;
        let queued = count(status.ledger.queued, "line", "lines");
        let in_flight = thousands(status.ledger.in_flight);
        let used = format!("{} of {}", bytes(queue.bytes), bytes(queue.limit_bytes));
        self.row(
            "queue",
            &format!("{queued} queued, {in_flight} in flight; {used}"),
        );
        let is_down = status.sink.up == Some(false);
        let full = match queue.horizon_seconds.and_then(estimate) {
            Some(horizon) if is_down => paint(ODD, &format!("full in {horizon}")),
            Some(horizon) => format!("would be full {horizon} after the upstream went down"),
            None => "not filling".to_owned(),
        };
        self.row("", &full);
        let has_backlog = queue.drain_seconds != Some(0.0) && status.ledger.queued > 0;
        if has_backlog && status.sink.up == Some(true) {
            let left = match queue.drain_seconds.and_then(estimate) {
                Some(left) => format!("about {left} left"),
                None => paint(ODD, "the backlog is not shrinking"),
            };
            self.row("draining", &left);
        }
        self.text.push('\n');
    }

    fn lines(&mut self, ledger: &Account) {
        let plain = Style::new();
        let rows = [
            ("received", ledger.received, plain, String::new()),
            ("generated", ledger.generated, plain, String::new()),
            (
                "rejected",
                total(&ledger.rejected),
                ODD,
                by_reason(&ledger.rejected),
            ),
            ("filtered", ledger.filtered, plain, String::new()),
            ("aggregated", ledger.aggregated, plain, String::new()),
            ("delivered", ledger.delivered, plain, String::new()),
            (
                "dropped",
                total(&ledger.dropped),
                BAD,
                by_reason(&ledger.dropped),
            ),
            ("queued", ledger.queued, plain, String::new()),
            ("in flight", ledger.in_flight, plain, String::new()),
        ];
        let mut title = "lines";
        for (account, lines, style, reasons) in rows {
            // Accounts of what is switched off are no news.
            let is_quiet = matches!(account, "generated" | "filtered" | "aggregated");
            if lines == 0 && is_quiet {
                continue;
            }
            let number = format!("{:>NUMBER$}", thousands(lines));
            let number = if lines > 0 {
                paint(style, &number)
            } else {
                number
            };
            self.row(
                title,
                format!("{account:<11}{number}   {reasons}").trim_end(),
            );
            title = "";
        }
        if ledger.imbalance != 0 {
            let missing = thousands(ledger.imbalance);
            let defect = format!("{missing} lines are in no account: a defect of sidecarbon");
            self.row("", &paint(BAD, &defect));
        }
        self.text.push('\n');
    }

    fn listeners(&mut self, listeners: &[Listener]) {
        const COLUMNS: usize = 3 * NUMBER;
        if listeners.is_empty() {
            return self.row("listeners", "none");
        }
        let room = self.screen.width().saturating_sub(COLUMNS).max(12);
        let longest = listeners
            .iter()
            .map(|listener| visible(&listener.name))
            .max();
        let width = longest.unwrap_or(0).max("listeners".len()).min(room);
        let _ = writeln!(
            self.text,
            "{}",
            paint(
                FAINT,
                &format!(
                    "{:<width$}{:>NUMBER$}{:>NUMBER$}{:>NUMBER$}",
                    "listeners", "received", "connections", "kernel drops"
                )
            )
        );
        for listener in listeners {
            let kind = ListenerKind::from_label(&listener.kind);
            let is_stream = kind.is_some_and(ListenerKind::is_stream);
            let is_udp = kind.is_some_and(ListenerKind::is_udp);
            let connections = number_or_none(is_stream, listener.connections);
            let drops = number_or_none(is_udp, listener.kernel_drops);
            let drops = format!("{drops:>NUMBER$}");
            let drops = if listener.kernel_drops > 0 {
                paint(BAD, &drops)
            } else {
                drops
            };
            let name = cut(&listener.name, width);
            let pad = " ".repeat(width - visible(&name));
            let received = thousands(listener.received);
            let _ = writeln!(
                self.text,
                "{name}{pad}{received:>NUMBER$}{connections:>NUMBER$}{drops}"
            );
        }
    }

    fn row(&mut self, title: &str, text: &str) {
        let row = format!("{title:<MARGIN$}{text}");
        let row = self.screen.wrap(&row, MARGIN);
        let title_end = title.len();
        let _ = writeln!(self.text, "{}{}", paint(FAINT, title), &row[title_end..]);
    }
}

fn total(by_reason: &BTreeMap<String, u64>) -> u64 {
    by_reason.values().sum()
}

/// `not_finite 3, name 1`: the reasons that occurred, most frequent first.
fn by_reason(reasons: &BTreeMap<String, u64>) -> String {
    let mut occurred: Vec<(&String, &u64)> =
        reasons.iter().filter(|(_, lines)| **lines > 0).collect();
    occurred.sort_by_key(|(_, lines)| std::cmp::Reverse(**lines));
    let shown: Vec<String> = occurred
        .into_iter()
        .map(|(reason, lines)| format!("{reason} {}", thousands(*lines)))
        .collect();
    shown.join(", ")
}

fn number_or_none(counts: bool, number: u64) -> String {
    if counts {
        thousands(number)
    } else {
        "-".to_owned()
    }
}

/// The end of a name tells more than its beginning.
fn cut(name: &str, width: usize) -> String {
    if visible(name) <= width {
        return name.to_owned();
    }
    let mut rest = name.chars();
    while visible(rest.as_str()) + 1 > width && rest.next().is_some() {}
    format!("…{}", rest.as_str())
}

fn lasted(seconds: f64) -> String {
    estimate(seconds).unwrap_or_default()
}

#[expect(clippy::cast_precision_loss, reason = "seconds of a process's life")]
fn as_seconds(seconds: u64) -> f64 {
    seconds as f64
}
