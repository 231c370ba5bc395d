//! A link between the daemon and an upstream, which can be slow.

use std::io::Write;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use super::acceptor::{Acceptor, After};
use super::cutter::passing_back;
use super::port::Port;
use crate::support::read::read_some;

/// So small that the kernel takes little more than is passed on.
const BUFFER: usize = 16 * 1024;

/// What a slow link passes on, and how long that takes: a hundred KiB a second.
const SIP: usize = 4 * 1024;
const TAKES: Duration = Duration::from_millis(40);

/// Passes all bytes on to a server.
pub struct Link {
    acceptor: Acceptor,
    is_slow: Arc<AtomicBool>,
}

impl Link {
    /// One that is fast until it is told otherwise.
    pub fn to(server: SocketAddr) -> Self {
        let is_slow = Arc::new(AtomicBool::new(false));
        let acceptor = Acceptor::start(Port::reserve().listen(Some(BUFFER)), {
            let is_slow = Arc::clone(&is_slow);
            move |client, _| {
                pass(client, server, &is_slow);
                After::Close
            }
        });
        Self { acceptor, is_slow }
    }

    /// The end that the daemon connects to.
    pub fn address(&self) -> SocketAddr {
        self.acceptor.address()
    }

    /// From now on it is.
    pub fn becomes_slow(&self) {
        self.is_slow.store(true, Ordering::SeqCst);
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "no other task shares this thread"
)]
fn pass(mut client: TcpStream, server: SocketAddr, is_slow: &AtomicBool) {
    let Ok(mut server) = TcpStream::connect(server) else {
        return;
    };
    server.set_nodelay(true).expect("an open socket");
    let back = passing_back(&server, &client);
    let mut buffer = vec![0; SIP];
    while let Ok(read @ 1..) = read_some(&mut client, &mut buffer) {
        if is_slow.load(Ordering::SeqCst) {
            thread::sleep(TAKES);
        }
        if server.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    let _ = server.shutdown(Shutdown::Write);
    back.join().expect("the way back");
}
