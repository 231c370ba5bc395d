#!/usr/bin/env python3
"""Compares the list of crates that cargo-auditable has put into a binary with
the lock file: each must be in it, in that version.

    audit.py BINARY CARGO_LOCK
"""

import json
import subprocess
import sys
import tempfile
import tomllib
import zlib

binary, lock_file = sys.argv[1:]
with tempfile.NamedTemporaryFile() as section:
    subprocess.run(
        ["objcopy", "--dump-section", f".dep-v0={section.name}", binary, "/dev/null"],
        check=True,
    )
    listed = json.loads(zlib.decompress(section.read()))["packages"]
with open(lock_file, "rb") as file:
    locked = {(package["name"], package["version"]) for package in tomllib.load(file)["package"]}

linked = {(p["name"], p["version"]) for p in listed if p.get("kind", "runtime") == "runtime"}
unlocked = {(package["name"], package["version"]) for package in listed} - locked
if unlocked or not any(name == "sidecarbon" for name, _ in linked) or len(linked) < 50:
    sys.exit(f"not in the lock file: {sorted(unlocked)}; linked: {len(linked)}")
print(f"      {len(linked)} crates are linked, all as locked")
