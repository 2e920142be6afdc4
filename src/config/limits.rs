//! What one value alone cannot tell: pairs that contradict each other, addresses, policies.

use super::document::{Node, Value};
use super::error::{ConfigError, Place};
use super::suggest::closest;
use super::{Config, HumanDuration, PolicyCatalog, settings};

/// Returns what is wrong with settings that are each acceptable.
pub(super) fn check(
    config: &Config,
    document: &Node,
    policies: &dyn PolicyCatalog,
) -> Vec<ConfigError> {
    let mut errors = Vec::new();
    let gcs = &config.poll.gcs;
    let cluster = &config.poll.ray_cluster;
    for (section, min, max) in [
        ("poll.gcs", gcs.interval_min, gcs.interval_max),
        (
            "poll.rayCluster",
            cluster.interval_min,
            cluster.interval_max,
        ),
    ] {
        errors.extend(in_order(section, (min, max), document));
    }
    if let Some(address) = &config.ray.gcs_address
        && !is_host_and_port(address)
    {
        let path = "ray.gcsAddress";
        let problem = format!("found `{address}`");
        errors.push(
            ConfigError::new(&place(path, document), problem)
                .accepting("a host with a port, such as 127.0.0.1:6379"),
        );
    }
    errors.extend(chain(document, policies));
    errors
}

fn in_order(
    section: &str,
    (min, max): (HumanDuration, HumanDuration),
    document: &Node,
) -> Option<ConfigError> {
    let path = format!("{section}.intervalMin");
    (min > max).then(|| {
        let problem = format!("{min} is longer than intervalMax, {max}");
        ConfigError::new(&place(&path, document), problem).accepting("at most intervalMax")
    })
}

/// Returns whether a text is `HOST:PORT`, IPv6 in brackets.
#[must_use]
pub fn is_host_and_port(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else {
        return false;
    };
    let is_plain = !host.is_empty() && !host.contains([':', '/', ' ']);
    let is_bracketed = host.starts_with('[') && host.ends_with(']');
    (is_plain || is_bracketed) && port.parse::<u16>().is_ok_and(|port| port > 0)
}

/// Goes through the file and not the config: entries that are wrong in themselves are not in the
/// config, and would shift the numbers of those behind them.
fn chain(document: &Node, policies: &dyn PolicyCatalog) -> Vec<ConfigError> {
    let known = policies.names();
    let mut errors = Vec::new();
    let mut seen = Vec::new();
    let Some(Value::List(chain)) = entry(document, "policies").map(|node| &node.value) else {
        return errors;
    };
    for (index, policy) in chain.iter().enumerate() {
        let Some(Value::Text(name)) = entry(policy, "name").map(|node| &node.value) else {
            continue;
        };
        let path = format!("policies[{index}].name");
        let at = place(&path, document);
        if !known.contains(&name.as_str()) {
            let guess = closest(name, &known)
                .map_or_else(String::new, |word| format!(", did you mean `{word}`?"));
            let problem = format!("unknown policy `{name}`{guess}");
            errors.push(ConfigError::new(&at, problem).accepting(known.join(", ")));
        } else {
            let path = format!("policies[{index}].settings");
            let given = entry(policy, "settings");
            errors.extend(settings::check((name, policies), given, (&path, document)));
        }
        if seen.contains(&name) {
            let problem = format!("policy `{name}` is already in the chain");
            errors.push(ConfigError::new(&at, problem));
        }
        seen.push(name);
    }
    errors
}

fn entry<'a>(node: &'a Node, key: &str) -> Option<&'a Node> {
    let Value::Map(entries) = &node.value else {
        return None;
    };
    let entry = entries.iter().find(|entry| entry.key == key)?;
    Some(&entry.node)
}

/// Returns where a path stands in the file: its own line, else that of the closest map around it.
pub(super) fn place<'a>(path: &'a str, document: &Node) -> Place<'a> {
    let mut node = document;
    let mut line = None;
    for step in path.split(['.', '[']) {
        let next = match &node.value {
            Value::Map(entries) => entries.iter().find(|entry| entry.key == step).map(|entry| {
                line = Some(entry.line);
                &entry.node
            }),
            Value::List(items) => {
                let index = step.trim_end_matches(']').parse::<usize>().ok();
                index
                    .and_then(|index| items.get(index))
                    .inspect(|item| line = Some(item.line))
            }
            _ => None,
        };
        let Some(next) = next else { break };
        node = next;
    }
    Place { path, line }
}

#[cfg(test)]
mod tests {
    use super::is_host_and_port;

    #[test]
    fn an_address_needs_host_and_port() {
        for good in ["127.0.0.1:6379", "head-svc.ns:1", "[::1]:6379"] {
            assert!(is_host_and_port(good), "{good}");
        }
        for bad in [
            "",
            "6379",
            ":6379",
            "h:",
            "h:0",
            "h:65536",
            "::1:6379",
            "http://h:1",
        ] {
            assert!(!is_host_and_port(bad), "{bad}");
        }
    }
}
