"""Draws random cases and asks Ray's scheduler about them.

    python generate.py --seed 1 --count 400 --out DIR [--family NAME ...]

Writes NAME.pb, NAME.in.json and NAME.out.json for each. Runs in an environment with Ray.
"""

import argparse
import json
import pathlib

import families
from ray_answer import answer


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--family", action="append", choices=sorted(families.FAMILIES), help="all by default")
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    chosen = asked.family or list(families.FAMILIES)
    for index in range(asked.count):
        world = families.draw(asked.seed, index, chosen)
        world.write(asked.out)
        text = json.dumps(answer(world.reply(), world.config()), separators=(",", ":"), sort_keys=True)
        (asked.out / f"{world.name}.out.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
