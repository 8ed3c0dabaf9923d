#!/usr/bin/env bash
# Everything that only a card can say, in about ten minutes, the cheapest and most telling first:
#
#     PYTHON=.venv/bin/python tools/check_card.sh [FOLDER]     # fastrec with the extra cuda or cuda13, and pytest
#
# 1. what is there; 2. every answer against the CPU's, to the bit (`pytest -m gpu`); 3. the benchmark, largest sizes;
# 4. compute-sanitizer over small searches and metrics, where it is installed.  Steps run whatever became of those before
# them; the script fails if one did.  Logs, and the benchmark as JSON, stay in FOLDER (by default card-report).
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
PYTHON=${PYTHON:-python3}
OUT=${1:-card-report}
mkdir -p "$OUT"
export PYTHONUNBUFFERED=1 COLUMNS=${COLUMNS:-200}
failed=()

step() { # step NAME SECONDS COMMAND...
  local name=$1 limit=$2 start=$SECONDS status=0
  shift 2
  printf '\n=== %s\n' "$name"
  timeout "$limit" "$@" 2>&1 | tee "$OUT/$name.log" || status=$?
  printf '=== %s: %s (%d s)\n' "$name" "$([ $status -eq 0 ] && echo passed || echo "FAILED, exit status $status")" $((SECONDS - start))
  [ $status -eq 0 ] || failed+=("$name")
}

workers=()
"$PYTHON" -c 'import xdist' 2>/dev/null && workers=(-n 6)
step info 60 "$PYTHON" -m fastrec info
# pytest-benchmark warns of xdist, and tests take warnings for errors
step tests 300 "$PYTHON" -m pytest -m gpu tests/gpu -q --tb=short -p no:benchmark "${workers[@]}"
for area in rank measure weigh train; do
  step "bench-$area" 200 "$PYTHON" -m fastrec bench --device cuda --full --json "$OUT/$area.json" "$area"
done
if command -v compute-sanitizer >/dev/null; then
  # Ours only: racecheck has something to say of CuPy's cupy_nonzero_kernel.
  for tool in memcheck racecheck synccheck; do
    step "$tool" 120 compute-sanitizer --tool "$tool" --kernel-name kns=fr_ --error-exitcode 9 --print-limit 5 \
      "$PYTHON" tools/card_sample.py
  done
else
  printf '\ncompute-sanitizer is not installed (pip install nvidia-cuda-sanitizer-api): races and stray accesses were not looked for\n'
fi
printf '\n%s\n' "${failed[*]:-everything passed}"
[ ${#failed[@]} -eq 0 ]
