//! One list of behaviours, run against real Ray and against the embedded head: what differs fails.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "test")]
#![allow(unreachable_pub, reason = "a test program has no outside")]

#[path = "../support/mod.rs"]
mod support;

mod demand;
mod groups;
mod heads;
mod nodes;
mod protocol;

use heads::Head;
use rayscaler::wire::gcs::ray::rpc::autoscaler::{ClusterResourceState, NodeState};
use support::wait::eventually;

/// Makes two tests of each behaviour.
macro_rules! on_both_heads {
    ($($behaviour:ident($options:expr);)*) => {
        mod real {
            use crate::heads::{Head as _, Real};
            use crate::support::ray::HeadOptions;
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $behaviour() {
                    super::$behaviour(Real::start($options).await).await;
                }
            )*
        }

        mod embedded {
            use crate::heads::{Embedded, Head as _};
            use crate::support::ray::HeadOptions;
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $behaviour() {
                    super::$behaviour(Embedded::start($options).await).await;
                }
            )*
        }
    };
}
use on_both_heads;

/// Returns what the GCS says now.
async fn state<H: Head>(head: &H) -> ClusterResourceState {
    let reply = head.client().get_cluster_resource_state().await.unwrap();
    reply.cluster_resource_state.unwrap()
}

/// Returns a node as the GCS sees it now.
async fn node<H: Head>(head: &H, id: &[u8]) -> NodeState {
    let mut nodes = state(head).await.node_states.into_iter();
    nodes
        .find(|node| node.node_id == id)
        .expect("a node that was there before")
}

/// Waits until the GCS sees a node so.
async fn until<H: Head>(
    head: &H,
    id: &[u8],
    what: &str,
    is_so: impl Fn(&NodeState) -> bool,
) -> NodeState {
    eventually(what, async || {
        Some(node(head, id).await).filter(|node| is_so(node))
    })
    .await
}
