"""Turns the output of `cargo metadata` into a CycloneDX 1.5 document: the crates that the program is linked from."""

import json
import os
import sys
import time


def reachable(nodes, root):
    """The crates below the root that are part of the program: not those of tests alone."""
    seen, todo = set(), [root]
    while todo:
        name = todo.pop()
        if name in seen:
            continue
        seen.add(name)
        for dependency in nodes[name]["deps"]:
            if any(kind["kind"] != "dev" for kind in dependency["dep_kinds"]):
                todo.append(dependency["pkg"])
    return seen


def component(package, kind):
    """One crate."""
    found = {
        "type": kind,
        "name": package["name"],
        "version": package["version"],
        "bom-ref": f"pkg:cargo/{package['name']}@{package['version']}",
        "purl": f"pkg:cargo/{package['name']}@{package['version']}",
    }
    if package.get("license"):
        found["licenses"] = [{"expression": package["license"].replace("/", " OR ")}]
    return found


def main():
    """Reads standard input, writes standard output."""
    metadata = json.load(sys.stdin)
    packages = {package["id"]: package for package in metadata["packages"]}
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    root = metadata["resolve"]["root"]
    found = reachable(nodes, root)
    refs = {name: component(packages[name], "library")["bom-ref"] for name in found}
    moment = time.gmtime(int(os.environ["SOURCE_DATE_EPOCH"]))
    document = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {
            "timestamp": time.strftime("%Y-%m-%dT%H:%M:%SZ", moment),
            "component": component(packages[root], "application"),
        },
        "components": sorted(
            (component(packages[name], "library") for name in found if name != root), key=lambda c: c["bom-ref"]
        ),
        "dependencies": sorted(
            (
                {
                    "ref": refs[name],
                    "dependsOn": sorted({refs[d["pkg"]] for d in nodes[name]["deps"] if d["pkg"] in found}),
                }
                for name in found
            ),
            key=lambda d: d["ref"],
        ),
    }
    json.dump(document, sys.stdout, indent=1, sort_keys=True)
    print()


if __name__ == "__main__":
    main()
