//! The account in which every line stands exactly once, at every moment.
//!
//! ```text
//! received + generated = rejected + filtered + aggregated
//!                      + delivered + dropped + queued + in flight
//! ```
//!
//! The ledger has no locks of its own. It lives inside the queue's state, so
//! that a line and its account move under the same lock and a reader never
//! sees one without the other.

use super::labels::labels;

labels! {
    /// Why a line was not accepted. The label of `lines_rejected_total`.
    pub enum RejectReason {
        /// The name is empty, or refused by `listen.names`.
        Name = "name",
        /// The value is not a number.
        Value = "value",
        /// The value is NaN, infinite, or overflows a double.
        NotFinite = "not_finite",
        /// The timestamp is not a time in seconds.
        Timestamp = "timestamp",
        /// Fewer than two fields, or more than three.
        Fields = "fields",
        /// Longer than `listen.max_line_bytes`.
        TooLong = "too_long",
        /// The cut end of a datagram, or of a stream that broke.
        Truncated = "truncated",
        /// Control bytes, or no UTF-8.
        Encoding = "encoding",
        /// Pickle, HTTP or TLS on a line port.
        Protocol = "protocol",
    }
}

labels! {
    /// Why an accepted line was dropped. The label of `lines_dropped_total`.
    pub enum DropReason {
        /// The queue was at its bound, and this line was the oldest; or what gathers
        /// StatsD samples was, and this one needed more of it.
        QueueFull = "queue_full",
        /// The upstream refused the line itself.
        Refused = "refused",
        /// Its delivery could not be known, and the configuration says to drop.
        Uncertain = "uncertain",
        /// No datagram or request can hold it.
        TooLarge = "too_large",
        /// It came after the queue was closed.
        Shutdown = "shutdown",
        /// Memory went bad under it while it waited, or the image in which it was
        /// to survive a restart.
        Corrupt = "corrupt",
    }
}

labels! {
    /// What a listener accepts, and over which socket: the key that names it.
    pub enum ListenerKind {
        /// Lines in UDP datagrams.
        Udp = "udp",
        /// Lines over TCP.
        Tcp = "tcp",
        /// Lines over Unix stream sockets.
        UnixStream = "unix_stream",
        /// Lines in Unix datagrams.
        UnixDatagram = "unix_datagram",
        /// StatsD samples over UDP and TCP.
        Statsd = "statsd",
        /// Pickles over TCP.
        Pickle = "pickle",
        /// The listeners of a former process whose account is lost.
        Restart = "restart",
    }
}

impl ListenerKind {
    /// Whether it receives UDP datagrams, which the kernel may drop.
    pub fn is_udp(self) -> bool {
        matches!(self, Self::Udp | Self::Statsd)
    }

    /// Whether clients connect to it.
    pub fn is_stream(self) -> bool {
        matches!(
            self,
            Self::Tcp | Self::UnixStream | Self::Statsd | Self::Pickle
        )
    }
}

/// Which listener a line came from: an index into [`Ledger::received`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListenerId(pub usize);

/// The account. Its methods are the moves that a line can make, and the only
/// way to change it.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    received: Vec<u64>,
    rejected: [u64; RejectReason::ALL.len()],
    dropped: [u64; DropReason::ALL.len()],
    generated: u64,
    filtered: u64,
    aggregated: u64,
    delivered: u64,
    queued: u64,
    in_flight: u64,
    resent: u64,
}

impl Ledger {
    /// A listener took `accepted` lines into the queue.
    pub fn accept(&mut self, listener: ListenerId, accepted: u64) {
        *self.received_by(listener) += accepted;
        self.queued += accepted;
    }

    /// A listener took samples, which are part of an aggregate now.
    pub fn aggregate(&mut self, listener: ListenerId, samples: u64) {
        *self.received_by(listener) += samples;
        self.aggregated += samples;
    }

    /// A listener took lines for which there was no place.
    pub fn drop_received(&mut self, listener: ListenerId, reason: DropReason, lines: u64) {
        *self.received_by(listener) += lines;
        self.dropped[reason as usize] += lines;
    }

    /// The daemon made lines itself.
    pub fn generate(&mut self, lines: u64) {
        self.generated += lines;
        self.queued += lines;
    }

    /// A listener refused `lines` for one reason.
    pub fn reject(&mut self, listener: ListenerId, reason: RejectReason, lines: u64) {
        *self.received_by(listener) += lines;
        self.rejected[reason as usize] += lines;
    }

