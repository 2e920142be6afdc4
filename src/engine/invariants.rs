//! What every decision has to keep, checked apart from the engine that makes them.
