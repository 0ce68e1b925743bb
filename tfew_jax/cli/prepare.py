r"""Turn texts into token arrays to pre-train on.

Texts are paragraphs of text files (or lines, or whole files) or a field of JSONL rows;
names may end in .gz or .xz, and a folder stands for its files. Each text is cut into
pieces that fit, each piece becomes inputs and targets by the objective, and several of
them share a row, where none sees another. `tfew train` with runs/pretrain.gin,
runs/lm_adapt.gin or runs/arrays.gin trains on them.

Example:
  tfew prepare books/ news.jsonl.gz --objective prefix_lm --inputs 512 --targets 512 \
    --out arrays
"""

import argparse
import itertools
import pathlib
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tfew_jax.data import tokenizer

_TARGETS = {"span_corruption": 114, "prefix_lm": 512}
_VOCABULARIES = ("sentencepiece.model", "spiece.model")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("texts", nargs="+", metavar="FILE", help="files or folders")
    parser.add_argument("--out", required=True, metavar="DIR", help="for the arrays")
    parser.add_argument(
        "--objective", choices=sorted(_TARGETS), default="span_corruption"
    )
    parser.add_argument(
        "--base", metavar="DIR", help="the model whose vocabulary is used"
    )
    parser.add_argument("--vocabulary", metavar="FILE", help="SentencePiece file")
    parser.add_argument(
        "--inputs", type=int, default=512, metavar="N", help="tokens of a row's inputs"
    )
    parser.add_argument(
        "--targets",
        type=int,
        metavar="N",
        help="of its targets; 114 for span corruption, 512 for prefix LM",
    )
    parser.add_argument("--noise-density", type=float, default=0.15, metavar="SHARE")
    parser.add_argument("--mean-span-length", type=float, default=3.0, metavar="N")
    parser.add_argument(
        "--unit", default="paragraph", help="of text files: paragraph, line or file"
    )
    parser.add_argument("--field", default="text", help="of JSONL rows")
    parser.add_argument(
        "--join",
        action="store_true",
        help="let texts follow one another in a piece, as T5 was trained",
    )
    parser.add_argument(
        "--open-rows",
        type=int,
        default=16,
        metavar="N",
        help="rows that are filled at once; 0 gives each piece its own",
    )
    parser.add_argument("--limit", type=int, metavar="N", help="texts at most")
    parser.add_argument("--seed", type=int, default=0)


def run(args: argparse.Namespace) -> int:
    """Writes the arrays and says what is in them."""
    from tfew_jax.data import objectives, packing, texts, token_arrays

    for name, value in (("--limit", args.limit), ("--open-rows", args.open_rows)):
        if value is not None and value < 0:
            raise ValueError(f"{name} is {value}; it must be 0 or a positive number")
    vocabulary = _vocabulary(args)
    lengths = {
        "inputs": args.inputs,
        "targets": args.targets or _TARGETS[args.objective],
    }
    objective: objectives.Objective = objectives.PrefixLM()
    if args.objective == "span_corruption":
        objective = objectives.SpanCorruption(
            tokenizer=vocabulary,
            noise_density=args.noise_density,
            mean_span_length=args.mean_span_length,
        )
    found = texts.read(args.texts, unit=args.unit, field=args.field)
    pairs = token_arrays.make_pairs(
        itertools.islice(found, args.limit),
        tokenizer=vocabulary,
        objective=objective,
        lengths=lengths,
        seed=args.seed,
        join=args.join,
    )
    arrays = token_arrays.write(
        args.out,
        packing.pack(pairs, lengths, open_rows=args.open_rows),
        lengths=lengths,
        vocabulary=vocabulary,
        description={
            name: value
            for name, value in vars(args).items()
            if name not in ("command", "debug", "out", "base", "vocabulary")
        },
    )
    tokens = " and ".join(f"{n:,} of {side}" for side, n in arrays.num_tokens.items())
    full = sum(arrays.num_tokens.values()) / (arrays.num_rows * sum(lengths.values()))
    print(
        f"{arrays.num_examples:,} examples in {arrays.num_rows:,} rows of "
        f"{lengths['inputs']} and {lengths['targets']} tokens; tokens: {tokens}; "
        f"{full:.0%} of the rows are filled"
    )
    print(f"arrays in {pathlib.Path(args.out).absolute()}", file=sys.stderr)
    return 0


def _vocabulary(args: argparse.Namespace) -> "tokenizer.Tokenizer":
    """The vocabulary of the model, or the one that is given.

    Raises:
        ValueError: If both are given, or the model's directory holds none.
    """
    from tfew_jax import experiment
    from tfew_jax.data import tokenizer

    if args.vocabulary and args.base:
        raise ValueError("--vocabulary and --base are given; give one of them")
    if args.vocabulary:
        return tokenizer.Tokenizer(args.vocabulary)
    folder = pathlib.Path(args.base or experiment.EMBEDDED).expanduser()
    found = [folder / name for name in _VOCABULARIES if (folder / name).is_file()]
    if not found:
        raise ValueError(
            f"{folder} holds no vocabulary ({' or '.join(_VOCABULARIES)}); give one "
            "with --vocabulary"
        )
    return tokenizer.Tokenizer(found[0])
