//! What the samples of one series add up to.

use super::sample::Measure;
use super::tables::{Tables, allocated};
use super::timer::Timer;

/// The state of one series.
#[derive(Debug)]
pub enum Aggregate {
    /// How many, in this interval.
    Counter(f64),
    /// How much, since that was last said.
    Gauge(f64),
    /// How long it took, in this interval.
    Timer(Timer),
    /// Who was there, in this interval: each by a keyed hash of 64 bits, so that
    /// a long name costs no more than a short one. Among a million, the chance
    /// that two look alike is one in forty million.
    Set(Tables<u64>),
}

/// What a series measures. A name may have one of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// How many.
    Counter,
    /// How much.
    Gauge,
    /// How long.
    Timer,
    /// How many different ones.
    Set,
}

impl Measure<'_> {
    /// What it is a measure of.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Count(_) => Kind::Counter,
            Self::Level(_) | Self::Change(_) => Kind::Gauge,
            Self::Time(..) => Kind::Timer,
            Self::Member(_) => Kind::Set,
        }
    }
}

impl Aggregate {
    /// Before the first sample.
    pub fn new(kind: Kind) -> Self {
        match kind {
            Kind::Counter => Self::Counter(0.0),
            Kind::Gauge => Self::Gauge(0.0),
            Kind::Timer => Self::Timer(Timer::default()),
            Kind::Set => Self::Set(Tables::default()),
        }
    }

    /// What it measures.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Counter(_) => Kind::Counter,
            Self::Gauge(_) => Kind::Gauge,
            Self::Timer(_) => Kind::Timer,
            Self::Set(_) => Kind::Set,
        }
    }

    /// Takes a sample of its kind; `member` is the hash of a set's.
    pub fn take(&mut self, measure: Measure<'_>, member: u64) {
        match (self, measure) {
            (Self::Counter(sum), Measure::Count(more))
            | (Self::Gauge(sum), Measure::Change(more)) => {
                // No double is greater, and none of our points is infinite.
                *sum = (*sum + more).clamp(f64::MIN, f64::MAX);
            }
            (Self::Gauge(level), Measure::Level(now)) => *level = now,
            (Self::Timer(timer), Measure::Time(value, weight)) => timer.take(value, weight),
            (Self::Set(members), Measure::Member(_)) if !is_known(members, member) => {
                members.insert_unique(member, member, |known| *known);
            }
            // Known already. Samples of another kind are of another series.
            _ => {}
        }
    }

    /// The memory that it takes beside its own size.
    pub fn allocated(&self) -> usize {
        match self {
            Self::Counter(_) | Self::Gauge(_) => 0,
            Self::Timer(timer) => allocated(timer.capacity() * size_of::<f64>()),
            Self::Set(members) => members.allocated(),
        }
    }

    /// How much more it will take with this sample, at most.
    pub fn growth(&self, member: u64) -> usize {
        match self {
            Self::Timer(timer) if timer.is_full() => {
                allocated(timer.grown() * size_of::<f64>()) - self.allocated()
            }
            Self::Set(members) if !is_known(members, member) => members.growth(member),
            _ => 0,
        }
    }

    /// Begins a new interval. As much memory is kept as this one needed.
    pub fn begin_interval(&mut self) {
        match self {
            Self::Counter(sum) => *sum = 0.0,
            Self::Gauge(_) => {}
            Self::Timer(timer) => timer.clear(),
            Self::Set(members) => members.clear(),
        }
    }
}

fn is_known(members: &Tables<u64>, member: u64) -> bool {
    members.find(member, |known| *known == member).is_some()
}
