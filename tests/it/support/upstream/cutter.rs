//! A proxy that cuts connections at any byte.

use std::io::Write;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use socket2::SockRef;

use super::acceptor::{Acceptor, After};
use super::port::Port;
use crate::support::read::read_some;
use crate::support::wait::wait_for;

/// So small that the kernel takes little more than is passed on.
const BUFFER: usize = 16 * 1024;

/// Passes bytes on to a server, until it cuts the connection.
pub struct Cutter {
    acceptor: Acceptor,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    cuts: AtomicUsize,
    calm: AtomicBool,
    /// Connections that are left alone.
    spared: AtomicUsize,
}

impl Cutter {
    /// Cuts each connection after some bytes from 1 to `most`, drawn from the
    /// seed: every other time with an RST, else as a process that dies does.
    pub fn before(server: SocketAddr, most: usize, seed: u64) -> Self {
        let state = Arc::new(State::default());
        let acceptor = Acceptor::start(Port::reserve().listen(Some(BUFFER)), {
            let state = Arc::clone(&state);
            move |client, number| {
                let mut random = fastrand::Rng::with_seed(seed.wrapping_add(number as u64));
                let limit = if state.calm.load(Ordering::SeqCst) {
                    state.spared.fetch_add(1, Ordering::SeqCst);
                    usize::MAX
                } else {
                    random.usize(1..=most)
                };
                pass(client, server, limit, random.bool(), &state);
                After::Close
            }
        });
        Self { acceptor, state }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.acceptor.address()
    }

    /// Connections cut so far.
    pub fn cuts(&self) -> usize {
        self.state.cuts.load(Ordering::SeqCst)
    }

    /// New connections are left alone. Waits for one: by then the daemon knows
    /// what has become of the others.
    #[track_caller]
    pub fn calm_down(&self) {
        self.state.calm.store(true, Ordering::SeqCst);
        wait_for("a connection that is left alone", || {
            self.state.spared.load(Ordering::SeqCst) > 0
        });
    }
}

fn pass(mut client: TcpStream, server: SocketAddr, limit: usize, resets: bool, state: &State) {
    let Ok(mut server) = TcpStream::connect(server) else {
        return;
    };
    server.set_nodelay(true).expect("an open socket");
    let back = passing_back(&server, &client);
    let mut left = limit;
    let mut buffer = vec![0; 16 * 1024];
    while left > 0 {
        let most = left.min(buffer.len());
        match read_some(&mut client, &mut buffer[..most]) {
            Ok(read @ 1..) if server.write_all(&buffer[..read]).is_ok() => left -= read,
            _ => break,
        }
    }
    // What was passed on arrives; the server then ends its side.
    let _ = server.shutdown(Shutdown::Write);
    if left == 0 {
        state.cuts.fetch_add(1, Ordering::SeqCst);
        if resets {
            let _ = SockRef::from(&client).set_linger(Some(Duration::ZERO));
        }
    }
    back.join().expect("the way back");
}

/// Has a thread pass on what the server says.
pub fn passing_back(server: &TcpStream, client: &TcpStream) -> JoinHandle<()> {
    let server = server.try_clone().expect("a second handle");
    let client = client.try_clone().expect("a second handle");
    thread::spawn(move || pass_back(server, client))
}

/// What a TLS server says. To the end, also when nobody listens any more.
fn pass_back(mut server: TcpStream, mut client: TcpStream) {
    let mut buffer = vec![0; 4096];
    while let Ok(read @ 1..) = read_some(&mut server, &mut buffer) {
        let _ = client.write_all(&buffer[..read]);
    }
}
