//! What is wrong, and where it was written.

use std::fmt;
use std::path::PathBuf;

use super::api_key::mask_uuids;

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nobody set it.
    Default,
    /// A line of the file.
    File(PathBuf, usize),
    /// A variable of the environment.
    Environment(String),
    /// A flag of the command line.
    Flag(&'static str),
}

/// One thing that is wrong: where, what, and what to write instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    place: String,
    message: String,
}

impl Problem {
    /// A problem at a place. A key that was written in the wrong place is not repeated.
    pub fn at(place: String, message: impl fmt::Display) -> Self {
        let message = mask_uuids(&message.to_string());
        Self { place, message }
    }

    /// A problem with a key, at the place where its value was written.
    pub fn new(origin: &Origin, path: &str, message: impl fmt::Display) -> Self {
        Self::at(origin.to_string(), format!("{path} {message}"))
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.message)
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path, line) => write!(f, "{}:{line}", path.display()),
            Self::Environment(name) => f.write_str(name),
            Self::Flag(flag) => f.write_str(flag),
        }
    }
}
