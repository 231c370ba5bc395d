//! Who is evicted, and who loses what it holds.

use std::future::Future;
use std::net::{Ipv6Addr, SocketAddr};
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll, Waker};

use proptest::prelude::*;

use super::*;

const KIB: usize = 1 << 10;

/// Frees everything that it holds, and counts how often it had to.
#[derive(Debug, Default)]
struct Shedding(AtomicUsize);

impl Holder for Shedding {
    fn shed(&self) -> usize {
        self.0.fetch_add(1, Relaxed);
        0
    }
}

struct Client {
    slot: Slot,
    holder: Arc<Shedding>,
}

impl Client {
    fn speaks(&self) {
        self.slot.active(true, 0);
    }

    fn is_evicted(&self) -> bool {
        poll(self.slot.evicted()).is_ready()
    }

    fn sheds(&self) -> usize {
        self.holder.0.load(Relaxed)
    }
}

fn poll<T>(future: impl Future<Output = T>) -> Poll<T> {
    pin!(future).poll(&mut Context::from_waker(Waker::noop()))
}

fn connections(connections: usize, buffer_bytes: usize) -> Arc<Connections> {
    Connections::new(Bounds {
        connections,
        buffer_bytes,
    })
}

fn connect_from(connections: &Arc<Connections>, sender: Sender) -> Option<Client> {
    let holder = Arc::new(Shedding::default());
    match poll(connections.slot(sender, holder.clone())) {
        Poll::Ready(slot) => Some(Client { slot, holder }),
        Poll::Pending => None,
    }
}

fn connect(connections: &Arc<Connections>) -> Client {
    let local = Sender::Address(SocketAddr::from((Ipv6Addr::LOCALHOST, 5000)));
    connect_from(connections, local).unwrap()
}

fn remote(host: u16) -> Sender {
    let ip = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, host);
    Sender::Address(SocketAddr::from((ip, 5000)))
}

#[test]
fn the_longest_idle_is_evicted() {
    let connections = connections(2, KIB);
    let (first, second) = (connect(&connections), connect(&connections));
    second.speaks();
    first.speaks();
    let third = connect(&connections);
    assert!(!first.is_evicted() && !third.is_evicted());
    assert!(second.is_evicted());
    drop((second, third));
    let _fourth = connect(&connections);
    assert!(!first.is_evicted());
}

#[test]
fn those_that_never_sent_a_line_are_evicted_first_and_the_oldest_of_them_first() {
    let connections = connections(3, KIB);
    let speaker = connect(&connections);
    speaker.speaks();
    let silent = [connect(&connections), connect(&connections)];
    // Bytes without a line.
    silent[0].slot.active(false, 100);
    let _next = connect(&connections);
    assert!(silent[1].is_evicted() && !silent[0].is_evicted());
    let mut storm: Vec<Client> = (0..MAX_LEAVING - 2)
        .map(|_| connect(&connections))
        .collect();
    assert!(silent[0].is_evicted());
    let newest = storm.pop().unwrap();
    assert!(storm.iter().rev().skip(1).all(Client::is_evicted));
    assert!(!newest.is_evicted() && !speaker.is_evicted());
}

#[test]
fn those_that_are_leaving_are_few() {
    let connections = connections(1, KIB);
    let mut leaving: Vec<Client> = (0..=MAX_LEAVING).map(|_| connect(&connections)).collect();
    assert!(connect_from(&connections, Sender::Unknown).is_none());
    assert!(leaving.remove(0).is_evicted());
    assert!(connect_from(&connections, Sender::Unknown).is_some());
    assert!(connect_from(&connections, Sender::Unknown).is_some());
}

#[test]
fn a_peer_with_half_of_the_slots_makes_way_for_its_own() {
    let connections = connections(6, KIB);
    let others = [remote(1), remote(2)].map(|sender| connect_from(&connections, sender).unwrap());
    others.iter().for_each(Client::speaks);
    let same = |number: u16| Sender::Process {
        pid: number.into(),
        uid: 7,
    };
    let mut many = Vec::new();
    for number in 0..10 {
        let client = connect_from(&connections, same(number)).unwrap();
        client.speaks();
        many.push(client);
    }
    assert!(!others.iter().any(Client::is_evicted));
    let evicted = many.iter().filter(|client| client.is_evicted()).count();
    assert_eq!(evicted, 6);
    // A newcomer from elsewhere takes the place of the longest idle of all.
    let _newcomer = connect(&connections);
    assert!(others[0].is_evicted());
}

