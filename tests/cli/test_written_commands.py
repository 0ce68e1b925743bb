"""Commands that are written down somewhere are ones that the parsers take."""

import pathlib
import re
import shlex
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tools"))

import make_base_model
import real_data
from base_model import card, course

from tfew_jax.cli import flags, main, packaged

ROOT = pathlib.Path(__file__).resolve().parents[2]
GIN_FILES = [
    *packaged.files(),
    *sorted((ROOT / "tools/base_model/configs").glob("*.gin")),
]
TEXTS = [
    *(ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))),
    *sorted((ROOT / "tfew_jax/assets").rglob("README.md")),
]
PARSERS = {  # by how a command begins
    "tfew": main.make_parser,
    "python tools/make_base_model.py": make_base_model._parser,
    "python tools/real_data.py": real_data._parser,
}
BEGINS = "|".join(map(re.escape, PARSERS))
OPTION = re.compile(r"(?<![\w-])--(?!gin\.)[a-z][a-z_-]*")


def name_of(path):
    return str(path.relative_to(ROOT))


def in_header(path):
    """Commands of a gin file's header, joined where they go on."""
    text = "".join(re.findall(r"^#.*\n", path.read_text("utf-8"), re.M))
    found = re.findall(rf"^# ((?:{BEGINS}) .*\n(?:#  +.*\n)*)", text, re.M)
    return [command.replace("\n#", " ") for command in found]


def in_text(text):
    """Commands of Markdown's blocks of code, joined where they go on."""
    fence = re.compile(r"^ *```\w*\n(.*?)^ *```", re.M | re.S)
    blocks = fence.findall(text)
    blocks += re.findall(r"\n\n((?: {4,}.*\n+)+)", fence.sub("", text))
    joined = "\n".join(blocks).replace("\\\n", " ")
    return re.findall(rf"^ *((?:{BEGINS}) .*)$", joined, re.M)


def parse(command):
    """What a parser makes of a command; an option that it lacks is an error."""
    begin = next(begin for begin in PARSERS if command.startswith(f"{begin} "))
    words = shlex.split(command.removeprefix(begin), comments=True)
    try:
        return PARSERS[begin]().parse_args(flags.join(words))
    except SystemExit:
        pytest.fail(f"not a command: {command}")


@pytest.mark.parametrize("path", GIN_FILES, ids=name_of)
def test_headers_hold_a_command_that_its_parser_takes(path):
    commands = in_header(path)
    assert commands
    for command in commands:
        args = vars(parse(command))
        assert all("=" in binding for binding in args.get("gin_bindings") or [])
        if command.startswith("tfew "):
            assert set(args.get("gin_file") or []) <= set(packaged.names())


@pytest.mark.parametrize("path", TEXTS, ids=name_of)
def test_commands_of_readme_documents_and_cards_are_taken_by_their_parsers(path):
    text = path.read_text("utf-8")
    commands = in_text(text)
    assert len(commands) == len(re.findall(rf"^ *(?:{BEGINS}) +[a-z-]", text, re.M))
    for command in commands:
        files = vars(parse(command)).get("gin_file") or []
        named = [file for file in files if "/" in file and "$" not in file]
        assert set(named) <= set(packaged.names())


def test_cards_that_the_tool_writes_hold_commands_for_what_was_prepared():
    manifest = {
        **{"vocab_size": 450, "emb_dim": 32, "scale": 0.5, "seed": 3},
        **{"held_out": ["rows"], "teacher_sha256": "0" * 64, "corpora": []},
        "counts": {"texts": 1, "phrases": 1},
    }
    text = card.render(manifest, [], course.Course(), 1, arguments=" --gin.MLP_DIM=48")
    prepare, train = in_text(text)
    assert parse(prepare).gin_bindings == [
        *("SCALE=0.5", "VOCAB_SIZE=450", "PREPARED_WIDTH=32", "prepare.run.seed=3")
    ]
    assert parse(train).gin_bindings == ["MLP_DIM=48"]
    assert parse(prepare).teacher is not None
    # Texts of films were confirmed by it, whatever the course learns from.
    alone = course.Course(teacher=False, distil_steps=0, sentiment="prompts")
    assert parse(in_text(card.render(manifest, [], alone, 1))[0]).teacher is not None
    without = manifest | {"teacher_sha256": None}
    assert parse(in_text(card.render(without, [], alone, 1))[0]).teacher is None


def options_of(parser):
    """All options of a parser and of its commands."""
    found = {*parser._option_string_actions}
    for action in parser._subparsers._group_actions if parser._subparsers else ():
        for command in action.choices.values():
            found |= {*command._option_string_actions}
    return found


@pytest.mark.parametrize("path", GIN_FILES, ids=name_of)
def test_options_in_the_prose_of_headers_are_some_commands(path):
    known = set().union(*(options_of(make()) for make in PARSERS.values()))
    text = "".join(re.findall(r"^#.*\n", path.read_text("utf-8"), re.M))
    assert set(OPTION.findall(text)) <= known
