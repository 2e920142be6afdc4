"""Asks for every kind of resource that a driver can wait for, says `asked` and holds on.

With `--labels` also for a task with a label selector and a fallback, and for a topology, which only newer Ray knows.
"""

import sys
import time

import ray
from ray.autoscaler.sdk import request_resources
from ray.util.placement_group import placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

ray.init(log_to_driver=False)


@ray.remote(num_cpus=1)
def hold():
    time.sleep(3600)


spread = placement_group([{"CPU": 4}, {"CPU": 4}], strategy="STRICT_SPREAD")
pending = placement_group([{"CPU": 16}], strategy="PACK")
asked = [hold.options(num_cpus=8).remote() for _ in range(3)]
asked += [hold.remote() for _ in range(32)]
asked.append(hold.options(scheduling_strategy=PlacementGroupSchedulingStrategy(pending)).remote())
if "--labels" in sys.argv:
    selector = {"zone": "in(z8,z7)", "tier": "!spot"}
    fallback = [{"label_selector": {"zone": "z6"}}]
    asked.append(
        hold.options(num_cpus=3, label_selector=selector, fallback_strategy=fallback).remote()
    )
request_resources(num_cpus=3, bundles=[{"GPU": 2}, {"CPU": 1}, {"CPU": 1}])
print("asked", flush=True)
time.sleep(3600)
