"""Makes a case that differs as small as it can be made, one entry at a time.

    python reduce.py CASES NAME --engine "target/release/examples/parity" --out DIR

The engine is a program that is called with a folder of cases and a folder for its answers.
"""

import argparse
import copy
import json
import pathlib
import shlex
import subprocess
import tempfile

from ray.core.generated.autoscaler_pb2 import GetClusterResourceStateReply

from compare import differences
from ray_answer import answer


class Reducer:
    def __init__(self, engine):
        self.engine = shlex.split(engine)

    def fields(self, case):
        """Returns the fields in which the engine and Ray differ."""
        reply, config = case
        with tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder)
            write(folder, "case", case)
            done = subprocess.run([*self.engine, folder, folder / "out"], capture_output=True)
            path = folder / "out" / "case.out.json"
            ours = json.loads(path.read_text()) if done.returncode == 0 and path.exists() else None
        ray = json.loads(json.dumps(answer(reply, config)))
        # A case on which Ray raises is another case.
        return set() if "error" in ray else {field for field, *_ in differences(ray, ours)}

    def reduce(self, case):
        wanted = self.fields(case)
        if not wanted:
            raise SystemExit("does not differ")
        print("differs in", *sorted(wanted))
        is_smaller = True
        while is_smaller:
            is_smaller = False
            for smaller in simpler(case):
                if self.fields(smaller) & wanted:
                    case, is_smaller = smaller, True
                    break
        return case


def simpler(case):
    """Yields the case with one thing less each."""
    reply, config = case
    state = reply.cluster_resource_state
    for field in ("pending_resource_requests", "pending_gang_resource_requests", "cluster_resource_constraints"):
        for index in range(len(getattr(state, field))):
            yield without(case, lambda made, _: delete(getattr(made.cluster_resource_state, field), index))
    for index, row in enumerate(config["instances"]):
        if row["kind"] != "HEAD":
            yield without(case, lambda made, told: drop_row(made, told, index))
    for index, of_type in enumerate(config["node_types"]):
        if not any(row["type"] == of_type["name"] for row in config["instances"]):
            yield without(case, lambda _, told: delete(told["node_types"], index))
    for index, gang in enumerate(state.pending_gang_resource_requests):
        for bundle in range(len(gang.requests)):
            yield without(case, lambda made, _: drop_bundle(made, index, bundle))
    for index, demand in enumerate(state.pending_resource_requests):
        for count in {1, demand.count // 2, demand.count - 1} - {0, demand.count}:
            yield without(case, lambda made, _: set_count(made, index, count))
        for selector in range(len(demand.request.label_selectors)):
            yield without(case, lambda made, _: drop_selector(made, index, selector))


def without(case, change):
    reply, config = GetClusterResourceStateReply(), copy.deepcopy(case[1])
    reply.CopyFrom(case[0])
    change(reply, config)
    return reply, config


def delete(entries, index):
    del entries[index]


def drop_row(reply, config, index):
    row = config["instances"].pop(index)
    nodes = reply.cluster_resource_state.node_states
    for at in reversed(range(len(nodes))):
        if nodes[at].node_id.hex() == row.get("node"):
            del nodes[at]


def drop_bundle(reply, index, bundle):
    gang = reply.cluster_resource_state.pending_gang_resource_requests[index]
    del gang.requests[bundle]
    for chosen in gang.bundle_selectors:
        del chosen.resource_requests[bundle]


def set_count(reply, index, count):
    reply.cluster_resource_state.pending_resource_requests[index].count = count


def drop_selector(reply, index, selector):
    del reply.cluster_resource_state.pending_resource_requests[index].request.label_selectors[selector]


def write(folder, name, case):
    reply, config = case
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.pb").write_bytes(reply.SerializeToString(deterministic=True))
    (folder / f"{name}.in.json").write_text(json.dumps(config) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", type=pathlib.Path)
    parser.add_argument("name")
    parser.add_argument("--engine", required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    asked = parser.parse_args()
    reply = GetClusterResourceStateReply()
    reply.ParseFromString((asked.cases / f"{asked.name}.pb").read_bytes())
    config = json.loads((asked.cases / f"{asked.name}.in.json").read_text())
    reply, config = Reducer(asked.engine).reduce((reply, config))
    write(asked.out, asked.name, (reply, config))
    (asked.out / f"{asked.name}.out.json").write_text(json.dumps(answer(reply, config), sort_keys=True) + "\n")
    print(json.dumps({key: config[key] for key in ("node_types", "instances", "max_num_nodes")}, indent=1))
    print(reply)


if __name__ == "__main__":
    main()
