"""All that is known of an adapter: numbers for people, JSON and CSV."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from tfew_jax.inspection import prompts, units
from tfew_jax.inspection.prompts import Label, Neighbours
from tfew_jax.inspection.sources import Learned, Vocabulary
from tfew_jax.inspection.units import Unit, Vector

NEIGHBOUR_COLUMNS = (
    *("prompt", "kind", "position", "norm", "tightness", "rank", "id", "piece"),
    "cosine",
)
UNIT_COLUMNS = ("half", "layer", "block", "site", "kind", "rank", "unit", "value")
_FREQUENT = 20  # words that are named


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class PromptReport:
    """A prompt beside the vocabulary.

    Attributes:
        name: encoder_input or decoder_input.
        kind: learned, or control for vectors that were drawn.
        neighbours: Nearest entries of each position.
        pieces: The same as the vocabulary writes them.
        same_nearest: Groups of positions with the same nearest entry.
        same_neighbours: Groups of positions with the same entries in any order.
        words: Words by the number of positions that they are near to.
        labels: The task's labels among the neighbours.
        control: The same of as many random vectors; None for the control itself.
    """

    name: str
    kind: str
    neighbours: Neighbours
    pieces: list[list[str]]
    same_nearest: list[tuple[int, ...]]
    same_neighbours: list[tuple[int, ...]]
    words: list[tuple[str, int]]
    labels: list[Label]
    control: "PromptReport | None" = None

    @property
    def summary(self) -> dict[str, float | int | None]:
        """One number for each finding."""
        near, tight = self.neighbours.cosines[:, 0], self.neighbours.tightness
        norms = self.neighbours.norms
        return {
            "positions": len(near),
            "mean_norm": float(norms.mean()),
            "min_norm": float(norms.min()),
            "max_norm": float(norms.max()),
            "mean_cosine": float(near.mean()),
            "mean_tightness": None if tight is None else float(tight.mean()),
            "positions_with_shared_nearest": sum(map(len, self.same_nearest)),
            "positions_with_shared_neighbours": sum(map(len, self.same_neighbours)),
            "words_near_several_positions": sum(n > 1 for _, n in self.words),
            "labels_kept": sum(label.kept is True for label in self.labels),
            "positions_with_labels": len(
                {at for label in self.labels for at in label.positions}
            ),
        }

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        found, tight = self.neighbours, self.neighbours.tightness
        positions = [
            {
                "position": at,
                "norm": float(found.norms[at]),
                "tightness": None if tight is None else float(tight[at]),
                "neighbours": [
                    {"id": int(row), "piece": piece, "cosine": float(cosine)}
                    for row, piece, cosine in zip(
                        found.ids[at], pieces, found.cosines[at], strict=True
                    )
                ],
            }
            for at, pieces in enumerate(self.pieces)
        ]
        return {
            "prompt": self.name,
            "kind": self.kind,
            "summary": self.summary,
            "labels": [dataclasses.asdict(label) for label in self.labels],
            "frequent_words": [
                {"word": word, "positions": n} for word, n in self.words[:_FREQUENT]
            ],
            "same_nearest": self.same_nearest,
            "same_neighbours": self.same_neighbours,
            "positions": positions,
            "control": None if self.control is None else self.control.to_dict(),
        }

    def rows(self) -> list[list[Any]]:
        """One row a position and neighbour, of the control as well."""
        rows = [
            [
                *(self.name, self.kind, position["position"], position["norm"]),
                *(position["tightness"], rank, near["id"], near["piece"]),
                near["cosine"],
            ]
            for position in self.to_dict()["positions"]
            for rank, near in enumerate(position["neighbours"], start=1)
        ]
        return rows if self.control is None else [*rows, *self.control.rows()]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class VectorReport:
    """(IA)^3's vectors and their extremes.

    Attributes:
        vectors: All, in the model's order.
        inhibited: The units with the lowest values below one.
        amplified: The units with the highest values above one.
        top: How many of each were asked for.
    """

    vectors: list[Vector]
    inhibited: list[Unit]
    amplified: list[Unit]
    top: int

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it: everything, each place in a layer, each vector."""
        return {
            "summary": units.summary(self.vectors),
            "inhibited": [dataclasses.asdict(unit) for unit in self.inhibited],
            "amplified": [dataclasses.asdict(unit) for unit in self.amplified],
            "places": {
                place: units.summary(some)
                for place, some in units.by_place(self.vectors).items()
            },
            "vectors": [
                {
                    **{name: getattr(vector, name) for name in UNIT_COLUMNS[:4]},
                    **units.summary([vector]),
                }
                for vector in self.vectors
            ],
        }

    def rows(self) -> list[list[Any]]:
        """One row a vector, kind and rank."""
        rows = []
        for vector in self.vectors:
            both = units.extremes([vector], self.top)
            for kind, found in zip(("inhibited", "amplified"), both, strict=True):
                for rank, unit in enumerate(found, start=1):
                    place = [unit.half, unit.layer, unit.block, unit.site]
                    rows.append([*place, kind, rank, unit.unit, unit.value])
        return rows


