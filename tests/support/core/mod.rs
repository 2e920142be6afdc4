//! What several test files share.

pub(crate) mod builders;
pub(crate) mod passes;
pub(crate) mod strategies;
