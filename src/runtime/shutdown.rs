//! The end: who hears of it, and who owns the tasks until then.
//!
//! Every task has an owner that awaits it: a task that panics is an answer of [`Tasks::next_ended`]
//! and not silence.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::{Id, JoinError, JoinSet};

/// Tells everybody to stop.
#[derive(Debug)]
pub struct Trigger(watch::Sender<bool>);

impl Trigger {
    /// Tells everybody to stop; once is enough.
    pub fn pull(&self) {
        self.0.send_replace(true);
    }

    /// Pulls when SIGTERM or SIGINT arrives from now on; what is returned waits for it, and has the signal's name.
    ///
    /// # Errors
    ///
    /// The signals cannot be listened to.
    pub fn pull_on_signal(&self) -> io::Result<impl Future<Output = &'static str> + '_> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        Ok(async move {
            let name = tokio::select! {
                biased;
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
            };
            self.pull();
            name
        })
    }
}

/// Hears of the end.
#[derive(Debug, Clone)]
pub struct Shutdown(watch::Receiver<bool>);

impl Shutdown {
    /// Returns both ends.
    #[must_use]
    pub fn new() -> (Trigger, Self) {
        let (sender, receiver) = watch::channel(false);
        (Trigger(sender), Self(receiver))
    }

    /// Returns a receiver that becomes true at the end.
    #[must_use]
    pub fn receiver(&self) -> watch::Receiver<bool> {
        self.0.clone()
    }

    /// Returns whether the end was told; asked before every write.
    #[must_use]
    pub fn is_requested(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits for the end; a trigger that is gone is the end too.
    pub async fn requested(&self) {
        let mut receiver = self.0.clone();
        let told = receiver.wait_for(|is_requested| *is_requested).await;
        drop(told);
    }
}

/// Owns tasks.
#[derive(Debug, Default)]
pub struct Tasks {
    set: JoinSet<()>,
    names: BTreeMap<Id, &'static str>,
}

/// Says how a task ended.
#[derive(Debug)]
pub struct TaskEnded {
    /// Its name.
    pub name: &'static str,
    /// Its panic; `None` when it returned.
    pub panic: Option<String>,
}

impl Tasks {
    /// Starts a task.
    pub fn spawn(&mut self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let handle = self.set.spawn(task);
        self.names.insert(handle.id(), name);
    }

    /// Starts a task that stays on this thread, inside a `LocalSet`.
    pub fn spawn_local(&mut self, name: &'static str, task: impl Future<Output = ()> + 'static) {
        let handle = self.set.spawn_local(task);
        self.names.insert(handle.id(), name);
    }

    /// Waits until a task ends; `None` when there is none.
    pub async fn next_ended(&mut self) -> Option<TaskEnded> {
        let joined = self.set.join_next_with_id().await?;
        let (id, panic) = match joined {
            Ok((id, ())) => (id, None),
            Err(error) => (error.id(), Some(panic_text(error))),
        };
        let name = self.names.remove(&id).unwrap_or("unnamed");
        Some(TaskEnded { name, panic })
    }

    /// Waits for one task, whatever the others do; returns whether it ended in time.
    pub async fn ends_within(&mut self, name: &'static str, deadline: Duration) -> bool {
        let is_there = |tasks: &Self| tasks.names.values().any(|other| *other == name);
        let ended = async { while is_there(self) && self.next_ended().await.is_some() {} };
        tokio::time::timeout(deadline, ended).await.is_ok()
    }

    /// Waits for all tasks, and drops those that take longer; returns the names of those dropped.
    pub async fn end_within(&mut self, deadline: Duration) -> Vec<&'static str> {
        let all = async { while self.next_ended().await.is_some() {} };
        if tokio::time::timeout(deadline, all).await.is_ok() {
            return Vec::new();
        }
        self.set.abort_all();
        let names = std::mem::take(&mut self.names);
        names.into_values().collect()
    }
}

fn panic_text(error: JoinError) -> String {
    match error.try_into_panic() {
        Ok(payload) => {
            let text = payload
                .downcast_ref::<&str>()
                .map(|text| (*text).to_owned());
            let text = text.or_else(|| payload.downcast_ref::<String>().cloned());
            text.unwrap_or_else(|| "panicked".to_owned())
        }
        Err(_) => "cancelled".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn everybody_hears_of_the_end() {
        let (trigger, shutdown) = Shutdown::new();
        assert!(!shutdown.is_requested());
        trigger.pull();
        shutdown.requested().await;
        assert!(shutdown.is_requested());
    }

    #[tokio::test(start_paused = true)]
    async fn a_trigger_that_is_gone_is_the_end() {
        let (trigger, shutdown) = Shutdown::new();
        drop(trigger);
        shutdown.requested().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_panic_in_a_task_reaches_its_owner() {
        let mut tasks = Tasks::default();
        tasks.spawn("careless", async { panic!("lost") });
        let ended = tasks.next_ended().await.unwrap();
        assert_eq!(
            (ended.name, ended.panic.as_deref()),
            ("careless", Some("lost"))
        );
        assert!(tasks.next_ended().await.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn one_task_is_waited_for_whatever_the_others_do() {
        let second = Duration::from_secs(1);
        let mut tasks = Tasks::default();
        let (told, mut delivered) = tokio::sync::mpsc::channel(1);
        tasks.spawn("quick", async {});
        tasks.spawn("stuck", std::future::pending());
        tasks.spawn("courier", async move {
            tokio::time::sleep(second / 2).await;
            told.send("the last").await.unwrap();
        });
        assert!(tasks.ends_within("courier", second).await);
        assert_eq!(delivered.recv().await, Some("the last"));
        assert!(tasks.ends_within("courier", second).await, "ended before");
        assert!(!tasks.ends_within("stuck", second).await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_does_not_end_is_dropped_by_name() {
        let mut tasks = Tasks::default();
        tasks.spawn("quick", async {});
        tasks.spawn("stuck", std::future::pending());
        assert_eq!(tasks.end_within(Duration::from_secs(1)).await, ["stuck"]);
    }
}
