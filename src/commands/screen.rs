//! Where a command prints: a terminal with its width and colours, or a file that
//! wants neither.

use std::io::{self, IsTerminal, Write};

use anstream::{AutoStream, ColorChoice};
use anstyle::{AnsiColor, Style};

use crate::config;
use crate::format;

/// Good news.
pub const GOOD: Style = AnsiColor::Green.on_default();
/// Something to look at.
pub const ODD: Style = AnsiColor::Yellow.on_default();
/// Bad news.
pub const BAD: Style = AnsiColor::Red.on_default().bold();
/// Beside the point.
pub const FAINT: Style = Style::new().dimmed();
/// A heading.
pub const STRONG: Style = Style::new().bold();

/// Excerpts are cut to this where there is no terminal to fit.
const PAGE_WIDTH: usize = 80;

/// Narrower terminals wrap by themselves.
const LEAST_WIDTH: usize = 40;

/// Standard output, as far as it matters for the looks of what is printed.
#[derive(Debug, Clone, Copy)]
pub struct Screen {
    /// Whether it can be painted over.
    pub is_terminal: bool,
    has_colours: bool,
    width: usize,
    height: Option<usize>,
}

impl Screen {
    /// Standard output as it is now. `NO_COLOR` counts, as do dumb terminals.
    pub fn new() -> Self {
        let stdout = io::stdout();
        let size = terminal_size::terminal_size_of(&stdout);
        Self {
            is_terminal: stdout.is_terminal(),
            has_colours: AutoStream::choice(&stdout) != ColorChoice::Never,
            width: size.map_or(PAGE_WIDTH, |(width, _)| {
                usize::from(width.0).max(LEAST_WIDTH)
            }),
            height: size.map(|(_, height)| usize::from(height.0)),
        }
    }

    /// Columns.
    pub fn width(self) -> usize {
        self.width
    }

    /// Rows, where there are any.
    pub fn height(self) -> Option<usize> {
        self.height
    }

    /// The text in lines that fit, all but the first indented. Where nobody
    /// looks, it stays in one line.
    pub fn wrap(self, text: &str, indent: usize) -> String {
        if self.is_terminal {
            format::wrap(text, self.width, indent)
        } else {
            text.to_owned()
        }
    }

    /// Prints text that has colours, or the text alone; every key that is known is
    /// masked. What others wrote has to be escaped before it is painted.
    pub fn print(self, text: &str) -> io::Result<()> {
        let text = &config::mask(text);
        let mut stdout = io::stdout().lock();
        if self.has_colours {
            stdout.write_all(text.as_bytes())?;
        } else {
            let plain = anstream::adapter::strip_str(text).to_string();
            stdout.write_all(plain.as_bytes())?;
        }
        stdout.flush()
    }

    /// Moves the cursor, or clears, on a terminal.
    pub fn control(self, sequence: &str) -> io::Result<()> {
        if self.is_terminal {
            io::stdout().lock().write_all(sequence.as_bytes())?;
        }
        Ok(())
    }
}

/// The text in a style.
pub fn paint(style: Style, text: &str) -> String {
    format!("{style}{text}{style:#}")
}
