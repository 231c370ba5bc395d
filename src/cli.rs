//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;

use crate::config::Overrides;

/// The command line of the daemon.
#[derive(Debug, Parser)]
#[command(
    version,
    about = "A Graphite endpoint on localhost that adds the API key and survives outages",
    long_about = "Takes `name value [timestamp]` lines on localhost over UDP, TCP and Unix sockets, adds the \
                  API key of Hosted Graphite and forwards them over TLS, TCP, UDP or HTTP. Lines wait in \
                  memory while the upstream is away.\n\n\
                  Without a file and without flags, /etc/sidecarbon/sidecarbon.toml is read if it is there; \
                  otherwise it listens on localhost:2003 and prints what would go upstream.",
    after_help = "Every key of the configuration has an environment name as well, such as \
                  SIDECARBON_SINK_URL for sink.url. The key itself is never given by a flag, since \
                  every user of the host can read those.",
    subcommand_negates_reqs = true
)]
pub struct Cli {
    /// What to do; runs the daemon if left out.
    #[command(subcommand)]
    pub command: Option<Command>,

    /// What replaces values of the file.
    #[command(flatten)]
    pub overrides: OverrideArgs,
}

/// What to do beside running.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Validate the configuration and print the settings in force, the key masked
    Check {
        /// Print what is wrong, and nothing else
        #[arg(long, short)]
        quiet: bool,
    },

    /// Show what would leave for each line on standard input, or why it would not
    ///
    /// Reads lines as the daemon would, with the rules of the configuration. A
    /// line that passes is printed as it would go upstream, the key as `<key>`.
    /// One that does not is shown with its reason, a caret under the byte that
    /// decides, and the remedy.
    ///
    /// Exits with 0 if every line would pass, and with 1 if any is rejected.
    Explain {
        /// Take standard input as one datagram, not as a stream
        #[arg(long)]
        datagram: bool,
    },

    /// Send one line to the local daemon
    ///
    /// To its first TCP listener, else UDP, else Unix socket. The line is checked
    /// first, as the daemon would. Exits with 0 when it was handed over, with 1
    /// when nobody takes it, and with 64 when it is no line.
    Send {
        /// The metric's name, without the key
        name: String,
        /// A number
        #[arg(allow_negative_numbers = true)]
        value: String,
        /// Seconds since 1970; without it, the daemon's time
        #[arg(allow_negative_numbers = true)]
        timestamp: Option<String>,
    },

    /// Show how the local daemon is: its lines, listeners, queue and upstream
    ///
    /// Exits with 0, or with 1 when no daemon answers at admin.listen.
    Status {
        /// Print what /api/status answers
        #[arg(long)]
        json: bool,
        /// Look again every second, until interrupted
        #[arg(long, short)]
        watch: bool,
    },

    /// Exit with 0 if the local daemon is well, else with 1; for health checks
    Health,

    /// Prove the way to the upstream, step by step
    ///
    /// Configuration, key, name look-up, TCP, TLS and, where the transport has
    /// one, the answer. Where it has none, the key is checked over HTTPS if
    /// probe.key_check_url is set. Needs no running daemon, and writes nothing
    /// without --send.
    ///
    /// Exits with 0, with 69 when the upstream cannot be used, and with 78 when
    /// the configuration cannot.
    Probe {
        /// Write one test point, sidecarbon.probe, as the daemon would
        #[arg(long)]
        send: bool,
    },

    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: Shell,
    },

    /// Print the manual pages, or write them into a directory
    Man {
        /// Write one file a page there
        #[arg(long, value_name = "DIR")]
        directory: Option<PathBuf>,
    },
}

/// Flags over the configuration.
#[derive(Debug, Clone, Args)]
pub struct OverrideArgs {
    /// The configuration file
    #[arg(long, short, value_name = "FILE", global = true)]
    config: Option<PathBuf>,

    /// Where lines go: tls://host:port, tcp://, udp://, https://host/path, stdout:
    #[arg(long, value_name = "URL", global = true)]
    sink: Option<String>,

    /// A file that holds the API key
    #[arg(long, value_name = "FILE", global = true)]
    api_key_file: Option<String>,

    /// Listen for datagrams here; may be repeated
    #[arg(long, value_name = "ADDR", global = true)]
    udp: Vec<String>,

    /// Listen for streams here; may be repeated
    #[arg(long, value_name = "ADDR", global = true)]
    tcp: Vec<String>,
}

impl From<OverrideArgs> for Overrides {
    fn from(args: OverrideArgs) -> Self {
        Self {
            config: args.config,
            sink: args.sink,
            api_key_file: args.api_key_file,
            udp: args.udp,
            tcp: args.tcp,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }
}
