//! What would end the process without a word: no thread to be had, a panic, a kill. And
//! what must not be left behind.

mod kills;
#[cfg(debug_assertions)]
mod panics;
mod threads;
