//! Values of the core: what one decision looks at and what it answers.
//!
//! Nothing here reads a clock, the network or the environment, and nothing here decides.
//!
//! | amount | unit | type |
//! |---|---|---|
//! | a Ray resource | 1/10 000 of it, memory 1/10 000 byte | [`Quantity`] |
//! | a moment | milliseconds since 1970 | [`Timestamp`] |
//! | `replicas` | replicas, each `num_of_hosts` pods | `u32` |
//! | nodes, pods, hosts | pods | `usize` |
#![deny(clippy::disallowed_types)]

mod decision;
mod demand;
mod departure;
mod gang_wait;
mod group;
mod history;
mod intent;
mod labels;
mod mode;
mod node;
mod operator_waits;
mod orders;
mod pace;
mod quantity;
mod resize;
mod resume;
mod snapshot;
mod starts;
mod termination;
mod time;
mod writing;

pub use decision::{
    Finish, GroupDecision, Hold, Infeasible, KeptIdle, LEAVING, RECYCLED, Reason, RemovalCause,
    ReplicaRemoval, ScaleDecision, Unserved,
};
pub use demand::{
    AntiAffinity, ClusterConstraint, GangRequest, LabelConstraint, LabelOperator, LabelSelector,
    PlacementStrategy, ResourceDemand, ResourceRequest,
};
pub use departure::{Departure, DepartureKind};
pub use gang_wait::GangWait;
pub use group::{NodeTemplate, ReplicaBounds, SkippedGroup, WorkerGroup, WorkerGroupName};
pub use history::{Asked, Followed, HeadSeen, History, Input, Learnt, Quiet, Recovery};
pub use intent::{ANNOTATION_INTENT, HeadPod, INTENT_BYTES_MAX, Intent};
pub use labels::Labels;
pub use mode::ScalingMode;
pub use node::{Node, NodeId, NodeKind, NodeStatus, PodName, ReplicaName};
pub use operator_waits::{BEHIND_REFUSED, Going, Missing, OperatorWaits, PODS_REFUSED};
pub use orders::{Orders, Protection};
pub use pace::{Pace, Recommendation, ScaleEvent};
pub use quantity::{Quantity, ResourceMap, ResourceName};
pub use resize::{
    PodResize, PodSize, ResizeBasis, ResizeFailure, ResizeNote, ResizeRequest, ResizeState,
    Resizing,
};
pub use resume::{NextDemand, Resume};
pub use snapshot::{ClusterSnapshot, Completeness, Problem, Replica, UpscalingMode};
pub use starts::{FailedStart, FailedStarts, PODS_END, Starts};
pub use termination::{Drivers, IdleTermination, TerminationPolicy};
pub use time::Timestamp;
pub use writing::{IntentSeen, Writing};
