//! A switch between the threads of a test.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::wait::wait_for;

/// Off until somebody turns it on.
#[derive(Clone, Default)]
pub struct Switch(Arc<AtomicBool>);

impl Switch {
    pub fn on(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    pub fn is_on(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }

    /// Waits until somebody turns it on.
    #[track_caller]
    pub fn wait(&self) {
        wait_for("a switch to be turned on", || self.is_on());
    }
}
