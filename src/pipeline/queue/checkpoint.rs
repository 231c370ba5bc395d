//! The queued lines as bytes, for the next process.
//!
//! ```text
//!   version 4 │ lines 8 │ account │ frame │ frame │ … │ block │ …
//!             ▲           ▲
//!             │           └── chunks: image/chunk.rs
//!             └── these two are where they are in every version
//! ```
//!
//! In: what is queued, the oldest first; each block is freed as it is written, so
//! that memory never doubles. Frames go as they are, compressed. Blocks hold
//! bare lines, so the key is in no image. Out: the same lines, as backlog, with
//! the account that they stand in: the sum stays right, and no counter goes
//! backwards over a restart.
//!
//! A damaged or cut image costs the lines from the damage on, one of another version all
//! of them. They are dropped as `corrupt`, to the line: the account, or the number at
//! the beginning, says how many there were.

mod chunk;
pub mod codec;

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use crate::stats::{Counters, DropReason, Ledger, ListenerId, ListenerKind};

use super::block::{Block, Part};
use super::frame::Frame;
use super::lane::Waiting;
use super::state::State;

use chunk::{Chunk, Kind};
use codec::{Fields, put, put_text};

/// Of this layout. Images of any other are not read.
const VERSION: u32 = 2;

/// Version and lines.
const PREFIX: usize = 4 + 8;

/// Lines that repeat take next to nothing, compressed, but not less than this.
const MOST_LINES_A_BYTE: u64 = 1000;

/// What came of reading an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Restored {
    /// Queued lines here now.
    pub lines: u64,
    /// Lines that are lost.
    pub lost: u64,
    /// Why, or what else is wrong.
    pub damage: Option<Damage>,
}

/// What is wrong with an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// Written by another sidecarbon.
    #[error("it is of version {0}, and this sidecarbon reads version {VERSION}")]
    Version(u32),
    /// Not what was written.
    #[error("it was changed or cut")]
    Changed,
    /// Each of the processes that had them ended by a defect.
    #[error("the processes that had them ended by a defect, one after the other")]
    Defects,
}

/// Writes all that waits, and frees it. The account in `state` stays as it is.
/// Answers with the lines that were written, and the error that cost the others.
pub fn write(
    state: &mut State,
    counters: &Counters,
    now: Instant,
    out: &mut impl Write,
) -> (u64, io::Result<()>) {
    let account = account(state.ledger(), counters);
    let mut written = 0;
    let mut all = || {
        out.write_all(&VERSION.to_le_bytes())?;
        out.write_all(&state.ledger().queued().to_le_bytes())?;
        chunk::write(out, Kind::Account, 0, &account, &[])?;
        let mut head = Vec::new();
        while let Some(waiting) = state.take_oldest() {
            head.clear();
            let lines = waiting.lines();
            match &waiting {
                Waiting::Block(block) => {
                    block.part().write(now, &mut head);
                    chunk::write(out, Kind::Block, lines, &head, block.bytes())?;
                }
                Waiting::Frame(frame) => {
                    frame.write(now, &mut head);
                    chunk::write(out, Kind::Frame, lines, &head, frame.compressed())?;
                }
            }
            written += lines;
        }
        Ok(())
    };
    let result = all();
    (written, result)
}

/// Puts the lines of an image before all others, and its account into this
/// one. The file shrinks as it is read: the newest lines come first, and those
/// that find no room are the oldest.
pub fn restore(state: &mut State, counters: &Counters, now: Instant, file: &File) -> Restored {
    restore_checkpoint(state, counters, now, file, Checkpoint::of(file))
}

/// As [`restore`], but all lines are dropped.
pub fn discard(state: &mut State, counters: &Counters, file: &File) -> Restored {
    let mut image = Checkpoint::of(file);
    image.chunks.clear();
    image.damage = Some(Damage::Defects);
    restore_checkpoint(state, counters, Instant::now(), file, image)
}

fn restore_checkpoint(
    state: &mut State,
    counters: &Counters,
    now: Instant,
    file: &File,
    mut image: Checkpoint,
) -> Restored {
    let first_number = state.begin_restore();
    // What is damaged comes first, then what follows it is not trusted.
    let is_intact = |chunk: &Chunk| chunk.contents(file).is_some();
    let intact = image
        .chunks
        .iter()
        .take_while(|chunk| is_intact(chunk))
        .count();
    image.chunks.truncate(intact);
    let mut lines = 0;
    for chunk in image.chunks.drain(..).rev() {
        let waiting = read(file, &chunk, now, first_number);
        // Its memory is needed for the lines; without that, it takes both.
        let _ = file.set_len(chunk.at);
        if let Some(waiting) = waiting.filter(|waiting| waiting.lines() == chunk.lines) {
            lines += chunk.lines;
            state.restore(waiting);
        }
    }
    state.end_restore();
    let lost = image.expected.saturating_sub(lines);
    if lost > 0 {
        image.damage.get_or_insert(Damage::Changed);
    }
    if let Some(account) = &image.account {
        account.restore(state.ledger_mut(), counters, lines);
    } else if lines + lost > 0 {
        let kind = ListenerKind::Restart;
        let listener = counters.listener(kind, kind.label()).id;
        let ledger = state.ledger_mut();
        ledger.restore_unaccounted(listener, lines, lost, DropReason::Corrupt);
    }
    Restored {
        lines,
        lost,
        damage: image.damage,
    }
}

