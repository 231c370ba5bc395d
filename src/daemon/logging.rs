//! Logs to standard error, or in a container to standard output, by a thread of
//! their own: an output that blocks costs log lines, which are counted, and
//! delays nothing. Where no thread can be had, they go out directly, to say so.
//!
//! Each line passes through one last stage, which masks every key that is known and
//! escapes what could deceive a terminal, whatever was logged.

use std::fmt;
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::panic;
use std::sync::Mutex;
use std::thread;

use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Subscriber};
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::{Format, Writer};
use tracing_subscriber::fmt::writer::{BoxMakeWriter, MakeWriter};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, reload};

use crate::config::{self, LogFormat};
use crate::format;

/// Log queued lines while the output blocks. More are dropped and counted.
const WAITING_LINES: usize = 1024;

/// The logs of the process. Dropping it writes what still waits.
#[derive(Debug)]
pub struct Logging {
    level: reload::Handle<Targets, Registry>,
    dropped: ErrorCounter,
    _writer: WorkerGuard,
}

/// Where logs go, and whether somebody sits there.
struct Output {
    writer: Box<dyn io::Write + Send>,
    is_terminal: bool,
}

impl Output {
    fn of(stream: impl io::Write + IsTerminal + Send + 'static) -> Self {
        Self {
            is_terminal: stream.is_terminal(),
            writer: Box::new(stream),
        }
    }
}

/// Starts logging. Once in a process. `stdout_is_taken` by the lines of a sink. After
/// an error, which is that no thread is available, logs go to standard error all the
/// same.
pub fn start(level: LevelFilter, format: LogFormat, stdout_is_taken: bool) -> io::Result<Logging> {
    let output = if format == LogFormat::Container && !stdout_is_taken {
        Output::of(io::stdout())
    } else {
        Output::of(io::stderr())
    };
    let colours = output.is_terminal && std::env::var_os("NO_COLOR").is_none_or(|no| no.is_empty());
    let format = match format {
        LogFormat::Auto if is_journal(io::stderr()) => LogFormat::Journald,
        LogFormat::Container if !output.is_terminal => LogFormat::Json,
        LogFormat::Auto | LogFormat::Container => LogFormat::Text,
        format => format,
    };
    let started = on_a_thread(output.writer);
    let writer = match &started {
        Ok((writer, _)) => BoxMakeWriter::new(writer.clone()),
        Err(_) => BoxMakeWriter::new(Mutex::new(io::stderr())),
    };
    let (filter, handle) = reload::Layer::new(targets(level));
    let is_json = format == LogFormat::Json;
    let layer = tracing_subscriber::fmt::layer()
        .with_writer(CleanWriters {
            inner: writer,
            is_json,
        })
        .with_target(false);
    let layer = match format {
        LogFormat::Json => layer.json().flatten_event(true).boxed(),
        LogFormat::Journald => layer.event_format(Journald).boxed(),
        LogFormat::Text | LogFormat::Auto | LogFormat::Container => {
            layer.with_ansi(colours).boxed()
        }
    };
    tracing_subscriber::registry()
        .with(layer.with_filter(filter))
        .init();
    let (writer, guard) = started?;
    Ok(Logging {
        level: handle,
        dropped: writer.error_counter(),
        _writer: guard,
    })
}

/// The library panics where it can have no thread.
fn on_a_thread(output: Box<dyn io::Write + Send>) -> io::Result<(NonBlocking, WorkerGuard)> {
    // Says why, which the panic does only in its message.
    let spare = thread::Builder::new().spawn(|| {})?;
    let _ = spare.join();
    let hook = panic::take_hook();
    panic::set_hook(Box::new(|_| {}));
    let started = panic::catch_unwind(panic::AssertUnwindSafe(|| {
        NonBlockingBuilder::default()
            .buffered_lines_limit(WAITING_LINES)
            .thread_name("log")
            .finish(output)
    }));
    panic::set_hook(hook);
    started.map_err(|_| io::ErrorKind::WouldBlock.into())
}

