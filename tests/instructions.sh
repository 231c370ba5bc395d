#!/usr/bin/env bash
# Instructions a line in each stage of its path, counted by valgrind, against
# the committed table: a guard against growing dearer unseen. Counts, unlike
# seconds, do not depend on what else a machine does; they depend on the
# compiler, so that a new one may need a new table.
#
#   tests/instructions.sh            compares; exit 1 where a stage is dearer
#   tests/instructions.sh --write    writes the table
#
# Exit 77: valgrind is missing, or the compiler that the table is of.
set -euo pipefail
cd "$(dirname "$0")/.."

table=tests/instructions.txt
tolerance=3 # per cent

command -v valgrind >/dev/null || { echo "valgrind is not installed" >&2; exit 77; }

# A benchmark that does not build is a failure, and says why.
built=$(cargo bench --bench instructions --no-run --message-format=json)
program=$(echo "$built" |
  grep -o '"executable":"[^"]*instructions-[^"]*"' | cut -d'"' -f4 | tail -n1)
[ -x "$program" ] || { echo "the benchmark was not built" >&2; exit 1; }

count() { # stage rounds
  valgrind --tool=callgrind --callgrind-out-file=/dev/null "$program" "$@" 2>&1 |
    sed -n 's/^.*Collected : \([0-9]*\).*$/\1/p'
}

measure() {
  local stage lines few many
  while read -r stage lines; do
    few=$(count "$stage" 10)
    many=$(count "$stage" 110)
    echo "$stage $(((many - few) / (100 * lines)))"
  done < <("$program")
}

vectors=$(grep -qw avx2 /proc/cpuinfo && echo " with AVX2" || true)
built_by="# Instructions a line, by $(rustc --version | cut -d' ' -f1,2), $(uname -m)$vectors"

if [ "${1-}" = --write ]; then
  { echo "$built_by"; measure; } >"$table"
  cat "$table"
  exit
fi

if [ "$(head -n1 "$table")" != "$built_by" ]; then
  echo "the table is of another compiler or processor: ${built_by#*by }; nothing to compare" >&2
  exit 77
fi
status=0
while read -r stage now; do
  before=$(awk -v stage="$stage" '$1 == stage { print $2 }' "$table")
  printf '%-18s %5s, was %5s\n' "$stage" "$now" "${before:-new}"
  if [ -n "$before" ] && [ $((now * 100)) -gt $((before * (100 + tolerance) + 100)) ]; then
    echo "  dearer by more than $tolerance %" >&2
    status=1
  fi
done < <(measure)
exit $status
