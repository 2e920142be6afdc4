"""Asks Ray's own ResourceDemandScheduler about a case, and puts its reply into the form of NAME.out.json."""

import collections
import copy
import logging

from ray.autoscaler.v2 import scheduler
from ray.autoscaler.v2.instance_manager.config import NodeTypeConfig
from ray.autoscaler.v2.schema import AutoscalerInstance, IPPRGroupSpec, IPPRSpecs, IPPRStatus
from ray.core.generated.autoscaler_pb2 import GetClusterResourceStateReply
from ray.core.generated.instance_manager_pb2 import Instance, NodeKind, TerminationRequest

logging.disable(logging.CRITICAL)

# Families whose amounts Ray's doubles do not hold: Ray counts them in whole units of 1/10,000, as its core does.
EXACT = {"float_edge": 10_000}


class Clock:
    """Stands in for Ray's `time` and reads what it is told."""

    def __init__(self, now):
        self.now = now

    def monotonic(self):
        return self.now

    def time_ns(self):
        return int(self.now * 1e9)


def answer(reply, config):
    """Returns Ray's decision, its decisions step by step, or the name of the exception that it raises."""
    factor = EXACT.get(config["tags"][0], 1)
    if factor != 1:
        reply, config = scaled(reply, config, factor)
    asked = scheduler.ResourceDemandScheduler(None)
    if "clock_steps_s" not in config:
        return decision(asked, reply, config, factor)
    real, steps = scheduler.time, []
    try:
        for now in config["clock_steps_s"]:
            scheduler.time = Clock(now)
            steps.append(decision(asked, reply, config, factor))
    finally:
        scheduler.time = real
    return {"steps": steps}


def scaled(reply, config, factor):
    """Returns the case with every amount in whole units of 1/factor."""
    units = lambda amounts: {name: round(amount * factor) for name, amount in amounts.items()}
    copied = GetClusterResourceStateReply()
    copied.CopyFrom(reply)
    state = copied.cluster_resource_state
    for node in state.node_states:
        node.total_resources.update(units(node.total_resources))
        node.available_resources.update(units(node.available_resources))
    for demand in state.pending_resource_requests:
        demand.request.resources_bundle.update(units(demand.request.resources_bundle))
    config = copy.deepcopy(config)
    for of_type in config["node_types"]:
        of_type["resources"] = units(of_type["resources"])
    return copied, config


def decision(asked, reply, config, factor):
    state = reply.cluster_resource_state
    try:
        made = asked.schedule(scheduling_request(state, config))
    except Exception as error:  # noqa: BLE001: that it raises is the answer
        return {"error": type(error).__name__}
    return in_our_form(made, state, factor)


def in_our_form(made, state, factor=1):
    """Returns what Ray's reply says, in the form of NAME.out.json."""
    launch = collections.Counter()
    for launched in made.to_launch:
        launch[launched.instance_type] += launched.count
    terminated = [
        {
            "id": request.instance_id,
            "type": request.instance_type,
            "cause": TerminationRequest.Cause.Name(request.cause),
            "status": Instance.InstanceStatus.Name(request.instance_status),
        }
        for request in made.to_terminate
    ]
    requests = [demand.request for demand in state.pending_resource_requests]
    tasks = by_class(requests, made.infeasible_resource_requests)
    gangs = by_class(state.pending_gang_resource_requests, made.infeasible_gang_resource_requests)
    return {
        "to_launch": dict(launch),
        "to_terminate": sorted(terminated, key=lambda one: (one["type"], one["id"], one["cause"])),
        "infeasible_requests": tasks,
        "infeasible_request_count": sum(count for _, count in tasks),
        "infeasible_gangs": gangs,
        "infeasible_gang_count": sum(count for _, count in gangs),
        "infeasible_constraints": len(made.infeasible_cluster_resource_constraints),
        "to_ippr": sorted([one.cloud_instance_id, one.desired_cpu, one.desired_memory] for one in made.to_ippr),
        "cluster_resources": {name: amount / factor for name, amount in sorted(made.cluster_resources.items())},
    }


def by_class(asked, infeasible):
    """Returns [[index, count]]: what found no place, each named by the first entry equal to it."""
    key = lambda message: message.SerializeToString(deterministic=True)
    first = {}
    for index, message in enumerate(asked):
        first.setdefault(key(message), index)
    counts = collections.Counter(first[key(message)] for message in infeasible)
    return [[index, count] for index, count in sorted(counts.items())]


def scheduling_request(state, config):
    request = scheduler.SchedulingRequest(
        disable_launch_config_check=config["disable_launch_config_check"],
        node_type_configs={of_type["name"]: node_type(of_type) for of_type in config["node_types"]},
        max_num_nodes=config["max_num_nodes"],
        idle_timeout_s=config["idle_timeout_s"],
        pending_idle_timeout_s=config.get("pending_idle_timeout_s"),
        resource_requests=state.pending_resource_requests,
        gang_resource_requests=state.pending_gang_resource_requests,
        cluster_resource_constraints=state.cluster_resource_constraints,
        current_instances=[instance(row, state) for row in config["instances"]],
        cloud_resource_availabilities=config.get("cloud_resource_availabilities", {}),
        recoverable_resource_availabilities=config.get("recoverable_resource_availabilities", {}),
    )
    if "ippr" in config:
        groups = {name: IPPRGroupSpec(**spec) for name, spec in config["ippr"]["groups"].items()}
        request.ippr_specs = IPPRSpecs(groups=groups)
        for status in config["ippr"]["statuses"]:
            fields = {name: value for name, value in status.items() if name != "group"}
            request.ippr_statuses[status["cloud_instance_id"]] = IPPRStatus(spec=groups[status["group"]], **fields)
    return request


def node_type(of_type):
    return NodeTypeConfig(
        name=of_type["name"],
        min_worker_nodes=of_type["min"],
        max_worker_nodes=of_type["max"],
        idle_timeout_s=of_type.get("idle_timeout_s"),
        priority=of_type.get("priority", 0),
        resources={name: float(amount) for name, amount in of_type["resources"].items()},
        labels=dict(of_type["labels"]),
        launch_config_hash=of_type.get("launch_config_hash", ""),
    )


def instance(row, state):
    of_node = {node.node_id.hex(): node for node in state.node_states}
    managed = Instance(
        instance_id=row["id"],
        cloud_instance_id=row.get("cloud_id", ""),
        node_id=row.get("node", ""),
        status=Instance.InstanceStatus.Value(row["status"]),
        instance_type=row["type"],
        node_kind=NodeKind.Value(row["kind"]),
        launch_config_hash=row.get("launch_config_hash", ""),
    )
    return AutoscalerInstance(
        cloud_instance_id=row.get("cloud_id"), ray_node=of_node.get(row.get("node")), im_instance=managed
    )
