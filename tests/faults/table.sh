#!/usr/bin/env bash
# Prints what each fault of the test suite costs: lines lost and lines twice, as
# the upstream counted them, beside what sidecarbon says of itself.
#
#   tests/faults/table.sh > docs/faults.md
set -euo pipefail
cd "$(dirname "$0")/../.."

rows=$(mktemp)
trap 'rm -f "$rows"' EXIT
SIDECARBON_FAULT_TABLE=$rows cargo test --quiet --test it faults:: >&2

cat <<'END'
# Lines lost and lines twice, by fault

Each row is a test in `tests/it/faults/`: lines flow into the built daemon, the fault happens again and again, and at the end the upstream's own count is compared with
what was sent. `lost` and `twice` are what the upstream counted; the columns beside them are what sidecarbon says it cannot know, so that `lost` is at most `at risk` plus
`dropped` plus `left`, and `twice` at most `resent`. Dropped lines were dropped because the fault was theirs, or because `sink.uncertain = "drop"` asks for it; left are
those that a daemon which was told to stop could not deliver within its grace.

This page is made by `tests/faults/table.sh`. Timing decides how often a fault strikes, so the figures differ from run to run; the bounds do not.

| group | fault | lines | lost | at risk | twice | resent | uncertain | dropped | left |
|---|---|--:|--:|--:|--:|--:|--:|--:|--:|
END
sort "$rows"
