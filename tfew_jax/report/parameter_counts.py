"""How many numbers a task costs by method: the counts of two papers, from shapes alone.

Lester et al., 2021 (https://arxiv.org/abs/2104.08691): Table 4 has the parameters of
prompts by length and size of T5 1.1, Figure 4 compares methods over the sizes. The
figure shows no numbers; its caption says that prefix tuning takes 0.1 to 1 % of the
model at inference and more in training, WARP less than 0.1 %, prompt tuning less than
0.01 % of most sizes, and prompt design 500 to 2,000 token ids. Liu et al., 2022
(https://arxiv.org/abs/2205.05638), Section 3.3, has (IA)^3's.

With P positions, d = emb_dim, i = heads x head size, L encoder layers, m hidden units:

    prompt tuning              P d
    prefix tuning              2 L i P      keys and values of the encoder
    prefix tuning, training    P d + (d + 1) m + L (m + 1) 2 i
    WARP                       (P + C) d    C classes have output vectors of their own

Prefixes are those of Li and Liang, 2021 (https://arxiv.org/abs/2101.00190), trained
through a shared hidden layer of m = 512 as the code of Liu et al. has it; WARP is
Hambardzumyan et al.'s, 2021 (https://arxiv.org/abs/2101.00121). In Table 4 the share is
of the model with its prompt, here `percent_of_total`; over methods it is of the frozen
model, `percent_of_model`, and model tuning is 100 %.
"""

import csv
import dataclasses
import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tfew_jax import models, peft
from tfew_jax.models import T5Config
from tfew_jax.report import formats

LENGTHS = (1, 5, 20, 50, 100, 150)  # of Table 4
_LENGTH = 100  # of the paper's default prompt, for the methods of Figure 4
_TOKEN_IDS = (500, 2000)  # of prompt design
SIZES = ("small", "base", "large", "xl", "xxl")
PARAMETERS, TOKEN_IDS = "parameters", "token ids"
_T0 = {"xl": "T0-3B", "xxl": "T0-11B"}
# What Table 4 prints where the formula gives something else.
MISPRINTS = {
    ("small", 20): "the paper prints 10,420 parameters",
    ("large", 100): "the paper prints 0.01907 %",
    ("xxl", 50): "the paper prints a total of 11,137,380,352",
}
_TITLES = {
    "full": "model tuning",
    "prefix_training": "prefix tuning, training",
    "prefix": "prefix tuning, inference",
    "warp": "WARP",
    "prompt": "prompt tuning",
    "prompt_design": "prompt design",
    "ia3": "(IA)^3",
}
METHODS = tuple(_TITLES)  # of Figure 4 and (IA)^3


def prompt_tuning(config: T5Config, length: int) -> int:
    """Parameters of a prompt in front of the encoder's input."""
    return length * config.emb_dim


def prefix_tuning(config: T5Config, length: int) -> int:
    """Parameters of keys and values in front of every encoder layer's."""
    return 2 * config.num_encoder_layers * config.joined_kv * length


def prefix_tuning_in_training(
    config: T5Config, length: int, *, hidden: int = 512
) -> int:
    """Parameters that are trained where a small network makes the prefixes.

    An embedding of each position and a layer to `hidden` units are shared; each encoder
    layer has its own layer from there to keys and values. Both have biases.
    """
    shared = length * config.emb_dim + (config.emb_dim + 1) * hidden
    return shared + config.num_encoder_layers * (hidden + 1) * 2 * config.joined_kv


def warp(config: T5Config, length: int, *, num_classes: int = 2) -> int:
    """Parameters of prompts at the input and an output vector a class."""
    return (length + num_classes) * config.emb_dim


