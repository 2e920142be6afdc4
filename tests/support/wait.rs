//! Waits for what real components do, with a deadline.

use std::time::Duration;

/// How long a real component may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// Asks again and again until the answer is there; panics with `what` after `PATIENCE`.
pub async fn eventually<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let asking = async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    match tokio::time::timeout(PATIENCE, asking).await {
        Ok(answer) => answer,
        Err(_) => panic!("not within {PATIENCE:?}: {what}"),
    }
}

/// Returns a port that nobody listens on.
///
/// Below the range that the system gives to outgoing connections, which would take it in between.
pub fn free_port() -> u16 {
    use std::sync::atomic::{AtomicU32, Ordering};
    static TRIED: AtomicU32 = AtomicU32::new(0);
    loop {
        // Test processes that run side by side begin at different places.
        let step = std::process::id() * 97 + TRIED.fetch_add(1, Ordering::Relaxed);
        let port = u16::try_from(20_000 + step % 12_000).expect("below 32 000");
        if std::net::TcpListener::bind(("0.0.0.0", port)).is_ok() {
            return port;
        }
    }
}
