# Sourced by demo.sh and test.sh: defines `prepare_venv EXTRA...` and
# `fetch_templates`.
#
# Makes .venv at the root of the repository if there is none, and installs the
# project with the named extras (`core` means none) unless that has been done
# with the pyproject.toml of today.

find_python() {
  local candidate
  for candidate in "${PYTHON:-python3}" python3.13 python3.12 python3.11; do
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      echo "$candidate"
      return
    fi
  done
  echo "Python 3.11 or newer is needed; set PYTHON to one" >&2
  return 1
}

prepare_venv() {
  local python stamp hash extra missing=() extras=""
  if [ ! -x .venv/bin/python ]; then
    python=$(find_python) || return 1
    echo "making .venv with $("$python" --version)"
    "$python" -m venv .venv || { rm -rf .venv; return 1; }  # no half of one stays
  fi
  stamp=.venv/installed
  hash=$(.venv/bin/python -c \
    'import hashlib; print(hashlib.sha256(open("pyproject.toml", "rb").read()).hexdigest())')
  for extra in "$@"; do
    grep -qxs "$hash $extra" "$stamp" && continue
    missing+=("$extra")
    [ "$extra" = core ] || extras="$extras${extras:+,}$extra"
  done
  if [ ${#missing[@]} -eq 0 ]; then
    return
  fi
  echo "installing: ${missing[*]}"
  case " ${missing[*]} " in
    *" peer "*)
      # The CPU build where an index or folder known to pip has it: the default
      # build for Linux brings gigabytes of CUDA along.
      .venv/bin/python -m pip install -qq --no-compile 'torch==2.13.0+cpu' 2>/dev/null ||
        echo "no CPU build of torch at hand, taking the default build" ;;
  esac
  # Nor are 20,000 files compiled beforehand, of which most are never imported.
  .venv/bin/python -m pip install -qq --no-compile -e ".${extras:+[$extras]}" || return 1
  for extra in "${missing[@]}" core; do
    echo "$hash $extra" >> "$stamp"
  done
}

# Promptsource's templates into the user's cache, unless they are there. Nothing of the
# embedded tasks needs them, so that without a network the rest goes on.
fetch_templates() {
  .venv/bin/tfew templates fetch ||
    echo "going on without promptsource's templates"
}
