//! `sidecarbon explain`: the verdict on each line of standard input.
//!
//! The bytes go through the daemon's own splitting and parsing, with the rules
//! of its configuration; here is only how the outcome is shown.

mod excerpt;

use std::io::{self, Read};
use std::time::{SystemTime, UNIX_EPOCH};

use clap::Args;

use crate::config::{NameRule, Settings};
use crate::exit::Exit;
use crate::format;
use crate::pipeline::batch::LineHandler;
use crate::pipeline::decode::protocol::Protocol;
use crate::pipeline::decode::{self, Decoder, Ending};
use crate::pipeline::line::{self, Line, Reject, Rules, is_documented};
use crate::pipeline::listen::READ_BYTES;

use super::screen::{BAD, FAINT, ODD, Screen, paint};
use super::{Invocation, Run, complain, printed};
use excerpt::excerpt;

pub(super) use excerpt::{Mask, show_reject};

/// Show what would leave for each line on standard input, or why it would not
///
/// Reads lines as the daemon would, with the rules of the configuration. A
/// line that passes is printed as it would go upstream, the key as `<key>`.
/// One that does not is shown with its reason, a caret under the byte that
/// decides, and the remedy.
///
/// Exits with 0 if every line would pass, and with 1 if any is rejected.
#[derive(Debug, Args)]
pub struct Explain {
    /// Take standard input as one datagram, not as a stream
    #[arg(long)]
    datagram: bool,
}

impl Run for Explain {
    fn run(self, invocation: &Invocation) -> Exit {
        invocation.without_key(|settings| explain(settings, self.datagram))
    }
}

/// Explains standard input, as a stream or as one datagram.
fn explain(settings: &Settings, datagram: bool) -> Exit {
    if settings.sink.key_is_missing {
        complain("warning: the key cannot be read here, so names that carry it are not recognised");
    }
    let rules = settings.listen.rules(&settings.sink.key);
    let mut report = Report::new(settings, Screen::new());
    let outcome = if datagram {
        explain_datagram(&rules, &mut report)
    } else {
        explain_stream(&rules, &mut report)
    };
    printed(outcome.map(|()| report.finish()))
}

fn explain_stream(rules: &Rules, report: &mut Report) -> io::Result<()> {
    let mut input = io::stdin().lock();
    let mut buffer = vec![0; READ_BYTES];
    let mut client = Decoder::new(Protocol::Lines);
    loop {
        let length = match input.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        report.begin(SystemTime::now());
        if client.feed(&buffer[..length], rules, report).is_break() {
            report.note("the daemon closes such a connection; the rest is not read");
            return report.print();
        }
        report.print()?;
    }
    report.begin(SystemTime::now());
    client.finish(Ending::Clean, rules, report);
    report.print()
}

fn explain_datagram(rules: &Rules, report: &mut Report) -> io::Result<()> {
    let mut bytes = Vec::new();
    let limit = READ_BYTES as u64 + 1;
    io::stdin().lock().take(limit).read_to_end(&mut bytes)?;
    let truncated = bytes.len() > READ_BYTES;
    bytes.truncate(READ_BYTES);
    // What is behind the last newline is no line when it is nothing.
    bytes.pop_if(|last| *last == b'\n');
    report.begin(SystemTime::now());
    decode::datagram(Protocol::Lines, &bytes, truncated, rules, report);
    report.print()
}

/// What is said about the lines.
struct Report {
    screen: Screen,
    mask: Mask,
    prefix: &'static str,
    /// Seconds since 1970, for lines without a time.
    receipt: String,
    /// The line that is looked at, from 1.
    number: u64,
    leave: u64,
    rejected: u64,
    blank: u64,
    text: String,
}

impl Report {
    fn new(settings: &Settings, screen: Screen) -> Self {
        Self {
            screen,
            mask: Mask::of(settings),
            prefix: if settings.sink.is_bare { "" } else { "<key>." },
            receipt: String::new(),
            number: 0,
            leave: 0,
            rejected: 0,
            blank: 0,
            text: String::new(),
        }
    }

    fn begin(&mut self, now: SystemTime) {
        let seconds = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        self.receipt = seconds.to_string();
    }

    fn passes(&mut self, line: &Line<'_>, raw: &[u8], rules: &Rules) {
        self.leave += 1;
        let mut leaves = Vec::new();
        line.write(self.receipt.as_bytes(), &mut leaves);
        let leaves = self.mask.apply(&leaves);
        self.text += self.prefix;
        // A name may hold characters that change the direction of text.
        self.text += &format::escape(leaves.trim_ascii_end());
        self.text.push('\n');
        if rules.names == NameRule::Any
            && let Some(at) = undocumented(raw)
        {
            let hint = "Hosted Graphite does not document this character in names, and may refuse it; \
                        listen.names = \"sanitize\" makes it _";
            self.say("warning, name", hint, false);
            self.show(raw, at);
        }
    }

    fn reject_line(&mut self, reject: Reject, raw: &[u8]) {
        self.rejected += 1;
        self.say(
            &format!("rejected, {}", reject.reason.label()),
            reject.hint,
            true,
        );
        self.show(raw, reject.at);
    }

    fn say(&mut self, verdict: &str, hint: &str, is_bad: bool) {
        let verdict = paint(if is_bad { BAD } else { ODD }, verdict);
        let sentence = format!("line {} {verdict}: {hint}", self.number);
        self.text += &self.screen.wrap(&sentence, 4);
        self.text.push('\n');
    }

    fn show(&mut self, raw: &[u8], at: usize) {
        self.text += &excerpt(raw, at, &self.mask, self.screen.width());
    }

    fn note(&mut self, text: &str) {
        self.text += &self.screen.wrap(&paint(FAINT, text), 0);
        self.text.push('\n');
    }

    fn print(&mut self) -> io::Result<()> {
        let text = std::mem::take(&mut self.text);
        self.screen.print(&text)
    }

    /// The sum on standard error, so that standard output holds lines alone
    /// when all of them pass.
    fn finish(&self) -> Exit {
        let lines = self.leave + self.rejected;
        let blank = match self.blank {
            0 => String::new(),
            blank => format!(", {blank} blank"),
        };
        complain(format_args!(
            "{}: {} would leave, {} rejected{blank}",
            format::count(lines, "line", "lines"),
            format::thousands(self.leave),
            format::thousands(self.rejected),
        ));
        if self.rejected > 0 {
            Exit::No
        } else {
            Exit::Done
        }
    }
}

impl LineHandler for Report {
    fn add(&mut self, raw: &[u8], rules: &Rules) {
        match Line::parse(raw, rules) {
            Ok(Some(line)) => {
                self.number += 1;
                self.passes(&line, raw, rules);
            }
            Ok(None) => {
                self.number += 1;
                self.blank += 1;
            }
            Err(reject) => self.reject(reject, raw, rules),
        }
    }

    fn reject(&mut self, reject: Reject, raw: &[u8], _rules: &Rules) {
        self.number += 1;
        self.reject_line(reject, raw);
    }
}

/// Where the name of a valid line has a character that Hosted Graphite does not
/// document.
fn undocumented(raw: &[u8]) -> Option<usize> {
    let content = line::content(raw);
    let start = content.start;
    let text = std::str::from_utf8(&raw[content]).ok()?;
    let name = text.split([' ', '\t']).next()?;
    let at = name.find(|c| !is_documented(c))?;
    Some(start + at)
}
