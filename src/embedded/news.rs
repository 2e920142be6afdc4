//! A value that several wait for: they are woken in the order in which they began to wait.
//!
//! # Why not tokio's `watch`
//!
//! It spreads its receivers over eight lists at random, so the answers of two who ask in the same
//! millisecond may change places. A run with a seed has to repeat to the byte. (2026-11)

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// Says that nobody can send any more.
#[derive(Debug, PartialEq, Eq)]
pub struct Closed;

#[derive(Debug)]
struct Shared<T> {
    state: Mutex<State<T>>,
    changed: Notify,
}

#[derive(Debug)]
struct State<T> {
    value: T,
    version: u64,
    is_closed: bool,
}

impl<T> Shared<T> {
    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sets the value.
#[derive(Debug)]
pub struct Sender<T>(Arc<Shared<T>>);

impl<T> Sender<T> {
    /// Returns what sets a value that nobody follows yet.
    pub(crate) fn new(value: T) -> Self {
        let state = State {
            value,
            version: 0,
            is_closed: false,
        };
        Self(Arc::new(Shared {
            state: Mutex::new(state),
            changed: Notify::new(),
        }))
    }

    /// Returns somebody who has seen the value as it is.
    pub(crate) fn subscribe(&self) -> Receiver<T> {
        let seen = self.0.state().version;
        Receiver {
            shared: Arc::clone(&self.0),
            seen,
        }
    }

    /// Sets the value, and wakes all who wait.
    pub(crate) fn send(&self, value: T) {
        self.send_if(|old| {
            *old = value;
            true
        });
    }

    /// Lets `change` change the value, and wakes all who wait where it says so.
    pub(crate) fn send_if(&self, change: impl FnOnce(&mut T) -> bool) {
        let mut state = self.0.state();
        if change(&mut state.value) {
            state.version += 1;
            drop(state);
            self.0.changed.notify_waiters();
        }
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        self.0.state().is_closed = true;
        self.0.changed.notify_waiters();
    }
}

/// Follows the value.
#[derive(Debug, Clone)]
pub struct Receiver<T> {
    shared: Arc<Shared<T>>,
    seen: u64,
}

impl<T: Clone> Receiver<T> {
    /// Returns the value as it is.
    #[must_use]
    pub fn get(&self) -> T {
        self.shared.state().value.clone()
    }

    /// Takes what is there as seen.
    pub fn mark_unchanged(&mut self) {
        self.seen = self.shared.state().version;
    }

    /// Returns whether there is something to see; `None` when that is yet to come.
    fn look(&mut self) -> Option<Result<(), Closed>> {
        let state = self.shared.state();
        if state.version != self.seen {
            self.seen = state.version;
            return Some(Ok(()));
        }
        state.is_closed.then_some(Err(Closed))
    }

    /// Waits for a value that was not seen; it is taken as seen then.
    ///
    /// # Errors
    ///
    /// Nobody can send any more.
    pub async fn changed(&mut self) -> Result<(), Closed> {
        let shared = Arc::clone(&self.shared);
        loop {
            let mut told = std::pin::pin!(shared.changed.notified());
            // Before the look, or a change in between would be slept through.
            told.as_mut().enable();
            if let Some(seen) = self.look() {
                return seen;
            }
            told.await;
        }
    }

    /// Waits until the value is like this, and returns it.
    ///
    /// # Errors
    ///
    /// Nobody can send any more, and the last value is different.
    pub async fn wait_for(&mut self, is_like: impl Fn(&T) -> bool) -> Result<T, Closed> {
        loop {
            self.mark_unchanged();
            let value = self.get();
            if is_like(&value) {
                return Ok(value);
            }
            self.changed().await?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Closed, Sender};
    use std::sync::{Arc, Mutex};

    #[tokio::test]
    async fn all_who_wait_are_woken_in_the_order_in_which_they_came() {
        let sender = Sender::new(0);
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut waiting = tokio::task::JoinSet::new();
        for number in 0..40 {
            let (mut value, order) = (sender.subscribe(), Arc::clone(&order));
            waiting.spawn(async move {
                assert_eq!(value.changed().await, Ok(()));
                order.lock().unwrap().push(number);
            });
        }
        tokio::task::yield_now().await;
        sender.send(1);
        waiting.join_all().await;
        assert_eq!(*order.lock().unwrap(), (0..40).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn what_was_sent_before_the_end_is_seen() {
        let sender = Sender::new(0);
        let (mut first, mut second) = (sender.subscribe(), sender.subscribe());
        sender.send_if(|_| false);
        sender.send(3);
        drop(sender);
        assert_eq!(first.wait_for(|value| *value == 3).await, Ok(3));
        assert_eq!(first.changed().await, Err(Closed));
        assert_eq!(second.changed().await, Ok(()));
        assert_eq!(second.wait_for(|value| *value == 4).await, Err(Closed));
    }
}
