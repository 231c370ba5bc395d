//! A vector that never moves much at once: a large one is many small ones.
//!
//! To grow a vector of 200 MiB takes the kernel 20 milliseconds, even where it only moves pages.

use std::mem;
use std::ops::{Index, IndexMut};

use super::tables::allocated;

/// The number of entries in one chunk. The first one grows to that size, others have it from
/// the beginning.
const CHUNK: usize = 1024;

/// The entries, by number.
#[derive(Debug)]
pub struct Entries<T> {
    chunks: Vec<Vec<T>>,
    len: usize,
}

impl<T> Default for Entries<T> {
    fn default() -> Self {
        Self {
            chunks: Vec::new(),
            len: 0,
        }
    }
}

impl<T> Entries<T> {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// The memory that they take.
    pub fn allocated(&self) -> usize {
        let first = self.chunks.first().map_or(0, Vec::capacity);
        let others = self.chunks.len().saturating_sub(1);
        allocated(self.chunks.capacity() * size_of::<Vec<T>>())
            + allocated(first * size_of::<T>())
            + others * allocated(CHUNK * size_of::<T>())
    }

    /// What another one takes more, at most.
    pub fn growth(&self) -> usize {
        let mut more = 0;
        if self.chunks.len() == self.chunks.capacity() {
            more += allocated(grown(self.chunks.len()) * size_of::<Vec<T>>());
        }
        match self.chunks.last() {
            Some(last) if last.len() < last.capacity() => 0,
            Some(last) if last.len() < CHUNK => {
                allocated(grown(last.len()).min(CHUNK) * size_of::<T>())
            }
            None => more + allocated(grown(0) * size_of::<T>()),
            Some(_) => more + allocated(CHUNK * size_of::<T>()),
        }
    }

    /// Adds one at the end.
    pub fn push(&mut self, entry: T) {
        let needs_chunk = self.chunks.last().is_none_or(|last| last.len() == CHUNK);
        if needs_chunk {
            let chunks = self.chunks.len();
            if chunks == self.chunks.capacity() {
                self.chunks.reserve_exact(grown(chunks) - chunks);
            }
            let places = if chunks == 0 { grown(0) } else { CHUNK };
            self.chunks.push(Vec::with_capacity(places));
        }
        if let Some(last) = self.chunks.last_mut() {
            if last.len() == last.capacity() {
                last.reserve_exact(grown(last.len()).min(CHUNK) - last.len());
            }
            last.push(entry);
            self.len += 1;
        }
    }

    /// Takes one out. The last one has its number then.
    pub fn swap_remove(&mut self, at: usize) -> Option<T> {
        let last = self.chunks.last_mut()?;
        let entry = last.pop()?;
        if last.is_empty() {
            self.chunks.pop();
        }
        self.len -= 1;
        Some(if at == self.len {
            entry
        } else {
            mem::replace(&mut self[at], entry)
        })
    }

    /// One by its number.
    pub fn get(&self, at: usize) -> Option<&T> {
        self.chunks.get(at / CHUNK)?.get(at % CHUNK)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.chunks.iter().flatten()
    }

    /// Gives memory back that is not needed.
    pub fn shrink(&mut self) {
        if let [only] = &mut self.chunks[..] {
            only.shrink_to_fit();
        }
        self.chunks.shrink_to_fit();
    }

    /// Whether much of the memory is not needed.
    pub fn is_sparse(&self) -> bool {
        let first = self.chunks.first().map_or(0, Vec::capacity);
        self.len < first / 4 || self.chunks.len() < self.chunks.capacity() / 4
    }
}

impl<T> Index<usize> for Entries<T> {
    type Output = T;

    fn index(&self, at: usize) -> &T {
        &self.chunks[at / CHUNK][at % CHUNK]
    }
}

impl<T> IndexMut<usize> for Entries<T> {
    fn index_mut(&mut self, at: usize) -> &mut T {
        &mut self.chunks[at / CHUNK][at % CHUNK]
    }
}

/// For how many there is memory once it has grown. In small steps: near the bound, a large one
/// would find no room.
fn grown(len: usize) -> usize {
    len + len / 8 + 8
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn they_are_as_in_one_vector(steps in proptest::collection::vec((0..4_u8, any::<usize>()), 0..40)) {
            let (mut entries, mut plain) = (Entries::default(), Vec::new());
            for (step, number) in steps {
                match step {
                    0 | 1 => for entry in 0..number % 1500 {
                        let most = entries.allocated() + entries.growth();
                        entries.push(entry);
                        plain.push(entry);
                        prop_assert!(entries.allocated() <= most);
                    },
                    2 => for at in 0..(number % 2000).min(plain.len()) {
                        let at = at * 7 % plain.len();
                        prop_assert_eq!(entries.swap_remove(at), Some(plain.swap_remove(at)));
                    },
                    _ => entries.shrink(),
                }
                prop_assert_eq!(entries.len(), plain.len());
                prop_assert!(entries.iter().eq(&plain));
                prop_assert_eq!(entries.get(plain.len()), None);
                if let Some(last) = plain.len().checked_sub(1) {
                    prop_assert_eq!(entries[last], plain[last]);
                }
            }
        }
    }
}
