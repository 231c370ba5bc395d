//! A link between the daemon and an upstream, which can be slow, or too slow for
//! large requests.

use std::io::Write;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::acceptor::{Acceptor, After};
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

/// What is passed on of a request; the rest waits until the client gives up.
#[derive(Clone, Copy)]
struct Most(usize);

impl Link {
    /// One that is fast until it is told otherwise.
    pub fn to(server: SocketAddr) -> Self {
        Self::start(server, Most(usize::MAX))
    }

    /// One that never passes on more than so many bytes of a request, however
    /// long the client waits. No clock decides which request fails.
    pub fn carrying(most: usize, server: SocketAddr) -> Self {
        Self::start(server, Most(most))
    }

    fn start(server: SocketAddr, most: Most) -> Self {
        let is_slow = Arc::new(AtomicBool::new(false));
        let acceptor = Acceptor::start(Port::reserve().listen(Some(BUFFER)), {
            let is_slow = Arc::clone(&is_slow);
            move |client, _| {
                pass(client, server, &is_slow, most);
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
fn pass(mut client: TcpStream, server: SocketAddr, is_slow: &AtomicBool, Most(most): Most) {
    let Ok(mut server) = TcpStream::connect(server) else {
        return;
    };
    server.set_nodelay(true).expect("an open socket");
    let passed = Arc::new(AtomicUsize::new(0));
    let back = passing_back(&server, &client, &passed);
    let mut buffer = vec![0; SIP];
    while let Ok(read @ 1..) = read_some(&mut client, &mut buffer) {
        if is_slow.load(Ordering::SeqCst) {
            thread::sleep(TAKES);
        }
        if passed.fetch_add(read, Ordering::SeqCst) + read > most {
            // Read to the end, or the client could not go on writing: it is the
            // answer that it must not get.
            while let Ok(1..) = read_some(&mut client, &mut buffer) {}
            break;
        }
        if server.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    let _ = server.shutdown(Shutdown::Write);
    back.join().expect("the way back");
}

/// Passes on what the server says. Each answer ends a request.
fn passing_back(
    server: &TcpStream,
    client: &TcpStream,
    passed: &Arc<AtomicUsize>,
) -> JoinHandle<()> {
    let mut server = server.try_clone().expect("a second handle");
    let mut client = client.try_clone().expect("a second handle");
    let passed = Arc::clone(passed);
    thread::spawn(move || {
        let mut buffer = vec![0; SIP];
        while let Ok(read @ 1..) = read_some(&mut server, &mut buffer) {
            passed.store(0, Ordering::SeqCst);
            // Nobody may listen any more.
            let _ = client.write_all(&buffer[..read]);
        }
    })
}
