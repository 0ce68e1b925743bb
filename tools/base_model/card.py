"""Write the finished model folder: weights, vocabulary and the card."""

import dataclasses
import json
import pathlib
from typing import Any

import jax
import jax.numpy as jnp

from base_model import corpora, prompts, training
from tfew_jax import checkpoint, models

MAX_BYTES = 20_000_000
_TEMPLATE = (pathlib.Path(__file__).parent / "card.md").read_text(encoding="utf-8")


def export(
    *,
    work: pathlib.Path,
    run: pathlib.Path,
    out: pathlib.Path,
    settings: training.Settings,
    params: dict[str, Any],
    start: pathlib.Path | None = None,
    notes: str = "",
) -> None:
    """Store the parameters in bfloat16 beside the vocabulary and the card.

    Args:
        work: What `prepare` wrote: its manifest goes into the card.
        run: What `training.train` wrote: its log goes into the card.
        out: Model folder to write.
        settings: What was trained.
        params: The trained parameters, unstacked, without the training head.
        start: The earlier base that training began with.
        notes: What else the card says about this run, Markdown.

    Raises:
        ValueError: The folder would exceed 20 MB.
    """
    manifest = json.loads((work / "manifest.json").read_text("utf-8"))
    config = settings.config(manifest["vocab_size"])
    stored = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.bfloat16), params)
    count = sum(leaf.size for leaf in jax.tree.leaves(stored))
    if 2 * count + 500_000 > MAX_BYTES:
        raise ValueError(f"{count:,} parameters do not fit in {MAX_BYTES:,} bytes")
    checkpoint.save_model(
        out,
        config=config,
        params=models.unstack_layers(stored),
        vocabulary=work / "sentencepiece.model",
        card=render(manifest, training_log(run), settings, count, start) + notes,
    )


def training_log(run: pathlib.Path) -> list[dict[str, Any]]:
    """The records of a run, without those that a resumed run wrote again."""
    lines = (run / "log.jsonl").read_text("utf-8").splitlines()
    records = {r["step"]: r for r in map(json.loads, lines)}
    return [records[step] for step in sorted(records)]


def render(
    manifest: dict[str, Any],
    records: list[dict[str, Any]],
    settings: training.Settings,
    count: int,
    start: pathlib.Path | None = None,
) -> str:
    """The card's text.

    Args:
        manifest: What `prepare` noted.
        records: The training log.
        settings: What was trained.
        count: Number of parameters.
        start: The earlier base that training began with.
    """
    rows = [
        f"| {c['name']} | {c['source']} (`{c['file']}`) | {c['licence']} "
        f"| {c['texts']:,} | {c['refused']} | `{c['sha256']}` |"
        for c in manifest["corpora"]
    ]
    return _TEMPLATE.format(
        parameters=f"{count:,}",
        corpora="\n".join(rows),
        refused=sum(c["refused"] for c in manifest["corpora"]),
        held_out=", ".join(manifest["held_out"]) or "none given",
        held_out_arguments=" ".join(f"DIR/{name}" for name in manifest["held_out"]),
        scale=manifest["scale"],
        train_arguments=_arguments(settings) + (" --start EARLIER" if start else ""),
        start=_start_note(start, settings),
        **_sentiment_notes(settings),
        texts=f"{manifest['counts']['texts']:,}",
        phrases=f"{manifest['counts']['phrases']:,}",
        teacher_sha256=manifest["teacher_sha256"],
        minutes=round(_seconds(records) / 60),
        steps=records[-1]["step"] if records else 0,
        **{
            name: getattr(settings, name)
            for name in (
                *("distil_steps", "distil_tokens", "rows", "learning_rate"),
                *("mixed_learning_rate", "emb_dim", "num_heads", "mlp_dim"),
                *("num_encoder_layers", "num_decoder_layers", "average_decay"),
            )
        },
        vocab_size=f"{manifest['vocab_size']:,}",
    )


def _sentiment_notes(settings: training.Settings) -> dict[str, str]:
    """What the card says of how sentiment was taught."""
    if settings.sentiment == "features":
        return {
            "sentiment": "",
            "features": " **No prompt of it asks for sentiment**: the training head "
            "reads it off the encoder's mean output during distillation, so that it is "
            "a task which the model can be tuned for but was not trained to answer.",
        }
    pairs = len(prompts.SENTIMENT_WORDS) + len(prompts.YES_NO)
    return {
        "sentiment": f"sentiment of product and film reviews in {pairs} pairs of "
        "words, ",
        "features": "",
    }


def _start_note(start: pathlib.Path | None, settings: training.Settings) -> str:
    if start is None:
        return (
            "token embeddings are what the teacher makes of each piece (its input "
            "embeddings beside its sentence vector of the piece), projected on the "
            "leading principal components; after the distillation the decoder starts "
            "as a linear readout of the encoder's mean output."
        )
    weights = corpora.file_hash(start / "model.safetensors")
    fresh = (
        " Its decoder is not taken over: after the distillation a new one starts as a "
        "linear readout of the encoder's mean output."
    )
    return (
        "an earlier base of the same shape, which had been made by the same course "
        f"(sha256 of its `model.safetensors` `{weights}`; `EARLIER` below); a piece "
        "that its vocabulary lacks begins with the mean embedding of its old pieces."
    ) + (fresh if settings.decoder == "fresh" else "")


def _arguments(settings: training.Settings) -> str:
    """The options of the train step that differ from their defaults."""
    changed = [
        f" --{field.name.replace('_', '-')} {getattr(settings, field.name)}"
        for field in dataclasses.fields(settings)
        if getattr(settings, field.name) != field.default
    ]
    return "".join(changed)


def _seconds(records: list[dict[str, Any]]) -> float:
    """Training time: each resumed part starts its clock again."""
    total, before = 0.0, 0.0
    for record in records:
        now = float(record["seconds"])
        total += now - before if now > before else now
        before = now
    return total
