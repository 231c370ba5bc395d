//! Numbered lines: each is made from its number, and tells it, so that whoever
//! receives them knows which have come, and whether they are what was sent.

use std::ops::Range;

/// What every time is, behind its blank.
const TIME: &[u8] = b" 1700000000\n";

/// How many digits a value has, always.
const DIGITS: usize = 10;

/// The least value: all have as many digits.
const LEAST: u64 = 1_000_000_000;

/// Names as of a fleet of 256 hosts with 16 metrics each.
const SERIES: u64 = 4096;

/// What the names of lines are like.
#[derive(Debug, Clone, Copy)]
pub enum Names {
    /// The same few thousand in turn, as clients send them.
    Series,
    /// Each another one: they hardly compress.
    Random,
}

/// Makes lines, and knows them again.
pub struct Lines {
    names: Names,
    series: Vec<Vec<u8>>,
}

/// Many lines, end to end.
pub struct Text {
    bytes: Vec<u8>,
    /// Where each ends.
    ends: Vec<usize>,
}

impl Lines {
    pub fn new(names: Names) -> Self {
        let series = (0..SERIES).map(|number| series(number).into_bytes());
        Self {
            names,
            series: series.collect(),
        }
    }

    /// The first so many.
    pub fn text(&self, count: usize) -> Text {
        let mut text = Text {
            bytes: Vec::with_capacity(count * 70),
            ends: Vec::with_capacity(count),
        };
        for number in 0..count as u64 {
            self.write(number, &mut text.bytes);
            text.ends.push(text.bytes.len());
        }
        text
    }

    /// The number of a line, with its newline, if it is one of ours to the byte.
    pub fn number(&self, line: &[u8]) -> Option<u64> {
        let line = line.strip_suffix(TIME)?;
        let (name, value) = line.split_at_checked(line.len().checked_sub(DIGITS)?)?;
        let name = name.strip_suffix(b" ")?;
        let mut sum = 0;
        for digit in value {
            if !digit.is_ascii_digit() {
                return None;
            }
            sum = sum * 10 + u64::from(digit - b'0');
        }
        let number = u64::from(in_order(u32::try_from(sum.checked_sub(LEAST)?).ok()?));
        let is_its_name = match self.names {
            Names::Series => name == self.series[(number % SERIES) as usize],
            Names::Random => name == random(number).as_bytes(),
        };
        is_its_name.then_some(number)
    }

    fn write(&self, number: u64, out: &mut Vec<u8>) {
        match self.names {
            Names::Series => out.extend_from_slice(&self.series[(number % SERIES) as usize]),
            Names::Random => out.extend_from_slice(random(number).as_bytes()),
        }
        out.push(b' ');
        let value = LEAST + u64::from(scattered(number as u32));
        out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
        out.extend_from_slice(TIME);
    }
}

impl Text {
    /// How many lines it has.
    pub fn count(&self) -> usize {
        self.ends.len()
    }

    /// Some of them.
    pub fn lines(&self, range: Range<usize>) -> &[u8] {
        let end_before = |line: usize| match line {
            0 => 0,
            line => self.ends[line - 1],
        };
        &self.bytes[end_before(range.start)..end_before(range.end)]
    }
}

fn series(number: u64) -> String {
    const REGIONS: [&str; 4] = ["eu-west-1", "us-east-1", "ap-south-1", "eu-central-1"];
    const ROLES: [&str; 4] = ["web", "db", "cache", "worker"];
    const METRICS: [&str; 16] = [
        "cpu.total.user",
        "cpu.total.system",
        "cpu.total.iowait",
        "memory.available",
        "memory.swap.used",
        "network.eth0.rx_bytes",
        "network.eth0.tx_bytes",
        "disk.root.free_percent",
        "disk.root.inodes_free",
        "load.01",
        "load.15",
        "requests.http.2xx.rate",
        "requests.http.5xx.rate",
        "timers.query.mean",
        "timers.query.upper_95",
        "queue.jobs.waiting",
    ];
    let (host, metric) = (number / 16, number % 16);
    format!(
        "prod.{}.{}-{host:03}.{}",
        REGIONS[(host % 4) as usize],
        ROLES[(host / 4 % 4) as usize],
        METRICS[metric as usize]
    )
}

fn random(number: u64) -> String {
    let mix = |number: u64| {
        let mixed = (number ^ (number >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB)
    };
    format!("app.{:016x}.{:016x}", mix(number), mix(!number))
}

/// Odd, so that it has an inverse.
const FACTOR: u32 = 0x9E37_79B1;

/// Numbers in an order that looks random, each once.
fn scattered(number: u32) -> u32 {
    fold(fold(number).wrapping_mul(FACTOR))
}

/// What [`scattered`] was made of.
fn in_order(number: u32) -> u32 {
    fold(fold(number).wrapping_mul(inverse(FACTOR)))
}

/// Undoes itself.
const fn fold(number: u32) -> u32 {
    number ^ (number >> 16)
}

/// By Newton: each step doubles the bits that are right, three at first.
const fn inverse(factor: u32) -> u32 {
    let mut inverse = factor;
    let mut step = 0;
    while step < 4 {
        inverse = inverse.wrapping_mul(2_u32.wrapping_sub(factor.wrapping_mul(inverse)));
        step += 1;
    }
    inverse
}
