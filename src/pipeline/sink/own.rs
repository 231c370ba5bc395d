//! A sink that has reached a listener of this daemon: every line would come back, and be
//! sent again.
//!
//! The configuration is looked at before (`config/settings/loops.rs`); here are names and
//! addresses that only the network knows. A way through another relay, a port that
//! something else forwards and address translation cannot be seen from here.

use std::io;
use std::net::SocketAddr;

use tokio::net::{TcpStream, UdpSocket};

use crate::config::{Settings, is_reached_at};
use crate::stats::FailureKind;
use crate::stats::bound::{self, Bound, Place, Registration};

use super::failure::Failure;

/// Fails if a new connection has ended at a listener of ours.
pub fn refuse_own_listener(stream: &TcpStream) -> Result<(), Failure> {
    refuse(stream.local_addr(), stream.peer_addr(), false)
}

/// The same for a socket that datagrams are about to be sent from.
pub fn refuse_own_datagrams(socket: &UdpSocket) -> Result<(), Failure> {
    refuse(socket.local_addr(), socket.peer_addr(), true)
}

/// The listeners of a daemon with these settings, as if they were bound here: for
/// commands that take the daemon's way to the upstream beside it.
pub fn assume_listeners(settings: &Settings) -> Vec<Registration> {
    let mut registrations = Vec::new();
    for is_udp in [false, true] {
        let mut listeners = settings.listen.by_key(is_udp);
        if let (false, Some(admin)) = (is_udp, &settings.admin_listen) {
            listeners.push(("admin.listen", admin));
        }
        for (key, listener) in listeners {
            let only_v6 = listener.only_v6;
            for address in listener.addresses.iter().copied() {
                let place = if is_udp {
                    Place::Udp { address, only_v6 }
                } else {
                    Place::Tcp { address, only_v6 }
                };
                let label = format!("{key} {}", listener.text);
                registrations.push(bound::register(Bound { label, place }));
            }
        }
    }
    registrations
}

fn refuse(
    local: io::Result<SocketAddr>,
    peer: io::Result<SocketAddr>,
    is_udp: bool,
) -> Result<(), Failure> {
    let (Ok(local), Ok(peer)) = (local, peer) else {
        // It has ended already, and is judged by that.
        return Ok(());
    };
    let Some(listener) = own_listener(local, peer, is_udp, &bound::all()) else {
        return Ok(());
    };
    let message = format!(
        "{peer} is sidecarbon's own listener {listener}, so lines would come back for ever; write the address of the upstream into sink.url, or listen on another port"
    );
    Err(Failure::misconfigured(FailureKind::Connect, message))
}

/// The listener that a connection between two addresses has ended at.
fn own_listener(
    local: SocketAddr,
    peer: SocketAddr,
    is_udp: bool,
    listeners: &[Bound],
) -> Option<String> {
    // The way to an address of this host begins at the same address, but for loopback.
    let peer_ip = peer.ip().to_canonical();
    if !peer_ip.is_loopback() && peer_ip != local.ip().to_canonical() {
        return None;
    }
    let is_there = |listener: &&Bound| match listener.place {
        Place::Tcp { address, only_v6 } => !is_udp && is_reached_at(address, only_v6, peer),
        Place::Udp { address, only_v6 } => is_udp && is_reached_at(address, only_v6, peer),
        Place::Unix(_) => false,
    };
    let own = listeners.iter().find(is_there)?;
    Some(own.label.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whose_listener_it_is() {
        let tcp = |address: &str| Bound {
            label: format!("tcp:{address}"),
            place: Place::Tcp {
                address: address.parse().unwrap(),
                only_v6: false,
            },
        };
        let udp = Bound {
            label: "udp:127.0.0.1:9".to_owned(),
            place: Place::Udp {
                address: "127.0.0.1:9".parse().unwrap(),
                only_v6: false,
            },
        };
        let listeners = [tcp("0.0.0.0:1"), tcp("127.0.0.1:2"), tcp("[::]:3"), udp];
        for (local, peer, is_udp, own) in [
            ("127.0.0.1:40", "127.0.0.1:1", false, Some("tcp:0.0.0.0:1")),
            ("10.0.0.5:40", "10.0.0.5:1", false, Some("tcp:0.0.0.0:1")),
            // Another host, with the same port.
            ("10.0.0.5:40", "10.0.0.6:1", false, None),
            (
                "127.0.0.1:40",
                "127.0.0.1:2",
                false,
                Some("tcp:127.0.0.1:2"),
            ),
            ("10.0.0.5:40", "10.0.0.5:2", false, None),
            ("[::1]:40", "[::1]:3", false, Some("tcp:[::]:3")),
            ("10.0.0.5:40", "10.0.0.5:3", false, Some("tcp:[::]:3")),
            // The other protocol.
            ("127.0.0.1:40", "127.0.0.1:9", false, None),
            ("127.0.0.1:40", "127.0.0.1:1", true, None),
            ("127.0.0.1:40", "127.0.0.1:9", true, Some("udp:127.0.0.1:9")),
        ] {
            let (from, to) = (local.parse().unwrap(), peer.parse().unwrap());
            let found = own_listener(from, to, is_udp, &listeners);
            assert_eq!(found.as_deref(), own, "{local} {peer}");
        }
    }
}
