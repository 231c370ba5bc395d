//! A hash table that never does much work at once: a large one is many small ones, each of which
//! grows by itself.
//!
//! A table that doubles moves everything that it holds. With 16 million members that would take a
//! hundred milliseconds, in which no line moves.

use hashbrown::HashTable;

use crate::os;

/// One table with this number of values becomes [`PARTS`] tables.
const SPLITS_AT: usize = 32 << 10;

/// How many tables a large one is made of.
const PARTS: usize = 1024;

/// How many places each part has at first, of which seven eighths can be filled. The largest part
/// has 1.5 times as many values as the average one.
const FIRST_PLACES: usize = 2 * SPLITS_AT / PARTS;

/// As far as a group of control bytes reaches behind the places of a table.
const BEHIND: usize = 16;

/// What an allocation takes, where there is one.
pub fn allocated(bytes: usize) -> usize {
    if bytes == 0 { 0 } else { os::allocated(bytes) }
}

/// Values by their hashes.
#[derive(Debug)]
pub struct Tables<T> {
    /// None, one, or all parts.
    parts: Vec<HashTable<T>>,
    len: usize,
    allocated: usize,
}

impl<T> Default for Tables<T> {
    fn default() -> Self {
        Self {
            parts: Vec::new(),
            len: 0,
            allocated: 0,
        }
    }
}

impl<T> Tables<T> {
    /// How many values there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// The memory that they take.
    pub fn allocated(&self) -> usize {
        self.allocated
    }

    /// What another value takes more, at most, while it is inserted: of a table that grows, there
    /// is one of twice its size beside it for a moment.
    pub fn growth(&self, hash: u64) -> usize {
        match &self.parts[..] {
            [] => allocated(size_of::<HashTable<T>>()) + allocated(table_bytes::<T>(4)),
            [one] if one.len() == SPLITS_AT => {
                allocated(PARTS * size_of::<HashTable<T>>())
                    + PARTS * allocated(table_bytes::<T>(2 * FIRST_PLACES))
            }
            parts => {
                let part = &parts[part_of(hash, parts.len())];
                match part.allocation_size() {
                    _ if part.len() < part.capacity() => 0,
                    0 => allocated(table_bytes::<T>(4)),
                    bytes => allocated(2 * bytes),
                }
            }
        }
    }

    /// A value, by its hash and what it is known by.
    pub fn find(&self, hash: u64, is_it: impl FnMut(&T) -> bool) -> Option<&T> {
        let part = self.parts.get(part_of(hash, self.parts.len()))?;
        part.find(hash, is_it)
    }

    /// The same, to be changed.
    pub fn find_mut(&mut self, hash: u64, is_it: impl FnMut(&T) -> bool) -> Option<&mut T> {
        let part = part_of(hash, self.parts.len());
        self.parts.get_mut(part)?.find_mut(hash, is_it)
    }

    /// Adds a value that is not there yet.
    pub fn insert_unique(&mut self, hash: u64, value: T, hasher: impl Fn(&T) -> u64) {
        match self.parts.len() {
            0 => {
                self.parts = Vec::with_capacity(1);
                self.parts.push(HashTable::new());
                self.allocated = allocated(size_of::<HashTable<T>>());
            }
            1 if self.len == SPLITS_AT => self.split(&hasher),
            _ => {}
        }
        let part = part_of(hash, self.parts.len());
        let part = &mut self.parts[part];
        let before = allocated(part.allocation_size());
        part.insert_unique(hash, value, hasher);
        self.allocated = self.allocated - before + allocated(part.allocation_size());
        self.len += 1;
    }

    /// Removes a value.
    pub fn remove(&mut self, hash: u64, is_it: impl FnMut(&T) -> bool) {
        let part = part_of(hash, self.parts.len());
        let Some(part) = self.parts.get_mut(part) else {
            return;
        };
        if let Ok(found) = part.find_entry(hash, is_it) {
            found.remove();
            self.len -= 1;
        }
    }

    /// Removes all values. As much memory is kept as they needed.
    pub fn clear(&mut self) {
        if self.parts.len() > 1 || self.is_sparse() {
            *self = Self::default();
        } else {
            self.parts.iter_mut().for_each(HashTable::clear);
            self.len = 0;
        }
    }

    /// Whether much of the memory is not needed.
    pub fn is_sparse(&self) -> bool {
        let capacity = self.parts.iter().map(HashTable::capacity);
        self.len < capacity.sum::<usize>() / 4
    }

    /// Gives memory back that is not needed.
    pub fn shrink(&mut self, hasher: impl Fn(&T) -> u64) {
        if self.len == 0 {
            *self = Self::default();
            return;
        }
        for part in &mut self.parts {
            part.shrink_to(part.len(), &hasher);
        }
        self.count_allocated();
    }

