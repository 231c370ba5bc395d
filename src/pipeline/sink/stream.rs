//! Lines over a kept connection, TCP or TLS, until the peer's kernel has
//! acknowledged them.
//!
//! In: leases. Out: `KEY.name value time` lines in order; each lease is kept
//! in the connection's window and settled line by line as its bytes are
//! acknowledged. A connection that dies is asked once more what it knows, then
//! reset; what was not acknowledged is back in the queue and the next
//! connection begins at a line.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use tokio::select;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

use crate::deadline::{self, Deadline};
use crate::os;
use crate::pipeline::queue::Lease;
use crate::stats::{AckMode, Counters, FailureKind};

use super::connect::{Connector, Dialer, Reached};
use super::counted::Counted;
use super::encode::{Encoder, WireBuffer};
use super::failure::Failure;
use super::window::{Ending, Rules, Window};
use super::wire::Wire;
use super::{CLOSE_DEADLINE, Deliver, RENEWAL_PAUSE, SinkEvent, jittered_age};

/// A TLS record holds this number of bytes (RFC 8446, 5.1). One that ends in a
/// newline arrives whole or not at all, so half a line never does.
const RECORD_BYTES: usize = 16_384;

/// Written at once without TLS: a block with its keys.
const WRITE_BYTES: usize = 128 << 10;

/// Written and not yet sent, in the kernel: enough to fill the next packets
/// while we are called, no more.
const UNSENT_BYTES: u32 = 64 << 10;

/// The most that is written and not sent: a write takes what fits into a packet
/// of the kernel's, 64 KiB at most, when the limit is almost reached.
const MOST_UNSENT: u64 = 2 * UNSENT_BYTES as u64;

/// Lines kept for acknowledgement on one connection: a second and more of a
/// wide and long way. More wait in the queue, where the oldest can go first.
const WINDOW_BYTES: usize = 4 << 20;

/// The peer's window is asked for once in this number of bytes.
const ROOM_INTERVAL: u64 = 16 << 10;

/// How soon, and at the latest how often, the socket is asked what it knows
/// while something is unacknowledged.
const FIRST_LOOK: Duration = Duration::from_millis(1);
const LAST_LOOK: Duration = Duration::from_millis(50);

/// After a TLS handshake a Linux peer holds its acknowledgements back, for it
/// expects to answer, until one of them has waited for its timer in vain. So
/// the first records go one by one: the first is likely acknowledged with the
/// session tickets, the second by the timer. From then on each is acknowledged
/// when it is read, and a reset finds little that was read and not acknowledged.
const LONE_RECORDS: u32 = 2;

/// A delayed acknowledgement takes 40 ms on Linux and 200 ms at most elsewhere,
/// and a round trip. More is not waited for.
const LONE_WAIT: Duration = Duration::from_millis(300);

/// A peer that ended its side may go on reading. So long it is given to
/// acknowledge the rest, or to say by a reset that it does not.
const AFTER_END: Duration = Duration::from_secs(1);

/// A server that asked for a client certificate, and shows neither a session ticket nor a
/// refusal: after this time it has accepted it.
const CONFIRMED_AFTER: Duration = Duration::from_secs(10);

/// An upstream that ends connections so soon, even idle ones, is in trouble:
/// connecting again at once would be a busy loop.
const SHORT_LIFE: Duration = Duration::from_secs(1);

/// Sends lines over a kept connection.
#[derive(Debug)]
pub struct StreamSink {
    dialer: Dialer,
    encoder: Encoder,
    buffer: WireBuffer,
    is_tls: bool,
    write_timeout: Duration,
    max_age: Duration,
    resend_tail: Duration,
    counters: Arc<Counters>,
    connection: Option<Connection>,
    /// What is to take the place of a connection that is too old.
    renewed: Option<Reached>,
    /// Old connections that close in order while a new one is at work.
    closing: JoinSet<()>,
}

#[derive(Debug)]
struct Connection {
    wire: Wire,
    address: SocketAddr,
    window: Window,
    born: Instant,
    /// Whether it has lived for [`CONFIRMED_AFTER`] without a refusal.
    is_old: bool,
    /// When a new connection is due.
    expires: Instant,
    /// Runs while nothing is acknowledged and something is to be.
    progress: Deadline,
    /// The pause before the next look at the socket.
    look: Duration,
    /// The window that the peer advertised, at this offset.
    room: u64,
    room_at: u64,
    /// Records still to be acknowledged before the next is written.
    lone_records: u32,
    /// Why nothing more is written to it.
    over: Option<Failure>,
    /// Whether the peer has answered our orderly close with its own.
    closed_cleanly: bool,
    ack_mode: AckMode,
    counters: Arc<Counters>,
}

