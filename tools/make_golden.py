"""Makes the golden files of the tests with the reference libraries.

    python tools/make_golden.py losses adafactor

Needs the extra `peer` (torch, transformers, peft). Each part is a file of
tools/golden/ that defines `make(folder)`: it returns the arrays of
tests/golden/<part>.npz, and may write a folder tests/golden/<part>/ besides. Each
.npz holds the command that made it and the versions it was made with.
"""

import argparse
import importlib
import importlib.metadata
import pathlib
import pkgutil

import numpy as np

TOOLS = pathlib.Path(__file__).resolve().parent
GOLDEN = TOOLS.parent / "tests" / "golden"
LIBRARIES = ("torch", "transformers", "peft")


def parts() -> list[str]:
    """Names of what can be made."""
    return sorted(m.name for m in pkgutil.iter_modules([str(TOOLS / "golden")]))


def make(part: str) -> pathlib.Path:
    """Makes one part and returns its file."""
    module = importlib.import_module(f"golden.{part}")
    arrays = module.make(GOLDEN)
    versions = [f"{name} {importlib.metadata.version(name)}" for name in LIBRARIES]
    path = GOLDEN / f"{part}.npz"
    np.savez_compressed(
        path,
        command=np.array(f"python tools/make_golden.py {part}"),
        versions=np.array(versions),
        **arrays,
    )
    return path


def main() -> None:
    """Makes the parts named on the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="+", choices=parts())
    GOLDEN.mkdir(exist_ok=True)
    for part in parser.parse_args().parts:
        path = make(part)
        print(f"{path} {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
