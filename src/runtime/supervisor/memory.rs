//! How much memory the child may take before the kernel would end parent and child together.

/// Where a container of cgroup v2 finds its own limit.
pub const CGROUP_FILE: &str = "/sys/fs/cgroup/memory.max";

const MIB: u64 = 1024 * 1024;

/// Returns the child's bound, from the text of [`CGROUP_FILE`].
///
/// An eighth, at least 8 MiB, stays free: for the parent, for the program's own pages and for what
/// the kernel counts. `None` without a limit, or with one too small to share out.
///
/// Units: bytes.
#[must_use]
pub fn child_limit(cgroup: &str) -> Option<u64> {
    let limit: u64 = cgroup.trim().parse().ok()?;
    let reserve = (limit / 8).max(8 * MIB);
    (limit >= 32 * MIB).then(|| limit.saturating_sub(reserve))
}

#[cfg(test)]
mod tests {
    use super::{MIB, child_limit};

    #[test]
    fn an_eighth_stays_free() {
        assert_eq!(child_limit("134217728\n"), Some(112 * MIB));
        assert_eq!(child_limit("33554432\n"), Some(24 * MIB));
        assert_eq!(child_limit("16777216\n"), None);
        assert_eq!(child_limit("max\n"), None);
        assert_eq!(child_limit(""), None);
    }
}
