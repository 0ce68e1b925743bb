#!/usr/bin/env bash
# Installs the project into .venv (only once) and runs every check of it but the slow
# tests, such as runs that are killed many times: for these `-- -m slow`.
#
#   bash tools/test.sh           format, lint, types, tests, and the wheel on its own
#   bash tools/test.sh --peer    also the round trips with torch, transformers, peft
#   bash tools/test.sh --fast    without the wheel
#   bash tools/test.sh -- -k X   what follows goes to pytest
set -euo pipefail
cd "$(dirname "$0")/.."
source tools/venv.sh

extras=(core data dev)
wheel=true
while [ $# -gt 0 ]; do
  case "$1" in
    --peer) extras+=(peer) ;;
    --fast) wheel=false ;;
    --) shift; break ;;
    *) echo "unknown argument $1; allowed: --peer --fast -- PYTEST_ARGUMENTS" >&2; exit 2 ;;
  esac
  shift
done

part() { printf '\n== %s (%d s)\n' "$1" "$SECONDS"; }

part "install"
prepare_venv "${extras[@]}"
fetch_templates
export PATH="$PWD/.venv/bin:$PATH"

if $wheel; then  # beside what follows: much of it waits for files
  log=$(mktemp)
  bash tools/check_wheel.sh > "$log" 2>&1 &
  wheel_check=$!
  trap 'kill "$wheel_check" 2>/dev/null || true; rm -f "$log"' EXIT
fi
part "ruff format"
ruff format --check .
part "ruff check"
ruff check .
part "basedpyright"
basedpyright --level error
part "pytest"
pytest -n 2 --dist loadfile -rs --durations=10 "$@"
if $wheel; then
  part "wheel"
  passed=true
  wait "$wheel_check" || passed=false
  cat "$log"
  $passed
fi
part "everything passed"
