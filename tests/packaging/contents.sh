#!/usr/bin/env bash
# What the packages hold, without installing them: the crates by two lists, the files, the
# licences, the image's configuration.
#
#   tests/packaging/contents.sh DIRECTORY
#
# DIRECTORY holds what packaging/release.sh has built; what it does not hold is not looked
# at. Exit: 0 passed, 1 failed, 77 a tool is missing.
set -euo pipefail
cd "$(dirname "$0")/../.."
directory=$1
for tool in python3 objcopy; do
    command -v "$tool" >/dev/null || {
        echo "skipped: needs $tool"
        exit 77
    }
done
work=$(mktemp -d)
server=
cleanup() {
    [[ -z $server ]] || kill "$server" 2>/dev/null || true
    rm -rf "$work"
}
trap cleanup EXIT
passed=0 failed=0
check() { # what, command...
    local what=$1
    shift
    if "$@" >"$work/said" 2>&1; then
        passed=$((passed + 1))
        echo "PASS  $what"
    else
        failed=$((failed + 1))
        echo "FAIL  $what"
        cat "$work/said"
    fi
}

(cd "$directory" && sha256sum --quiet --check SHA256SUMS)
tarball=$(echo "$directory"/*.tar.gz)
tar -xzf "$tarball" -C "$work"
top=$(echo "$work"/sidecarbon-*)
lists() {
    tar -tzf "$tarball" | sed 's|^[^/]*/||' >"$work/list"
    for file in sidecarbon README.md CHANGELOG.md LICENSE-APACHE LICENSE-MIT config/sidecarbon.toml config/examples/tls.toml \
        docs/install.md man/sidecarbon.1 man/sidecarbon-probe.1 completions/sidecarbon.{bash,zsh,fish} \
        systemd/sidecarbon.{service,socket,sysusers}; do
        grep -Fx "$file" "$work/list" || return 1
    done
}
check "the tarball has completions, man pages, units, configuration and licences" lists
owners() { [[ $(tar --numeric-owner -tvzf "$tarball" | awk '{ print $2, $4, $5 }' | sort -u | wc -l) == 1 ]]; }
check "its files have one owner and one time" owners
check "the binary lists its crates, as locked" python3 tests/container/audit.py "$top/sidecarbon" Cargo.lock

sbom=$(echo "$directory"/*.cdx.json)
same_crates() {
    objcopy --dump-section ".dep-v0=$work/section" "$top/sidecarbon" /dev/null
    python3 - "$work/section" "$sbom" <<'PYTHON'
import json, sys, zlib
audit = json.loads(zlib.decompress(open(sys.argv[1], "rb").read()))["packages"]
listed = {(package["name"], package["version"]) for package in audit}
document = json.load(open(sys.argv[2]))
components = [document["metadata"]["component"], *document["components"]]
components_named = {(component["name"], component["version"]) for component in components}
assert listed == components_named, listed ^ components_named
assert all(component.get("licenses") for component in components), "a component has no licence"
references = {component["bom-ref"] for component in components}
assert len(references) == len(components)
for entry in document["dependencies"]:
    assert {entry["ref"], *entry["dependsOn"]} <= references, entry
print(len(components))
PYTHON
}
[[ ! -e $sbom ]] || check "the SBOM has the crates that the binary lists, each with its licence" same_crates

# Downloads from a server with a certificate of its own, on a port of the kernel's choice.
downloads() {
    local port url
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost \
        -addext subjectAltName=DNS:localhost -keyout "$work/key.pem" -out "$work/cert.pem"
    python3 - "$directory" "$work" >"$work/port" <<'PYTHON' &
import functools, http.server, ssl, sys
handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=sys.argv[1])
server = http.server.HTTPServer(("127.0.0.1", 0), handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[2] + "/cert.pem", sys.argv[2] + "/key.pem")
server.socket = context.wrap_socket(server.socket, server_side=True)
print(server.server_port, flush=True)
server.serve_forever()
PYTHON
    server=$!
    for _ in $(seq 100); do
        port=$(cat "$work/port")
        [[ -z $port ]] && sleep 0.1 || break
    done
    url=https://localhost:$port
    # A certificate that is not trusted is an error.
    ! SIDECARBON_URL=$url NO_PROXY=localhost sh "$directory/install.sh" --prefix "$work/no" || return 1
    SIDECARBON_URL=$url NO_PROXY=localhost CURL_CA_BUNDLE=$work/cert.pem \
        sh "$directory/install.sh" --prefix "$work/prefix" || return 1
    [[ ! -e $work/no ]] && "$work/prefix/bin/sidecarbon" --version
}
if command -v curl >/dev/null && command -v openssl >/dev/null; then
    check "install.sh downloads over HTTPS, and checks the certificate" downloads
else
    echo "skipped: needs curl and openssl; install.sh did not download"
fi

image=$(echo "$directory"/*.oci.tar)
image_is_whole() {
    python3 - "$image" <<'PYTHON'
import gzip, hashlib, io, json, sys, tarfile
archive = tarfile.open(sys.argv[1])
read = lambda name: archive.extractfile(name).read()
def blob(descriptor):
    content = read("blobs/" + descriptor["digest"].replace(":", "/"))
    assert len(content) == descriptor["size"]
    assert "sha256:" + hashlib.sha256(content).hexdigest() == descriptor["digest"]
    return content
assert json.loads(read("oci-layout"))["imageLayoutVersion"] == "1.0.0"
manifest = json.loads(blob(json.loads(read("index.json"))["manifests"][0]))
config = json.loads(blob(manifest["config"]))
layer = gzip.decompress(blob(manifest["layers"][0]))
assert config["rootfs"]["diff_ids"] == ["sha256:" + hashlib.sha256(layer).hexdigest()]
files = {"/" + member.name for member in tarfile.open(fileobj=io.BytesIO(layer)) if member.isfile()}
page = open("docs/install-container.md").read().split("<!-- files -->")[1].split("<!-- end -->")[0]
documented = {line.split("`")[1] for line in page.splitlines() if line.startswith("| `/")}
assert files == documented, files ^ documented
settings = config["config"]
assert settings["User"] == "65532:65532" and settings["Entrypoint"] == ["/sidecarbon"], settings
assert "SIDECARBON_SHUTDOWN_QUIET=2s" in settings["Env"], settings
assert set(settings["ExposedPorts"]) == {"2003/tcp", "2003/udp", "2023/tcp"}, settings
assert settings["Healthcheck"]["Test"] == ["CMD", "/sidecarbon", "health"], settings
assert all(settings["Labels"].values()), settings
PYTHON
}
[[ ! -e $image ]] || check "the image holds the documented files, and is configured like the Dockerfile" image_is_whole

echo "$passed passed, $failed failed"
((failed == 0))
