"""Asks for the bundles given as JSON with `request_resources`."""

import json
import sys

import ray
from ray.autoscaler.sdk import request_resources

ray.init(log_to_driver=False)
request_resources(bundles=json.loads(sys.argv[1]))
print("asked", flush=True)