def inspect_prompts(
    learned: Learned,
    vocabulary: Vocabulary,
    *,
    top: int = 5,
    labels: Sequence[str] | None = None,
    all_rows: bool = False,
    seed: int = 0,
) -> list[PromptReport]:
    """Compares each prompt of an adapter with the vocabulary; see `prompts`.

    Args:
        learned: The adapter.
        vocabulary: The embedding of the model it was trained on.
        top: Neighbours of each position.
        labels: To look for; None for those of the adapter's task. Where the adapter
            does not say what its prompt started from, they are taken for that, in
            their order.
        all_rows: Whether pads, sentinels and rows beyond the vocabulary may be
            neighbours too.
        seed: Of the control.

    Raises:
        ValueError: If the adapter has no prompt, the widths differ, `top` is not
            possible, or a label has no pieces.
    """
    if not learned.prompts:
        raise ValueError(f"{learned.source} holds no prompt, only (IA)^3 vectors")
    table = vocabulary.table
    candidates = None if all_rows else vocabulary.is_text
    start = learned.start_labels
    if labels is not None and learned.init is None:
        start = tuple(labels)
    texts = list(dict.fromkeys(learned.labels if labels is None else labels))
    wanted = [(text, _words(text, vocabulary)) for text in texts]

    def describe(name: str, kind: str, prompt: Any, **more: Any) -> PromptReport:
        found = prompts.nearest(prompt, table, top=top, candidates=candidates)
        pieces = [[vocabulary.piece(int(row)) for row in rows] for rows in found.ids]
        words = [[prompts.word_of(piece) for piece in some] for some in pieces]
        return PromptReport(
            name=name,
            kind=kind,
            neighbours=found,
            pieces=pieces,
            same_nearest=prompts.repeated([int(rows[0]) for rows in found.ids]),
            same_neighbours=prompts.repeated(
                [frozenset(rows.tolist()) for rows in found.ids]
            ),
            words=prompts.frequent_words(words),
            labels=prompts.find_labels(
                words, wanted, start=start if name == "encoder_input" else ()
            ),
            **more,
        )

    reports = []
    for name, prompt in learned.prompts.items():
        _check_width(prompt.shape[1], learned, vocabulary)
        drawn = prompts.random_vectors(
            len(prompt), table, candidates=candidates, seed=seed
        )
        control = describe(name, "control", drawn)
        reports.append(describe(name, "learned", prompt, control=control))
    return reports


def inspect_vectors(learned: Learned, *, top: int = 5) -> VectorReport:
    """Sums up the (IA)^3 vectors of an adapter; see `units`.

    Raises:
        ValueError: If it has none, or `top` is not positive.
    """
    if not learned.vectors:
        raise ValueError(f"{learned.source} holds no (IA)^3 vectors, only prompts")
    vectors = units.vectors_of(learned.vectors)
    inhibited, amplified = units.extremes(vectors, top)
    return VectorReport(
        vectors=vectors, inhibited=inhibited, amplified=amplified, top=top
    )


def _check_width(width: int, learned: Learned, vocabulary: Vocabulary) -> None:
    if width != vocabulary.table.shape[1]:
        trained = f", {learned.base}" if learned.base else ""
        raise ValueError(
            f"the prompt of {learned.source} has {width} columns, the embedding of "
            f"{vocabulary.source} {vocabulary.table.shape[1]}; give the model it was "
            f"trained on{trained}"
        )


def _words(label: str, vocabulary: Vocabulary) -> list[str]:
    """The words of a label's pieces, without bare spaces and unknown ones."""
    tokenizer = vocabulary.tokenizer
    ids = tokenizer.encode(label, add_eos=False)
    known = [token for token in ids if not tokenizer.is_unknown([token])]
    return [prompts.word_of(tokenizer.piece(token)) for token in known]
