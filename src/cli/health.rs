//! `rayscaler health`: what an exec probe asks in an image without a shell.

use std::time::Duration;

use anyhow::{Context as _, bail};

use super::arguments::HealthArguments;

/// A probe's own limit is one second unless somebody raised it.
const DEADLINE: Duration = Duration::from_millis(900);

/// Asks, and fails unless the answer is a success.
pub(super) fn run(arguments: &HealthArguments) -> anyhow::Result<()> {
    let base = arguments.target.base(&super::variable);
    let url = format!("{base}{}", arguments.path);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let client = reqwest::Client::builder().no_proxy().timeout(DEADLINE);
        let answer = client.build()?.get(&url).send().await;
        let answer = answer.with_context(|| format!("no answer from {url}"))?;
        let status = answer.status();
        if status.is_success() {
            return Ok(());
        }
        let text = answer.text().await.unwrap_or_default();
        bail!("{url} answers {status}: {}", text.trim())
    })
}
