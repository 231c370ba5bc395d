//! One instruction of a pickle.
//!
//! In: a pickle and a place in it. Out: an [`Opcode`], and the place behind it.
//! Known are those that text, numbers, tuples and lists need in protocols 0 to
//! 5, and no others: what would load a module or call a function is told apart
//! only to say so.

/// What an instruction does.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Opcode<'a> {
    /// Nothing to us: the protocol's number, the length of what follows.
    Nothing,
    /// Pushes text or a number, which is read when it is needed.
    Push(Leaf<'a>),
    /// Marks a place on the stack.
    Mark,
    /// Drops the topmost value, or mark.
    Pop,
    /// Drops the topmost mark and all above it.
    PopToMark,
    /// Pushes the topmost value once more.
    Duplicate,
    /// Makes a tuple or list of this number of values.
    Gather(usize),
    /// Makes one of all above the topmost mark.
    GatherToMark,
    /// Appends the topmost value to the list below it.
    Append,
    /// Appends all above the topmost mark to the list below it.
    AppendToMark,
    /// Remembers the topmost value by a number.
    Put(u32),
    /// The same, by the next number.
    Memoize,
    /// Pushes what a number was given to.
    Get(u32),
    /// The topmost value is the pickle's.
    Stop,
}

/// A value without parts, as it is written.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Leaf<'a> {
    /// Text as it is.
    Text(&'a [u8]),
    /// The inside of a Python string literal.
    Literal(&'a [u8]),
    /// Latin-1 with `\u` escapes.
    Escaped(&'a [u8]),
    /// A number in digits.
    Digits(&'a [u8]),
    /// A whole number.
    Int(i64),
    /// A whole number in two's complement, the lowest byte first.
    Long(&'a [u8]),
    /// A number.
    Float(f64),
    /// `None`, `True` or `False`.
    Other,
}

/// Why a pickle is not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unreadable {
    /// It ends too soon.
    Cut,
    /// It names code.
    Code,
    /// It holds something else than text, numbers, tuples and lists, or is none.
    Odd,
    /// It says more than any list of points.
    TooMuch,
}

/// Reads the instruction at a place.
pub fn read(pickle: &[u8], at: usize) -> Result<(Opcode<'_>, usize), Unreadable> {
    let mut cursor = Cursor {
        rest: pickle.get(at..).unwrap_or_default(),
    };
    let opcode = cursor.opcode()?;
    Ok((opcode, pickle.len() - cursor.rest.len()))
}

struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    fn opcode(&mut self) -> Result<Opcode<'a>, Unreadable> {
        let [code] = self.array()?;
        Ok(match code {
            b'(' => Opcode::Mark,
            b'.' => Opcode::Stop,
            b'0' => Opcode::Pop,
            b'1' => Opcode::PopToMark,
            b'2' => Opcode::Duplicate,
            b')' | b']' => Opcode::Gather(0),
            0x85 => Opcode::Gather(1),
            0x86 => Opcode::Gather(2),
            0x87 => Opcode::Gather(3),
            b't' | b'l' => Opcode::GatherToMark,
            b'a' => Opcode::Append,
            b'e' => Opcode::AppendToMark,
            b'p' => Opcode::Put(self.number()?),
            b'q' => Opcode::Put(self.byte()?),
            b'r' => Opcode::Put(self.four()?),
            0x94 => Opcode::Memoize,
            b'g' => Opcode::Get(self.number()?),
            b'h' => Opcode::Get(self.byte()?),
            b'j' => Opcode::Get(self.four()?),
            0x80 => self.protocol()?,
            0x95 => {
                self.take(8)?;
                Opcode::Nothing
            }
            // GLOBAL, INST, OBJ, REDUCE, BUILD, PERSID, BINPERSID, NEWOBJ, EXT1,
            // EXT2, EXT4, NEWOBJ_EX, STACK_GLOBAL.
            b'c' | b'i' | b'o' | b'R' | b'b' | b'P' | b'Q' | 0x81..=0x84 | 0x92 | 0x93 => {
                return Err(Unreadable::Code);
            }
            code => Opcode::Push(self.leaf(code)?),
        })
    }

    fn leaf(&mut self, code: u8) -> Result<Leaf<'a>, Unreadable> {
        Ok(match code {
            b'N' | 0x88 | 0x89 => Leaf::Other,
            b'K' => Leaf::Int(self.byte()?.into()),
            b'M' => Leaf::Int(u16::from_le_bytes(self.array()?).into()),
            b'J' => Leaf::Int(i32::from_le_bytes(self.array()?).into()),
            // How protocol 0 writes False and True.
            b'I' => match self.line()? {
                b"00" | b"01" => Leaf::Other,
                digits => Leaf::Digits(digits.trim_ascii()),
            },
            b'L' => {
                let digits = self.line()?.trim_ascii();
                Leaf::Digits(digits.strip_suffix(b"L").unwrap_or(digits))
            }
            0x8a => Leaf::Long(self.counted_in_one()?),
            0x8b => Leaf::Long(self.counted_in_four()?),
            b'F' => Leaf::Digits(self.line()?.trim_ascii()),
            b'G' => Leaf::Float(f64::from_be_bytes(self.array()?)),
            b'S' => Leaf::Literal(unquoted(self.line()?.trim_ascii())?),
            b'V' => Leaf::Escaped(self.line()?),
            // Text and bytes, which Python's clients do not always tell apart.
            b'U' | b'C' | 0x8c => Leaf::Text(self.counted_in_one()?),
            b'T' | b'B' | b'X' => Leaf::Text(self.counted_in_four()?),
            0x8d | 0x8e => Leaf::Text(self.counted_in_eight()?),
            _ => return Err(Unreadable::Odd),
        })
    }

    fn protocol(&mut self) -> Result<Opcode<'a>, Unreadable> {
        match self.byte()? {
            0..=5 => Ok(Opcode::Nothing),
            _ => Err(Unreadable::Odd),
        }
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Unreadable> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(Unreadable::Cut)?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Unreadable> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(Unreadable::Cut)?;
        self.rest = rest;
        Ok(*taken)
    }

    fn byte(&mut self) -> Result<u32, Unreadable> {
        self.array().map(|[byte]| byte.into())
    }

    fn four(&mut self) -> Result<u32, Unreadable> {
        self.array().map(u32::from_le_bytes)
    }

    fn counted_in_one(&mut self) -> Result<&'a [u8], Unreadable> {
        let length = self.byte()?;
        self.counted(length.into())
    }

    fn counted_in_four(&mut self) -> Result<&'a [u8], Unreadable> {
        let length = self.four()?;
        self.counted(length.into())
    }

    fn counted_in_eight(&mut self) -> Result<&'a [u8], Unreadable> {
        let length = self.array().map(u64::from_le_bytes)?;
        self.counted(length)
    }

    fn counted(&mut self, length: u64) -> Result<&'a [u8], Unreadable> {
        self.take(usize::try_from(length).map_err(|_| Unreadable::Cut)?)
    }

    /// What stands before the next newline.
    fn line(&mut self) -> Result<&'a [u8], Unreadable> {
        let end = memchr::memchr(b'\n', self.rest).ok_or(Unreadable::Cut)?;
        let line = self.take(end)?;
        self.take(1)?;
        Ok(line)
    }

    /// A line that is a number of the memo.
    fn number(&mut self) -> Result<u32, Unreadable> {
        std::str::from_utf8(self.line()?.trim_ascii())
            .ok()
            .and_then(|digits| digits.parse().ok())
            .ok_or(Unreadable::Odd)
    }
}

/// What stands between a literal's quotes. A quote inside need not be escaped:
/// Python does not ask for it, and clients that write pickles by hand do not.
fn unquoted(literal: &[u8]) -> Result<&[u8], Unreadable> {
    match literal {
        [first @ (b'\'' | b'"'), inner @ .., last] if first == last => Ok(inner),
        _ => Err(Unreadable::Odd),
    }
}
