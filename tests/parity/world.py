"""One drawn cluster: what the GCS says of it, and what the scheduler is told besides.

A family (families.py) draws a World with these verbs; `write` puts it into NAME.pb and NAME.in.json. Everything random
comes from the World's own generator, so a case depends on its seed, its index and its family and on no other case.
"""

import json
import random

from ray.core.generated import autoscaler_pb2 as wire
from ray.core.generated.common_pb2 import LabelSelector, LabelSelectorOperator

FORMAT = "peerbench-case/1"
HEAD = "headgroup"
GIB = 2**30

# The statuses of an instance that has no raylet yet, and how often each is drawn.
PENDING = {"QUEUED": 3, "REQUESTED": 3, "ALLOCATED": 3, "RAY_INSTALLING": 2}
# The statuses that count for nothing.
GONE = ["RAY_STOPPING", "RAY_STOPPED", "TERMINATING", "TERMINATED", "ALLOCATION_FAILED", "TERMINATION_FAILED"]


def selector(**conditions):
    """Returns a label selector; `zone=["a"]` is IN, `not_zone=["a"]` is NOT_IN."""
    made = LabelSelector()
    for key, values in conditions.items():
        is_in = not key.startswith("not_")
        made.label_constraints.add(
            label_key=key.removeprefix("not_"),
            operator=LabelSelectorOperator.Value("LABEL_OPERATOR_IN" if is_in else "LABEL_OPERATOR_NOT_IN"),
            label_values=values,
        )
    return made