/// An image before its lines are read.
#[derive(Debug, Default)]
struct Checkpoint {
    /// Of lines, the oldest first.
    chunks: Vec<Chunk>,
    account: Option<Account>,
    /// So many lines should be in it.
    expected: u64,
    damage: Option<Damage>,
}

impl Checkpoint {
    fn of(file: &File) -> Self {
        Self::open(file).unwrap_or(Self {
            damage: Some(Damage::Changed),
            ..Self::default()
        })
    }

    fn open(file: &File) -> io::Result<Self> {
        let mut prefix = [0; PREFIX];
        file.read_exact_at(&mut prefix, 0)?;
        let [a, b, c, d, lines @ ..] = prefix;
        let version = u32::from_le_bytes([a, b, c, d]);
        if version != VERSION {
            return Ok(Self {
                expected: plausible(u64::from_le_bytes(lines), file)?,
                damage: Some(Damage::Version(version)),
                ..Self::default()
            });
        }
        let mut chunks = chunk::survey(file, PREFIX as u64)?.into_iter();
        let account = chunks.next().filter(|first| first.kind == Kind::Account);
        let contents = account.and_then(|chunk| chunk.contents(file));
        let account = contents.and_then(|(head, _)| Account::read(&head));
        let lines = u64::from_le_bytes(lines);
        let Some(account) = account else {
            return Ok(Self {
                expected: plausible(lines, file)?,
                damage: Some(Damage::Changed),
                ..Self::default()
            });
        };
        Ok(Self {
            chunks: chunks.collect(),
            expected: account.ledger.queued(),
            account: Some(account),
            damage: None,
        })
    }
}

/// The number of lines in the prefix, unless it is more than an image can hold.
fn plausible(lines: u64, file: &File) -> io::Result<u64> {
    let most = file.metadata()?.len().saturating_mul(MOST_LINES_A_BYTE);
    Ok(if lines <= most { lines } else { 0 })
}

fn read(file: &File, chunk: &Chunk, now: Instant, first_number: u64) -> Option<Waiting> {
    let (head, body) = chunk.contents(file)?;
    let mut fields = Fields(&head);
    match chunk.kind {
        Kind::Block => {
            let part = Part::read(&mut fields, now, first_number)?;
            Block::read_back(&part, body).map(Waiting::Block)
        }
        Kind::Frame => Frame::read(fields, body, now, first_number).map(Waiting::Frame),
        Kind::Account => None,
    }
}

/// Where all lines of a run were, and what is counted of them beside that.
#[derive(Debug)]
struct Account {
    ledger: Ledger,
    listeners: Vec<(ListenerKind, String)>,
    doubts: [u64; 2],
}

/// What may have come twice, or not at all, goes on being counted.
fn doubts(counters: &Counters) -> [&AtomicU64; 2] {
    [&counters.lines_at_risk, &counters.lines_uncertain]
}

fn account(ledger: &Ledger, counters: &Counters) -> Vec<u8> {
    let mut out = Vec::new();
    let numbers = ledger.to_numbers();
    put(&mut out, numbers.len() as u64);
    for number in numbers {
        put(&mut out, number);
    }
    for doubt in doubts(counters) {
        put(&mut out, doubt.load(Relaxed));
    }
    // In the order of their ids, which the ledger goes by.
    for listener in counters.listeners().iter().take(ledger.listeners()) {
        put_text(&mut out, listener.kind.label());
        put_text(&mut out, &listener.label);
    }
    out
}

impl Account {
    fn read(contents: &[u8]) -> Option<Self> {
        let mut fields = Fields(contents);
        let ledger = Ledger::from_numbers(&fields.numbers()?)?;
        let doubts = [fields.number()?, fields.number()?];
        let mut listeners = Vec::new();
        while !fields.is_empty() {
            let kind = ListenerKind::from_label(fields.text()?)?;
            listeners.push((kind, fields.text()?.to_owned()));
        }
        (listeners.len() == ledger.listeners()).then_some(Self {
            ledger,
            listeners,
            doubts,
        })
    }

    fn restore(&self, ledger: &mut Ledger, counters: &Counters, lines: u64) {
        let listeners: Vec<ListenerId> = self
            .listeners
            .iter()
            .map(|(kind, label)| counters.listener(*kind, label).id)
            .collect();
        ledger.restore(&self.ledger, &listeners, lines, DropReason::Corrupt);
        for (mine, its) in doubts(counters).into_iter().zip(self.doubts) {
            mine.fetch_add(its, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests;
