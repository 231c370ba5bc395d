//! All series of an interval, within a bound of memory.
//!
//! ```text
//!    index: hash ─▶ place        entries: [ a.b counter 3 | a.b timer 5 7 9 | … ]
//!                                              ▲                         ▲
//!                                   a flush goes from the end            └── new ones
//!                                   to the beginning, some at a time
//! ```
//!
//! In: samples, each with its series. Out: at a flush, each series that had one
//! in the interval. Those without any are forgotten, but gauges are kept for
//! changes to come, and are what has to go, the longest untouched first, where a
//! new series finds no room. The bound holds while a table grows, too: what it held before is
//! there a moment longer.

use std::hash::{BuildHasher, RandomState};
use std::ops::ControlFlow;

use super::aggregate::{Aggregate, Kind};
use super::entries::Entries;
use super::sample::Measure;
use super::tables::{Tables, allocated};

/// All of them.
#[derive(Debug)]
pub struct Aggregates {
    entries: Entries<Entry>,
    /// Places in `entries`. The hash is keyed, so that no client can choose names
    /// that meet in one place.
    index: Tables<u32>,
    hasher: RandomState,
    /// Memory of names and of what the series hold.
    held: usize,
    /// Memory of values that were taken out for a summary in steps.
    aside: usize,
    limit: usize,
    /// Counts flushes.
    interval: u64,
    /// The interval in which there turned out to be no untouched gauge. None
    /// becomes one before it ends.
    all_touched_in: Option<u64>,
    /// Where a flush that has begun goes on: entries before this place.
    flushing: Option<usize>,
    /// A sample has come, or something is left to be forgotten.
    is_due: bool,
    /// Gauges that had to go since that was last asked.
    forgotten: u64,
}

#[derive(Debug)]
struct Entry {
    name: Box<[u8]>,
    hash: u64,
    aggregate: Aggregate,
    /// The interval of its last sample.
    touched: u64,
    /// Whether it is part of the next flush.
    is_fresh: bool,
}

