"""The layout: order of imports, sizes, light imports."""

import ast
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "tfew_jax"
# Imports point backwards along this line.
ORDER = [
    *("types", "sharding", "peft", "models", "losses", "text_metrics", "data"),
    *("optim", "checkpoint", "interop", "train", "metrics", "evaluate", "experiment"),
    *("serving", "report", "compile", "inspection", "t5x_plugin", "cli"),
]
HEAVY = ("tensorflow", "seqio", "torch", "transformers", "peft")
HTTP = ("starlette", "uvicorn", "h11", "anyio")

FILES = sorted(PACKAGE.rglob("*.py"))
NAMES = [str(path.relative_to(ROOT)) for path in FILES]


def part_of(path: pathlib.Path) -> str:
    """The part of the line a file belongs to; `__init__` for the package itself."""
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


def imports(tree: ast.AST, path: pathlib.Path) -> list[str]:
    """Absolute dotted names that a file imports, also inside functions."""
    package = list(path.relative_to(ROOT).parts[:-1])
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            found += [f"{module}.{alias.name}" for alias in node.names]
    return found


def imported_parts(path: pathlib.Path) -> set[str]:
    """The parts of tfew_jax that a file imports."""
    names = imports(ast.parse(path.read_text()), path)
    pieces = [name.split(".") for name in names]
    return {p[1] for p in pieces if p[0] == "tfew_jax" and len(p) > 1}


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_imports_point_backwards_along_the_line_of_the_design(path):
    part = part_of(path)
    if part == "__init__":  # the public names are loaded lazily from anywhere
        return
    assert part in ORDER, f"{part} has no place in the order of imports"
    modules = imported_parts(path) - {"__version__"}
    assert modules <= set(ORDER[: ORDER.index(part) + 1])


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_only_the_command_line_imports_gin(path):
    tops = {n.split(".")[0] for n in imports(ast.parse(path.read_text()), path)}
    assert "gin" not in tops or part_of(path) == "cli"


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_only_seqio_modules_import_tensorflow_or_a_peer(path):
    tops = {n.split(".")[0] for n in imports(ast.parse(path.read_text()), path)}
    allowed = {"tensorflow", "seqio"} if path.name.startswith("seqio_") else set()
    assert tops.intersection(HEAVY) <= allowed


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_only_http_modules_import_what_the_extra_serve_brings(path):
    tops = {n.split(".")[0] for n in imports(ast.parse(path.read_text()), path)}
    is_http = part_of(path) == "serving" and path.name.startswith("http_")
    assert is_http or not tops & set(HTTP)


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_files_are_at_most_a_page_and_named_by_concept(path):
    assert len(path.read_text().splitlines()) <= 400
    assert path.stem not in ("utils", "util", "helpers", "misc", "common")


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_functions_are_at_most_sixty_lines_beside_their_docstring(path):
    long = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            has_docstring = ast.get_docstring(node) is not None
            first = node.body[0].end_lineno if has_docstring else node.lineno
            if node.end_lineno - first > 60:
                long.append(node.name)
    assert long == []


_IMPORT_ALL = f"""
import importlib, pkgutil, sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {HEAVY + HTTP!r}:
            raise ModuleNotFoundError(name + " is blocked", name=name)

sys.meta_path.insert(0, Blocker())
import tfew_jax
names = [m.name for m in pkgutil.walk_packages(tfew_jax.__path__, "tfew_jax.")]
for name in names:
    if not name.rsplit(".", 1)[-1].startswith(("seqio_", "http_")):
        importlib.import_module(name)
assert not set({HEAVY + HTTP!r}) & set(sys.modules)
print(len(names))
"""


def test_every_module_imports_without_tensorflow_seqio_and_the_peers():
    done = subprocess.run(
        [sys.executable, "-c", _IMPORT_ALL], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) == len(FILES) - 1  # all but the package itself


def test_importing_the_package_does_not_import_jax():
    script = (
        "import sys, tfew_jax\n"
        "heavy = {'jax', 'flax', 'numpy', 'sklearn', 'matplotlib', 'gin', 'orbax'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_asking_for_help_does_not_import_jax():
    script = (
        "import sys\n"
        "from tfew_jax.cli import main\n"
        "try:\n    main.main(['--help'])\n"
        "except SystemExit as stop:\n    assert not stop.code\n"
        "print('jax' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip().endswith("False")