_BY_LENGTH: Mapping[str, Callable[[T5Config, int], int]] = {
    "prefix_training": prefix_tuning_in_training,
    "prefix": prefix_tuning,
    "warp": warp,
    "prompt": prompt_tuning,
    "prompt_design": lambda config, length: length,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Count:
    """What a task costs.

    Attributes:
        model: Name of the size, or of a directory.
        method: Name of the method.
        length: Positions or token ids, where the method has them.
        number: Parameters or token ids of one task.
        unit: parameters, or token ids.
        model_parameters: Of the frozen model.
        note: A misprint of the paper, or which T0 has this shape.
    """

    model: str
    method: str
    length: int | None
    number: int
    unit: str
    model_parameters: int
    note: str = ""

    @property
    def title(self) -> str:
        """The method as the papers call it."""
        return _TITLES.get(self.method, self.method)

    @property
    def total(self) -> int:
        """Parameters of the model that computes the task."""
        adds = self.unit == PARAMETERS and self.method != "full"
        return self.model_parameters + self.number * adds

    @property
    def percent_of_total(self) -> float | None:
        """As in Table 4; token ids have none."""
        return 100 * self.number / self.total if self.unit == PARAMETERS else None

    @property
    def percent_of_model(self) -> float | None:
        """As in Figure 4; token ids have none."""
        if self.unit != PARAMETERS:
            return None
        return 100 * self.number / self.model_parameters

    def to_dict(self) -> dict[str, Any]:
        """All of it by name."""
        fields = dataclasses.asdict(self)
        note = fields.pop("note")
        return {
            **fields,
            "total": self.total,
            "percent_of_total": self.percent_of_total,
            "percent_of_model": self.percent_of_model,
            "note": note,
        }


def count(
    configs: Mapping[str, T5Config] | None = None,
    *,
    methods: Sequence[str] | None = None,
    lengths: Sequence[int] | None = None,
) -> list[Count]:
    """Counts methods over models.

    Args:
        configs: By name; None for the five sizes of T5 1.1.
        methods: Some of `METHODS` or of the library's methods with their defaults; None
            for `METHODS`.
        lengths: Positions of prompts and prefixes; None for Table 4's for prompts and
            100 for the others. Prompt design always has the paper's.

    Raises:
        ValueError: If a method is unknown or a length not positive.
    """
    if configs is None:
        configs = {name: models.SIZES[name] for name in SIZES}
    known = list(dict.fromkeys([*METHODS, *peft.names()]))
    chosen = list(dict.fromkeys(METHODS if methods is None else methods))
    if unknown := [name for name in chosen if name not in known]:
        raise ValueError(
            f"unknown method {unknown[0]!r}; available: {', '.join(known)}"
        )
    if wrong := [length for length in lengths or () if length < 1]:
        raise ValueError(f"a length must be 1 or more, got {wrong[0]}")
    return [
        _count(name, config, method, length)
        for method in chosen
        for length in _lengths(method, lengths)
        for name, config in configs.items()
    ]


def _lengths(method: str, given: Sequence[int] | None) -> Sequence[int | None]:
    if method not in _BY_LENGTH:
        return [None]
    if method == "prompt_design":
        return _TOKEN_IDS
    default = LENGTHS if method == "prompt" else (_LENGTH,)
    return default if given is None else list(dict.fromkeys(given))


def _count(name: str, config: T5Config, method: str, length: int | None) -> Count:
    if length is None:
        number = peft.get(method)().num_parameters(config)
    else:
        number = _BY_LENGTH[method](config, length)
    note = ""
    if config == models.SIZES.get(name):
        if method == "prompt":
            note = MISPRINTS.get((name, length or 0), "")
        elif method == "ia3":
            note = _T0.get(name, "")
    return Count(
        model=name,
        method=method,
        length=length,
        number=number,
        unit=TOKEN_IDS if method == "prompt_design" else PARAMETERS,
        model_parameters=peft.get("full")().num_parameters(config),
        note=note,
    )


def tables(
    counts: Sequence[Count],
) -> list[tuple[str, list[str], list[list[str]]]]:
    """The counts as tables for people: title, header and rows.

    Prompts come as in Table 4. All methods, prompts of 100 positions among them, have
    a row each over the models.
    """
    prompts = [c for c in counts if c.method == "prompt"]
    found = []
    if prompts:
        header = ["length", "model", "parameters", "total", "% of total", "note"]
        rows = [
            [
                *(str(c.length), c.model, f"{c.number:,}", f"{c.total:,}"),
                *(f"{c.percent_of_total:.5f}", c.note),
            ]
            for c in prompts
        ]
        title = "Prompt tuning (Lester et al., 2021, Table 4)"
        found.append((title, header, rows))
    if len(prompts) < len(counts):
        shown = [c for c in counts if c.method != "prompt" or c.length == _LENGTH]
        title = "A task's numbers and their share of the model (Figure 4; (IA)^3)"
        found.append((title, *_by_model(shown)))
    return found


def _by_model(counts: Sequence[Count]) -> tuple[list[str], list[list[str]]]:
    """Header and one row a method and length, with a column a model."""
    names = list(dict.fromkeys(one.model for one in counts))
    lines: dict[tuple[str, int | None], dict[str, Count]] = {}
    for one in counts:
        lines.setdefault((one.title, one.length), {})[one.model] = one
    rows = []
    for (title, length), by_name in lines.items():
        notes = [
            f"{name} is {one.note}"
            for name, one in by_name.items()
            if one.note and one.method != "prompt"
        ]
        cells = [_cell(by_name[name]) for name in names]
        start = [title, "" if length is None else f"{length:,}"]
        rows.append([*start, *cells, ", ".join(notes)])
    return ["method", "length", *names, "note"], rows


def _cell(one: Count) -> str:
    if one.percent_of_model is None:
        return f"{one.number:,} ids"
    return f"{one.number:,} ({one.percent_of_model:.4f} %)"


def to_markdown(counts: Sequence[Count]) -> str:
    """The tables as GitHub's Markdown."""
    parts = []
    for title, header, rows in tables(counts):
        lines = [[formats.escape(cell) for cell in row] for row in (header, *rows)]
        lines.insert(1, [":--" if name == "note" else "--:" for name in header])
        text = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        parts.append(f"{title}\n\n{text}\n")
    return "\n".join(parts)


def to_csv(counts: Sequence[Count]) -> str:
    """One line a count; what a count does not have is empty."""
    rows = [one.to_dict() for one in counts]
    text = io.StringIO(newline="")
    names = [*(field.name for field in dataclasses.fields(Count))][:-1]
    names += ["total", "percent_of_total", "percent_of_model", "note"]
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
