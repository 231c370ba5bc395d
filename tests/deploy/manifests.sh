#!/usr/bin/env bash
# What stands in deploy/ is what it should be: manifests by the schemas of
# Kubernetes, Compose by its own, rules by promtool, and every name of a metric
# by a daemon that runs.
#
#   tests/deploy/manifests.sh path/to/sidecarbon
#
# Schemas come from PyPI, promtool, kubectl and VictoriaMetrics from Debian.
# Exit: 0 passed, 1 failed, 77 a tool that it needs is missing.
set -euo pipefail

binary=$(realpath "${1:?usage: $0 path/to/sidecarbon}")
[[ -x $binary ]] || { echo "there is no binary at $binary; build it with \"cargo build --release\"" >&2; exit 1; }
cd "$(dirname "$0")/../.."
# shellcheck source=tests/deploy/common.sh
source tests/deploy/common.sh
install_packages prometheus/promtool kubernetes-client/kubectl victoria-metrics python3-venv/ || {
    echo "needs promtool, kubectl, victoria-metrics and python3 with venv, or root to install them"
    exit 77
}
venv=${CARGO_TARGET_DIR:-target}/deploy-venv
if ! [[ -x $venv/bin/check-jsonschema && -x $venv/bin/kubernetes-validate ]]; then
    python3 -m venv "$venv"
    "$venv/bin/python" -m pip --quiet install 'check-jsonschema==0.39.0' 'kubernetes-validate==1.37.0'
fi

for directory in sidecar daemonset; do
    kubectl kustomize "deploy/kubernetes/$directory" >"$dir/$directory.yaml"
    check "kustomize renders $directory" test -s "$dir/$directory.yaml"
    check "the image of $directory is set" grep -q 'image: registry.example.com/sidecarbon:0.1.0' "$dir/$directory.yaml"
done
kubernetes() { quietly "$venv/bin/kubernetes-validate" --strict --kubernetes-version "$1" "${@:2}"; }
compose() { quietly "$venv/bin/check-jsonschema" --builtin-schema vendor.compose-spec "$1"; }
for version in 1.29 1.33 1.37; do
    check "manifests by the schemas of Kubernetes $version" kubernetes "$version" \
        "$dir/sidecar.yaml" "$dir/daemonset.yaml" deploy/kubernetes/secret.example.yaml
done
check "Compose by its schema" compose deploy/compose/compose.yaml
# Whoever finds nothing wrong has to find a mistake.
sed 's/restartPolicy: Always/restartPolice: Always/' "$dir/sidecar.yaml" >"$dir/mistaken.yaml"
check "a misspelt key of Kubernetes is found" fails kubernetes 1.33 "$dir/mistaken.yaml"
sed 's/mem_limit/mem_limits/' deploy/compose/compose.yaml >"$dir/mistaken-compose.yaml"
check "a misspelt key of Compose is found" fails compose "$dir/mistaken-compose.yaml"
if docker compose version >/dev/null 2>&1; then
    check "docker compose reads it" quietly docker compose -f deploy/compose/compose.yaml config
else
    echo "skipped: docker compose is not installed here"
fi
check "promtool check rules" quietly promtool check rules deploy/prometheus/sidecarbon.rules.yml
check "promtool test rules" quietly promtool test rules deploy/prometheus/sidecarbon.test.yml
check "each alert is tested to fire" each_alert_is_tested

# The environment that each names, as it is, but for the key's file and ports.
environment() { # file
    "$venv/bin/python" - "$1" <<'PYTHON'
import sys
from ruamel.yaml import YAML
for document in YAML(typ="safe").load_all(open(sys.argv[1])):
    if "services" in document:
        variables = document["services"]["sidecarbon"]["environment"]
    else:
        pod = document["spec"]["template"]["spec"]
        containers = pod["containers"] + pod.get("initContainers", [])
        found = next(c for c in containers if c["name"] == "sidecarbon")
        variables = {v["name"]: v["value"] for v in found["env"]}
    for name, value in variables.items():
        if name != "SIDECARBON_API_KEY_FILE":
            print(f"{name}={value}")
PYTHON
}
for file in "$dir/sidecar.yaml" "$dir/daemonset.yaml" deploy/compose/compose.yaml; do
    mapfile -t variables < <(environment "$file" | sed 's/\${[^:}]*:-\(.*\)}/\1/')
    check "its environment is accepted: ${file##*/}, ${#variables[@]} variables" quietly \
        env "${variables[@]}" SIDECARBON_API_KEY_FILE=deploy/compose/demo-key "$binary" check --config /dev/null
done

read -r graphite http < <(free_ports 2)
victoria-metrics -graphiteListenAddr="127.0.0.1:$graphite" -httpListenAddr="127.0.0.1:$http" \
    -storageDataPath="$dir/victoria" >"$dir/victoria.log" 2>&1 &
helpers+=($!)
start compose "${variables[@]}" SIDECARBON_SINK_URL="tcp://127.0.0.1:$graphite" \
    SIDECARBON_API_KEY_FILE=deploy/compose/demo-key
until_true bash -c ": >/dev/tcp/127.0.0.1/$http" 2>/dev/null
echo "app.random 42" >"/dev/tcp/127.0.0.1/$(port_of tcp)"
has_point() { page "http://127.0.0.1:$http/metrics/find?query=demo.app.*" | grep '"random"' >/dev/null; }
check "the sidecar of Compose, and a VictoriaMetrics that has the point" until_true has_point

# Those of the rules and the dashboard, against those of the page.
page "http://127.0.0.1:$(port_of admin)/metrics" | sed -n 's/^# TYPE \([^ ]*\) .*/\1/p' | sort >"$dir/served"
for file in deploy/prometheus/sidecarbon.rules.yml deploy/grafana/sidecarbon.json; do
    grep -oE '\bsidecarbon_[a-z_]+\b' "$file" | sort -u >"$dir/named"
    check "the $(wc -l <"$dir/named") metrics that ${file##*/} names are served" \
        test -z "$(comm -23 "$dir/named" "$dir/served")"
done
check "every expression of the dashboard can be read by Prometheus" dashboard_is_readable

finish