    /// `lines` waiting were lent to the relay.
    pub fn lease(&mut self, lines: u64) {
        self.queued -= lines;
        self.in_flight += lines;
    }

    /// `lines` lent came back undelivered.
    pub fn release(&mut self, lines: u64) {
        self.in_flight -= lines;
        self.queued += lines;
    }

    /// `lines` lent have reached the upstream.
    pub fn deliver(&mut self, lines: u64) {
        self.in_flight -= lines;
        self.delivered += lines;
    }

    /// `lines` waiting were dropped.
    pub fn drop_queued(&mut self, reason: DropReason, lines: u64) {
        self.queued -= lines;
        self.dropped[reason as usize] += lines;
    }

    /// `lines` lent were dropped.
    pub fn drop_in_flight(&mut self, reason: DropReason, lines: u64) {
        self.in_flight -= lines;
        self.dropped[reason as usize] += lines;
    }

    /// `lines` are sent again although some of their bytes reached a socket
    /// before. They stay one line each.
    pub fn resend(&mut self, lines: u64) {
        self.resent += lines;
    }

    /// The account as plain numbers, for an image of the queue. What is lent
    /// counts as waiting: nobody has it who could settle it.
    pub fn to_numbers(&self) -> Vec<u64> {
        let mut numbers = vec![
            self.generated,
            self.filtered,
            self.aggregated,
            self.delivered,
            self.resent,
            self.queued + self.in_flight,
        ];
        for row in [&self.rejected[..], &self.dropped, &self.received] {
            numbers.push(row.len() as u64);
            numbers.extend_from_slice(row);
        }
        numbers
    }

    /// The account that was written by [`Ledger::to_numbers`]. It may know fewer
    /// reasons than this one, but no others.
    pub fn from_numbers(numbers: &[u64]) -> Option<Self> {
        let (sums, rows) = numbers.split_first_chunk::<6>()?;
        let [generated, filtered, aggregated, delivered, resent, queued] = *sums;
        let mut ledger = Self::default();
        let (rejected, rows) = row(rows)?;
        let (dropped, rows) = row(rows)?;
        let (received, _) = row(rows)?;
        ledger
            .rejected
            .get_mut(..rejected.len())?
            .copy_from_slice(rejected);
        ledger
            .dropped
            .get_mut(..dropped.len())?
            .copy_from_slice(dropped);
        Some(Self {
            received: received.to_vec(),
            generated,
            filtered,
            aggregated,
            delivered,
            resent,
            queued,
            ..ledger
        })
    }

    /// Lines of a former run wait here from now on. Whoever calls this owes
    /// their receipt: [`Ledger::restore`] or [`Ledger::restore_unaccounted`].
    pub fn restore_queued(&mut self, lines: u64) {
        self.queued += lines;
    }

    /// Goes on with the account of a former run, of whose queued lines this number of
    /// have been adopted; the others are dropped for a reason. `listeners` are
    /// the ids that its listeners have now, in its order.
    pub fn restore(
        &mut self,
        former: &Self,
        listeners: &[ListenerId],
        restored: u64,
        reason: DropReason,
    ) {
        for (lines, listener) in former.received.iter().zip(listeners) {
            *self.received_by(*listener) += lines;
        }
        for (mine, its) in self.rejected.iter_mut().zip(former.rejected) {
            *mine += its;
        }
        for (mine, its) in self.dropped.iter_mut().zip(former.dropped) {
            *mine += its;
        }
        self.generated += former.generated;
        self.filtered += former.filtered;
        self.aggregated += former.aggregated;
        self.delivered += former.delivered;
        self.resent += former.resent;
        self.dropped[reason as usize] += former.queued.saturating_sub(restored);
    }

    /// The account of a former run is lost, too: what is known of its lines
    /// counts as received here.
    pub fn restore_unaccounted(
        &mut self,
        listener: ListenerId,
        restored: u64,
        lost: u64,
        reason: DropReason,
    ) {
        *self.received_by(listener) += restored + lost;
        self.dropped[reason as usize] += lost;
    }

    /// How many listeners it knows.
    pub fn listeners(&self) -> usize {
        self.received.len()
    }

    /// Lines received by one listener.
    pub fn received(&self, listener: ListenerId) -> u64 {
        self.received.get(listener.0).copied().unwrap_or(0)
    }

    /// Lines received by all listeners.
    pub fn received_total(&self) -> u64 {
        self.received.iter().sum()
    }

    /// Points that the daemon made itself.
    pub fn generated(&self) -> u64 {
        self.generated
    }