/// Makes [`Clean`] writers.
struct CleanWriters {
    inner: BoxMakeWriter,
    is_json: bool,
}

impl<'a> MakeWriter<'a> for CleanWriters {
    type Writer = Clean<<BoxMakeWriter as MakeWriter<'a>>::Writer>;

    fn make_writer(&'a self) -> Self::Writer {
        Clean {
            writer: self.inner.make_writer(),
            is_json: self.is_json,
        }
    }
}

/// Writes lines without keys and without characters that deceive.
struct Clean<W> {
    writer: W,
    is_json: bool,
}

impl<W: io::Write> io::Write for Clean<W> {
    /// Takes a whole line: the subscriber writes each in one piece.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line);
        let text = text.strip_suffix('\n').unwrap_or(&text);
        let mut clean = if self.is_json {
            format::escape_json(&config::mask_json(text))
        } else {
            clean_text(text)
        };
        clean.push('\n');
        self.writer.write_all(clean.as_bytes())?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

/// The colours are ours: the subscriber has escaped the ESC of others.
fn clean_text(text: &str) -> String {
    let masked = config::mask(text);
    let parts: Vec<String> = masked.split('\x1b').map(format::escape).collect();
    parts.join("\x1b")
}

impl Logging {
    /// A new level, at a reload.
    pub fn set_level(&self, level: LevelFilter) {
        // Fails only when the subscriber is gone, and then nothing is logged.
        let _ = self.level.reload(targets(level));
    }

    /// Counts the lines that a blocked output has cost.
    pub fn dropped(&self) -> ErrorCounter {
        self.dropped.clone()
    }
}

/// Libraries are heard when something is wrong; their details hold bytes of
/// requests.
fn targets(level: LevelFilter) -> Targets {
    Targets::new()
        .with_target(env!("CARGO_PKG_NAME"), level)
        .with_default(level.min(LevelFilter::WARN))
}

/// Whether standard error is the journal: systemd says which file that is, as
/// `device:inode` (systemd.exec(5)).
fn is_journal(stderr: impl AsFd) -> bool {
    let Ok(journal) = std::env::var("JOURNAL_STREAM") else {
        return false;
    };
    rustix::fs::fstat(stderr)
        .is_ok_and(|stat| journal == format!("{}:{}", stat.st_dev, stat.st_ino))
}

/// The priority prefix of sd-daemon(3), and no time: the journal has its own.
struct Journald;

impl<S, N> FormatEvent<S, N> for Journald
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let priority = match *event.metadata().level() {
            Level::ERROR => 3,
            Level::WARN => 4,
            Level::INFO => 6,
            Level::DEBUG | Level::TRACE => 7,
        };
        write!(writer, "<{priority}>")?;
        Format::default()
            .without_time()
            .with_level(false)
            .with_target(false)
            .with_ansi(false)
            .format_event(context, writer, event)
    }
}

#[cfg(test)]
mod tests {
    use io::Write as _;

    use super::*;

    fn cleaned(line: &str, is_json: bool) -> String {
        let mut writer = Vec::new();
        let mut clean = Clean {
            writer: &mut writer,
            is_json,
        };
        clean.write_all(line.as_bytes()).unwrap();
        String::from_utf8(writer).unwrap()
    }

    #[test]
    fn lines_are_clean() {
        for (line, expected) in [
            ("\x1b[32m INFO\x1b[0m x=1\n", "\x1b[32m INFO\x1b[0m x=1\n"),
            (
                "a\u{202e}b\r\nWARN forged\n",
                "a\\u{202e}b\\r\\nWARN forged\n",
            ),
        ] {
            assert_eq!(cleaned(line, false), expected);
        }
        let json = "{\"b\":\"x\u{202e}\"}\n";
        assert_eq!(cleaned(json, true), "{\"b\":\"x\\u202e\"}\n");
    }
}