impl StreamSink {
    /// A sink that connects when the first line is due.
    pub fn new(
        connector: Connector,
        encoder: Encoder,
        is_tls: bool,
        write_timeout: Duration,
        max_age: Duration,
        resend_tail: Duration,
        counters: Arc<Counters>,
    ) -> Self {
        Self {
            dialer: Dialer::new(connector, counters.clone()),
            encoder,
            buffer: WireBuffer::default(),
            is_tls,
            write_timeout,
            max_age,
            resend_tail,
            counters,
            connection: None,
            renewed: None,
            closing: JoinSet::new(),
        }
    }

    /// Replaces a connection that is too old once there is another: what works is not
    /// closed before.
    async fn renew(&mut self) {
        let is_due = |connection: &Connection| connection.is_expired();
        if self.renewed.is_none() && self.connection.as_ref().is_some_and(is_due) {
            match self.dialer.finished() {
                Some(outcome) => self.renewal_ended(outcome),
                None => self.dialer.begin(),
            }
        }
        self.take_over().await;
    }

    fn renewal_ended(&mut self, outcome: Result<Reached, Failure>) {
        match outcome {
            Ok(reached) => self.renewed = Some(reached),
            Err(failure) => {
                debug!(error = %failure, "the connection is not renewed, it goes on");
                self.postpone_renewal();
            }
        }
    }

    fn postpone_renewal(&mut self) {
        if let Some(connection) = &mut self.connection {
            connection.expires = Instant::now() + RENEWAL_PAUSE;
        }
    }

    /// Goes on with the new connection when nothing is on its way on the old one.
    async fn take_over(&mut self) {
        let is_busy = |connection: &Connection| !connection.window.is_empty();
        if self.connection.as_ref().is_some_and(is_busy) {
            return;
        }
        let Some(mut reached) = self.renewed.take() else {
            return;
        };
        if !reached.wire.is_open().await {
            return self.postpone_renewal();
        }
        if let Some(mut old) = self.connection.take() {
            self.closing.spawn(async move { old.close().await });
        }
        self.use_connection(reached);
    }

    fn use_connection(&mut self, reached: Reached) {
        let rules = Rules {
            line_overhead: (!self.is_tls).then(|| self.encoder.overhead()),
            tail: self.resend_tail,
            unsent: 0,
        };
        let expires = Instant::now() + jittered_age(self.max_age);
        let counters = self.counters.clone();
        let patience = self.write_timeout;
        self.connection = Some(Connection::new(reached, rules, expires, patience, counters));
    }

    /// A connection has failed: another address, if there is one, is tried at once.
    fn broke(&mut self, connection: &Connection, failure: Failure) -> Failure {
        failure.with_alternative(self.dialer.broke(connection.address))
    }
}

impl Deliver for StreamSink {
    async fn connect(&mut self) -> Result<(), Failure> {
        while self.closing.try_join_next().is_some() {}
        self.renew().await;
        if self.connection.is_none() {
            let reached = match self.renewed.take() {
                Some(reached) => reached,
                None => self.dialer.connect().await?,
            };
            self.use_connection(reached);
        }
        Ok(())
    }

    async fn deliver(&mut self, lease: Lease) -> Result<(), Failure> {
        // Taken out, so that a delivery that is abandoned in the middle of a
        // line takes its connection with it.
        let Some(mut connection) = self.connection.take() else {
            let what = "there is no connection";
            return Err(Failure::unavailable(FailureKind::Closed, what));
        };
        let limit = if self.is_tls {
            RECORD_BYTES
        } else {
            WRITE_BYTES
        };
        connection.begin(lease);
        while !connection.window.unwritten().is_empty() {
            let lines = connection.window.unwritten();
            let taken = self.encoder.encode(lines, limit, &mut self.buffer);
            let written = connection
                .write(taken, &self.encoder, &mut self.buffer, self.write_timeout)
                .await;
            if let Err(failure) = written {
                connection.over = Some(failure.clone());
                connection.await_final_acks().await;
                return Err(self.broke(&connection, failure));
            }
        }
        self.connection = Some(connection);
        Ok(())
    }

    fn has_room(&self) -> bool {
        self.connection.as_ref().is_none_or(|connection| {
            let takes_more = self.renewed.is_none()
                && connection.is_confirmed()
                && connection.window.unacknowledged() < WINDOW_BYTES;
            connection.over.is_none() && (takes_more || connection.window.is_empty())
        })
    }

