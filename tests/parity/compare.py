"""Compares an engine's answers with Ray's, family by family.

    python compare.py CASES OUT [--level launch|counts|exact] [--deviations FILE] [--verbose]

CASES has NAME.out.json with Ray's answers, OUT those of the engine. Levels: `launch` looks at the nodes to launch, `counts` at
how many nodes go and why and how much stays unserved as well, `exact` at everything. Where Ray raises, any answer will do.

FILE lists the deviations that are known, one a line: family and why, tab-separated. A difference in such a family is counted
and does not fail, as long as there is an answer. Every other difference makes the exit code 1, and so does a family that no
case belongs to.
"""

import argparse
import collections
import json
import pathlib
import sys

LEVELS = ["launch", "counts", "exact"]
TOLERANCE = 1e-9


def termination_counts(answer):
    counts = collections.Counter((one["type"], one["cause"], one["status"]) for one in answer["to_terminate"])
    return sorted(counts.items())


def amounts(answer):
    return answer["cluster_resources"]


# Field, the level from which on it counts, and how it is read.
FIELDS = [
    ("to_launch", "launch", lambda answer: answer["to_launch"]),
    ("terminations", "counts", termination_counts),
    ("infeasible_request_count", "counts", lambda answer: answer["infeasible_request_count"]),
    ("infeasible_gang_count", "counts", lambda answer: answer["infeasible_gang_count"]),
    ("infeasible_constraints", "counts", lambda answer: answer["infeasible_constraints"]),
    ("to_terminate", "exact", lambda answer: answer["to_terminate"]),
    ("infeasible_requests", "exact", lambda answer: answer["infeasible_requests"]),
    ("infeasible_gangs", "exact", lambda answer: answer["infeasible_gangs"]),
    ("to_ippr", "exact", lambda answer: answer["to_ippr"]),
    ("cluster_resources", "exact", amounts),
]


def is_close(one, other):
    equal = lambda a, b: abs(a - b) <= TOLERANCE * max(1.0, abs(a), abs(b))
    return one.keys() == other.keys() and all(equal(one[name], other[name]) for name in one)


def differences(ray, ours):
    """Returns [(field, level, Ray's, ours)]."""
    if "error" in ray:
        # Where we answer and Ray raises, that is a deviation like any other.
        name = "answer" if ours is None or "error" in ours else "raised"
        return [(name, "launch", ray, ours)]
    if ours is None or "error" in ours or ("steps" in ray) != ("steps" in ours):
        return [("answer", "launch", ray, ours)]
    if "steps" in ray:
        if len(ray["steps"]) != len(ours["steps"]):
            return [("answer", "launch", ray, ours)]
        return [one for step in zip(ray["steps"], ours["steps"]) for one in differences(*step)]
    found = []
    for name, level, read in FIELDS:
        wanted, got = read(ray), read(ours)
        if not (is_close(wanted, got) if read is amounts else wanted == got):
            found.append((name, level, wanted, got))
    return found


def read_deviations(path, families):
    """Returns {family: why}."""
    known = dict(line.split("\t") for line in path.read_text().splitlines())
    for family in known.keys() - families:
        sys.exit(f"{path}: `{family}`; expected the family of a case: {', '.join(sorted(families))}")
    return known


def load(path):
    return json.loads(path.read_text()) if path.exists() else None


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--level", choices=LEVELS, default="exact")
    parser.add_argument("--deviations", type=pathlib.Path)
    parser.add_argument("--verbose", action="store_true", help="show both answers")
    asked = parser.parse_args()
    names = sorted(path.name.removesuffix(".in.json") for path in asked.cases.glob("*.in.json"))
    if not names:
        sys.exit(f"{asked.cases}: no NAME.in.json")
    family_of = {name: load(asked.cases / f"{name}.in.json")["tags"][0] for name in names}
    known = read_deviations(asked.deviations, set(family_of.values())) if asked.deviations else {}
    counted = LEVELS[: LEVELS.index(asked.level) + 1]
    table = collections.defaultdict(collections.Counter)
    for name in names:
        family = family_of[name]
        found = differences(load(asked.cases / f"{name}.out.json"), load(asked.out / f"{name}.out.json"))
        row = table[family]
        row["cases"] += 1
        for level in LEVELS:
            row[level] += not any(LEVELS.index(of) <= LEVELS.index(level) for _, of, _, _ in found)
        found = [one for one in found if one[1] in counted]
        told = [one for one in found if family not in known or one[0] == "answer"]
        row["known"] += bool(found) and not told
        row["new"] += bool(told)
        if told:
            print(f"differs: {name}: {', '.join(sorted({one[0] for one in told}))}")
        for field, _, ray, ours in told if asked.verbose else []:
            print(f"  {field}\n    Ray:  {json.dumps(ray)[:1500]}\n    ours: {json.dumps(ours)[:1500]}")
    report(table)
    sys.exit(any(row["new"] for row in table.values()))


def report(table):
    columns = ["cases", *LEVELS, "known", "new"]
    total = sum(table.values(), collections.Counter())
    print(f"{'family (equal at each level)':30}" + "".join(f"{column:>8}" for column in columns))
    for family, row in [*sorted(table.items()), ("all", total)]:
        print(f"{family:30}" + "".join(f"{row[column]:>8}" for column in columns))


if __name__ == "__main__":
    main()
