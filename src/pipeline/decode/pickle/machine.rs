//! The machine that a pickle is a program of, without what could do harm.
//!
//! In: a pickle. Out: the value that it makes, or why it is not read. A value is
//! no object: text and numbers are the place where they are written, tuples and
//! lists are chains of such places. So nothing is copied, nothing is nested in
//! memory, and nothing recurses, however deep the pickle does. A list may hold
//! itself: who walks through a value goes as deep as a point, and no deeper.

use std::collections::HashMap;

use super::opcode::{self, Leaf, Opcode, Unreadable};

/// More values are in no list of points that fits into a frame: there, a value
/// takes two bytes and more. So a machine stays below [`MOST_BYTES`].
const MAX_VALUES: usize = 1 << 19;

/// The memory that a machine takes, at most.
pub const MOST_BYTES: usize = 20 << 20;

/// Values whose memory one entry of the memo takes, in the map and while that grows.
const VALUES_PER_MEMO: usize = 2;

/// What is on the stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value {
    /// Text or a number: where its instruction stands.
    Leaf(u32),
    /// A tuple or list, by number.
    Sequence(u32),
}

/// The ends of a tuple's or list's chain.
#[derive(Debug, Clone, Copy)]
struct Sequence {
    first: u32,
    last: u32,
}

/// A place in a chain.
#[derive(Debug, Clone, Copy)]
struct Node {
    value: Value,
    next: u32,
}

/// Stands for no node: where a chain ends.
const END: u32 = u32::MAX;

/// What a pickle made.
#[derive(Debug)]
pub struct Unpickled<'a> {
    pickle: &'a [u8],
    values: Values,
    top: Value,
}

#[derive(Debug, Default)]
struct Values {
    sequences: Vec<Sequence>,
    nodes: Vec<Node>,
}

#[derive(Debug, Default)]
struct Machine {
    stack: Vec<Value>,
    /// How high the stack was at each mark.
    marks: Vec<usize>,
    /// Its keys are the client's; the hasher of the standard library is keyed at random.
    memo: HashMap<u32, Value>,
    values: Values,
    /// Values so far, whatever became of them.
    counted: usize,
}

/// Runs a pickle.
pub fn run(pickle: &[u8]) -> Result<Unpickled<'_>, Unreadable> {
    let mut machine = Machine::default();
    let mut at = 0;
    loop {
        let (opcode, next) = opcode::read(pickle, at)?;
        if opcode == Opcode::Stop {
            // What may follow is not the pickle's, as Python has it.
            return Ok(Unpickled {
                pickle,
                top: machine.pop()?,
                values: machine.values,
            });
        }
        machine.step(opcode, at)?;
        at = next;
    }
}

impl Machine {
    fn step(&mut self, opcode: Opcode<'_>, at: usize) -> Result<(), Unreadable> {
        match opcode {
            Opcode::Nothing | Opcode::Stop => {}
            Opcode::Push(_) => {
                let at = u32::try_from(at).map_err(|_| Unreadable::TooMuch)?;
                self.push(Value::Leaf(at))?;
            }
            Opcode::Mark => {
                self.count(1)?;
                self.marks.push(self.stack.len());
            }
            Opcode::Pop => {
                if self.pop().is_err() {
                    self.marks.pop().ok_or(Unreadable::Odd)?;
                }
            }
            Opcode::PopToMark => {
                let mark = self.marks.pop().ok_or(Unreadable::Odd)?;
                self.stack.truncate(mark);
            }
            Opcode::Duplicate => self.push(self.top()?)?,
            Opcode::Gather(count) => {
                let from = self.stack.len().checked_sub(count);
                let from = from.filter(|from| *from >= self.floor());
                self.gather(from.ok_or(Unreadable::Odd)?)?;
            }
            Opcode::GatherToMark => {
                let mark = self.marks.pop().ok_or(Unreadable::Odd)?;
                self.gather(mark)?;
            }
            Opcode::Append => {
                let from = self.stack.len().saturating_sub(1);
                self.append(from)?;
            }
            Opcode::AppendToMark => {
                let mark = self.marks.pop().ok_or(Unreadable::Odd)?;
                self.append(mark)?;
            }
            Opcode::Put(number) => self.put(number)?,
            Opcode::Memoize => {
                let number = u32::try_from(self.memo.len());
                self.put(number.map_err(|_| Unreadable::TooMuch)?)?;
            }
            Opcode::Get(number) => {
                let value = self.memo.get(&number).copied();
                self.push(value.ok_or(Unreadable::Odd)?)?;
            }
        }
        Ok(())
    }

