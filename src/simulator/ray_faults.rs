//! What goes wrong between the sidecar and Ray.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tonic::Code;

use super::faults::{Board, FaultKind};
use super::trace::Trace;
use crate::embedded::ray::{CallFault, Callee, Faults};
use crate::wire::gcs::ray::rpc::autoscaler::ClusterResourceState;

/// Asks the board.
pub(super) struct RayFaults {
    board: Arc<Board>,
    trace: Arc<Trace>,
    /// What the GCS takes to tell of its nodes. Units: milliseconds.
    state_takes_ms: Arc<AtomicU64>,
    stale: Mutex<Option<ClusterResourceState>>,
}

/// What tells of all nodes, and takes the longer the more there are.
const LARGE_ANSWERS: [&str; 2] = ["GetClusterResourceState", "GetAllResourceUsage"];

impl RayFaults {
    /// Returns faults as this board has them.
    pub(super) fn new(
        board: Arc<Board>,
        trace: Arc<Trace>,
        state_takes_ms: Arc<AtomicU64>,
    ) -> Self {
        let stale = Mutex::new(None);
        Self {
            board,
            trace,
            state_takes_ms,
            stale,
        }
    }
}

impl Faults for RayFaults {
    fn on_call(&self, callee: Callee, method: &str) -> Option<CallFault> {
        let board = &self.board;
        let called = format!("{callee:?} {method}");
        self.trace.fold(&called);
        let (refused, hangs) = match callee {
            Callee::Gcs => (FaultKind::GcsUnavailable, FaultKind::GcsHang),
            Callee::Raylet(_) => (FaultKind::RayletUnavailable, FaultKind::RayletHang),
        };
        if board.hits(refused, 60) {
            return Some(CallFault::Refused(Code::Unavailable));
        }
        if board.hits(hangs, 50) {
            return Some(CallFault::Hangs);
        }
        if method == "DrainNode" && board.hits(FaultKind::DrainHang, 70) {
            return Some(CallFault::Hangs);
        }
        let is_slow = callee == Callee::Gcs && board.hits(FaultKind::GcsSlow, 50);
        // Even when all is well an answer takes its time, and calls overtake each other.
        let (low, high) = if is_slow { (200, 4_000) } else { (2, 10) };
        let takes_ms = if LARGE_ANSWERS.contains(&method) {
            self.state_takes_ms.load(Ordering::Relaxed)
        } else {
            0
        };
        Some(CallFault::Late(Duration::from_millis(
            board.roll(&called, low, high) + takes_ms,
        )))
    }

    fn on_state(&self, state: &mut ClusterResourceState) {
        if self.board.hits(FaultKind::GcsHalf, 70) {
            // Which half is missing changes from one reply to the next.
            let offset = state.cluster_resource_state_version.rem_euclid(2);
            let mut at = 0;
            state.node_states.retain(|_| {
                at += 1;
                at % 2 == offset
            });
        }
        let mut stale = self.stale.lock().unwrap_or_else(PoisonError::into_inner);
        if self.board.hits(FaultKind::GcsStale, 100) {
            let version = state.cluster_resource_state_version;
            *state = stale.get_or_insert_with(|| state.clone()).clone();
            state.cluster_resource_state_version = version;
        } else {
            *stale = None;
        }
    }

    fn refuses_drain(&self) -> Option<String> {
        let refuses = self.board.hits(FaultKind::DrainRefused, 80);
        refuses.then(|| "made to refuse".to_owned())
    }
}
