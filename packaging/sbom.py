#!/usr/bin/env python3
"""Writes a CycloneDX list of the crates that the release binary is built from.

    cargo metadata --format-version 1 --filter-platform TARGET | sbom.py TARGET

cargo-cyclonedx is not used: it writes the path of the working directory into the
document, so that builds in two directories differ.
"""

import datetime
import json
import os
import sys

target = sys.argv[1]
metadata = json.load(sys.stdin)
packages = {package["id"]: package for package in metadata["packages"]}
nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
root = metadata["resolve"]["root"]


def is_linked_or_built(dependency):
    """Whether more than tests need it."""
    return any(kind["kind"] != "dev" for kind in dependency["dep_kinds"])


def purl(package):
    return f"pkg:cargo/{package['name']}@{package['version']}"


def component(package, kind):
    entry = {
        "type": kind,
        "bom-ref": purl(package),
        "name": package["name"],
        "version": package["version"],
        "purl": purl(package),
    }
    if package["description"]:
        entry["description"] = " ".join(package["description"].split())
    if package["license"]:
        # "MIT/Apache-2.0" is the form before SPDX expressions.
        entry["licenses"] = [{"expression": package["license"].replace("/", " OR ")}]
    if package["repository"]:
        entry["externalReferences"] = [{"type": "vcs", "url": package["repository"]}]
    return entry


needs = {}
queue = [root]
while queue:
    crate = queue.pop()
    if crate not in needs:
        needs[crate] = [d["pkg"] for d in nodes[crate]["deps"] if is_linked_or_built(d)]
        queue.extend(needs[crate])

time = datetime.datetime.fromtimestamp(int(os.environ["SOURCE_DATE_EPOCH"]), datetime.timezone.utc)
document = {
    "bomFormat": "CycloneDX",
    "specVersion": "1.5",
    "version": 1,
    "metadata": {
        "timestamp": time.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "component": component(packages[root], "application"),
        "properties": [{"name": "cdx:rustc:sbom:target:triple", "value": target}],
    },
    "components": sorted(
        (component(packages[crate], "library") for crate in needs if crate != root),
        key=lambda entry: entry["bom-ref"],
    ),
    "dependencies": sorted(
        (
            {"ref": purl(packages[crate]), "dependsOn": sorted({purl(packages[need]) for need in below})}
            for crate, below in needs.items()
        ),
        key=lambda entry: entry["ref"],
    ),
}
json.dump(document, sys.stdout, indent=2)
print()