    /// What is below the topmost mark is out of reach.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn top(&self) -> Result<Value, Unreadable> {
        let reachable = self.stack.get(self.floor()..).unwrap_or_default();
        reachable.last().copied().ok_or(Unreadable::Odd)
    }

    fn pop(&mut self) -> Result<Value, Unreadable> {
        let top = self.top()?;
        self.stack.pop();
        Ok(top)
    }

    fn push(&mut self, value: Value) -> Result<(), Unreadable> {
        self.count(1)?;
        self.stack.push(value);
        Ok(())
    }

    fn count(&mut self, values: usize) -> Result<(), Unreadable> {
        self.counted += values;
        if self.counted > MAX_VALUES {
            return Err(Unreadable::TooMuch);
        }
        Ok(())
    }

    fn put(&mut self, number: u32) -> Result<(), Unreadable> {
        let value = self.top()?;
        if self.memo.insert(number, value).is_none() {
            self.count(VALUES_PER_MEMO)?;
        }
        Ok(())
    }

    /// Makes one value of those from a height of the stack on.
    fn gather(&mut self, from: usize) -> Result<(), Unreadable> {
        let number = self.values.begin();
        self.move_into(number, from);
        self.push(Value::Sequence(number))
    }

    /// Appends those from a height on to the list below them.
    fn append(&mut self, from: usize) -> Result<(), Unreadable> {
        let below = from.checked_sub(1).filter(|below| *below >= self.floor());
        match below.and_then(|below| self.stack.get(below)) {
            Some(Value::Sequence(list)) => {
                self.move_into(*list, from);
                Ok(())
            }
            _ => Err(Unreadable::Odd),
        }
    }

    fn move_into(&mut self, sequence: u32, from: usize) {
        for value in self.stack.drain(from..) {
            self.values.append(sequence, value);
        }
    }
}

impl Values {
    /// An empty sequence. As every push is counted, numbers are small.
    fn begin(&mut self) -> u32 {
        let number = self.sequences.len();
        self.sequences.push(Sequence {
            first: END,
            last: END,
        });
        u32::try_from(number).unwrap_or(END)
    }

    fn append(&mut self, sequence: u32, value: Value) {
        let new = u32::try_from(self.nodes.len()).unwrap_or(END);
        self.nodes.push(Node { value, next: END });
        let Some(sequence) = self.sequences.get_mut(sequence as usize) else {
            return;
        };
        match self.nodes.get_mut(sequence.last as usize) {
            Some(last) => last.next = new,
            None => sequence.first = new,
        }
        sequence.last = new;
    }

    fn chain(&self, first: u32) -> impl Iterator<Item = Value> {
        let mut next = first;
        std::iter::from_fn(move || {
            let node = self.nodes.get(next as usize)?;
            next = node.next;
            Some(node.value)
        })
    }
}

impl<'a> Unpickled<'a> {
    /// Bytes of the pickle.
    pub fn length(&self) -> usize {
        self.pickle.len()
    }

    /// The parts of the pickle's value, when it is a tuple or list.
    pub fn parts(&self) -> Option<impl Iterator<Item = Value>> {
        self.parts_of(self.top)
    }

    /// Both values of a tuple or list of two.
    pub fn pair(&self, value: Value) -> Option<[Value; 2]> {
        let mut parts = self.parts_of(value)?;
        match (parts.next(), parts.next(), parts.next()) {
            (Some(first), Some(second), None) => Some([first, second]),
            _ => None,
        }
    }

    /// A value without parts, and how many bytes of the pickle it takes.
    pub fn leaf(&self, value: Value) -> Option<(Leaf<'a>, usize)> {
        let Value::Leaf(at) = value else {
            return None;
        };
        let at = at as usize;
        match opcode::read(self.pickle, at) {
            Ok((Opcode::Push(leaf), next)) => Some((leaf, next - at)),
            _ => None,
        }
    }

    fn parts_of(&self, value: Value) -> Option<impl Iterator<Item = Value>> {
        let Value::Sequence(number) = value else {
            return None;
        };
        let sequence = self.values.sequences.get(number as usize)?;
        Some(self.values.chain(sequence.first))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_stays_small() {
        let counted = size_of::<Value>() + size_of::<Sequence>() + size_of::<Node>();
        assert!(MAX_VALUES * counted <= MOST_BYTES);
        // A map has twice as many places as it fills to seven eighths, a byte
        // beside each, and half of that once more while it grows.
        let place = size_of::<(u32, Value)>() + 1;
        assert!(place * 16 / 7 * 3 / 2 <= VALUES_PER_MEMO * counted);
    }
}