    /// Frees some of the memory, and forgets what was there. Whether anything is left.
    pub fn release(&mut self, bytes: usize) -> bool {
        let mut released = 0;
        while released < bytes
            && let Some(part) = self.parts.pop()
        {
            released += allocated(part.allocation_size());
            self.len -= part.len();
        }
        self.count_allocated();
        !self.parts.is_empty()
    }

    fn split(&mut self, hasher: &impl Fn(&T) -> u64) {
        let mut parts: Vec<HashTable<T>> = Vec::with_capacity(PARTS);
        parts.resize_with(PARTS, || HashTable::with_capacity(FIRST_PLACES / 8 * 7));
        for table in std::mem::replace(&mut self.parts, parts) {
            for value in table {
                let hash = hasher(&value);
                self.parts[part_of(hash, PARTS)].insert_unique(hash, value, hasher);
            }
        }
        self.count_allocated();
    }

    fn count_allocated(&mut self) {
        let parts = self.parts.iter().map(HashTable::allocation_size);
        self.allocated = allocated(self.parts.capacity() * size_of::<HashTable<T>>())
            + parts.map(allocated).sum::<usize>();
    }
}

/// The part of a hash. Tables use the other bits, the lowest and the highest.
///
/// Parts have different shares of all values, the largest twice that of the smallest, so that they
/// do not all grow at the same time: while all values double, part after part does.
fn part_of(hash: u64, parts: usize) -> usize {
    if parts <= 1 {
        return 0;
    }
    // Nearly log2(1 + x) of a number x from 0 to 1, by which the shares grow evenly.
    let x = (hash >> 40) & 0xffff;
    let part = (x * (88_248 - ((22_712 * x) >> 16))) >> 22;
    (part as usize).min(parts - 1)
}

/// The most bytes that a table with this number of places takes.
fn table_bytes<T>(places: usize) -> usize {
    places * (size_of::<T>() + 1) + 2 * BEHIND
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::hash::{BuildHasher, RandomState};

    use super::*;

    #[test]
    fn a_large_one_holds_what_a_plain_one_holds() {
        const MANY: u64 = 3 * SPLITS_AT as u64;
        let hasher = RandomState::new();
        let hash = |value: &u64| hasher.hash_one(value);
        let mut tables = Tables::default();
        for value in 0..MANY {
            let (before, growth) = (tables.allocated(), tables.growth(hash(&value)));
            let bytes: usize = tables.parts.iter().map(HashTable::allocation_size).sum();
            assert_eq!(before == 0, bytes == 0);
            tables.insert_unique(hash(&value), value, hash);
            assert!(tables.allocated() <= before + growth, "{value}");
        }
        assert_eq!((tables.len(), tables.parts.len()), (3 * SPLITS_AT, PARTS));
        let counted = tables.allocated();
        tables.count_allocated();
        assert_eq!(counted, tables.allocated());
        for value in (0..MANY).step_by(2) {
            tables.remove(hash(&value), |other| *other == value);
        }
        let left: HashSet<u64> = tables.parts.iter().flatten().copied().collect();
        assert_eq!(left, (0..MANY).filter(|value| value % 2 == 1).collect());
        assert_eq!(tables.find(hash(&7), |other| *other == 7), Some(&7));
        assert_eq!(tables.find(hash(&8), |other| *other == 8), None);
        assert!(!tables.is_sparse());
        let mut steps = 1;
        while tables.release(64 << 10) {
            steps += 1;
        }
        assert!(steps > 10, "{steps}");
        assert_eq!((tables.len(), tables.growth(7) > 0), (0, true));
    }

    #[test]
    fn shares_are_even_on_a_scale_of_logarithms() {
        let mut counts = [0_u32; PARTS];
        for x in 0..1_u64 << 16 {
            counts[part_of(x << 40, PARTS)] += 1;
        }
        let (least, most) = (counts[0], counts[PARTS - 1]);
        assert!(
            counts.is_sorted_by(|one, next| *one <= *next + 2),
            "{counts:?}"
        );
        assert!(
            least > 45 && most < 100 && most > 2 * least - 5,
            "{least} {most}"
        );
    }

    /// However many values there are, few of them are moved at once.
    #[test]
    fn each_part_grows_by_itself() {
        let hasher = RandomState::new();
        let hash = |value: &u64| hasher.hash_one(value);
        let mut tables = Tables::default();
        let moved = std::cell::Cell::new(0);
        for value in 0..400_000_u64 {
            moved.set(0);
            tables.insert_unique(hash(&value), value, |value| {
                moved.set(moved.get() + 1);
                hash(value)
            });
            assert!(moved.get() <= 2 * SPLITS_AT, "{} at {value}", moved.get());
        }
    }
}