    async fn poll_acks(&mut self) -> Result<SinkEvent, Failure> {
        // Why it is over is noted before anything else is awaited: this may be dropped and
        // called again, and nothing must be written in between.
        let connection = loop {
            self.take_over().await;
            let Some(connection) = &mut self.connection else {
                return std::future::pending().await;
            };
            if connection.over.is_some() {
                break connection;
            }
            select! {
                biased;
                sink_event = connection.poll_acks(self.write_timeout) => match sink_event {
                    Ok(()) => {
                        if connection.born.elapsed() >= SHORT_LIFE {
                            self.dialer.delivered();
                        }
                        return Ok(SinkEvent::Acknowledged);
                    }
                    Err(failure) => connection.over = Some(failure),
                },
                outcome = self.dialer.ended() => self.renewal_ended(outcome),
            }
        };
        connection.await_final_acks().await;
        let is_trouble =
            connection.window.unacknowledged() > 0 || connection.born.elapsed() < SHORT_LIFE;
        let failure = connection.over.clone().filter(|_| is_trouble);
        let Some((connection, failure)) = self.connection.take().zip(failure) else {
            return Ok(SinkEvent::Ended);
        };
        Err(self.broke(&connection, failure))
    }

    async fn close(mut self) {
        if let Some(mut connection) = self.connection.take() {
            connection.close().await;
        }
        self.closing.join_all().await;
    }

    fn client_certificate_expiry(&self) -> Option<Duration> {
        self.dialer.client_certificate_expiry()
    }
}

impl Connection {
    fn new(
        reached: Reached,
        mut rules: Rules,
        expires: Instant,
        patience: Duration,
        counters: Arc<Counters>,
    ) -> Self {
        let Reached { wire, address, .. } = reached;
        os::limit_unsent(wire.socket(), UNSENT_BYTES);
        let is_tls = wire.session().is_some();
        let mode = match wire.socket().acknowledged() {
            Ok(_) => AckMode::Kernel,
            Err(_) => AckMode::Written,
        };
        if mode == AckMode::Written {
            rules.unsent = MOST_UNSENT;
        }
        if counters.set_ack_mode(mode) && mode == AckMode::Written {
            warn!(
                "this system does not tell what was acknowledged; written lines count as delivered"
            );
        }
        Self {
            wire,
            address,
            window: Window::new(rules),
            born: Instant::now(),
            is_old: false,
            expires,
            progress: Deadline::after(patience),
            look: FIRST_LOOK,
            room: 0,
            room_at: 0,
            lone_records: if is_tls { LONE_RECORDS } else { 0 },
            over: None,
            closed_cleanly: false,
            ack_mode: mode,
            counters,
        }
    }

    fn is_expired(&self) -> bool {
        self.expires <= Instant::now()
    }

    /// Whether what the peer's kernel acknowledges counts. A server that asked for a
    /// certificate and has shown nothing for [`CONFIRMED_AFTER`] will not refuse it any more.
    fn is_confirmed(&self) -> bool {
        self.wire.is_confirmed() || self.is_old
    }

    fn begin(&mut self, lease: Lease) {
        if self.window.unacknowledged() == 0 {
            self.progress.restart();
        }
        self.look = FIRST_LOOK;
        self.window.begin(lease);
    }

    /// Writes the next lines of the window, and looks what was acknowledged.
    async fn write(
        &mut self,
        bytes: usize,
        encoder: &Encoder,
        buffer: &mut WireBuffer,
        timeout: Duration,
    ) -> Result<(), Failure> {
        self.window.writing(bytes, self.wire.socket().accepted());
        let lines = self.window.being_written();
        let write = self.wire.write_lines(lines, encoder, buffer, timeout);
        write.await?;
        self.window.written(self.wire.socket().accepted());
        self.settle();
        if self.lone_records > 0 {
            self.lone_records -= 1;
            self.acknowledged_alone().await?;
            self.settle();
        }
        Ok(())
    }

    /// Until all that was written is acknowledged, or has taken too long.
    async fn acknowledged_alone(&mut self) -> Result<(), Failure> {
        let begun = Instant::now();
        while self.acknowledged() < self.wire.socket().accepted() && begun.elapsed() < LONE_WAIT {
            if let Ok(failure) = timeout(FIRST_LOOK, self.wire.ended()).await {
                return Err(failure);
            }
        }
        Ok(())
    }

