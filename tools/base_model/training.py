"""Training on prepared arrays; needs the core install only.

Two phases, one optimizer and one schedule:

1. distil: the mean of the encoder's outputs, through a linear head, reproduces the
   teacher's sentence vectors and their similarities within the batch.
2. mixed: starting from the average of phase 1, prompted rows with T-Few's ranking of
   length-normalised scores and the likelihood of the right answer, in turn with span
   corruption and more distillation.

The head is used in training only and is not part of the model. Where the sentiment of
texts is not asked for in prompts (`sentiment="features"`), the head reads it off the
encoder's mean output as well: the model then knows it, and tuning has to ask for it.
"""

import collections
import dataclasses
import functools
import json
import logging
import os
import pathlib
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import safetensors.numpy
from flax import traverse_util
from jaxtyping import Array, ArrayLike, Float

from base_model import batches, starts
from tfew_jax import models

log = logging.getLogger(__name__)

_SIMILARITY_TEMPERATURE = 0.05
State = tuple[Any, Any, Any]  # parameters, optimizer state, average of the parameters
_MIXED_CYCLE = ("choice", "choice", "distil", "choice", "choice", "span")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """What is trained, for how long.

    Attributes:
        distil_steps: Steps of phase 1.
        mixed_steps: Steps of phase 2.
        distil_tokens: Tokens of a distillation batch.
        rows: Rows of a prompted batch.
        learning_rate: Peak of phase 1; phase 2 starts from `mixed_learning_rate`.
        ranking_weight: Of the ranking loss; the likelihood has `lm_weight`.
        sentiment: How it is taught: "prompts" as rows with answers, or "features" as
            what the training head reads off the encoder, in distillation alone.
        decoder: What becomes of an earlier base's: "kept", or "fresh", which forgets
            how that one answered.
    """

    distil_steps: int = 1_000
    mixed_steps: int = 2_700
    distil_tokens: int = 2_048
    rows: int = 64
    learning_rate: float = 5e-4
    mixed_learning_rate: float = 8e-4
    warmup_steps: int = 100
    ranking_weight: float = 2.0
    lm_weight: float = 0.15
    distil_weight: float = 1.0
    span_rows: int = 24
    save_every: int = 250
    emb_dim: int = 256
    num_heads: int = 4
    mlp_dim: int = 640
    num_encoder_layers: int = 4
    num_decoder_layers: int = 2
    average_decay: float = 0.998
    sentiment: str = "prompts"
    decoder: str = "kept"

    def __post_init__(self) -> None:
        if self.sentiment not in ("prompts", "features"):
            raise ValueError(
                f"sentiment is taught by prompts or features, not {self.sentiment!r}"
            )
        if self.decoder not in ("kept", "fresh"):
            raise ValueError(f"a decoder is kept or fresh, not {self.decoder!r}")

    @property
    def without(self) -> tuple[str, ...]:
        """Kinds of prompted rows that are left out."""
        return () if self.sentiment == "prompts" else ("sentiment",)

    @property
    def num_steps(self) -> int:
        """Steps of both phases."""
        return self.distil_steps + self.mixed_steps

    def config(self, vocab_size: int, dtype: str = "float32") -> models.T5Config:
        """The model's shape."""
        return models.T5Config(
            vocab_size=vocab_size,
            emb_dim=self.emb_dim,
            num_heads=self.num_heads,
            head_dim=self.emb_dim // self.num_heads,
            mlp_dim=self.mlp_dim,
            num_encoder_layers=self.num_encoder_layers,
            num_decoder_layers=self.num_decoder_layers,
            logits_via_embedding=True,
            scale_decoder_outputs=True,
            dtype=dtype,
            scan_layers=False,
        )

    def schedule(self, step: ArrayLike) -> Array:
        """Warm-up and cosine decay, once for each phase."""
        first = optax.warmup_cosine_decay_schedule(
            0.0,
            self.learning_rate,
            min(self.warmup_steps, self.distil_steps // 2),
            max(1, self.distil_steps),
            self.learning_rate / 4,
        )
        second = optax.warmup_cosine_decay_schedule(
            self.mixed_learning_rate / 4,
            self.mixed_learning_rate,
            min(self.warmup_steps, self.mixed_steps // 2),
            max(1, self.mixed_steps),
            self.mixed_learning_rate / 50,
        )
        whole = optax.join_schedules([first, second], [self.distil_steps])
        return jnp.asarray(whole(step))

    def optimizer(self) -> optax.GradientTransformation:
        """AdamW with clipping; vectors and embeddings do not decay."""

        def decays(params: Any) -> Any:
            flat = traverse_util.flatten_dict(params)
            return traverse_util.unflatten_dict(
                {path: path[-1] == "kernel" for path in flat}
            )

        return optax.chain(
            optax.clip_by_global_norm(1.0),
            optax.adamw(self.schedule, b1=0.9, b2=0.98, weight_decay=0.01, mask=decays),
        )


def initial_params(
    work: pathlib.Path, config: models.T5Config, data: batches.Data
) -> dict[str, Any]:
    """Random parameters with the prepared embeddings, and the training head.

    The encoder's output kernels start at zero, so that it first passes the
    embeddings on: training starts from a bag of words.
    """
    params = dict(models.init(config, None, jax.random.key(0)))
    table = np.load(work / "embedding.npy")
    if table.shape != (config.vocab_size, config.emb_dim):
        raise ValueError(
            f"embedding.npy is {table.shape}, the model needs "
            f"{(config.vocab_size, config.emb_dim)}; prepare again with --emb-dim"
        )
    flat: dict[Any, Any] = dict(traverse_util.flatten_dict(params))
    for path in flat:
        if path[0] == "encoder" and path[-2] in ("out", "wo"):
            flat[path] = jnp.zeros_like(flat[path])
    flat["token_embedder", "embedding"] = jnp.asarray(table)
    flat["teacher_head", "kernel"] = jnp.asarray(starts.bag_of_words_head(table, data))
    flat["teacher_head", "sentiment"] = jnp.zeros(config.emb_dim)
    return traverse_util.unflatten_dict(flat)


def _distil_losses(
    params: dict[str, Any],
    encoded: Float[Array, "batch length embed"],
    mask: Float[Array, "batch length"],
    vectors: Float[Array, "batch teacher"],
    weight: Float[Array, "batch"],
) -> tuple[Array, Array]:
    """Mean of 1 - cosine, and the divergence of the similarity distributions."""
    pooled = _pooled(encoded, mask)
    ours = pooled @ params["teacher_head"]["kernel"]
    ours = ours / jnp.maximum(jnp.linalg.norm(ours, axis=-1, keepdims=True), 1e-6)
    total = jnp.maximum(weight.sum(), 1)
    cosine = ((1 - (ours * vectors).sum(-1)) * weight).sum() / total
    blocked = -1e9 * (jnp.eye(len(vectors)) + (weight == 0)[None, :])
    theirs = jax.nn.softmax(vectors @ vectors.T / _SIMILARITY_TEMPERATURE + blocked)
    logs = jax.nn.log_softmax(ours @ vectors.T / _SIMILARITY_TEMPERATURE + blocked)
    spread = (theirs * (jnp.log(jnp.maximum(theirs, 1e-9)) - logs)).sum(-1)
    return cosine, (spread * weight).sum() / total


def _pooled(
    encoded: Float[Array, "batch length embed"], mask: Float[Array, "batch length"]
) -> Float[Array, "batch embed"]:
    """Mean over the tokens that are there."""
    total = (encoded.astype(jnp.float32) * mask[..., None]).sum(1)
    return total / jnp.maximum(mask.sum(1, keepdims=True), 1)


def _sentiment_loss(
    params: dict[str, Any],
    pooled: Float[Array, "batch embed"],
    sentiment: Float[Array, "batch"],
) -> Array:
    """Cross-entropy of what the head reads, over the texts with a sentiment."""
    logits = pooled @ params["teacher_head"]["sentiment"]
    known = sentiment >= 0
    losses = optax.sigmoid_binary_cross_entropy(logits, 0.05 + 0.9 * sentiment)
    return jnp.where(known, losses, 0).sum() / jnp.maximum(known.sum(), 1)


def _encode(model: models.T5, params: dict[str, Any], tokens: Array) -> Array:
    variables = {"params": {k: v for k, v in params.items() if k != "teacher_head"}}
    return model.apply(variables, tokens, method="encode")[0]


def _token_log_probs(
    model: models.T5, params: dict[str, Any], encoded: Array, batch: dict[str, Array]
) -> Array:
    variables = {"params": {k: v for k, v in params.items() if k != "teacher_head"}}
    targets = batch["choices"]
    logits: Any = model.apply(
        variables,
        encoded,
        batch["tokens"] > 0,
        models.shift_right(targets),
        method="decode",
    )
    return models.target_log_probs(logits, targets, mask=targets > 0)


def loss_fn(
    params: dict[str, Any],
    batch: dict[str, Array],
    *,
    model: models.T5,
    settings: Settings,
    kind: str,
) -> tuple[Array, dict[str, Array]]:
    """Loss and metrics of a batch of one kind: distil, choice or span."""
    encoded = _encode(model, params, batch["tokens"])
    mask = (batch["tokens"] > 0).astype(jnp.float32)
    metrics: dict[str, Array] = {}
    loss = jnp.zeros(())
    if kind != "span":
        weight = batch.get("has_vector", jnp.ones(len(mask)))
        cosine, spread = _distil_losses(params, encoded, mask, batch["vectors"], weight)
        metrics |= {"cosine": 1 - cosine, "spread": spread}
        loss = settings.distil_weight * (cosine + spread)
    if kind == "distil" and settings.sentiment == "features":
        pooled = _pooled(encoded, mask)
        metrics["sentiment"] = _sentiment_loss(params, pooled, batch["sentiment"])
        loss += metrics["sentiment"]
    if kind == "distil":
        return loss, metrics | {"loss": loss}
    log_probs = _token_log_probs(model, params, encoded, batch)
    real = batch["choices"] > 0
    if kind == "span":
        loss = -log_probs.sum() / real.sum()
        return 0.5 * loss, {"span": loss}
    is_choice = real.any(-1)
    score = log_probs.sum(-1) / jnp.maximum(real.sum(-1), 1)
    ranked = jax.nn.log_softmax(jnp.where(is_choice, score, -1e9))
    target = batch["target"]
    ranking = -jnp.where(is_choice, target * ranked, 0).sum(-1).mean()
    likelihood = -(target * jnp.where(is_choice, score, 0)).sum(-1).mean()
    right = (ranked.argmax(-1) == target.argmax(-1)).mean()
    metrics |= {"ranking": ranking, "lm": likelihood, "right": right}
    loss += settings.ranking_weight * ranking + settings.lm_weight * likelihood
    return loss, metrics | {"loss": loss}


@functools.cache
def make_step(model: models.T5, settings: Settings) -> Any:
    """The jitted update: step(state, batch, kind=...) -> state, metrics."""
    optimizer = settings.optimizer()

    @functools.partial(jax.jit, static_argnames="kind", donate_argnums=0)
    def step(state: State, batch: Any, *, kind: str) -> tuple[State, Any]:
        params, opt_state, average = state
        grads, metrics = jax.grad(loss_fn, has_aux=True)(
            params, batch, model=model, settings=settings, kind=kind
        )
        updates, opt_state = optimizer.update(grads, opt_state, params)
        params = optax.apply_updates(params, updates)
        decay = settings.average_decay
        average = jax.tree.map(
            lambda a, p: decay * a + (1 - decay) * p, average, params
        )
        return (params, opt_state, average), metrics

    return step


def batch_at(
    data: batches.Data, settings: Settings, step: int
) -> tuple[str, dict[str, np.ndarray]]:
    """Kind and batch of a step: a pure function of the step."""
    kind = "distil"
    if step >= settings.distil_steps:
        kind = _MIXED_CYCLE[step % len(_MIXED_CYCLE)]
    if kind == "distil":
        return kind, data.distil_batch(step, settings.distil_tokens)
    if kind == "choice":
        return kind, data.choice_batch(step, settings.rows)
    return kind, data.span_batch(step, settings.span_rows)


def initial_state(params: dict[str, Any], settings: Settings) -> State:
    """State before the first step."""
    average = jax.tree.map(jnp.copy, params)
    return params, settings.optimizer().init(params), average


def save_state(path: pathlib.Path, state: State, step: int) -> None:
    """Write the state so that the file is whole or the old one."""
    leaves = jax.tree.leaves(state)
    arrays = {str(number): np.asarray(leaf) for number, leaf in enumerate(leaves)}
    partial = path.with_suffix(".partial")
    safetensors.numpy.save_file(arrays | {"step": np.array(step)}, partial)
    os.replace(partial, path)


def load_state(path: pathlib.Path, state: State) -> tuple[State, int]:
    """Read what `save_state` wrote into a state of the same form."""
    arrays = safetensors.numpy.load_file(path)
    leaves, form = jax.tree.flatten(state)
    if len(arrays) != len(leaves) + 1 or any(
        arrays[str(n)].shape != np.shape(leaf) for n, leaf in enumerate(leaves)
    ):
        raise ValueError(f"{path} belongs to other settings; choose another --out")
    read = [jnp.asarray(arrays[str(number)]) for number in range(len(leaves))]
    return jax.tree.unflatten(form, read), int(arrays["step"])


def train(
    *,
    work: pathlib.Path,
    out: pathlib.Path,
    settings: Settings,
    start: pathlib.Path | None = None,
    stop_at: int | None = None,
    dtype: str = "float32",
) -> dict[str, Any]:
    """Train, or go on where an interrupted run stopped.

    Args:
        work: Folder that `prepare` wrote.
        out: Folder of the training state and log.
        settings: What to train.
        start: An earlier base whose layers and embeddings to begin with.
        stop_at: Step to stop at, as an interruption would.
        dtype: Of the computation.

    Returns:
        The average of the model's parameters, without the training head.
    """
    out.mkdir(parents=True, exist_ok=True)
    data = batches.Data(work, without=settings.without)
    config = settings.config(data.vocab_size, dtype)
    model = models.T5(config)
    params = initial_params(work, config, data)
    if start is not None:
        params = starts.earlier_model(
            start, model, params, data, keep_decoder=settings.decoder == "kept"
        )
    state = initial_state(params, settings)
    first, state_file = 0, out / "state.safetensors"
    if state_file.is_file():
        state, first = load_state(state_file, state)
        log.info("going on from step %d", first)
    step_fn = make_step(model, settings)  # pyright: ignore[reportArgumentType]
    seen: dict[str, list[float]] = collections.defaultdict(list)
    started = time.monotonic()
    last = settings.num_steps if stop_at is None else min(stop_at, settings.num_steps)
    for step in range(first, last):
        if step == settings.distil_steps:
            averaged = state[2]
            if start is None or settings.decoder == "fresh":
                averaged = starts.decoder_readout(model, averaged, data)
            state = averaged, state[1], jax.tree.map(jnp.copy, averaged)
        kind, batch = batch_at(data, settings, step)
        state, metrics = step_fn(state, batch, kind=kind)
        for name, value in metrics.items():
            seen[f"{kind}.{name}"].append(value)
        if (step + 1) % 50 == 0 or step + 1 == last:
            _report(out, step + 1, seen, time.monotonic() - started)
            seen.clear()
        if (step + 1) % settings.save_every == 0 or step + 1 == last:
            save_state(state_file, state, step + 1)
    return {name: value for name, value in state[2].items() if name != "teacher_head"}


def _report(
    out: pathlib.Path, step: int, seen: dict[str, list[float]], seconds: float
) -> None:
    means = {name: round(float(np.mean(values)), 4) for name, values in seen.items()}
    record = {"step": step, "seconds": round(seconds, 1), **means}
    log.info("%s", record)
    with (out / "log.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(record) + "\n")
