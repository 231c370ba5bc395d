#!/usr/bin/env python3
"""Writes the container image as an OCI archive, without a container engine.

The files and their layout are those of the Dockerfile; user, environment, entry
point, ports, health check and labels are read from its last stage.
"""

import argparse
import datetime
import gzip
import hashlib
import io
import json
import os
import pathlib
import re
import shlex
import tarfile

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
EPOCH = int(os.environ["SOURCE_DATE_EPOCH"])


def read(path):
    return pathlib.Path(path).read_bytes()


def archive(files):
    """A tar archive of (path, mode, bytes), its directories included."""
    directories = {str(parent) for path, _, _ in files for parent in pathlib.PurePath(path).parents}
    entries = [(path, 0o755, None) for path in directories - {"."}] + list(files)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for path, mode, content in sorted(entries, key=lambda entry: entry[0]):
            info = tarfile.TarInfo(path)
            info.mode, info.mtime = mode, EPOCH
            if content is None:
                info.type = tarfile.DIRTYPE
                tar.addfile(info)
            else:
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def nanoseconds(text):
    """The nanoseconds of a duration such as 10s."""
    return int(text.removesuffix("s")) * 1_000_000_000


def settings(dockerfile, arguments):
    """The configuration that the last stage of the Dockerfile describes."""
    stage = re.split(r"^FROM .*$", dockerfile.replace("\\\n", " "), flags=re.MULTILINE)[-1]
    config = {"Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"], "Labels": {}}
    for line in stage.splitlines():
        instruction, _, rest = line.strip().partition(" ")
        if instruction == "ENV":
            config["Env"] += shlex.split(rest)
        elif instruction == "USER":
            config["User"] = rest
        elif instruction == "EXPOSE":
            config["ExposedPorts"] = {port: {} for port in rest.split()}
        elif instruction == "STOPSIGNAL":
            config["StopSignal"] = rest
        elif instruction == "ENTRYPOINT":
            config["Entrypoint"] = json.loads(rest)
        elif instruction == "HEALTHCHECK":
            options, _, command = rest.partition(" CMD ")
            given = dict(option[2:].split("=") for option in options.split())
            config["Healthcheck"] = {
                "Test": ["CMD", *json.loads(command)],
                "Interval": nanoseconds(given["interval"]),
                "Timeout": nanoseconds(given["timeout"]),
                "StartPeriod": nanoseconds(given["start-period"]),
                "Retries": int(given["retries"]),
            }
        elif instruction == "LABEL":
            for label in shlex.split(rest):
                name, _, value = label.partition("=")
                config["Labels"][name] = re.sub(r"\$(\w+)", lambda m: arguments[m[1]], value)
        elif instruction not in ("", "#", "COPY", "ARG"):
            raise SystemExit(f"image.py does not know the Dockerfile's instruction {instruction}")
    return config


parser = argparse.ArgumentParser()
for option in ("binary", "authorities", "target", "version", "revision", "output"):
    parser.add_argument(f"--{option}", required=True)
options = parser.parse_args()

# The distribution's authorities, without those that this machine trusts beside them.
authorities = b"".join(read(path).rstrip() + b"\n" for path in sorted(pathlib.Path(options.authorities).glob("*.crt")))
layer = archive(
    [
        ("sidecarbon", 0o755, read(options.binary)),
        ("etc/ssl/certs/ca-certificates.crt", 0o644, authorities),
        ("etc/nsswitch.conf", 0o644, b"hosts: files dns\n"),
        ("licenses/LICENSE-APACHE", 0o644, read("LICENSE-APACHE")),
        ("licenses/LICENSE-MIT", 0o644, read("LICENSE-MIT")),
    ]
)

blobs = []


def blob(media_type, content):
    digest = hashlib.sha256(content).hexdigest()
    blobs.append((f"blobs/sha256/{digest}", 0o644, content))
    return {
        "mediaType": f"application/vnd.oci.image.{media_type}",
        "digest": f"sha256:{digest}",
        "size": len(content),
    }


def path_of(descriptor):
    return "blobs/sha256/" + descriptor["digest"].removeprefix("sha256:")


def as_json(value):
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


created = datetime.datetime.fromtimestamp(EPOCH, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
config = blob(
    "config.v1+json",
    as_json(
        {
            "created": created,
            "architecture": ARCHITECTURES[options.target.split("-")[0]],
            "os": "linux",
            "config": settings(
                pathlib.Path("Dockerfile").read_text(),
                {"VERSION": options.version, "REVISION": options.revision},
            ),
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
            "history": [{"created": created, "created_by": "packaging/image.py"}],
        }
    ),
)
compressed = blob("layer.v1.tar+gzip", gzip.compress(layer, compresslevel=9, mtime=0))
manifest = blob(
    "manifest.v1+json",
    as_json(
        {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": config,
            "layers": [compressed],
        }
    ),
)
name = f"sidecarbon:{options.version}"
manifest["annotations"] = {
    "org.opencontainers.image.ref.name": options.version,
    "io.containerd.image.name": f"docker.io/library/{name}",
}
# For "docker load" of engines that do not read OCI archives.
docker = [{"Config": path_of(config), "RepoTags": [name], "Layers": [path_of(compressed)]}]
index = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [manifest]}
pathlib.Path(options.output).write_bytes(
    archive(
        [
            *blobs,
            ("index.json", 0o644, as_json(index)),
            ("manifest.json", 0o644, as_json(docker)),
            ("oci-layout", 0o644, b'{"imageLayoutVersion":"1.0.0"}'),
        ]
    )
)