#[test]
fn clients_on_loopback_are_not_counted_by_address() {
    let connections = connections(4, KIB);
    let other = connect_from(&connections, remote(1)).unwrap();
    other.speaks();
    let speaking = || {
        let client = connect(&connections);
        client.speaks();
        client
    };
    let _local: Vec<Client> = (0..4).map(|_| speaking()).collect();
    assert!(other.is_evicted());
}

#[test]
fn the_largest_and_longest_idle_lose_what_they_hold() {
    let connections = connections(10, 100 * KIB);
    let [idle, small, first, second, silent] = std::array::from_fn(|_| connect(&connections));
    idle.speaks();
    small.slot.active(true, 100);
    first.slot.active(true, 40 * KIB);
    second.slot.active(true, 50 * KIB);
    assert_eq!([&idle, &small, &first, &second].map(Client::sheds), [0; 4]);
    // Not the newest, though it is as large.
    let newest = connect(&connections);
    newest.slot.active(true, 45 * KIB);
    assert_eq!(
        [&small, &first, &second, &newest].map(Client::sheds),
        [0, 1, 0, 0]
    );
    assert_eq!(connections.lock().held_bytes, 95 * KIB + 100);
    drop((second, newest));
    // One that never sent a line goes before others that hold a little more.
    first.slot.active(true, 90 * KIB);
    silent.slot.active(false, 10 * KIB);
    assert_eq!([&small, &silent].map(Client::sheds), [0, 1]);
    drop((idle, small, first, silent));
    assert_eq!(connections.lock().held_bytes, 0);
}

#[test]
fn what_an_evicted_connection_holds_is_counted_until_it_has_ended() {
    let connections = connections(1, KIB);
    let first = connect(&connections);
    first.slot.active(true, 600);
    let second = connect(&connections);
    assert!(first.is_evicted());
    assert_eq!(connections.lock().held_bytes, 600);
    // It may lose it before.
    second.slot.active(true, 500);
    assert_eq!((first.sheds(), second.sheds()), (1, 0));
    assert_eq!(connections.lock().held_bytes, 500);
    drop(first);
    assert_eq!(connections.lock().held_bytes, 500);
}

#[derive(Debug, Clone)]
enum Step {
    Connect(u8),
    Active(usize, bool, usize),
    Close(usize),
    Bounds(usize, usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..5_u8).prop_map(Step::Connect),
        (0..40_usize, any::<bool>(), 0..3000_usize)
            .prop_map(|(number, sent, held)| Step::Active(number, sent, held)),
        (0..40_usize).prop_map(Step::Close),
        (1..9_usize, 100..9000_usize).prop_map(|(count, bytes)| Step::Bounds(count, bytes)),
    ]
}

proptest! {
    /// The bounds hold after every step, and all counts are right.
    #[test]
    fn bounds_hold(steps in proptest::collection::vec(step(), 0..150)) {
        let connections = connections(4, 4000);
        let mut clients = Vec::new();
        for step in steps {
            match step {
                Step::Connect(from) => {
                    let sender = match from {
                        0 => Sender::Unknown,
                        1 => Sender::Process { pid: 1, uid: 1 },
                        from => remote(from.into()),
                    };
                    clients.extend(connect_from(&connections, sender));
                }
                Step::Active(number, sent, held) if number < clients.len() => {
                    clients[number].slot.active(sent, held);
                    let open = connections.lock();
                    prop_assert!(open.held_bytes <= open.bounds.buffer_bytes);
                }
                Step::Close(number) if number < clients.len() => {
                    clients.swap_remove(number);
                }
                Step::Active(..) | Step::Close(_) => {}
                Step::Bounds(connections_, buffer_bytes) => {
                    connections.set_bounds(Bounds { connections: connections_, buffer_bytes });
                }
            }
            let open = connections.lock();
            prop_assert!(open.leaving <= MAX_LEAVING);
            prop_assert_eq!(open.staying + open.leaving, clients.len());
            let known = || open.connections.iter().flatten();
            prop_assert_eq!(known().count(), clients.len());
            prop_assert_eq!(known().map(|known| known.held).sum::<usize>(), open.held_bytes);
            let counted = known().filter(|known| known.peer.is_some() && !known.is_leaving).count();
            prop_assert_eq!(open.peers.values().map(|peer| peer.connections).sum::<usize>(), counted);
        }
        drop(clients);
        let open = connections.lock();
        prop_assert_eq!((open.staying, open.leaving, open.held_bytes, open.peers.len()), (0, 0, 0, 0));
    }
}
