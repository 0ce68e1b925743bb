#!/usr/bin/env bash
# Builds the wheel, installs it alone into an empty environment and works with
# it from another folder: what someone gets who has no clone of the repository.
# Called by test.sh; needs a Python with `build` on the path.
set -euo pipefail
cd "$(dirname "$0")/.."

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python -m build --quiet --wheel --outdir "$folder/dist" .
python -m venv "$folder/env"
"$folder/env/bin/python" -m pip install -qq --no-compile "$folder"/dist/*.whl
mkdir "$folder/elsewhere"
cd "$folder/elsewhere"
unset PYTHONPATH
tfew="$folder/env/bin/tfew"

"$folder/env/bin/python" - <<'PY'
import importlib.util

import tfew_jax

for name in ("tensorflow", "seqio", "torch", "transformers", "peft"):
    assert importlib.util.find_spec(name) is None, f"{name} is installed"
assert "site-packages" in tfew_jax.__file__, tfew_jax.__file__
print("tfew_jax", tfew_jax.__version__, "without", "tensorflow, seqio and torch")
PY

"$tfew" --help > help.txt
cat > train.csv <<'CSV'
text,label
I love it and would buy it again,good
Works perfectly every single day,good
The best kettle I have owned,good
Great value and quick delivery,good
A beautiful lamp for a small price,good
Easy to set up and very quiet,good
It broke after two days,bad
A waste of money,bad
The lid leaks and nobody answers,bad
Far too loud to use at night,bad
The zip tore the first time,bad
Smells of plastic and never gets warm,bad
CSV
printf 'text\nA lovely little bag\nStopped working at once\n' > new.csv
# No --test: cross-validation, then an adapter of all rows.
"$tfew" fewshot --train train.csv --predict new.csv --steps 4 --seeds 0 --out run \
  --template 'Review: {{text}} Sentiment? ||| {{answer_choices[label]}}' \
  --choices 'bad ||| good'
test -s run/summary.json
test -s run/adapter/adapter.safetensors
test "$(wc -l < run/predictions.csv)" -eq 3

"$tfew" infer --gin_file models/embedded.gin --gin_file runs/infer.gin \
  --gin.MIXTURE_OR_TASK_NAME="'new.csv'" --gin.CHECKPOINT_PATH="'run/adapter'" \
  --gin.INFER_OUTPUT_DIR="'inferred'"
cmp run/predictions.csv inferred/predictions.csv
echo "a few-shot job and predictions from the wheel: done"
