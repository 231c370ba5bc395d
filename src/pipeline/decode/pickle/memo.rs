//! What a pickle remembers, by number.
//!
//! Picklers count up by one: from 0, from 1, or from where their last pickle
//! ended. Such a run is a vector, wherever it begins. The first number that is
//! out of turn, and all new ones after it, are in a map: its keys are a
//! stranger's, and its hasher is none that he could foresee. So a number takes
//! the same memory and time whether it is small or large.

use std::collections::HashMap;

use super::machine::Value;

#[derive(Debug, Default)]
pub struct Memo {
    /// The number of the run's first value.
    start: u32,
    run: Vec<Value>,
    /// Numbers out of turn, and none of the run.
    others: HashMap<u32, Value>,
}

impl Memo {
    /// How many values are remembered.
    pub fn len(&self) -> usize {
        self.run.len() + self.others.len()
    }

    pub fn get(&self, number: u32) -> Option<Value> {
        let in_run = self.place(number).and_then(|place| self.run.get(place));
        in_run.or_else(|| self.others.get(&number)).copied()
    }

    /// Remembers a value. Whether its number is new, and out of turn.
    pub fn put(&mut self, number: u32, value: Value) -> bool {
        if self.run.is_empty() {
            self.start = number;
        }
        match self.place(number) {
            Some(place) if place < self.run.len() => self.run[place] = value,
            Some(place) if place == self.run.len() && self.others.is_empty() => {
                self.run.push(value);
            }
            _ => return self.others.insert(number, value).is_none(),
        }
        false
    }

    /// Where in the run a number is, or would be.
    fn place(&self, number: u32) -> Option<usize> {
        Some(number.checked_sub(self.start)? as usize)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Values that there is memory for.
    fn room(memo: &Memo) -> usize {
        memo.run.capacity() + memo.others.capacity()
    }

    fn of(numbers: impl IntoIterator<Item = u32>) -> Memo {
        let mut memo = Memo::default();
        for number in numbers {
            memo.put(number, Value::Leaf(number));
        }
        memo
    }

    #[test]
    fn a_large_number_takes_no_more_than_a_small_one() {
        assert_eq!(room(&Memo::default()), 0);
        for number in [0, 1, 524_288, u32::MAX] {
            assert!(room(&of([number])) <= 8, "{number}");
            assert!(room(&of([0, number])) <= 8, "{number}");
        }
    }

    #[test]
    fn a_run_is_no_map_wherever_it_begins() {
        for start in [0, 1, 300, 1_000_000] {
            let memo = of((start..start + 1000).chain(start..start + 1000));
            assert_eq!((memo.run.len(), memo.others.capacity()), (1000, 0));
        }
    }

    proptest! {
        #[test]
        fn numbers_in_any_order(
            numbers in proptest::collection::vec(
                prop_oneof![8 => 0..12_u32, 1 => 500_000..500_004_u32, 1 => any::<u32>(), 1 => Just(u32::MAX)],
                0..60,
            ),
        ) {
            let mut memo = Memo::default();
            let mut model = HashMap::new();
            let mut out_of_turn = 0;
            for (value, number) in (0..).map(Value::Leaf).zip(&numbers) {
                out_of_turn += usize::from(memo.put(*number, value));
                model.insert(*number, value);
                prop_assert_eq!(memo.len(), model.len());
                prop_assert_eq!(memo.others.len(), out_of_turn);
            }
            for number in (0..14).chain(numbers) {
                prop_assert_eq!(memo.get(number), model.get(&number).copied());
            }
            prop_assert!(room(&memo) <= 8 + 4 * model.len());
        }
    }
}
