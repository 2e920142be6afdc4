"""What the users of the acceptance tests do, one sub-command each; the address comes from RAY_ADDRESS."""

import argparse
import json
import os
import sys
import time

import ray
from ray.util.placement_group import get_placement_group, placement_group, remove_placement_group

NAMESPACE = "acceptance"


@ray.remote
class Made:
    def pid(self):
        return os.getpid()


@ray.remote
class Actor:
    def ping(self):
        return "pong"

    def pid(self):
        return os.getpid()

    def make(self, name, options):
        self.made = Made.options(name=name, lifetime="detached", **options).remote()


@ray.remote(num_cpus=1)
def work(seconds):
    time.sleep(seconds)
    return seconds


def options_of(args):
    options = {"num_cpus": args.num_cpus, "num_gpus": args.num_gpus, "max_restarts": args.restarts}
    if args.resources:
        options["resources"] = json.loads(args.resources)
    if args.label_selector:
        options["label_selector"] = json.loads(args.label_selector)
    return options


def actor(args):
    """Makes detached actors; waits until they answer unless told not to."""
    actors = [
        Actor.options(name=name, lifetime="detached", **options_of(args)).remote() for name in args.names
    ]
    if not args.no_wait:
        ray.get([a.ping.remote() for a in actors], timeout=args.timeout)


def make(args):
    """Has the first actor make the second, for which it asks again when the GCS was away."""
    maker, name = args.names
    ray.get(ray.get_actor(maker).make.remote(name, options_of(args)), timeout=args.timeout)


def listen(args):
    """Makes actors and stays; what Ray tells drivers of the autoscaler is in the output."""
    actor(args)
    time.sleep(args.seconds)


def kill(args):
    for name in args.names:
        ray.kill(ray.get_actor(name))


def pids(args):
    """Prints the processes that the actors answer from, as JSON."""
    found = [ray.get(ray.get_actor(name).pid.remote(), timeout=args.timeout) for name in args.names]
    print(json.dumps(found))


def tasks(args):
    """Runs tasks to their end and prints how many nodes they ran on."""
    ray.get([work.remote(args.seconds) for _ in range(args.count)], timeout=args.timeout)


def gang(args):
    group = placement_group(
        json.loads(args.bundles), strategy=args.strategy, name=args.names[0], lifetime="detached"
    )
    if not args.no_wait:
        ray.get(group.ready(), timeout=args.timeout)


def remove_gang(args):
    for name in args.names:
        remove_placement_group(get_placement_group(name))


def gang_nodes(args):
    """Prints the ids of the nodes that hold the bundles, as JSON, once all are placed."""
    deadline = time.monotonic() + args.timeout
    while time.monotonic() < deadline:
        table = ray.util.placement_group_table(get_placement_group(args.names[0]))
        nodes = list(table["bundles_to_node_id"].values())
        if table["state"] == "CREATED" and all(nodes):
            print(json.dumps(nodes))
            return
        time.sleep(0.2)
    sys.exit("the placement group was not placed in time")


def request(args):
    from ray.autoscaler.sdk import request_resources

    bundles = json.loads(args.bundles) if args.bundles else None
    request_resources(num_cpus=int(args.num_cpus) or None, bundles=bundles)


def main():
    parser = argparse.ArgumentParser()
    commands = [actor, make, listen, kill, pids, tasks, gang, remove_gang, gang_nodes, request]
    parser.add_argument("command", choices=[c.__name__ for c in commands])
    parser.add_argument("names", nargs="*")
    parser.add_argument("--num-cpus", type=float, default=0)
    parser.add_argument("--num-gpus", type=float, default=0)
    parser.add_argument("--resources", default="")
    parser.add_argument("--label-selector", default="")
    parser.add_argument("--bundles", default="")
    parser.add_argument("--strategy", default="PACK")
    parser.add_argument("--count", type=int, default=1)
    parser.add_argument("--restarts", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=1)
    parser.add_argument("--timeout", type=float, default=120)
    parser.add_argument("--no-wait", action="store_true")
    args = parser.parse_args()
    ray.init(namespace=NAMESPACE, log_to_driver=args.command == "listen", configure_logging=False)
    {c.__name__: c for c in commands}[args.command](args)


if __name__ == "__main__":
    main()
