#!/usr/bin/env bash
# Installs the project into .venv (only once) and runs the main job: the embedded base
# tuned on the two embedded tasks. Everything it makes lies under demo_output/; the
# last line is the path of summary.json. Arguments go to tools/demo.py.
set -euo pipefail
cd "$(dirname "$0")/.."
source tools/venv.sh

prepare_venv core
fetch_templates
exec .venv/bin/python tools/demo.py "$@"
