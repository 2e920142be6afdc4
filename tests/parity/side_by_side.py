"""Runs Ray's scheduler and ours on identical inputs and prints how long each takes.

    python side_by_side.py target/release/examples/parity [--limit 60] [--only NAME]

Each side is timed from the parsed input to the decision. Ray runs once, and is given up after the limit (seconds); ours is the
best of five runs. `same` says whether both launch and terminate the same and leave the same unserved.
"""

import argparse
import json
import multiprocessing
import pathlib
import subprocess
import tempfile
import time

from ray_answer import in_our_form, scheduler, scheduling_request
from compare import differences
from world import GIB, World, selector

RUNS = 5


def cluster(name, types, nodes, used):
    """Returns a world with `nodes` nodes, spread over groups of the given types."""
    world = World(0, 0, name)
    world.head(CPU=0)
    for of_type in types:
        world.group(dict(of_type), high=2 * nodes // len(types) + 100)
    for index in range(nodes):
        world.node(world.types[1 + index % len(types)]["name"], used=used)
    return world


def partly_free(nodes):
    world = cluster("partly", [{"CPU": 4, "memory": 16 * GIB}, {"CPU": 8, "memory": 32 * GIB}], nodes, 0.75)
    for shape in range(8):
        world.tasks({"CPU": 1 + shape % 2, "memory": (1 + shape // 2) * GIB}, 125)
    return world


def busy(nodes, tasks):
    world = cluster("busy", [{"CPU": 8, "memory": 32 * GIB}], nodes, 1)
    world.tasks({"CPU": 1}, tasks)
    return world


def gangs(nodes, count):
    world = cluster("gangs", [{"CPU": 8, "memory": 32 * GIB}], nodes, 0.5)
    for index in range(count):
        world.gang(["PACK", "STRICT_SPREAD", "SPREAD", "STRICT_PACK"][index % 4], [{"CPU": 1}] * 4)
    return world


def empty(tasks, shapes):
    world = World(0, 0, "empty")
    world.head(CPU=0)
    for cpu in (4, 8, 16):
        world.group({"CPU": cpu, "memory": cpu * 4 * GIB}, high=tasks)
    for shape in range(shapes):
        world.tasks({"CPU": 1 + shape % 4, "memory": (1 + shape) * GIB // 4}, tasks // shapes)
    return world


def labelled(groups):
    world = World(0, 0, "labelled")
    world.head(CPU=0)
    for index in range(groups):
        world.group({"CPU": 4 + index % 5, "memory": 16 * GIB}, high=10)["labels"] = {"zone": f"z{index}"}
    for index in range(0, groups, 4):
        world.tasks({"CPU": 1 + index % 4}, 10, [selector(zone=[f"z{index}"]), selector(not_zone=["z0"])])
    return world


CASES = {
    "100 nodes partly free, 1,000 tasks in 8 shapes": lambda: partly_free(100),
    "200 nodes partly free, 1,000 tasks in 8 shapes": lambda: partly_free(200),
    "400 nodes partly free, 1,000 tasks in 8 shapes": lambda: partly_free(400),
    "1,000 nodes partly free, 1,000 tasks in 8 shapes": lambda: partly_free(1000),
    "1,337 nodes busy, 13,315 tasks": lambda: busy(1337, 13315),
    "no nodes, 10,000 tasks in 20 shapes": lambda: empty(10000, 20),
    "200 groups with labels, 500 tasks with selectors": lambda: labelled(200),
    "100 nodes, 100 placement groups of 4": lambda: gangs(100, 100),
    "1,000 nodes, 1,000 placement groups of 4": lambda: gangs(1000, 1000),
}


def ask_ray(world, connection):
    state, config = world.reply().cluster_resource_state, world.config()
    request = scheduling_request(state, config)
    begin = time.perf_counter()
    made = scheduler.ResourceDemandScheduler(None).schedule(request)
    took = time.perf_counter() - begin
    connection.send((took, in_our_form(made, state)))


def ray_side(world, limit):
    """Returns seconds and answer; None where the limit is hit."""
    receiver, sender = multiprocessing.Pipe(False)
    asked = multiprocessing.Process(target=ask_ray, args=(world, sender))
    asked.start()
    took, answer = receiver.recv() if receiver.poll(limit) else (None, None)
    asked.kill()
    asked.join()
    return took, answer


def our_side(engine, world):
    """Returns seconds and answer."""
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        world.write(folder)
        times = []
        for _ in range(RUNS):
            subprocess.run([engine, folder, folder / "out"], check=True, stdout=subprocess.DEVNULL)
            (line,) = (folder / "out" / "TIMES.tsv").read_text().splitlines()
            times.append(float(line.split("\t")[1]) / 1000)
        return min(times), json.loads((folder / "out" / f"{world.name}.out.json").read_text())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("engine", type=pathlib.Path)
    parser.add_argument("--limit", type=float, default=60.0)
    parser.add_argument("--only", choices=sorted(CASES))
    asked = parser.parse_args()
    print("| input | Ray 2.60.0 | rayscaler | ratio | same |\n|---|---|---|---|---|")
    for name, draw in CASES.items():
        if asked.only not in (None, name):
            continue
        world = draw()
        ours, our_answer = our_side(asked.engine, world)
        theirs, their_answer = ray_side(world, asked.limit)
        least, is_over = theirs or asked.limit, "> " if theirs is None else ""
        same = "not known" if their_answer is None else "no" if differences(their_answer, our_answer) else "yes"
        ratio = f"{is_over}{least / ours:,.0f}"
        print(f"| {name} | {is_over}{least:.2f} s | {ours * 1000:.2f} ms | {ratio} | {same} |", flush=True)


if __name__ == "__main__":
    main()
