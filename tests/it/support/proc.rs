//! What the kernel knows of a process.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use memchr::memmem;
use rustix::process::{Resource, getrlimit, setrlimit};

/// A process of our own, seen through `/proc`.
pub struct Memory {
    process: u32,
}

impl Memory {
    pub fn of(process: u32) -> Self {
        Self { process }
    }

    /// The most memory that it ever had resident, in bytes.
    pub fn peak(&self) -> u64 {
        let kib = self.status("VmHWM");
        let kib = kib.trim_end_matches("kB").trim();
        kib.parse::<u64>().expect("a number of KiB") * 1024
    }

    /// The same without files that are mapped, which without optimisation are large.
    pub fn peak_of_its_own(&self) -> u64 {
        let files = self.status("RssFile");
        let files = files.trim_end_matches("kB").trim();
        self.peak() - files.parse::<u64>().expect("a number of KiB") * 1024
    }

    /// Whether it is stopped by a signal.
    pub fn is_stopped(&self) -> bool {
        self.status("State").starts_with('T')
    }

    /// Its command line, arguments one after another.
    pub fn command_line(&self) -> String {
        let bytes = fs::read(self.path("cmdline")).expect("the command line of a child");
        String::from_utf8_lossy(&bytes).replace('\0', " ")
    }

    /// How many of its descriptors are of a file.
    pub fn open(&self, file: &Path) -> usize {
        let descriptors = fs::read_dir(self.path("fd")).expect("the descriptors of a child");
        let targets = descriptors
            .flatten()
            .map(|entry| fs::read_link(entry.path()));
        targets.flatten().filter(|target| target == file).count()
    }

    /// The processor time that it has used, in ticks of 10 ms.
    pub fn ticks(&self) -> u64 {
        let stat = fs::read_to_string(self.path("stat")).expect("the state of a child");
        // The name, in parentheses, may hold blanks; the numbers follow it.
        let (_, numbers) = stat.rsplit_once(')').expect("a name in parentheses");
        let numbers = numbers.split_whitespace().skip(11).take(2);
        numbers
            .map(|ticks| ticks.parse::<u64>().expect("ticks"))
            .sum()
    }

    /// How often each text stands in its memory. The error is that of a
    /// kernel that does not let us look.
    pub fn count<const N: usize>(&self, texts: [&str; N]) -> io::Result<[usize; N]> {
        const CHUNK: usize = 1024 * 1024;
        let finders = texts.map(|text| memmem::Finder::new(text).into_owned());
        let overlap = texts.iter().map(|text| text.len()).max().unwrap_or(1) - 1;
        let memory = File::open(self.path("mem"))?;
        let mut counts = [0; N];
        let mut chunk = vec![0; CHUNK + overlap];
        for (start, end) in self.readable_regions()? {
            let mut at = start;
            while at < end {
                let length =
                    usize::try_from(end - at).map_or(chunk.len(), |left| left.min(chunk.len()));
                let read = match memory.read_at(&mut chunk[..length], at) {
                    Ok(read) => read,
                    // The kernel's own pages show up as readable and are not.
                    Err(error)
                        if error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error()) =>
                    {
                        0
                    }
                    Err(error) => return Err(error),
                };
                // What lies in the overlap alone is counted with the next chunk.
                let whole = read == length && at + (length as u64) < end;
                for (count, finder) in counts.iter_mut().zip(&finders) {
                    let limit = if whole { CHUNK } else { read };
                    *count += finder
                        .find_iter(&chunk[..read])
                        .filter(|found| *found < limit)
                        .count();
                }
                if !whole {
                    break;
                }
                at += CHUNK as u64;
            }
        }
        Ok(counts)
    }

    fn readable_regions(&self) -> io::Result<Vec<(u64, u64)>> {
        let address = |text| u64::from_str_radix(text, 16).map_err(io::Error::other);
        let maps = fs::read_to_string(self.path("maps"))?;
        let mut regions = Vec::new();
        for line in maps.lines().filter(|line| !line.contains("[v")) {
            if let Some((range, rest)) = line.split_once(' ')
                && let Some((start, end)) = range.split_once('-')
                && rest.starts_with('r')
            {
                regions.push((address(start)?, address(end)?));
            }
        }
        Ok(regions)
    }

    fn status(&self, field: &str) -> String {
        let status = fs::read_to_string(self.path("status")).expect("the status of a child");
        let value = status
            .lines()
            .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        value.expect("a field of the status").trim().to_owned()
    }

    fn path(&self, name: &str) -> String {
        format!("/proc/{}/{name}", self.process)
    }
}

/// Lets this process open as many files as it is allowed to, and tells how
/// many those are.
pub fn raise_open_files() -> u64 {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).expect("an allowed limit");
    limit.current.unwrap_or(u64::MAX)
}
