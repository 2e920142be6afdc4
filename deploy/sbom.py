"""Lists what is built into the program, as CycloneDX JSON: python3 deploy/sbom.py [CARGO].

The same packages give the same text: no time, no serial number. Packages that only build scripts or
tests need are left out; those of procedural macros are in it.
"""

import json
import platform
import subprocess
import sys

CARGO = sys.argv[1] if len(sys.argv) > 1 else "cargo"
PROGRAM = "rayscaler"


def metadata() -> dict:
    """Returns what cargo knows of the packages of a build for the image on this machine."""
    target = f"{platform.machine()}-unknown-linux-gnu"
    command = [CARGO, "metadata", "--locked", "--format-version=1", "--no-default-features"]
    command += ["--features=sidecar", f"--filter-platform={target}"]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def is_built_in(dependency: dict) -> bool:
    """Returns whether a dependency is more than one for builds or tests."""
    return any(kind["kind"] is None for kind in dependency["dep_kinds"])


def tree() -> set:
    """Returns names and versions of what is built in; `cargo metadata` adds what features of tests would bring."""
    command = [CARGO, "tree", "--locked", "--no-default-features", "--features=sidecar"]
    command += ["--edges=normal", "--prefix=none", "--format={p}"]
    lines = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
    return {tuple(line.split()[:2]) for line in lines}


def built_in(root: str, nodes: dict, packages: dict) -> dict:
    """Returns the packages that are reached from the root, each with those it depends on."""
    wanted = tree()

    def is_wanted(package: str) -> bool:
        about = packages[package]
        return (about["name"], "v" + about["version"]) in wanted

    found, waiting = {}, [root]
    while waiting:
        package = waiting.pop()
        if package not in found:
            reached = (it["pkg"] for it in nodes[package]["deps"] if is_built_in(it))
            found[package] = sorted(filter(is_wanted, reached))
            waiting += found[package]
    return found


def component(package: dict, checksums: dict) -> dict:
    """Returns one package as a component."""
    name, version = package["name"], package["version"]
    entry = {
        "type": "application" if name == PROGRAM else "library",
        "bom-ref": f"{name}@{version}",
        "name": name,
        "version": version,
        "purl": f"pkg:cargo/{name}@{version}",
        # Older packages write `A/B`.
        "licenses": [{"expression": " OR ".join(it.strip() for it in package["license"].split("/"))}],
    }
    if (name, version) in checksums:
        entry["hashes"] = [{"alg": "SHA-256", "content": checksums[name, version]}]
    return entry


def locked_checksums(workspace: str) -> dict:
    """Returns the checksums in Cargo.lock by name and version."""
    found, fields = {}, {}
    for line in open(f"{workspace}/Cargo.lock", encoding="utf-8"):
        key, _, value = line.strip().partition(" = ")
        if key == "[[package]]":
            fields = {}
        fields[key] = value.strip('"')
        if key == "checksum":
            found[fields["name"], fields["version"]] = fields["checksum"]
    return found


def main() -> None:
    """Prints the list."""
    known = metadata()
    packages = {package["id"]: package for package in known["packages"]}
    nodes = {node["id"]: node for node in known["resolve"]["nodes"]}
    root = next(id for id, package in packages.items() if package["name"] == PROGRAM)
    parts = built_in(root, nodes, packages)
    checksums = locked_checksums(known["workspace_root"])
    components = {id: component(packages[id], checksums) for id in parts}
    reference = {id: entry["bom-ref"] for id, entry in components.items()}
    sbom = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": components.pop(root)},
        "components": sorted(components.values(), key=lambda entry: entry["bom-ref"]),
        "dependencies": sorted(
            ({"ref": reference[id], "dependsOn": sorted(reference[it] for it in needs)} for id, needs in parts.items()),
            key=lambda entry: entry["ref"],
        ),
    }
    json.dump(sbom, sys.stdout, indent=1)
    print()


main()
