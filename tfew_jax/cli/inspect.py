r"""Show what an adapter learned: words near a prompt, units that (IA)^3 rescales.

ADAPTER is an adapter's directory, a finished run, a PEFT directory, T-Few's finish.pt
or a NumPy file of a prompt. A prompt is compared with the embedding of the model it was
trained on: the nearest entries of each position, which of them come again, where the
labels stand, and the same of as many random vectors. Of (IA)^3 it shows the units that
are inhibited and amplified most.

--out writes inspection.json, and neighbours.csv with neighbours.png or units.csv with
heatmap.png.

Example:
  tfew inspect reviews/adapter --out shown
  tfew inspect sst2.npy --base t5_1_1_lm100k_base --labels 'positive ||| negative'
"""

import argparse
import json
import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tfew_jax.cli import printing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from tfew_jax import inspection

_FINDINGS = {
    "mean_norm": "norm, mean",
    "mean_cosine": "cosine with the nearest entry, mean",
    "mean_tightness": "cosine among a position's entries, mean",
    "positions_with_shared_nearest": "positions that share their nearest entry",
    "positions_with_shared_neighbours": "positions that share all their entries",
    "words_near_several_positions": "words near several positions",
    "positions_with_labels": "positions near a label",
}
_NUM_WORDS = 10


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("adapter", metavar="ADAPTER", help="what to show")
    parser.add_argument(
        "--base",
        metavar="DIR",
        help="the model that it was trained on; default: for prompts the embedded base",
    )
    parser.add_argument(
        "--embedding",
        metavar="FILE.npy",
        help="for prompts: the embedding table alone, in place of the model's",
    )
    parser.add_argument(
        "--vocabulary",
        metavar="FILE",
        help="for prompts: the SentencePiece file, where the model has none",
    )
    parser.add_argument(
        "--top",
        type=int,
        default=5,
        metavar="N",
        help="entries for each position, or units; default %(default)s",
    )
    parser.add_argument(
        "--labels",
        metavar="'A ||| B'",
        help="labels to look for near the positions of a prompt, in the order of its "
        "initialisation where the adapter does not say what that was; default: the "
        "choices of the adapter's task",
    )
    parser.add_argument(
        "--all-rows",
        action="store_true",
        help="also compare with pads, sentinels and rows beyond the vocabulary",
    )
    parser.add_argument("--out", metavar="DIR", help="write files and a chart as well")
    parser.add_argument(
        "--json", action="store_true", help="print everything as JSON, in place of text"
    )


def run(args: argparse.Namespace) -> int:
    """Reads, compares, writes and prints."""
    labels = _check(args)
    from tfew_jax import inspection, interop

    config = None if args.base is None else interop.load_config(_path(args.base))
    learned = inspection.load(args.adapter, config)
    about = {
        "source": learned.source,
        "method": learned.method,
        "trained_on": learned.base,
        "init": learned.init,
    }
    if learned.prompts:
        vocabulary = inspection.load_vocabulary(
            args.base, embedding=args.embedding, vocabulary=args.vocabulary
        )
        reports = inspection.inspect_prompts(
            learned,
            vocabulary,
            top=args.top,
            labels=labels,
            all_rows=args.all_rows,
        )
        about |= {
            "embedding": vocabulary.source,
            "prompts": [report.to_dict() for report in reports],
        }
        start = [f"started from {learned.init}"] if learned.init else []
        text = "\n\n".join([*start, *map(_prompt_text, reports)])
    else:
        _refuse_prompt_flags(args)
        reports = inspection.inspect_vectors(learned, top=args.top)
        about |= reports.to_dict()
        text = _vector_text(reports)
    if args.out is not None:
        _write(args.out, about, reports)
    printing.show(
        json.dumps(about, indent=2, ensure_ascii=False) if args.json else text
    )
    return 0


def _check(args: argparse.Namespace) -> list[str] | None:
    """Refuses what needs no file to be seen, and splits the labels."""
    if args.top < 1:
        raise ValueError(f"--top must be 1 or more, got {args.top}")
    if args.base is not None and args.embedding is not None:
        raise ValueError("--base and --embedding both name an embedding; give one")
    if args.embedding is not None and args.vocabulary is None:
        raise ValueError("--embedding needs its SentencePiece file as --vocabulary")
    if args.labels is None:
        return None
    labels = [label.strip() for label in args.labels.split("|||")]
    if not all(labels) or len(set(labels)) != len(labels):
        raise ValueError(
            f"--labels {args.labels!r} names a label twice or an empty one; write "
            "them as 'bad ||| good'"
        )
    return labels


