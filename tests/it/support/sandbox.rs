//! Systems that refuse what the daemon would like to ask: a filter of system
//! calls, without leave of the system's administrator.

use std::thread;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, apply_filter,
};

/// What is refused to a process and its children.
#[derive(Debug, Clone, Copy)]
pub enum Sandbox {
    /// To say what was acknowledged: `ioctl(SIOCOUTQ)`.
    NoAcknowledgements,
}

impl Sandbox {
    /// Starts a process in it. A filter holds for a thread for good and is
    /// handed down, so this takes a thread of its own.
    pub fn run<T: Send>(self, start: impl FnOnce() -> T + Send) -> T {
        let filter = self.filter();
        thread::scope(|scope| {
            let inside = scope.spawn(|| {
                apply_filter(&filter).expect("a kernel with filters of system calls");
                start()
            });
            inside.join().expect("a process is started")
        })
    }

    fn filter(self) -> BpfProgram {
        let (call, rule) = match self {
            Self::NoAcknowledgements => {
                let request = SeccompCondition::new(
                    1,
                    SeccompCmpArgLen::Dword,
                    SeccompCmpOp::Eq,
                    libc::TIOCOUTQ,
                );
                let request = request.expect("an argument that exists");
                (libc::SYS_ioctl, SeccompRule::new(vec![request]))
            }
        };
        let refuse = SeccompAction::Errno(libc::EPERM.unsigned_abs());
        let filter = SeccompFilter::new(
            [(call, vec![rule.expect("a condition")])].into(),
            SeccompAction::Allow,
            refuse,
            std::env::consts::ARCH
                .try_into()
                .expect("a known processor"),
        );
        let program = filter.and_then(BpfProgram::try_from);
        program.expect("a filter")
    }
}
