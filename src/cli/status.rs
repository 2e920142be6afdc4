//! `rayscaler status`: what a running rayscaler sees, does and waits for.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use serde_json::json;

use super::arguments::StatusArguments;
use super::ask::{AskError, Asker};
use super::paint::Paint;
use super::{node_text, status_text};
use crate::admin::{ClusterStatus, LastPass};

/// Clears what is left of a screen from the place where the cursor stands.
const CLEAR_REST: &str = "\x1b[J";
/// Puts the cursor into the first place.
const HOME: &str = "\x1b[H";
/// Clears what is left of a line.
const CLEAR_LINE: &str = "\x1b[K";

/// Asks and prints, again and again if told to.
pub(super) fn run(arguments: &StatusArguments) -> anyhow::Result<()> {
    let address = arguments.target.base(&super::variable);
    let asker = Asker::new(&address)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let is_terminal = io::stdout().is_terminal();
    let paint = Paint::of(is_terminal, &super::variable);
    let view = View {
        asker,
        paint,
        is_terminal,
        arguments,
    };
    runtime.block_on(async {
        match arguments.watch {
            None => view.once().await,
            Some(seconds) => view.watch(Duration::from_secs(seconds)).await,
        }
    })
}

struct View<'a> {
    asker: Asker,
    paint: Paint,
    is_terminal: bool,
    arguments: &'a StatusArguments,
}

impl View<'_> {
    async fn once(&self) -> anyhow::Result<()> {
        let text = self.text().await?;
        Ok(io::stdout().lock().write_all(text.as_bytes())?)
    }

    /// Goes on when there is no answer: the head pod may be made anew meanwhile.
    async fn watch(&self, interval: Duration) -> anyhow::Result<()> {
        let mut is_first = true;
        loop {
            let text = match self.text().await {
                Ok(text) => text,
                Err(error) if self.arguments.json => {
                    super::say(&error.to_string());
                    String::new()
                }
                Err(error) => format!("{error}\n"),
            };
            self.show(&text, is_first)?;
            is_first = false;
            tokio::time::sleep(interval).await;
        }
    }

    /// Draws over the last answer on a terminal; elsewhere answers follow one another.
    fn show(&self, text: &str, is_first: bool) -> io::Result<()> {
        let mut out = io::stdout().lock();
        if self.arguments.json {
            out.write_all(text.as_bytes())?;
        } else if self.is_terminal {
            let text = text.replace('\n', &format!("{CLEAR_LINE}\n"));
            write!(out, "{HOME}{text}{CLEAR_REST}")?;
        } else {
            let between = if is_first { "" } else { "\n" };
            write!(out, "{between}{text}")?;
        }
        out.flush()
    }

    async fn text(&self) -> Result<String, AskError> {
        let status: ClusterStatus = self.asker.get("/v1/status", "decision").await?;
        let pass: Option<LastPass> = if self.arguments.nodes {
            Some(self.asker.get("/v1/pass", "decision").await?)
        } else {
            None
        };
        if self.arguments.json {
            return Ok(self.json(&status, pass.as_ref()));
        }
        let mut text = status_text::text(&status, self.paint);
        if let Some(pass) = &pass {
            text.push_str(&node_text::text(pass, self.paint));
        }
        Ok(text)
    }

    /// Returns one line for each answer while watching, a readable value otherwise.
    fn json(&self, status: &ClusterStatus, pass: Option<&LastPass>) -> String {
        let mut value = json!(status);
        if let Some(pass) = pass {
            value["nodes"] = json!(pass.snapshot.nodes);
        }
        match self.arguments.watch {
            Some(_) => format!("{value}\n"),
            None => format!("{value:#}\n"),
        }
    }
}
