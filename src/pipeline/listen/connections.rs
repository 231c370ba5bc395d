//! All stream connections together: how many may be open, and how many bytes of unfinished lines
//! and frames they may hold.
//!
//! ```text
//!    order:  never sent a line  [ oldest … newest ]      evicted first
//!            has sent lines     [ longest idle … ]       evicted when there is none of those
//!    peers:  the same two lists for each remote address and each user of Unix sockets
//!    held:   by number of bytes [ longest idle … ]       the largest lose what they hold
//! ```
//!
//! At the limit of connections a new client is always served: another connection is evicted. It
//! has a slot until it has ended, so that the bound holds. At the limit of bytes, connections stay
//! open, but lose the line or frame that they have begun.

mod lists;

use std::collections::HashMap;
use std::fmt::Debug;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::os::Sender;

use lists::{Lists, Node};

/// Connections that were evicted and have not ended yet. They read what has arrived; at more than
/// this number, new connections wait for them.
pub const MAX_LEAVING: usize = 16;

/// The kinds of lists that a connection is in.
const ORDER: usize = 0;
const OF_PEER: usize = 1;
const HELD: usize = 2;
const KINDS: usize = 3;

/// A connection that never sent a line counts as one that holds 64 times as much.
const NEVER_SENT: usize = 6;

/// One list for each power of two bytes, shifted for those that never sent a line.
const HELD_LISTS: usize = usize::BITS as usize + 1 + NEVER_SENT;

/// What bounds all connections together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Open connections.
    pub connections: usize,
    /// Bytes allocated for unfinished lines and frames.
    pub buffer_bytes: usize,
}

impl Bounds {
    /// The bound of bytes, a quarter of the queue's, within reason: a frame of the pickle protocol
    /// has up to 1 MiB.
    pub fn buffer_bytes(queue_bytes: usize) -> usize {
        (queue_bytes / 4).clamp(4 << 20, 16 << 20)
    }
}

/// Who is counted: a remote address, or a user of this host. All clients on loopback share one
/// address, so that a count would tell nothing about any of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Peer {
    Address(IpAddr),
    User(u32),
}

impl Peer {
    fn of(sender: Sender) -> Option<Self> {
        match sender {
            Sender::Address(address) => {
                let address = address.ip().to_canonical();
                (!address.is_loopback()).then_some(Self::Address(address))
            }
            Sender::Process { uid, .. } => Some(Self::User(uid)),
            Sender::Unknown => None,
        }
    }
}

/// What holds the bytes of an unfinished line or frame.
pub trait Holder: Debug + Send + Sync {
    /// Frees these bytes and counts the line or frame as truncated. Answers how many bytes it
    /// still holds.
    fn shed(&self) -> usize;
}

/// The connections that are open.
#[derive(Debug)]
pub struct Connections {
    open: Mutex<Open>,
    /// A connection that was evicted has ended.
    left: Notify,
}

#[derive(Debug)]
struct Open {
    bounds: Bounds,
    lists: Lists<KINDS>,
    order: Heads,
    held: [Node; HELD_LISTS],
    peers: HashMap<Peer, OfPeer>,
    /// By their nodes.
    connections: Vec<Option<Connection>>,
    /// Those that are not leaving.
    staying: usize,
    leaving: usize,
    held_bytes: usize,
}

/// The heads of two lists.
#[derive(Debug, Clone, Copy)]
struct Heads {
    never_sent: Node,
    has_sent: Node,
}

#[derive(Debug)]
struct OfPeer {
    heads: Heads,
    connections: usize,
}

#[derive(Debug)]
struct Connection {
    holder: Arc<dyn Holder>,
    peer: Option<Peer>,
    has_sent: bool,
    is_leaving: bool,
    held: usize,
    evicted: Arc<Notify>,
}

/// A connection's place among the open ones. Dropped, it is free.
#[derive(Debug)]
pub struct Slot {
    connections: Arc<Connections>,
    node: Node,
    evicted: Arc<Notify>,
}

