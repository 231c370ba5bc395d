//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser};

use crate::commands::Command;
use crate::config::Overrides;

/// The command line of the daemon.
#[derive(Debug, Parser)]
#[command(
    version,
    about = "A Graphite endpoint on localhost that adds the API key and survives outages",
    long_about = "Takes `name value [timestamp]` lines on localhost over UDP, TCP and Unix sockets, adds the \
                  API key of Hosted Graphite and forwards them over TLS, TCP, UDP or HTTP. Lines wait in \
                  memory while the upstream is away.\n\n\
                  Without --config and SIDECARBON_CONFIG, /etc/sidecarbon/sidecarbon.toml is read if it exists. \
                  Without sink.url, lines are printed to standard output, the key shown as <key>. \
                  Flags override the environment, which overrides the file.",
    after_help = "Every key of the configuration has an environment name as well, such as \
                  SIDECARBON_SINK_URL for sink.url. There is no flag for the key, because \
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

    /// What is logged: error, warn, info, debug or trace
    #[arg(long, value_name = "LEVEL", global = true)]
    log_level: Option<String>,
}

impl From<OverrideArgs> for Overrides {
    fn from(args: OverrideArgs) -> Self {
        Self {
            config: args.config,
            sink: args.sink,
            api_key_file: args.api_key_file,
            udp: args.udp,
            tcp: args.tcp,
            log_level: args.log_level,
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
