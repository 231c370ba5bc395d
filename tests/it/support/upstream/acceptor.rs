//! Accepts connections and gives each a thread, until it is told to stop.

use std::collections::HashMap;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use socket2::{Domain, Socket, Type};

use crate::support::wait::wait_for;

/// A listening double. Dropping it closes the port and every connection.
pub struct Acceptor {
    shared: Arc<Shared>,
    address: SocketAddr,
    thread: Option<JoinHandle<()>>,
}

/// What becomes of a connection when its thread is done with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum After {
    /// It is closed.
    Close,
    /// It stays open as long as the double lives.
    Hold,
}

#[derive(Default)]
struct Shared {
    accepted: AtomicUsize,
    ended: AtomicUsize,
    /// The port refuses connections.
    is_closed: AtomicBool,
    open: Mutex<HashMap<usize, TcpStream>>,
    /// Our own last connection. Connections are accepted in order, so when it
    /// turns up everybody before it has been let in.
    last_guest: Mutex<Option<SocketAddr>>,
}

impl Acceptor {
    /// Serves each connection with `serve`, which gets its number, from 0.
    pub fn start(
        listener: TcpListener,
        serve: impl Fn(TcpStream, usize) -> After + Send + Sync + 'static,
    ) -> Self {
        let address = listener.local_addr().expect("a listening socket");
        let shared = Arc::new(Shared::default());
        let thread = thread::spawn({
            let shared = Arc::clone(&shared);
            move || accept(listener, &shared, &Arc::new(serve))
        });
        Self {
            shared,
            address,
            thread: Some(thread),
        }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Connections accepted so far.
    pub fn connections(&self) -> usize {
        self.shared.accepted.load(Ordering::SeqCst)
    }

    /// Connections that have ended.
    pub fn ended(&self) -> usize {
        self.shared.ended.load(Ordering::SeqCst)
    }

    /// Accepts nobody new, and waits until everybody has left by themselves.
    #[track_caller]
    pub fn wait_until_left(&mut self) {
        self.close_the_door();
        let thread = self.thread.as_ref();
        wait_for("the end of every connection", || {
            thread.is_none_or(JoinHandle::is_finished)
        });
        self.join();
    }

    /// Accepts nobody new, says so to everybody, and waits until they have
    /// hung up in turn: then they know.
    #[track_caller]
    pub fn hang_up(&mut self) {
        self.close_the_door();
        // A daemon that learns of it earlier connects once more, and writes to a
        // connection that nobody accepts.
        wait_for("the port to be closed", || {
            self.shared.is_closed.load(Ordering::SeqCst)
        });
        let thread = self.thread.as_ref();
        wait_for("everybody to hang up in turn", || {
            // Again and again, for those who came before the door was closed.
            for stream in lock(&self.shared.open).values() {
                // It may have ended by itself.
                let _ = stream.shutdown(Shutdown::Write);
            }
            thread.is_none_or(JoinHandle::is_finished)
        });
        self.join();
    }

    /// The thread returns when it has seen our own last connection and the
    /// other ones have ended.
    fn close_the_door(&self) {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        socket.bind(&any.into()).expect("a local address");
        let own = socket.local_addr().expect("a bound socket").as_socket();
        *lock(&self.shared.last_guest) = own;
        // Refused where the door is closed already.
        let _ = socket.connect(&self.address.into());
    }

    fn join(&mut self) {
        if let Some(thread) = self.thread.take() {
            let result = thread.join();
            assert!(thread::panicking() || result.is_ok(), "the double failed");
        }
    }
}

impl Drop for Acceptor {
    fn drop(&mut self) {
        if self.thread.is_some() {
            self.close_the_door();
            // New ones may come until the door is closed.
            while self
                .thread
                .as_ref()
                .is_some_and(|thread| !thread.is_finished())
            {
                for stream in lock(&self.shared.open).values() {
                    // It may have ended by itself.
                    let _ = stream.shutdown(Shutdown::Both);
                }
                thread::yield_now();
            }
            self.join();
        }
    }
}

fn accept<F>(listener: TcpListener, shared: &Arc<Shared>, serve: &Arc<F>)
where
    F: Fn(TcpStream, usize) -> After + Send + Sync + 'static,
{
    let mut workers = Vec::new();
    loop {
        let (stream, peer) = listener.accept().expect("a listening socket");
        if *lock(&shared.last_guest) == Some(peer) {
            break;
        }
        let number = shared.accepted.fetch_add(1, Ordering::SeqCst);
        let handle = stream.try_clone().expect("a second handle");
        lock(&shared.open).insert(number, handle);
        workers.push(thread::spawn({
            let (shared, serve) = (Arc::clone(shared), Arc::clone(serve));
            move || {
                if serve(stream, number) == After::Close {
                    lock(&shared.open).remove(&number);
                }
                shared.ended.fetch_add(1, Ordering::SeqCst);
            }
        }));
    }
    // Refuses everybody while the last ones are still here.
    drop(listener);
    shared.is_closed.store(true, Ordering::SeqCst);
    for worker in workers {
        worker.join().expect("the thread of a connection");
    }
    lock(&shared.open).clear();
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