impl Connections {
    /// No connection yet.
    pub fn new(bounds: Bounds) -> Arc<Self> {
        let mut lists = Lists::default();
        let order = Heads::new(&mut lists);
        let held = std::array::from_fn(|_| lists.add());
        Arc::new(Self {
            open: Mutex::new(Open {
                bounds,
                lists,
                order,
                held,
                peers: HashMap::new(),
                connections: Vec::new(),
                staying: 0,
                leaving: 0,
                held_bytes: 0,
            }),
            left: Notify::new(),
        })
    }

    /// New bounds, for what comes from now on.
    pub fn set_bounds(&self, bounds: Bounds) {
        self.lock().bounds = bounds;
    }

    /// Takes a slot for a connection. At the limit, another one is evicted.
    pub async fn slot(self: &Arc<Self>, sender: Sender, holder: Arc<dyn Holder>) -> Slot {
        let peer = Peer::of(sender);
        loop {
            if let Some(slot) = self.try_slot(peer, &holder) {
                return slot;
            }
            self.left.notified().await;
        }
    }

    fn try_slot(self: &Arc<Self>, peer: Option<Peer>, holder: &Arc<dyn Holder>) -> Option<Slot> {
        let mut open = self.lock();
        while open.staying >= open.bounds.connections && open.leaving < MAX_LEAVING {
            if !open.evict(peer) {
                break;
            }
        }
        if open.staying > 0 && open.staying >= open.bounds.connections {
            return None;
        }
        let evicted = Arc::new(Notify::new());
        let node = open.add(Connection {
            holder: holder.clone(),
            peer,
            has_sent: false,
            is_leaving: false,
            held: 0,
            evicted: evicted.clone(),
        });
        drop(open);
        Some(Slot {
            connections: self.clone(),
            node,
            evicted,
        })
    }

