//! One StatsD line, from the bytes that a client wrote to its samples.
//!
//! ```text
//!     api.requests:1:2:4|ms|@0.1|#dc:fra,canary|c:3f2a
//!     ^^^^^^^^^^^^ ^^^^^ ^^ ^^^^ ^^^^^^^^^^^^^^ ^^^^^^
//!     name        values type rate  tags         of no use here
//! ```
//!
//! In: the bytes between two newlines. Out: each value as a [`Sample`] or a
//! [`Reject`]. Values may share their type, as above, or have one each:
//! `api.requests:1|c:200|ms`. What the name and tags become is left to
//! `statsd/series.rs`.

use crate::pipeline::line::{self, Reject, Rules, Timestamp, number};
use crate::stats::RejectReason;

/// A line whose values are still to be looked at.
#[derive(Debug, Clone, Copy)]
pub struct Written<'a> {
    /// Before the first colon.
    pub name: &'a [u8],
    /// Behind `#`, if anything is.
    pub tags: &'a [u8],
    raw: &'a [u8],
    values_at: usize,
}

/// What one value says.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Measure<'a> {
    /// So many happened.
    Count(f64),
    /// It is so much.
    Level(f64),
    /// It is so much more, or less.
    Change(f64),
    /// It took so long, and stands for this number of.
    Time(f64, f64),
    /// This one was there.
    Member(&'a [u8]),
}

/// One value, with its type.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample<'a> {
    /// What it says.
    pub measure: Measure<'a>,
    /// The second that it is of, where the client has aggregated it already.
    pub second: Option<u64>,
    /// How many values it is made of: those of one second are one point.
    pub values: u64,
}

/// Values that share a type, and what follows it.
struct Group<'a> {
    at: usize,
    values: &'a [u8],
    kind: &'a [u8],
    rate: f64,
    time: Option<(usize, &'a [u8])>,
}

const NO_VALUE: &str = "no value; write name:value|type";
const NO_TYPE: &str = "no type; write name:value|type, such as app.requests:1|c";
const UNKNOWN_TYPE: &str = "unknown type; the types are c, g, ms, h, d and s";
const UNKNOWN_PART: &str = "unknown part; behind the type may stand |@rate and |#tags";
const BAD_RATE: &str = "no rate; write a number over 0 and at most 1, such as |@0.1";
const EVENT: &str = "a DogStatsD event; Graphite has points only, send events elsewhere";
const CHECK: &str = "a DogStatsD service check; Graphite has points only, send a gauge instead";
const NOT_OF_TIME: &str =
    "only counters and plain gauges may have a time of their own; leave |T out";
const NOT_ALONE: &str = "values of several types have no time of their own; write a line for each";

/// Takes a line apart, given without its newline. `None` is a blank line.
pub fn read<'a>(raw: &'a [u8], rules: &Rules) -> Result<Option<Written<'a>>, Reject> {
    if raw.len() > rules.max_line_bytes {
        return Err(Reject::too_long(rules.max_line_bytes));
    }
    let content = line::content(raw);
    if content.is_empty() {
        return Ok(None);
    }
    line::check_encoding(raw)?;
    let (start, raw) = (content.start, &raw[..content.end]);
    let trimmed = &raw[start..];
    let foreign = |hint| Err(Reject::new(RejectReason::Protocol, 0, hint));
    if trimmed.starts_with(b"_e{") {
        return foreign(EVENT);
    }
    if trimmed.starts_with(b"_sc|") {
        return foreign(CHECK);
    }
    let Some(colon) = memchr::memchr(b':', raw) else {
        return Err(Reject::new(RejectReason::Fields, raw.len(), NO_VALUE));
    };
    if let Some(bar) = memchr::memchr(b'|', &raw[..colon]) {
        return Err(Reject::new(RejectReason::Fields, bar, NO_VALUE));
    }
    Ok(Some(Written {
        name: raw[start..colon].trim_ascii_end(),
        tags: tags(&raw[colon..]),
        raw,
        values_at: colon + 1,
    }))
}

/// All of a line's tags, whichever of its values they stand behind.
fn tags(values: &[u8]) -> &[u8] {
    let Some(at) = memchr::memmem::find(values, b"|#") else {
        return &[];
    };
    let tags = &values[at + 2..];
    let end = memchr::memchr(b'|', tags).unwrap_or(tags.len());
    &tags[..end]
}

