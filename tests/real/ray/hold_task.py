"""Runs a task that never ends, with the resources given as JSON; says `submitted`, then `running`."""

import json
import sys
import time

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

ray.init(log_to_driver=False)
resources = json.loads(sys.argv[1])


@ray.remote
class Progress:
    def __init__(self):
        self.is_running = False

    def start(self):
        self.is_running = True

    def seen(self):
        return self.is_running


@ray.remote(num_cpus=resources.pop("CPU", 0), resources=resources)
def hold(progress):
    ray.get(progress.start.remote())
    time.sleep(3600)


# An actor without resources may be put anywhere, and no node that holds it is idle.
here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
progress = Progress.options(num_cpus=0, scheduling_strategy=here).remote()
task = hold.remote(progress)
print("submitted", flush=True)
while not ray.get(progress.seen.remote()):
    time.sleep(0.05)
print("running", flush=True)
time.sleep(3600)
