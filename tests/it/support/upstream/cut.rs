//! Cutting a socket off from the network, without leave of the system's
//! administrator: a filter on the socket that drops every packet that comes.

use std::os::fd::AsFd;

use socket2::{SockFilter, SockRef};

/// `ret 0` in the kernel's packet filter: keep nothing of the packet.
const DROP: SockFilter = SockFilter::new(0x06, 0, 0, 0);

/// From now on nothing gets in: data is not acknowledged and, on a listening
/// socket, a connection is not answered. What got in before can be read.
pub fn cut_off(socket: &impl AsFd) {
    SockRef::from(socket)
        .attach_filter(&[DROP])
        .expect("a filter on an own socket");
}

/// The network is back.
pub fn restore(socket: &impl AsFd) {
    SockRef::from(socket)
        .detach_filter()
        .expect("a socket that was cut off");
}