def _refuse_prompt_flags(args: argparse.Namespace) -> None:
    for name in ("embedding", "vocabulary", "labels", "all_rows"):
        if getattr(args, name):
            raise ValueError(
                f"--{name.replace('_', '-')} is for prompts; {args.adapter} holds "
                "(IA)^3 vectors"
            )


def _path(text: str) -> pathlib.Path:
    return pathlib.Path(text).expanduser()


def _prompt_text(report: "inspection.PromptReport") -> str:
    """Positions, findings beside the control's, labels."""
    found = report.neighbours
    rows = [
        [
            *(str(at), f"{found.norms[at]:.4g}", f"{found.cosines[at, 0]:.3f}"),
            " ".join(pieces),
        ]
        for at, pieces in enumerate(report.pieces)
    ]
    header = ["position", "norm", "cosine", ""]
    title = f"{report.name}: {len(rows)} positions and their nearest entries"
    parts = [printing.table(header, rows, num_left=0, title=title)]
    assert report.control is not None
    ours, theirs = report.summary, report.control.summary
    rows = [
        [text, _number(ours[name]), _number(theirs[name])]
        for name, text in _FINDINGS.items()
        if ours[name] is not None and (report.labels or "label" not in name)
    ]
    parts.append(printing.table(["finding", "learned", "random"], rows))
    if report.labels:
        rows = [
            [
                label.text,
                _its_place(label),
                ", ".join(map(str, label.positions)) or "none",
                f"{len(control.positions)}",
            ]
            for label, control in zip(report.labels, report.control.labels, strict=True)
        ]
        header = ["label", "at its own position", "near positions", "random vectors"]
        parts.append(printing.table(header, rows, num_left=3))
    for kind, words in (("words", report.words), ("random", report.control.words)):
        common = [f"{word} {n}" for word, n in words[:_NUM_WORDS] if n > 1]
        parts.append(f"most frequent {kind}: {', '.join(common) or 'none comes twice'}")
    return "\n\n".join(parts)


def _its_place(label: Any) -> str:
    if label.kept is None:
        return "it has none"
    if label.kept:
        return f"{label.position}: yes"
    of = f", {label.num_kept} of {len(set(label.words))} pieces"
    return f"{label.position}: no{of if label.num_kept else ''}"


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _vector_text(report: "inspection.VectorReport") -> str:
    """Every place in a layer, then the extremes."""
    from tfew_jax.inspection import units

    rows = []
    for place, vectors in units.by_place(report.vectors).items():
        numbers = units.summary(vectors)
        rows.append(
            [
                *(place, str(len(vectors)), f"{numbers['units']:,}"),
                *(f"{numbers[name]:.4f}" for name in ("mean", "std", "min", "max")),
                *(f"{numbers['share_near_one']:.1%}", str(numbers["num_negative"])),
            ]
        )
    header = ["place", "layers", "units", "mean", "std", "min", "max"]
    parts = [printing.table([*header, "near one", "negative"], rows)]
    for kind, found in (
        ("inhibited", report.inhibited),
        ("amplified", report.amplified),
    ):
        rows = [
            [unit.place, str(unit.layer), str(unit.unit), f"{unit.value:.4f}"]
            for unit in found
        ]
        title = f"most {kind}: {len(rows) or 'no'} units"
        header = ["place", "layer", "unit", "factor"]
        parts.append(printing.table(header, rows, title=title) if rows else title)
    return "\n\n".join(parts)


def _write(
    out: str,
    about: dict[str, Any],
    reports: "Sequence[inspection.PromptReport] | inspection.VectorReport",
) -> None:
    """Writes the files of `--out`."""
    from tfew_jax.experiment import directory
    from tfew_jax.inspection import charts
    from tfew_jax.inspection import reports as kinds
    from tfew_jax.report.charts import to_png

    folder = directory.make(out)
    figure: Figure
    if isinstance(reports, kinds.VectorReport):
        names, header = ("units.csv", "heatmap.png"), kinds.UNIT_COLUMNS
        rows, figure = reports.rows(), charts.heat_map(reports.vectors)
    else:
        names, header = ("neighbours.csv", "neighbours.png"), kinds.NEIGHBOUR_COLUMNS
        rows = [row for report in reports for row in report.rows()]
        figure = charts.prompt_chart(reports)
    directory.write_json(folder / "inspection.json", about)
    directory.write_table(folder / names[0], header, rows)
    directory.write_bytes(folder / names[1], to_png(figure))
