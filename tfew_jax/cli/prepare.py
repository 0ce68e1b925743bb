r"""Turn texts, a mixture of prompted tasks, or a SeqIO task into token arrays.

Texts are paragraphs of text files (or lines, or whole files) or a field of the rows of
JSONL and Parquet files; names may end in .gz or .xz, a folder stands for its files, and
hub:OWNER/NAME:CONFIG:SPLIT for a dataset's Parquet files on the Hub. Each text is cut
into pieces that fit, and each piece becomes inputs and targets by the objective. Of a
mixture of T0's the stream's first examples are taken, with ends of inputs and lengths
as T0's or, by --rule tfew, as T-Few's. A SeqIO task is read once, of a SeqIO mixture
--limit examples; with --data-dir T5's text-to-text tasks are among them, SuperGLUE
as the mixture tfew_super_glue, and where TFDS prepared C4 there T5's pre-training tasks
c4_v220_span_corruption and c4_v220_prefix_lm. Several examples share a row, where none
sees another.

`tfew train` trains on the arrays, with runs/pretrain.gin or runs/lm_adapt.gin on texts,
with runs/multitask.gin or runs/pretrain_ia3.gin on mixtures.

Example:
  tfew prepare books/ news.jsonl.gz --objective prefix_lm --out arrays
  tfew prepare --mixture t0_train --data-dir P3 --limit 1000000 --out mixture
  tfew prepare --seqio my_task --module my_tasks --inputs 512 --targets 64 --out mine
  tfew prepare --seqio tfew_super_glue --data-dir DATA --inputs 512 --targets 64 \
    --limit 1000000 --out super_glue
"""

import argparse
import itertools
import pathlib
import sys
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tfew_jax.data import objectives, tokenizer

_LENGTHS = {  # tokens of inputs and targets
    "span_corruption": (512, 114),
    "prefix_lm": (512, 512),
    "t0": (1024, 256),
    "tfew": (256, 256),
}
_VOCABULARIES = ("sentencepiece.model", "spiece.model")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("texts", nargs="*", metavar="FILE", help="files or folders")
    parser.add_argument("--out", required=True, metavar="DIR", help="for the arrays")
    parser.add_argument(
        "--base", metavar="DIR", help="the model whose vocabulary is used"
    )
    parser.add_argument("--vocabulary", metavar="FILE", help="SentencePiece file")
    for side in ("inputs", "targets"):
        sizes = ", ".join(
            f"{name} {sizes[side == 'targets']}" for name, sizes in _LENGTHS.items()
        )
        parser.add_argument(
            f"--{side}", type=int, metavar="N", help=f"tokens of a row's; {sizes}"
        )
    parser.add_argument(
        "--open-rows",
        type=int,
        default=16,
        metavar="N",
        help="rows that are filled at once; 0 gives each example its own",
    )
    parser.add_argument("--limit", type=int, metavar="N", help="texts, or examples")
    parser.add_argument("--seed", type=int, default=0)
    texts = parser.add_argument_group("texts")
    texts.add_argument(
        "--objective",
        choices=("span_corruption", "prefix_lm"),
        default="span_corruption",
    )
    texts.add_argument("--noise-density", type=float, default=0.15, metavar="SHARE")
    texts.add_argument("--mean-span-length", type=float, default=3.0, metavar="N")
    texts.add_argument(
        "--unit", default="paragraph", help="of text files: paragraph, line or file"
    )
    texts.add_argument("--field", default="text", help="of JSONL and Parquet rows")
    texts.add_argument(
        "--join",
        action="store_true",
        help="let texts follow one another in a piece, as T5 was trained",
    )
    mixture = parser.add_argument_group("mixtures")
    mixture.add_argument("--mixture", metavar="NAME", help="such as t0_train")
    mixture.add_argument("--data-dir", metavar="DIR", help="P3, raw sets or TFDS's")
    mixture.add_argument("--rule", choices=("t0", "tfew"), default="t0")
    mixture.add_argument(
        "--allow-missing",
        action="append",
        default=[],
        metavar="NAME",
        help="a set or task that the mixture may lack; several times",
    )
    mixture.add_argument(
        "--allow-partial",
        action="store_true",
        help="take raw sets with another number of rows than the official one",
    )
    task = parser.add_argument_group("SeqIO tasks")
    task.add_argument("--seqio", metavar="NAME", help="of a task or mixture")
    task.add_argument("--module", metavar="NAME", help="Python module to import first")
    task.add_argument("--split", default="train")


