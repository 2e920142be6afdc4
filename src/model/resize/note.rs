//! The annotation `ray.io/ippr-status` of a pod, in Ray's words: all that has to survive a restart.

use serde::{Deserialize, Serialize};

use crate::model::{Quantity, Timestamp};

/// Holds what the annotation says.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ResizeNote {
    /// The raylet that was told last, or is to be told, in hex.
    pub raylet_id: Option<String>,
    /// When Kubernetes was asked for a resize of which the raylet has not heard yet.
    pub resizing_at: Option<Timestamp>,
    /// The most processors that the Kubernetes node can give.
    pub suggested_cpu: Option<Quantity>,
    /// The most memory that it can give, in bytes.
    pub suggested_memory: Option<Quantity>,
    /// The failure that ended resizing for this pod.
    pub failure: Option<ResizeFailure>,
}

/// Holds why a pod is not resized any more.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ResizeFailure {
    /// When that was found out.
    pub at: Timestamp,
    /// In words.
    pub reason: String,
}

/// The JSON of the annotation.
#[derive(Serialize, Deserialize, Default)]
#[serde(rename_all = "kebab-case", default)]
struct Written {
    raylet_id: Option<String>,
    resizing_at: Option<f64>,
    suggested_max_cpu: Option<f64>,
    suggested_max_memory: Option<f64>,
    last_failed_at: Option<f64>,
    last_failed_reason: Option<String>,
}

impl ResizeNote {
    /// Returns what an annotation says.
    ///
    /// # Errors
    ///
    /// What is wrong with it, in words.
    pub fn parse(text: &str) -> Result<Self, String> {
        let written: Written = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let moment = |seconds: f64| Timestamp::from_ms(whole(seconds * 1000.0));
        Ok(Self {
            raylet_id: written.raylet_id,
            resizing_at: written.resizing_at.map(moment),
            suggested_cpu: written.suggested_max_cpu.and_then(Quantity::from_f64),
            suggested_memory: written.suggested_max_memory.and_then(Quantity::from_f64),
            failure: written.last_failed_at.map(|at| ResizeFailure {
                at: moment(at),
                reason: written.last_failed_reason.unwrap_or_default(),
            }),
        })
    }

    /// Returns the annotation that says this; Ray's own autoscaler reads it as its own.
    #[must_use]
    pub fn to_text(&self) -> String {
        let (at, reason) = self
            .failure
            .as_ref()
            .map(|it| (it.at.as_secs(), it.reason.as_str()))
            .unzip();
        // Not `Written`: Ray reads moments and bytes as whole numbers.
        serde_json::json!({
            "raylet-id": self.raylet_id,
            "resizing-at": self.resizing_at.map(Timestamp::as_secs),
            "suggested-max-cpu": self.suggested_cpu.map(Quantity::as_f64),
            "suggested-max-memory": self.suggested_memory.map(|it| it.units() / Quantity::SCALE),
            "last-failed-at": at,
            "last-failed-reason": reason,
        })
        .to_string()
    }
}

#[expect(clippy::cast_possible_truncation, reason = "casts from float saturate")]
fn whole(value: f64) -> i64 {
    value as i64
}

#[cfg(test)]
mod tests {
    use super::{ResizeFailure, ResizeNote};
    use crate::model::{Quantity, Timestamp};

    #[test]
    fn what_is_written_is_read_again() {
        let note = ResizeNote {
            raylet_id: Some("ab".to_owned()),
            resizing_at: Some(Timestamp::from_ms(5_000)),
            suggested_cpu: Quantity::from_f64(2.5),
            suggested_memory: Some(Quantity::from_whole(1 << 30)),
            failure: Some(ResizeFailure {
                at: Timestamp::from_ms(7_000),
                reason: "no room".to_owned(),
            }),
        };
        assert_eq!(ResizeNote::parse(&note.to_text()).unwrap(), note);
        let empty = ResizeNote::default();
        assert_eq!(ResizeNote::parse(&empty.to_text()).unwrap(), empty);
        assert!(
            note.to_text()
                .contains(r#""suggested-max-memory":1073741824"#)
        );
    }

    #[test]
    fn what_ray_wrote_is_read_and_what_is_wrong_is_told() {
        let by_ray = r#"{"raylet-id": "cd", "resizing-at": null, "suggested-max-cpu": 3.0, "suggested-max-memory": null, "last-failed-at": 12, "last-failed-reason": "Pod resize timed out"}"#;
        let note = ResizeNote::parse(by_ray).unwrap();
        assert_eq!(note.raylet_id.as_deref(), Some("cd"));
        assert_eq!(note.suggested_cpu, Some(Quantity::from_whole(3)));
        let failure = note.failure.unwrap();
        assert_eq!(
            (failure.at.as_secs(), failure.reason.as_str()),
            (12, "Pod resize timed out")
        );
        assert!(ResizeNote::parse("{").is_err());
        assert!(ResizeNote::parse(r#"{"resizing-at": "soon"}"#).is_err());
    }
}
