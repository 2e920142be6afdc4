//! Tells the GCS of nodes that left, beside the loop: a hanging answer must not keep it from deciding.

use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::sync::{Semaphore, mpsc};

use crate::act::Teller;
use crate::model::{Departure, DepartureKind};
use crate::report::Metrics;
use crate::report::events::{DepartureTold, Event};

/// Calls of a kind that are under way at the same time; a machine takes some dozens of pods along.
const AT_ONCE: usize = 32;

/// Tells what is handed over until nobody hands anything over any more.
pub(super) async fn run(
    teller: Teller,
    metrics: Metrics,
    mut notices: mpsc::Receiver<Vec<Departure>>,
) {
    // Apart, since a drain of a machine that is gone waits for its time-out.
    let (gone, leaving) = (Semaphore::new(AT_ONCE), Semaphore::new(AT_ONCE));
    let tell = async |departure: Departure| {
        let turn = match departure.kind {
            DepartureKind::Gone => gone.acquire().await,
            DepartureKind::Leaving { .. } => leaving.acquire().await,
        };
        let telling = teller.tell(&departure).await;
        drop(turn);
        (departure, telling)
    };
    let mut under_way = FuturesUnordered::new();
    loop {
        tokio::select! {
            batch = notices.recv() => match batch {
                Some(batch) => under_way.extend(batch.into_iter().map(&tell)),
                None => return,
            },
            Some((departure, telling)) = under_way.next() => {
                DepartureTold {
                    group: departure.group.as_str(),
                    pod: departure.pod.as_str(),
                    kind: departure.kind.code(),
                    outcome: telling.code(),
                    detail: telling.detail(),
                }
                .emit(&metrics);
            }
        }
    }
}
