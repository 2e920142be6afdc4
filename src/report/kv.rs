//! What is put into the GCS's key-value store at the start, as data.

/// Holds one value to put.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KvPut {
    /// The namespace; empty for none.
    pub namespace: &'static str,
    /// The key.
    pub key: &'static str,
    /// The value.
    pub value: String,
    /// Whether an older value is replaced.
    pub overwrite: bool,
}

/// The key of the status that the first autoscaler's readers look for.
pub const V1_STATUS_KEY: &str = "__autoscaling_status";

/// Returns what the stock autoscaler puts at its start.
///
/// `metrics_address` is `ip:port`; without it (the port could not be bound) nothing is said of
/// metrics. Ray's Prometheus service discovery reads it.
#[must_use]
pub fn at_start(metrics_address: Option<&str>) -> Vec<KvPut> {
    let mut puts = vec![KvPut {
        namespace: "usage_stats",
        key: "extra_usage_tag_autoscaler_version",
        value: "v2".to_owned(),
        overwrite: false,
    }];
    puts.extend(metrics_address.map(|address| KvPut {
        namespace: "",
        key: "AutoscalerMetricsAddress",
        value: address.to_owned(),
        overwrite: true,
    }));
    puts
}

/// Returns the put of the first autoscaler's status.
#[must_use]
pub const fn v1_status(value: String) -> KvPut {
    KvPut {
        namespace: "",
        key: V1_STATUS_KEY,
        value,
        overwrite: true,
    }
}

#[cfg(test)]
mod tests {
    use super::at_start;

    #[test]
    fn the_address_is_only_told_when_something_listens_there() {
        assert_eq!(at_start(None).len(), 1);
        let puts = at_start(Some("10.0.0.1:44217"));
        assert_eq!(
            (puts[1].key, puts[1].value.as_str()),
            ("AutoscalerMetricsAddress", "10.0.0.1:44217")
        );
    }
}