    /// Settles what is acknowledged by now; whether that was anything. Otherwise the
    /// time without progress is counted.
    fn settle(&mut self) -> bool {
        let now = Instant::now();
        // A refusal that came while this process was suspended is read before.
        self.is_old = self.is_old
            || (self.born.elapsed() >= CONFIRMED_AFTER && !os::has_unread(self.wire.socket()));
        if !self.is_confirmed() {
            if self.acknowledged() >= self.wire.socket().accepted() {
                self.progress.restart();
            } else {
                self.progress.look();
            }
            return false;
        }
        self.ask_window();
        let progress = self.window.acknowledge(self.acknowledged(), self.room, now);
        if progress || self.window.unacknowledged() == 0 {
            self.progress.restart();
        } else {
            self.progress.look();
        }
        progress
    }

    /// Asks for the window that the peer advertises, now and then: it changes
    /// with what is sent.
    fn ask_window(&mut self) {
        let socket = self.wire.socket();
        let sent = socket.accepted();
        if self.room == 0 || sent - self.room_at >= ROOM_INTERVAL {
            self.room_at = sent;
            self.room = socket.peer_window();
        }
    }

    /// The offset up to which the peer's kernel has everything. Without an
    /// answer, what was written counts.
    fn acknowledged(&self) -> u64 {
        let socket = self.wire.socket();
        socket.acknowledged().unwrap_or_else(|_| socket.accepted())
    }

    async fn poll_acks(&mut self, write_timeout: Duration) -> Result<(), Failure> {
        while !self.window.is_empty() {
            match timeout(self.look, self.wire.ended()).await {
                Ok(failure) => return Err(failure),
                Err(_) if self.settle() => {
                    self.look = FIRST_LOOK;
                    return Ok(());
                }
                Err(_) => self.look = (self.look * 2).min(LAST_LOOK),
            }
            if self.progress.is_over() {
                return Err(Failure::unavailable(
                    FailureKind::Timeout,
                    format!("the upstream has acknowledged nothing for {write_timeout:?}"),
                ));
            }
        }
        Err(self.wire.ended().await)
    }

    /// A peer that ended only its own side may still be reading, so it has a
    /// moment to acknowledge the rest.
    async fn await_final_acks(&mut self) {
        if self.was_reset() {
            return;
        }
        let drained = async {
            let is_drained = |socket: &Counted| {
                !socket.is_open() || socket.acknowledged().unwrap_or(u64::MAX) >= socket.accepted()
            };
            while !is_drained(self.wire.socket()) {
                sleep(FIRST_LOOK).await;
            }
        };
        // Whatever is left then goes back to the queue.
        let _ = deadline::timeout(AFTER_END, drained).await;
        self.settle();
    }

    /// Whether the peer may have thrown away what its kernel acknowledged.
    fn was_reset(&self) -> bool {
        self.over
            .as_ref()
            .is_some_and(|failure| failure.cause().kind != FailureKind::Ended)
    }

    /// A peer that ends the connection has read what its kernel acknowledged,
    /// where we are told what that is. What we break off ourselves, in the
    /// middle of a delivery, is as good as reset.
    fn ending(&self) -> Ending {
        let is_clean = match (&self.over, self.ack_mode) {
            (None, _) => self.closed_cleanly || self.window.unacknowledged() == 0,
            (Some(_), AckMode::Kernel) => !self.was_reset(),
            (Some(_), AckMode::Written) => false,
        };
        if is_clean {
            Ending::Clean
        } else {
            Ending::Reset
        }
    }

    /// Closes in order: a clean end of the peer says that it has read everything.
    async fn close(&mut self) {
        self.closed_cleanly = self.wire.close(CLOSE_DEADLINE).await;
        if !self.closed_cleanly {
            let what = "the upstream did not end the connection in time";
            self.over = Some(Failure::unavailable(FailureKind::Timeout, what));
        }
        self.settle();
    }
}

impl Drop for Connection {
    /// Asks the socket once more what it knows. What is not acknowledged goes
    /// back to the queue, and must not arrive all the same.
    fn drop(&mut self) {
        let ending = self.ending();
        let had_all = self.window.unacknowledged() == 0;
        let mut window = std::mem::take(&mut self.window);
        window.break_off(self.wire.socket().accepted());
        if ending == Ending::Clean || self.is_confirmed() {
            let at_risk = window.end(self.acknowledged(), ending, Instant::now());
            self.counters.lines_at_risk.fetch_add(at_risk, Relaxed);
        }
        if !had_all {
            self.wire.socket().reset_at_close();
        }
    }
}