def run(args: argparse.Namespace) -> int:
    """Writes the arrays and says what is in them."""
    from tfew_jax.data import packing, token_arrays

    _check(args)
    vocabulary = _vocabulary(args)
    sizes = _LENGTHS[args.rule if args.mixture else args.objective]
    make = _text_pairs
    if args.mixture or args.seqio:
        make = _mixture_pairs if args.mixture else _seqio_pairs
    lengths = {
        "inputs": sizes[0] if args.inputs is None else args.inputs,
        "targets": sizes[1] if args.targets is None else args.targets,
    }
    pairs = packing.Complete(make(args, vocabulary, lengths))
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
    if pairs.num_left_out:
        print(
            f"left out: {pairs.num_left_out:,} examples without inputs or targets",
            file=sys.stderr,
        )
    print(f"arrays in {arrays.folder.absolute()}", file=sys.stderr)
    return 0


def _check(args: argparse.Namespace) -> None:
    """Refuses arguments that contradict each other.

    Raises:
        ValueError: If they do.
    """
    for name, value, least in (
        ("--limit", args.limit, 0),
        ("--open-rows", args.open_rows, 0),
        ("--inputs", args.inputs, 1),
        ("--targets", args.targets, 1),
        ("--seed", args.seed, 0),
    ):
        if value is not None and value < least:
            raise ValueError(f"{name} is {value}; it must be at least {least}")
    if sum(map(bool, (args.texts, args.mixture, args.seqio))) != 1:
        raise ValueError("give files of texts, --mixture or --seqio; one of them")
    if args.seqio and (args.inputs is None or args.targets is None):
        raise ValueError("a SeqIO task needs --inputs and --targets, its lengths")
    if args.mixture and (args.data_dir is None or args.limit is None):
        raise ValueError(
            "a mixture needs --data-dir, where its rows are, and --limit, how many "
            "examples to take of its stream"
        )


def _text_pairs(
    args: argparse.Namespace,
    vocabulary: "tokenizer.Tokenizer",
    lengths: Mapping[str, int],
) -> "Iterator[objectives.TokenPair]":
    from tfew_jax.data import objectives, texts, token_arrays

    objective: objectives.Objective = objectives.PrefixLM()
    if args.objective == "span_corruption":
        objective = objectives.SpanCorruption(
            tokenizer=vocabulary,
            noise_density=args.noise_density,
            mean_span_length=args.mean_span_length,
        )
    found = texts.read(args.texts, unit=args.unit, field=args.field)
    return token_arrays.make_pairs(
        itertools.islice(found, args.limit),
        tokenizer=vocabulary,
        objective=objective,
        lengths=lengths,
        seed=args.seed,
        join=args.join,
    )


def _mixture_pairs(
    args: argparse.Namespace,
    vocabulary: "tokenizer.Tokenizer",
    lengths: Mapping[str, int],
) -> "Iterator[objectives.TokenPair]":
    from tfew_jax.data import p3, p3_mixture, p3_rows, token_arrays

    definition = p3.get(args.mixture)
    is_tfew = args.rule == "tfew"
    tasks, _ = p3.tasks(definition, rule=args.rule, allow_missing=args.allow_missing)
    source = p3_rows.open_directory(
        args.data_dir, tasks, not_applicable="tfew" if is_tfew else "leave_out"
    )
    mixture = p3_mixture.load(
        definition,
        source,
        rule=args.rule,
        allow_missing=args.allow_missing,
        allow_partial=args.allow_partial,
    )
    for line in mixture.report():
        print(line, file=sys.stderr)
    stream = itertools.islice(mixture.examples(seed=args.seed), args.limit)
    return token_arrays.encode_pairs(
        ((example.inputs, example.targets) for example in stream),
        tokenizer=vocabulary,
        lengths=lengths,
        input_eos=is_tfew,
    )


def _seqio_pairs(
    args: argparse.Namespace,
    vocabulary: "tokenizer.Tokenizer",
    lengths: Mapping[str, int],
) -> "Iterator[objectives.TokenPair]":
    try:
        from tfew_jax.data import seqio_arrays
    except ImportError:
        raise ValueError(
            "--seqio needs SeqIO and TensorFlow; install tfew-jax[data]"
        ) from None
    return seqio_arrays.make_pairs(
        args.seqio,
        vocabulary=vocabulary,
        lengths=lengths,
        module=args.module,
        data_dir=args.data_dir,
        split=args.split,
        seed=args.seed,
        limit=args.limit,
    )


def _vocabulary(args: argparse.Namespace) -> "tokenizer.Tokenizer":
    """The vocabulary of the model, or the one that is given.

    Raises:
        ValueError: If both are given, or the model's directory holds none.
    """
    from tfew_jax.data import tokenizer
    from tfew_jax.experiment import base

    if args.vocabulary and args.base:
        raise ValueError("--vocabulary and --base are given; give one of them")
    if args.vocabulary:
        return tokenizer.Tokenizer(args.vocabulary)
    folder = pathlib.Path(args.base or base.EMBEDDED).expanduser()
    found = [folder / name for name in _VOCABULARIES if (folder / name).is_file()]
    if not found:
        raise ValueError(
            f"{folder} holds no vocabulary ({' or '.join(_VOCABULARIES)}); give one "
            "with --vocabulary"
        )
    return tokenizer.Tokenizer(found[0])
