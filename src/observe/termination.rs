//! Whether the cluster is to end when nobody uses it, and whether anybody does.

use crate::model::{Drivers, IdleTermination, Problem, TerminationPolicy, Timestamp};
use crate::wire::gcs::ray::rpc::GetAllJobInfoReply;
use crate::wire::raycluster::RayCluster;

/// Namespaces of drivers that Ray runs for itself, such as the dashboard.
const OWN_NAMESPACE: &str = "_ray_internal_";

/// Says that the cluster could not be ended, and until when nobody is asked again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TerminationRefused {
    /// Until when.
    pub until: Timestamp,
    /// Who said no, in words.
    pub why: String,
}

/// Returns what a reply says of drivers.
#[must_use]
pub fn drivers(reply: &GetAllJobInfoReply, at: Timestamp) -> Drivers {
    let is_users = |namespace: &str| !namespace.starts_with(OWN_NAMESPACE);
    let jobs = reply.job_info_list.iter().filter(|job| {
        let namespace = job.config.as_ref().map_or("", |it| &it.ray_namespace);
        is_users(namespace)
    });
    let mut drivers = Drivers {
        at,
        is_any: false,
        ended_at_ms: 0,
    };
    for job in jobs {
        if job.is_dead {
            drivers.ended_at_ms = drivers.ended_at_ms.max(job.end_time);
        } else {
            drivers.is_any = true;
        }
    }
    drivers
}

/// Returns what the RayCluster asks for; `None` when it asks for nothing that we know.
pub(super) fn termination(
    raycluster: &RayCluster,
    (drivers, refused): (Option<Drivers>, Option<&TerminationRefused>),
    problems: &mut Vec<Problem>,
) -> Option<IdleTermination> {
    let mut tell = |code: &str, detail: String| {
        let code = code.to_owned();
        problems.push(Problem { code, detail });
    };
    let options = match raycluster.spec.idle_termination.as_ref()? {
        Ok(options) => options,
        Err(error) => {
            tell("bad_idle_termination", error.to_string());
            return None;
        }
    };
    let timeout_ms = options.timeout_ms?;
    let policy = match options.policy.as_str() {
        "" | "Suspend" => TerminationPolicy::Suspend,
        "Delete" => TerminationPolicy::Delete,
        other => {
            let detail = format!(
                "spec.idleTerminationOptions.policy is `{other}`; accepted: Suspend or Delete"
            );
            tell("bad_idle_termination", detail);
            return None;
        }
    };
    if let Some(refused) = refused {
        let detail = format!("{}; the cluster stays", refused.why);
        tell("idle_termination_refused", detail);
    }
    Some(IdleTermination {
        timeout_ms,
        policy,
        is_suspending: raycluster.spec.idle_suspend,
        drivers,
        refused: refused.map(|refused| refused.why.clone()),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{TerminationRefused, drivers, termination};
    use crate::model::{IdleTermination, Problem, TerminationPolicy, Timestamp};
    use crate::wire::gcs::ray::rpc::{GetAllJobInfoReply, JobConfig, JobTableData};
    use crate::wire::raycluster::RayCluster;

    const NOW: Timestamp = Timestamp::from_ms(50_000);

    fn seen(options: Value) -> (Option<IdleTermination>, Vec<Problem>) {
        let value = json!({"metadata": {"name": "c"}, "spec": {"headGroupSpec": {}, "idleTerminationOptions": options}});
        let mut problems = Vec::new();
        let raycluster = RayCluster::from_value(&value).unwrap();
        (
            termination(&raycluster, (None, None), &mut problems),
            problems,
        )
    }

    fn job(namespace: &str, is_dead: bool, end_time: u64) -> JobTableData {
        let ray_namespace = namespace.to_owned();
        JobTableData {
            is_dead,
            end_time,
            config: Some(JobConfig { ray_namespace }),
            ..JobTableData::default()
        }
    }

    #[test]
    fn drivers_of_rays_own_are_nobody() {
        let reply = |job_info_list| GetAllJobInfoReply {
            job_info_list,
            ..GetAllJobInfoReply::default()
        };
        let own = drivers(
            &reply(vec![
                job("_ray_internal_dashboard", false, 0),
                job("a", true, 7),
                job("b", true, 5),
            ]),
            NOW,
        );
        assert!(!own.is_any);
        assert_eq!((own.ended_at_ms, own.at), (7, NOW));
        assert!(drivers(&reply(vec![job("", false, 0)]), NOW).is_any);
        assert!(
            drivers(&reply(vec![JobTableData::default()]), NOW).is_any,
            "without a namespace"
        );
    }

    #[test]
    fn the_policy_is_suspend_unless_it_says_otherwise() {
        let (found, problems) = seen(json!({"timeoutSeconds": 1.5}));
        assert_eq!(problems, []);
        let found = found.unwrap();
        assert_eq!(
            (found.timeout_ms, found.policy),
            (1_500, TerminationPolicy::Suspend)
        );
        let (found, _) = seen(json!({"timeoutSeconds": 0, "policy": "Delete"}));
        assert_eq!(found.unwrap().policy, TerminationPolicy::Delete);
        assert_eq!(seen(json!({"policy": "Delete"})), (None, Vec::new()), "off");
        assert_eq!(seen(Value::Null), (None, Vec::new()));
    }

    #[test]
    fn what_means_nothing_ends_nothing_and_is_named() {
        for (options, detail) in [
            (
                json!({"timeoutSeconds": 5, "policy": "Explode"}),
                "spec.idleTerminationOptions.policy is `Explode`; accepted: Suspend or Delete",
            ),
            (
                json!({"timeoutSeconds": -1}),
                "spec.idleTerminationOptions.timeoutSeconds is -1; accepted: a number of seconds from 0",
            ),
            (
                json!({"timeoutSeconds": "soon"}),
                r#"spec.idleTerminationOptions.timeoutSeconds is "soon"; accepted: a number of seconds from 0"#,
            ),
        ] {
            let (found, problems) = seen(options);
            assert_eq!(found, None);
            assert_eq!(
                (problems[0].code.as_str(), problems[0].detail.as_str()),
                ("bad_idle_termination", detail)
            );
        }
    }

    #[test]
    fn a_refusal_is_named() {
        let value = json!({"metadata": {"name": "c"}, "spec": {"headGroupSpec": {}, "idleTerminationOptions": {"timeoutSeconds": 1}}});
        let raycluster = RayCluster::from_value(&value).unwrap();
        let refused = TerminationRefused {
            until: NOW,
            why: "the Role says no".to_owned(),
        };
        let mut problems = Vec::new();
        let found = termination(&raycluster, (None, Some(&refused)), &mut problems);
        assert_eq!(found.unwrap().refused.as_deref(), Some("the Role says no"));
        assert_eq!(problems[0].detail, "the Role says no; the cluster stays");
    }
}