impl<'a> Written<'a> {
    /// Hands each value on.
    pub fn each(&self, mut take: impl FnMut(Result<Sample<'a>, Reject>)) {
        let mut at = Some(self.values_at);
        while let Some(begin) = at {
            let group = Group::read(self.raw, begin);
            at = match group {
                Ok((group, next)) => {
                    let is_alone = begin == self.values_at && next.is_none();
                    match group.time {
                        // A short line would become many long ones.
                        Some((at, _)) if !is_alone => {
                            take(Err(Reject::new(RejectReason::Timestamp, at, NOT_ALONE)));
                        }
                        _ => group.each(&mut take),
                    }
                    next
                }
                // Where the next value would begin is anybody's guess.
                Err(reject) => {
                    take(Err(reject));
                    None
                }
            };
        }
    }
}

impl<'a> Group<'a> {
    /// Reads the values from `begin` on with all that belongs to them. Answers
    /// with the place where the next ones begin, too.
    fn read(raw: &'a [u8], begin: usize) -> Result<(Self, Option<usize>), Reject> {
        let reject = |reason, at, hint| Err(Reject::new(reason, at, hint));
        let Some(bar) = memchr::memchr(b'|', &raw[begin..]) else {
            return reject(RejectReason::Fields, raw.len(), NO_TYPE);
        };
        let kind_at = begin + bar + 1;
        let (kind, mut next) = part(raw, kind_at);
        let mut group = Group {
            at: begin,
            values: &raw[begin..kind_at - 1],
            kind,
            rate: 1.0,
            time: None,
        };
        let mut end = kind_at + kind.len();
        while next.is_none() && end < raw.len() {
            let at = end + 1;
            let whole = &raw[at..];
            let whole = &whole[..memchr::memchr(b'|', whole).unwrap_or(whole.len())];
            end = at + whole.len();
            match whole {
                // Seen already.
                [b'#', ..] => {}
                [b'@', ..] => {
                    let (text, follows) = part(raw, at);
                    next = follows;
                    group.rate = rate(&text[1..]).ok_or(Reject::new(
                        RejectReason::Value,
                        at + 1,
                        BAD_RATE,
                    ))?;
                }
                [b'T', ..] => {
                    let (text, follows) = part(raw, at);
                    next = follows;
                    group.time = Some((at + 1, &text[1..]));
                }
                // The container, the entity, and what else will be thought of.
                _ if is_labelled(whole) => {}
                _ => return reject(RejectReason::Fields, at, UNKNOWN_PART),
            }
        }
        Ok((group, next))
    }

    fn each(&self, take: &mut impl FnMut(Result<Sample<'a>, Reject>)) {
        // The members of a set are texts, in which colons may stand.
        if self.kind == b"s" {
            return take(self.sample(self.at, self.values));
        }
        let mut at = self.at;
        let mut of_one_second = None;
        for value in self.values.split(|byte| *byte == b':') {
            match self.sample(at, value) {
                Ok(sample) if sample.second.is_some() => {
                    of_one_second = Some(sample.behind(of_one_second));
                }
                sample => take(sample),
            }
            at += value.len() + 1;
        }
        if let Some(sample) = of_one_second {
            take(Ok(sample));
        }
    }

    fn sample(&self, at: usize, value: &'a [u8]) -> Result<Sample<'a>, Reject> {
        let number = || finite(at, value, 1.0);
        let measure = match self.kind {
            b"c" => Measure::Count(finite(at, value, self.rate)?),
            b"g" if matches!(value, [b'+' | b'-', ..]) => Measure::Change(number()?),
            b"g" => Measure::Level(number()?),
            b"ms" | b"h" | b"d" => Measure::Time(number()?, self.rate.recip()),
            b"s" if value.is_empty() => {
                return Err(Reject::new(RejectReason::Value, at, "nothing to count"));
            }
            b"s" => Measure::Member(value),
            _ => {
                let at = self.at + self.values.len() + 1;
                return Err(Reject::new(RejectReason::Fields, at, UNKNOWN_TYPE));
            }
        };
        let second = match self.time {
            None => None,
            Some((at, text)) => {
                let reject = |hint| Reject::new(RejectReason::Timestamp, at, hint);
                if !matches!(measure, Measure::Count(_) | Measure::Level(_)) {
                    return Err(reject(NOT_OF_TIME));
                }
                match number::timestamp(text).map_err(reject)? {
                    Timestamp::At(second) => Some(second),
                    Timestamp::Receipt => None,
                }
            }
        };
        Ok(Sample {
            measure,
            second,
            values: 1,
        })
    }
}

impl Sample<'_> {
    /// What this value and those before it in the line are together.
    fn behind(self, before: Option<Self>) -> Self {
        let Some(before) = before else { return self };
        let measure = match (before.measure, self.measure) {
            (Measure::Count(sum), Measure::Count(more)) => {
                Measure::Count((sum + more).clamp(f64::MIN, f64::MAX))
            }
            // It is so much in the end.
            (_, last) => last,
        };
        Self {
            measure,
            values: before.values + self.values,
            ..self
        }
    }
}

/// The part that begins at `at`: it ends at a bar, or at a colon, behind which
/// other values begin.
fn part(raw: &[u8], at: usize) -> (&[u8], Option<usize>) {
    match memchr::memchr2(b'|', b':', &raw[at..]) {
        Some(length) if raw[at + length] == b':' => (&raw[at..at + length], Some(at + length + 1)),
        Some(length) => (&raw[at..at + length], None),
        None => (&raw[at..], None),
    }
}

/// `c:…`, `card:…`
fn is_labelled(part: &[u8]) -> bool {
    let colon = memchr::memchr(b':', part);
    colon.is_some_and(|colon| colon > 0 && part[..colon].iter().all(u8::is_ascii_lowercase))
}

fn rate(text: &[u8]) -> Option<f64> {
    let is_number = number::value(text) == number::Value::Finite;
    let rate = number::double(text);
    // Its reciprocal counts.
    (is_number && rate > 0.0 && rate <= 1.0 && rate.recip().is_finite()).then_some(rate)
}

/// The number that a text stands for, for one in this number of.
fn finite(at: usize, text: &[u8], rate: f64) -> Result<f64, Reject> {
    let not_finite = Reject::new(
        RejectReason::NotFinite,
        at,
        "not a finite number; leave such samples out",
    );
    match number::value(text) {
        number::Value::Finite => {}
        number::Value::NotFinite => return Err(not_finite),
        number::Value::NotANumber => {
            let hint = "not a number; write digits such as 42, -0.5 or 1e-7";
            return Err(Reject::new(RejectReason::Value, at, hint));
        }
    }
    let value = number::double(text) / rate;
    value.is_finite().then_some(value).ok_or(not_finite)
}

#[cfg(test)]
mod tests;
