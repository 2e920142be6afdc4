//! Options of the sub-commands that ask a running rayscaler.

use clap::{ArgGroup, Args};

use super::admin_address;
use crate::cli::explain::demand::{label_constraint, resource_map};
use crate::cli::shell::Lookup;
use crate::config::is_host_and_port;
use crate::model::{LabelConstraint, ResourceMap};

/// Where a running rayscaler is asked.
#[derive(Debug, PartialEq, Eq, Args)]
pub struct Target {
    /// Where rayscaler listens [default: this pod, with the port of AUTOSCALER_METRIC_PORT, else 44217]
    #[arg(long, value_name = "http://HOST:PORT", value_parser = base_address)]
    pub address: Option<String>,
}

impl Target {
    /// Returns the address as `http://host:port`.
    pub(in crate::cli) fn base(&self, lookup: Lookup<'_>) -> String {
        let here = || format!("http://{}", admin_address(lookup));
        self.address.clone().unwrap_or_else(here)
    }
}

const STATUS_HELP: &str = "\
Examples:
  rayscaler status                                        in the head pod
  kubectl exec POD -c autoscaler -- rayscaler status      from outside
  kubectl port-forward POD 44217 & rayscaler status --address http://127.0.0.1:44217 --watch

--json prints what `GET /v1/status` answers; fields are added, never renamed. Ages end in `_ms`.

Exit codes: 0 answered, 1 no answer, 64 the command line is not accepted.";

/// Options of `status`.
#[derive(Debug, PartialEq, Eq, Args)]
#[command(after_help = STATUS_HELP)]
pub struct StatusArguments {
    #[command(flatten)]
    #[expect(
        missing_docs,
        reason = "a doc comment here would be the help of the sub-command"
    )]
    pub target: Target,
    /// Ask again and again, every 2 seconds unless told otherwise
    #[arg(
        long,
        value_name = "SECONDS",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "2",
        value_parser = clap::value_parser!(u64).range(1..=3_600)
    )]
    pub watch: Option<u64>,
    /// List every node too
    #[arg(long)]
    pub nodes: bool,
    /// Print JSON; with --watch a line for each answer
    #[arg(long)]
    pub json: bool,
}

const EXPLAIN_HELP: &str = "\
Examples:
  rayscaler explain --demand '{CPU: 4, GPU: 1}'
  rayscaler explain --demand '{GPU: 8, memory: 64Gi}' --count 4
  rayscaler explain --demand '{CPU: 1}' --label ray.io/accelerator-type='in(A100,H100)' --label zone='!z3'
  rayscaler explain --pod my-cluster-gpu-worker-x7k2p

The answer comes from the last decision and the facts it was made from, with the settings in force:
the same engine decides once more, with the demand and without it. Nothing is changed.

Exit codes: 0 answered, 1 no answer or no such pod, 64 the command line is not accepted.";

/// Options of `explain`.
#[derive(Debug, PartialEq, Eq, Args)]
#[command(after_help = EXPLAIN_HELP)]
#[command(group = ArgGroup::new("subject").required(true).args(["demand", "pod"]))]
pub struct ExplainArguments {
    #[command(flatten)]
    #[expect(
        missing_docs,
        reason = "a doc comment here would be the help of the sub-command"
    )]
    pub target: Target,
    /// What a task or an actor needs: why is nothing launched for it?
    #[arg(long, value_name = "RESOURCES", value_parser = resource_map)]
    pub demand: Option<ResourceMap>,
    /// A label of the node that it needs: VALUE, !VALUE, in(A,B) or !in(A,B), as Ray writes them
    #[arg(long, value_name = "KEY=VALUE", requires = "demand", value_parser = label_constraint)]
    pub label: Vec<LabelConstraint>,
    /// How many of them
    #[arg(
        long,
        value_name = "COUNT",
        requires = "demand",
        default_value_t = 1,
        value_parser = clap::value_parser!(u64).range(1..=1_000_000)
    )]
    pub count: u64,
    /// A pod of the cluster: why is it not removed, or why does it not run?
    #[arg(long, value_name = "NAME")]
    pub pod: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

fn base_address(text: &str) -> Result<String, String> {
    let rest = text.strip_prefix("http://").unwrap_or(text);
    let place = rest.trim_end_matches('/');
    if is_host_and_port(place) {
        Ok(format!("http://{place}"))
    } else {
        Err("accepted: http://HOST:PORT, such as http://127.0.0.1:44217".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::base_address;

    #[test]
    fn an_address_is_a_url_or_host_and_port() {
        for text in [
            "127.0.0.1:44217",
            "http://127.0.0.1:44217",
            "http://127.0.0.1:44217/",
        ] {
            assert_eq!(base_address(text).unwrap(), "http://127.0.0.1:44217");
        }
        assert_eq!(base_address("head:1").unwrap(), "http://head:1");
        for text in ["", "127.0.0.1", "https://a:1", "http://a:1/x", "a:b"] {
            assert!(base_address(text).is_err(), "{text}");
        }
    }
}