    /// Lines rejected for one reason.
    pub fn rejected(&self, reason: RejectReason) -> u64 {
        self.rejected[reason as usize]
    }

    /// Lines rejected for any reason.
    pub fn rejected_total(&self) -> u64 {
        self.rejected.iter().sum()
    }

    /// Lines left out by a filter.
    pub fn filtered(&self) -> u64 {
        self.filtered
    }

    /// Samples folded into aggregates.
    pub fn aggregated(&self) -> u64 {
        self.aggregated
    }

    /// Lines that the upstream has.
    pub fn delivered(&self) -> u64 {
        self.delivered
    }

    /// Lines dropped for one reason.
    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.dropped[reason as usize]
    }

    /// Lines dropped for any reason.
    pub fn dropped_total(&self) -> u64 {
        self.dropped.iter().sum()
    }

    /// Lines waiting.
    pub fn queued(&self) -> u64 {
        self.queued
    }

    /// Lines lent to the relay and not settled.
    pub fn in_flight(&self) -> u64 {
        self.in_flight
    }

    /// Lines sent again.
    pub fn resent(&self) -> u64 {
        self.resent
    }

    /// What came in less what is accounted for. Anything but 0 is a defect.
    pub fn imbalance(&self) -> i128 {
        let came = i128::from(self.received_total()) + i128::from(self.generated);
        let stands = [
            self.rejected_total(),
            self.filtered,
            self.aggregated,
            self.delivered,
            self.dropped_total(),
            self.queued,
            self.in_flight,
        ];
        came - stands.into_iter().map(i128::from).sum::<i128>()
    }

    fn received_by(&mut self, listener: ListenerId) -> &mut u64 {
        if self.received.len() <= listener.0 {
            self.received.resize(listener.0 + 1, 0);
        }
        &mut self.received[listener.0]
    }
}

/// A row of numbers, after its length.
fn row(numbers: &[u64]) -> Option<(&[u64], &[u64])> {
    let (length, rest) = numbers.split_first()?;
    rest.split_at_checked(usize::try_from(*length).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_move_keeps_the_balance() {
        let mut ledger = Ledger::default();
        ledger.accept(ListenerId(1), 10);
        ledger.reject(ListenerId(0), RejectReason::Value, 3);
        ledger.aggregate(ListenerId(2), 5);
        ledger.drop_received(ListenerId(2), DropReason::QueueFull, 2);
        ledger.drop_queued(DropReason::QueueFull, 2);
        ledger.lease(8);
        ledger.deliver(3);
        ledger.drop_in_flight(DropReason::TooLarge, 1);
        ledger.release(4);
        assert_eq!(ledger.imbalance(), 0);
        assert_eq!(ledger.received_total(), 20);
        assert_eq!(ledger.received(ListenerId(0)), 3);
        assert_eq!((ledger.aggregated(), ledger.dropped_total()), (5, 5));
        assert_eq!(ledger.queued(), 4);
        assert_eq!(ledger.in_flight(), 0);
    }
    #[test]
    fn a_former_account_goes_on() {
        let mut former = Ledger::default();
        former.accept(ListenerId(1), 10);
        former.reject(ListenerId(0), RejectReason::Name, 2);
        former.lease(6);
        former.deliver(4);
        former.resend(1);
        let read = Ledger::from_numbers(&former.to_numbers()).unwrap();
        assert_eq!((read.queued(), read.imbalance()), (6, 0));

        // Listener 1 of then is listener 0 of now.
        let mut ledger = Ledger::default();
        ledger.restore_queued(5);
        let listeners = [ListenerId(2), ListenerId(0)];
        ledger.restore(&read, &listeners, 5, DropReason::Corrupt);
        assert_eq!(ledger.imbalance(), 0);
        assert_eq!(
            (
                ledger.received(ListenerId(0)),
                ledger.received(ListenerId(2))
            ),
            (10, 2)
        );
        assert_eq!((ledger.queued(), ledger.delivered()), (5, 4));
        assert_eq!(ledger.dropped(DropReason::Corrupt), 1);
        assert_eq!((ledger.resent(), ledger.rejected_total()), (1, 2));
    }

    #[test]
    fn numbers_of_another_shape_are_no_account() {
        let numbers = Ledger::default().to_numbers();
        for length in 0..numbers.len() {
            assert!(Ledger::from_numbers(&numbers[..length]).is_none());
        }
        let mut more_reasons = numbers;
        more_reasons[6] += 1;
        assert!(Ledger::from_numbers(&more_reasons).is_none());
    }
}