class World:
    def __init__(self, seed, index, family):
        self.name = f"{seed}-{index:05}-{family}"
        self.family = family
        self.random = random.Random(f"{seed}/{index}/{family}")
        self.state = wire.ClusterResourceState(cluster_resource_state_version=1, cluster_session_name="session")
        self.types = []
        self.instances = []
        self.extra = {"idle_timeout_s": self.random.choice([30.0, 60.0, 300.0])}
        self.count = 0

    # Draws.

    def chance(self, probability):
        return self.random.random() < probability

    def pick(self, values):
        return self.random.choice(list(values))

    def between(self, low, high):
        return self.random.randint(low, high)

    # What there is.

    def head(self, **resources):
        resources = resources or {"CPU": self.pick([0, 1, 2, 4]), "memory": 8 * GIB}
        self.types.append({"name": HEAD, "min": 0, "max": 1, "resources": resources, "labels": {}})
        return self.node(HEAD, used=self.pick([0, 0, 0.5]))

    def group(self, resources, name=None, low=0, high=None, **more):
        name = name or f"group-{len(self.types)}"
        high = self.between(max(low, 1), max(low, 1) + 8) if high is None else high
        made = {"name": name, "min": low, "max": high, "resources": resources, "labels": {}, **more}
        self.types.append(made)
        return made

    def type(self, name):
        return next(found for found in self.types if found["name"] == name)

    def node(self, type_name, used=0.0, idle_s=None, labels=(), row="RAY_RUNNING", totals=None):
        """Adds a node with its raylet; `used` is the part of each resource that is taken."""
        self.count += 1
        number, of_type = self.count, self.type(type_name)
        is_head = type_name == HEAD
        node = self.state.node_states.add(
            node_id=number.to_bytes(28, "big"),
            instance_id=f"{type_name}-pod-{number}",
            ray_node_type_name=type_name,
            node_ip_address=f"10.0.{number // 250}.{number % 250}",
            status="IDLE" if idle_s is not None else "RUNNING",
            idle_duration_ms=int((idle_s or 0) * 1000),
        )
        totals = {name: value for name, value in (totals or of_type["resources"]).items() if value}
        totals[f"node:{node.node_ip_address}"] = 1
        if is_head:
            totals["node:__internal_head__"] = 1
        totals["object_store_memory"] = GIB
        for name, total in totals.items():
            node.total_resources[name] = total
            takes = used if name in of_type["resources"] else 0
            free = total - (int(total * takes) if total > 1 else total * (takes >= 1))
            # As Ray does: what is used up is not there at all.
            if free > 0:
                node.available_resources[name] = free
        node.labels.update({"ray.io/node-id": node.node_id.hex(), **of_type["labels"], **dict(labels)})
        self.row(type_name, row, node)
        return node

    def row(self, type_name, status, node=None):
        """Adds a row of the instance table."""
        if node is None:
            self.count += 1
        row = {"id": f"{type_name}-{self.count}", "type": type_name, "status": status}
        row["kind"] = "HEAD" if type_name == HEAD else "WORKER"
        if node is not None:
            row.update(id=node.instance_id, cloud_id=node.instance_id, node=node.node_id.hex())
        elif status not in ("QUEUED", "REQUESTED"):
            row["cloud_id"] = f"{row['id']}-pod"
        self.instances.append(row)
        return row

    def nodes(self, of_type, count, idle=0.3):
        """Adds nodes in every state of use."""
        for _ in range(count):
            if self.chance(idle):
                self.node(of_type["name"], idle_s=self.pick([0, 1, 29, 61, 299, 301, 4000]))
            else:
                self.node(of_type["name"], used=self.pick([0, 0.25, 0.5, 0.75, 1, 1]))

    def pending(self, of_type, count):
        for _ in range(count):
            self.row(of_type["name"], self.random.choices(list(PENDING), PENDING.values())[0])

    # What is asked for.

    def request(self, resources, selectors=None):
        request = wire.ResourceRequest()
        for name, amount in resources.items():
            request.resources_bundle[name] = amount
        # Ray sends one selector without conditions where a task has none; older ones send nothing.
        request.label_selectors.extend([LabelSelector()] if selectors is None else selectors)
        return request

    def tasks(self, resources, count, selectors=None):
        request = self.request(resources, selectors)
        self.state.pending_resource_requests.add(request=request, count=count)

    def constraint(self, *demands):
        constraint = self.state.cluster_resource_constraints.add()
        for resources, count in demands:
            constraint.resource_requests.add(request=self.request(resources, []), count=count)

    def gang(self, strategy, bundles, selectors=(), state="PENDING", is_legacy=False):
        """Adds a placement group; returns the label that its placed bundles leave on their nodes."""
        identity = f"{self.random.getrandbits(144):036x}"
        label = f"_PG_{identity}"
        gang = self.state.pending_gang_resource_requests.add(details=f"{identity}:{strategy}|{state}")
        chosen = None if is_legacy else gang.bundle_selectors.add()
        for bundle in bundles:
            request = self.request(bundle, [])
            if strategy == "STRICT_SPREAD":
                request.placement_constraints.add().anti_affinity.label_name = label
            elif strategy == "STRICT_PACK":
                request.placement_constraints.add().affinity.label_name = label
            gang.requests.append(request)
            if chosen is not None:
                request.label_selectors.extend(selectors)
                chosen.resource_requests.append(request)
        return label

    # What comes of it.

    def shapes(self):
        """Returns amounts that make sense for the groups there are: a whole node, a part, a bit more than fits."""
        shapes = [{"CPU": 1}]
        for of_type in self.types:
            for part in [1, 0.5, 0.25] + [2] * self.chance(0.2):
                shape = {name: amount * part for name, amount in of_type["resources"].items() if amount * part >= 1}
                if shape:
                    shapes.append(shape)
                    name = self.pick(sorted(shape))
                    shapes.append({name: shape[name]})
        return [{name: int(amount) for name, amount in shape.items()} for shape in shapes]

    def reply(self):
        return wire.GetClusterResourceStateReply(cluster_resource_state=self.state)

    def config(self):
        most = sum(of_type["max"] for of_type in self.types if of_type["name"] != HEAD) + 1
        return {
            "format": FORMAT,
            "name": self.name,
            "tags": [self.family],
            "node_types": self.types,
            "head_node_type": HEAD,
            "max_num_nodes": most,
            "disable_launch_config_check": True,
            "instances": self.instances,
            **self.extra,
        }

    def write(self, folder):
        (folder / f"{self.name}.pb").write_bytes(self.reply().SerializeToString(deterministic=True))
        text = json.dumps(self.config(), separators=(",", ":"))
        (folder / f"{self.name}.in.json").write_text(text + "\n")