impl Aggregates {
    /// None yet, and never more than `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self {
            entries: Entries::default(),
            index: Tables::default(),
            hasher: RandomState::new(),
            held: 0,
            aside: 0,
            limit,
            interval: 1,
            all_touched_in: None,
            flushing: None,
            is_due: false,
            forgotten: 0,
        }
    }

    /// Adds a sample to its series. `false` where there is no room for it.
    pub fn fold(&mut self, series: &[u8], measure: Measure<'_>) -> bool {
        let kind = measure.kind();
        let hash = self.hasher.hash_one((kind, series));
        let member = match measure {
            Measure::Member(member) => self.hasher.hash_one(member),
            _ => 0,
        };
        let place = match self.place(hash, kind, series) {
            None => self.add(hash, series, kind, member),
            Some(place) => {
                let growth = self.entries[place].aggregate.growth(member);
                if growth == 0 || self.has_room(growth) {
                    Some(place)
                } else if self.evict_for(|_| growth) {
                    // Gauges have gone, and left their places to others.
                    self.place(hash, kind, series)
                } else {
                    None
                }
            }
        };
        if let Some(place) = place {
            self.take(place, measure, member);
        }
        place.is_some()
    }

    /// Whether a flush would find anything to do.
    pub fn is_due(&self) -> bool {
        self.is_due
    }

    /// How many series are held.
    pub fn series(&self) -> usize {
        self.entries.len()
    }

    /// The memory that they take.
    pub fn allocated(&self) -> usize {
        self.entries.allocated() + self.index.allocated() + self.held + self.aside
    }

    /// Memory that values take which were taken out at a flush: it is within the bound as well.
    pub fn set_aside(&mut self, bytes: usize) {
        self.aside = bytes;
    }

    /// Hands out the series that had samples since the last flush, some of them:
    /// whether there may be more. What comes meanwhile is of this flush or of
    /// the next. It ends after `at_most` series, or as soon as `each` breaks off.
    pub fn flush(
        &mut self,
        at_most: usize,
        mut each: impl FnMut(&[u8], &mut Aggregate) -> ControlFlow<()>,
    ) -> bool {
        if self.flushing.is_none() {
            self.interval += 1;
            self.is_due = false;
        }
        let end = self.flushing.unwrap_or(self.entries.len());
        let mut begin = end.saturating_sub(at_most);
        for place in (begin..end).rev() {
            let entry = &mut self.entries[place];
            if std::mem::take(&mut entry.is_fresh) {
                let before = entry.aggregate.allocated();
                let goes_on = each(&entry.name, &mut entry.aggregate);
                entry.aggregate.begin_interval();
                self.held = self.held - before + entry.aggregate.allocated();
                // To be forgotten by the next one, unless it is touched.
                self.is_due |= entry.aggregate.kind() != Kind::Gauge;
                if goes_on.is_break() {
                    begin = place;
                    break;
                }
            } else if entry.aggregate.kind() != Kind::Gauge {
                // The one that takes its place had its turn, or is a new one.
                self.remove(place);
            }
        }
        self.flushing = (begin > 0).then_some(begin);
        if self.flushing.is_none() && (self.entries.is_sparse() || self.index.is_sparse()) {
            self.shrink();
        }
        self.flushing.is_some()
    }

    /// Whether a flush has begun and not ended. Series that had their turn in it may
    /// have had samples since.
    pub fn is_flushing(&self) -> bool {
        self.flushing.is_some()
    }

    /// Counts the flushes that have begun.
    pub fn flushes(&self) -> u64 {
        self.interval
    }

    /// How many gauges had to go since this was last asked.
    pub fn take_forgotten(&mut self) -> u64 {
        std::mem::take(&mut self.forgotten)
    }

    /// A new bound. Nothing goes that is to be part of the next flush.
    pub fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
        if self.allocated() > limit {
            for place in (0..self.entries.len()).rev() {
                let entry = &self.entries[place];
                if !entry.is_fresh && entry.aggregate.kind() != Kind::Gauge {
                    self.remove(place);
                }
            }
            self.shrink();
            while self.allocated() > limit && self.forget_gauges() {
                self.shrink();
            }
        }
    }

    fn place(&self, hash: u64, kind: Kind, series: &[u8]) -> Option<usize> {
        let is_it = |place: &u32| {
            let entry = &self.entries[*place as usize];
            entry.hash == hash && entry.aggregate.kind() == kind && *entry.name == *series
        };
        self.index.find(hash, is_it).map(|place| *place as usize)
    }

    fn take(&mut self, place: usize, measure: Measure<'_>, member: u64) {
        let entry = &mut self.entries[place];
        let before = entry.aggregate.allocated();
        entry.aggregate.take(measure, member);
        self.held = self.held - before + entry.aggregate.allocated();
        entry.touched = self.interval;
        entry.is_fresh = true;
        self.is_due = true;
    }

    /// Begins a series, if there is room for it and its first sample. Its place.
    fn add(&mut self, hash: u64, series: &[u8], kind: Kind, member: u64) -> Option<usize> {
        let aggregate = Aggregate::new(kind);
        let own = allocated(series.len()) + aggregate.growth(member);
        if !self.evict_for(|this| own + this.growth(hash)) {
            return None;
        }
        let place = self.entries.len();
        let number = u32::try_from(place).ok()?;
        let Self { entries, index, .. } = self;
        index.insert_unique(hash, number, |place| entries[*place as usize].hash);
        entries.push(Entry {
            name: series.into(),
            hash,
            aggregate,
            touched: 0,
            is_fresh: false,
        });
        self.held += allocated(series.len());
        Some(place)
    }

    /// What another entry takes more of both tables.
    fn growth(&self, hash: u64) -> usize {
        self.index.growth(hash) + self.entries.growth()
    }

    fn has_room(&self, more: usize) -> bool {
        self.allocated() + more <= self.limit
    }

    /// Forgets gauges until there is room for what is wanted then.
    fn evict_for(&mut self, more: impl Fn(&Self) -> usize) -> bool {
        while !self.has_room(more(self)) {
            if !self.forget_gauges() {
                return false;
            }
        }
        true
    }

    /// Forgets a quarter of the gauges that were not touched in this interval, the
    /// longest untouched: so that looking for them is rare, however many new
    /// names a client makes up. Not during a flush, which knows its place.
    fn forget_gauges(&mut self) -> bool {
        if self.flushing.is_some() || self.all_touched_in == Some(self.interval) {
            return false;
        }
        let is_untouched = |entry: &Entry, now: u64| {
            entry.aggregate.kind() == Kind::Gauge && !entry.is_fresh && entry.touched < now
        };
        let untouched = self.entries.iter();
        let untouched = untouched.filter(|entry| is_untouched(entry, self.interval));
        let mut touched: Vec<u64> = untouched.map(|entry| entry.touched).collect();
        if touched.is_empty() {
            self.all_touched_in = Some(self.interval);
            return false;
        }
        let goes = touched.len().div_ceil(4);
        self.forgotten += goes as u64;
        let (older, latest, _) = touched.select_nth_unstable(goes - 1);
        let latest = *latest;
        // Of those that were touched last among them, not all have to go.
        let older = older.iter().filter(|touched| **touched < latest).count();
        let mut left = goes - older;
        for place in (0..self.entries.len()).rev() {
            let entry = &self.entries[place];
            if !is_untouched(entry, self.interval) || entry.touched > latest {
                continue;
            }
            if entry.touched < latest {
                self.remove(place);
            } else if left > 0 {
                left -= 1;
                self.remove(place);
            }
        }
        true
    }

    fn remove(&mut self, place: usize) {
        let Some(entry) = self.entries.swap_remove(place) else {
            return;
        };
        self.held -= allocated(entry.name.len()) + entry.aggregate.allocated();
        let is_at = |at: usize| move |place: &u32| *place as usize == at;
        self.index.remove(entry.hash, is_at(place));
        // The last one stands there now.
        let last = self.entries.len();
        if let (Some(moved), Ok(number)) = (self.entries.get(place), u32::try_from(place))
            && let Some(known) = self.index.find_mut(moved.hash, is_at(last))
        {
            *known = number;
        }
    }

    /// Gives memory back after many have gone.
    fn shrink(&mut self) {
        let Self { entries, index, .. } = self;
        entries.shrink();
        index.shrink(|place| entries[*place as usize].hash);
    }
}

#[cfg(test)]
mod tests;