    /// Evicts a connection, when descriptors run out.
    pub fn evict_one(&self) {
        self.lock().evict(None);
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Heads {
    fn new(lists: &mut Lists<KINDS>) -> Self {
        Self {
            never_sent: lists.add(),
            has_sent: lists.add(),
        }
    }

    fn of(self, connection: &Connection) -> Node {
        if connection.has_sent {
            self.has_sent
        } else {
            self.never_sent
        }
    }
}

impl Open {
    fn add(&mut self, connection: Connection) -> Node {
        let node = self.lists.add();
        let at = node as usize;
        if let Some(peer) = connection.peer {
            let of_peer = self.peers.entry(peer).or_insert_with(|| OfPeer {
                heads: Heads::new(&mut self.lists),
                connections: 0,
            });
            of_peer.connections += 1;
        }
        if self.connections.len() <= at {
            self.connections.resize_with(at + 1, || None);
        }
        self.connections[at] = Some(connection);
        self.staying += 1;
        self.note_activity(node);
        node
    }

    /// Evicts the oldest connection that never sent a line, else the longest idle one. Where a
    /// peer that is counted has half of all slots, it is one of its own that makes way for its
    /// next.
    fn evict(&mut self, newcomer: Option<Peer>) -> bool {
        let most = self.bounds.connections / 2;
        let of_peer = newcomer.and_then(|peer| self.peers.get(&peer));
        let own = of_peer.filter(|of_peer| of_peer.connections > most);
        let own = own.map(|of_peer| of_peer.heads);
        let first_of_own = |head: fn(&Heads) -> Node| {
            own.and_then(|heads| self.lists.first(OF_PEER, head(&heads)))
        };
        let victim = first_of_own(|heads| heads.never_sent)
            .or_else(|| self.lists.first(ORDER, self.order.never_sent))
            .or_else(|| first_of_own(|heads| heads.has_sent))
            .or_else(|| self.lists.first(ORDER, self.order.has_sent));
        let Some(victim) = victim else {
            return false;
        };
        self.leave(victim);
        self.leaving += 1;
        if let Some(connection) = &mut self.connections[victim as usize] {
            connection.is_leaving = true;
            connection.evicted.notify_one();
        }
        true
    }

    /// Takes a connection out of the lists of those that can be evicted.
    fn leave(&mut self, node: Node) {
        self.lists.unlink(ORDER, node);
        self.lists.unlink(OF_PEER, node);
        self.staying -= 1;
        let connection = self.connections[node as usize].as_ref();
        let Some(peer) = connection.and_then(|connection| connection.peer) else {
            return;
        };
        if let Some(of_peer) = self.peers.get_mut(&peer) {
            of_peer.connections -= 1;
            if of_peer.connections == 0 {
                self.lists.remove(of_peer.heads.never_sent);
                self.lists.remove(of_peer.heads.has_sent);
                self.peers.remove(&peer);
            }
        }
    }

    /// Moves a connection to the end of its lists.
    fn note_activity(&mut self, node: Node) {
        let Some(connection) = &self.connections[node as usize] else {
            return;
        };
        if !connection.is_leaving {
            let head = self.order.of(connection);
            self.lists.move_to_end(ORDER, head, node);
            if let Some(of_peer) = connection.peer.and_then(|peer| self.peers.get(&peer)) {
                let head = of_peer.heads.of(connection);
                self.lists.move_to_end(OF_PEER, head, node);
            }
        }
        if connection.held == 0 {
            self.lists.unlink(HELD, node);
        } else {
            let head = self.held[weight(connection.held, connection.has_sent)];
            self.lists.move_to_end(HELD, head, node);
        }
    }

    /// What has to be freed next, if too much is held.
    fn next_to_shed(&mut self) -> Option<(Node, Arc<dyn Holder>)> {
        if self.held_bytes <= self.bounds.buffer_bytes {
            return None;
        }
        let mut heads = self.held.iter().rev();
        let node = heads.find_map(|head| self.lists.first(HELD, *head))?;
        // Whatever it can free, it is not looked at again before its next read.
        self.lists.unlink(HELD, node);
        let connection = self.connections[node as usize].as_ref()?;
        Some((node, connection.holder.clone()))
    }

    fn set_held(&mut self, node: Node, bytes: usize) {
        if let Some(connection) = &mut self.connections[node as usize] {
            self.held_bytes = self.held_bytes - connection.held + bytes;
            connection.held = bytes;
        }
    }
}

/// The list of a connection that holds a number of bytes.
fn weight(bytes: usize, has_sent: bool) -> usize {
    let bits = (usize::BITS - bytes.leading_zeros()) as usize;
    if has_sent { bits } else { bits + NEVER_SENT }
}

impl Slot {
    /// The connection has brought bytes, lines among them or not, and holds a number of bytes
    /// now. Where all together hold too much, the largest and longest idle lose theirs.
    pub fn active(&self, has_sent: bool, held: usize) {
        let is_over = {
            let mut open = self.connections.lock();
            if let Some(connection) = &mut open.connections[self.node as usize] {
                connection.has_sent |= has_sent;
            }
            open.set_held(self.node, held);
            open.note_activity(self.node);
            open.held_bytes > open.bounds.buffer_bytes
        };
        if is_over {
            self.connections.shed();
        }
    }

    /// Whether it was, for those that always have something else to do.
    pub fn is_evicted(&self) -> bool {
        let open = self.connections.lock();
        let connection = open.connections[self.node as usize].as_ref();
        connection.is_some_and(|connection| connection.is_leaving)
    }

    /// Waits until the connection is evicted.
    pub async fn evicted(&self) {
        self.evicted.notified().await;
    }
}

impl Connections {
    /// Has connections free what they hold, without the lock, until it is little enough.
    fn shed(&self) {
        loop {
            let next = self.lock().next_to_shed();
            let Some((node, holder)) = next else {
                return;
            };
            let left = holder.shed();
            self.lock().set_held(node, left);
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut open = self.connections.lock();
        open.set_held(self.node, 0);
        let connection = open.connections[self.node as usize].as_ref();
        if connection.is_some_and(|connection| connection.is_leaving) {
            open.leaving -= 1;
        } else {
            open.leave(self.node);
        }
        open.connections[self.node as usize] = None;
        open.lists.remove(self.node);
        drop(open);
        self.connections.left.notify_one();
    }
}

#[cfg(test)]
mod tests;
