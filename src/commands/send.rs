//! `sidecarbon send`: one line to the daemon on this host, as an application
//! would send it.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use clap::Args;
use socket2::{Domain, SockAddr, Socket, Type};

use crate::config::{ListenAddress, ListenSettings, Settings, UnixAddress};
use crate::exit::Exit;
use crate::format::escape;
use crate::pipeline::line::Line;

use super::explain::{Mask, show_reject};
use super::get::reachable;
use super::screen::Screen;
use super::{Invocation, Run, complain, printed};

/// The daemon reads at once, or there is something wrong with it.
const PATIENCE: Duration = Duration::from_secs(5);

/// Long enough for this host's kernel to say that nobody listens.
const REFUSAL: Duration = Duration::from_millis(50);

/// Send one line to the local daemon
///
/// To its first TCP listener, else UDP, else Unix socket. The line is checked
/// first, as the daemon would. Exits with 0 when it was handed over, with 1
/// when nobody listens, and with 64 when the line is invalid.
#[derive(Debug, Args)]
pub struct Send {
    /// The metric's name, without the key
    name: String,
    /// A number
    #[arg(allow_negative_numbers = true)]
    value: String,
    /// Seconds since 1970; without it, the daemon's time
    #[arg(allow_negative_numbers = true)]
    timestamp: Option<String>,
}

impl Run for Send {
    fn run(self, invocation: &Invocation) -> Exit {
        invocation.without_key(|settings| send(settings, &self))
    }
}

/// Checks the line and sends it.
fn send(settings: &Settings, arguments: &Send) -> Exit {
    let Send {
        name,
        value,
        timestamp,
    } = arguments;
    let written = [name, value].into_iter().chain(timestamp);
    let line = written.map(String::as_str).collect::<Vec<_>>().join(" ");
    let mask = Mask::of(settings);
    let rules = settings.listen.rules(&settings.sink.key);
    match Line::parse(line.as_bytes(), &rules) {
        Ok(Some(_)) => {}
        Ok(None) => {
            complain("nothing to send; write a name and a value");
            return Exit::Usage;
        }
        Err(reject) => {
            let width = Screen::new().width();
            for line in show_reject(&reject, line.as_bytes(), &mask, width).lines() {
                complain(line);
            }
            return Exit::Usage;
        }
    }
    let target = match Target::of(&settings.listen) {
        Ok(target) => target,
        Err(why) => {
            complain(why);
            return Exit::Configuration;
        }
    };
    match target.send(format!("{line}\n").as_bytes()) {
        Ok(()) => {
            let shown = mask.apply(line.as_bytes());
            let said = format!("{} {target}: ", target.verb()).into_bytes();
            let said = escape([said, shown].concat()) + "\n";
            printed(Screen::new().print(&said).map(|()| Exit::Done))
        }
        Err(error) => {
            complain(format_args!(
                "no daemon accepts lines at {target}: {error}; is the daemon running?"
            ));
            Exit::No
        }
    }
}

/// The daemon's listener that is easiest to be sure of.
#[derive(Debug)]
enum Target<'a> {
    Tcp(&'a ListenAddress),
    Udp(&'a ListenAddress),
    UnixStream(&'a UnixAddress),
    UnixDatagram(&'a UnixAddress),
}

impl<'a> Target<'a> {
    fn of(listen: &'a ListenSettings) -> Result<Self, String> {
        let tcp = listen.tcp.first().map(Self::Tcp);
        let udp = || listen.udp.first().map(Self::Udp);
        let stream = || listen.unix_stream.first().map(Self::UnixStream);
        let datagram = || listen.unix_datagram.first().map(Self::UnixDatagram);
        let target = tcp.or_else(udp).or_else(stream).or_else(datagram);
        let target = target.ok_or("the configuration has no listener to send to")?;
        match &target {
            Self::Tcp(at) | Self::Udp(at) if at.addresses.iter().any(|at| at.port() == 0) => {
                Err(format!(
                    "the system chooses the port of {target} at each start; name the one in use with --tcp or --udp"
                ))
            }
            _ => Ok(target),
        }
    }

    /// A stream that was read to its end has been received, a datagram may be.
    fn verb(&self) -> &'static str {
        match self {
            Self::Tcp(_) | Self::UnixStream(_) => "received by",
            Self::Udp(_) | Self::UnixDatagram(_) => "sent, unconfirmed, to",
        }
    }

    fn send(&self, line: &[u8]) -> io::Result<()> {
        match self {
            Self::Tcp(at) => first(&at.addresses, |address| {
                let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
                converse(stream.into(), line)
            }),
            Self::Udp(at) => first(&at.addresses, |address| datagram(address, line)),
            Self::UnixStream(at) => {
                let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
                socket.connect(&unix_address(at)?)?;
                converse(socket, line)
            }
            Self::UnixDatagram(at) => {
                let socket = Socket::new(Domain::UNIX, Type::DGRAM, None)?;
                socket.set_write_timeout(Some(PATIENCE))?;
                socket.send_to(line, &unix_address(at)?).map(drop)
            }
        }
    }
}

/// The outcome at the first address that takes the line, or at the first of all.
fn first(
    addresses: &[SocketAddr],
    mut send: impl FnMut(SocketAddr) -> io::Result<()>,
) -> io::Result<()> {
    let mut outcome = None;
    for address in addresses {
        match send(reachable(*address)) {
            Ok(()) => return Ok(()),
            Err(error) => {
                outcome.get_or_insert(error);
            }
        }
    }
    Err(outcome.unwrap_or(io::ErrorKind::AddrNotAvailable.into()))
}

/// Writes, hangs up, and waits for the daemon to hang up in turn: it has read
/// the line then.
fn converse(mut socket: Socket, line: &[u8]) -> io::Result<()> {
    socket.set_write_timeout(Some(PATIENCE))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.write_all(line)?;
    socket.shutdown(Shutdown::Write)?;
    match uninterrupted(|| socket.read(&mut [0; 64])) {
        Ok(0) => Ok(()),
        Ok(_) => Err(io::Error::other("another program answers there")),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(io::Error::other(format!(
            "it was not read within {PATIENCE:?}"
        ))),
        Err(error) => Err(error),
    }
}

fn datagram(address: SocketAddr, line: &[u8]) -> io::Result<()> {
    let any = if address.is_ipv4() {
        "0.0.0.0:0"
    } else {
        "[::]:0"
    };
    let socket = UdpSocket::bind(any)?;
    socket.connect(address)?;
    socket.send(line)?;
    // The daemon never answers; the kernel does where nobody listens.
    socket.set_read_timeout(Some(REFUSAL))?;
    match uninterrupted(|| socket.recv(&mut [0; 64])) {
        Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
        _ => Ok(()),
    }
}

/// With a timeout, a suspension of this process ends a read (signal(7)).
fn uninterrupted(mut read: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match read() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}

fn unix_address(at: &UnixAddress) -> io::Result<SockAddr> {
    match at {
        UnixAddress::Path(path) => SockAddr::unix(path),
        // How Linux tells the two apart; unix(7).
        UnixAddress::Abstract(name) => SockAddr::unix(format!("\0{name}")),
    }
}

impl fmt::Display for Target<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(at) => write!(f, "tcp:{}", at.text),
            Self::Udp(at) => write!(f, "udp:{}", at.text),
            Self::UnixStream(at) => write!(f, "unix_stream:{at}"),
            Self::UnixDatagram(at) => write!(f, "unix_datagram:{at}"),
        }
    }
}
