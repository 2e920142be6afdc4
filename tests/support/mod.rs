//! What the integration tests share.

#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test file uses a part of it"
)]
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "test")]

pub mod certificates;
#[cfg(feature = "sandbox")]
pub mod embedded_driver;
pub mod kube;
pub mod kube_binaries;
pub mod kube_embedded;
pub mod kube_real;
pub mod process;
pub mod ray;
pub mod ray_process;
pub mod ray_venv;
pub mod raycluster;
pub mod real_pods;
pub mod redis;
pub mod stand_ins;
#[cfg(feature = "sandbox")]
pub mod users;
pub mod wait;

pub use wait::free_port;

use rayscaler::embedded::Now;
use rayscaler::model::Timestamp;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// Returns an environment variable that steers the tests.
#[expect(
    clippy::disallowed_methods,
    reason = "test settings travel in the environment"
)]
pub fn env(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Returns what tells the stand-ins the time.
#[expect(
    clippy::disallowed_methods,
    reason = "tests with real components run in real time"
)]
pub fn now() -> Now {
    Arc::new(|| {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        Timestamp::from_ms(i64::try_from(since.as_millis()).unwrap())
    })
}
