//! Programs that tests start, each ended with everything it started itself.

pub use rayscaler::embedded::process::{Program, Running};

/// Starts programs that a test cannot do without.
pub trait Start {
    /// Starts the program in a session of its own.
    fn start(&self) -> Running;
}

impl Start for Program {
    fn start(&self) -> Running {
        self.spawn()
            .expect("`setsid` and `sh` are needed to start programs; install util-linux")
    }
}
