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

/// Returns a TCP port that nobody listens at.
pub fn free_port() -> u16 {
    rayscaler::embedded::ports::free_port().unwrap()
}
