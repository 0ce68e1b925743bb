"""The course of a base model: its sizes, its phases and their learning rates.

The phases follow one another, each from the average of the one before; one of no
steps is left out:

1. distil: the mean of the encoder's outputs, through a linear head, reproduces the
   teacher's sentence vectors and their similarities within the batch.
2. span: T5's span corruption of running text alone.
3. prefix_lm: running text is continued from its beginning.
4. mixed: prompted rows with T-Few's ranking of length-normalised scores and the
   likelihood of the right answer, in turn with span corruption and more distillation.

Without a teacher the course starts from random weights and has no distillation.
"""

import dataclasses
from typing import Any

import jax.numpy as jnp
import optax
from flax import traverse_util
from jaxtyping import Array, ArrayLike

from tfew_jax import models

LANGUAGE_KINDS = ("span", "prefix_lm")
_CYCLE = ("choice", "choice", "distil", "choice", "choice", "span")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Phase:
    """A part of the course with a schedule of its own.

    Attributes:
        name: What it is called.
        first_step: Step of the course that it begins with.
        num_steps: How long it lasts.
        learning_rate: Its peak.
        divisor: What the peak is divided by at its end.
    """

    name: str
    first_step: int
    num_steps: int
    learning_rate: float
    divisor: int

    @property
    def end(self) -> int:
        """The step that follows its last one."""
        return self.first_step + self.num_steps


@dataclasses.dataclass(frozen=True, kw_only=True)
class Course:
    """What is trained, for how long.

    Attributes:
        teacher: Whether a teacher is learned from; without one the weights start at
            random and prompted rows are those that texts and labels alone give.
        distil_steps: Steps of the phase distil.
        span_steps: Steps of the phase span.
        prefix_lm_steps: Steps of the phase prefix_lm.
        mixed_steps: Steps of the phase mixed.
        learning_rate: Peak of distil; the other phases have their own.
        warmup_steps: Of each phase, at most half of it.
        distil_tokens: Tokens of a distillation batch.
        language_rows: Rows of a batch in the phases span and prefix_lm.
        span_rows: Rows of a batch of span corruption in the phase mixed.
        rows: Rows of a prompted batch.
        ranking_weight: Of the ranking loss; the likelihood has `lm_weight`, and what
            the teacher says `distil_weight`.
        average_decay: Of the exponential average of the weights.
        save_every: Steps between two states on the disk.
        sentiment: How it is taught: "prompts" as rows with answers, "features" as
            what the training head reads off the encoder in distillation, or "both".
        decoder: What becomes of an earlier base's: "kept", or "fresh", which forgets
            how that one answered.
    """

    teacher: bool = True
    distil_steps: int = 1_000
    span_steps: int = 0
    prefix_lm_steps: int = 0
    mixed_steps: int = 2_700
    learning_rate: float = 5e-4
    span_learning_rate: float = 8e-4
    prefix_lm_learning_rate: float = 4e-4
    mixed_learning_rate: float = 8e-4
    warmup_steps: int = 100
    distil_tokens: int = 2_048
    language_rows: int = 64
    span_rows: int = 24
    rows: int = 64
    ranking_weight: float = 2.0
    lm_weight: float = 0.15
    distil_weight: float = 1.0
    average_decay: float = 0.998
    save_every: int = 250
    emb_dim: int = 256
    num_heads: int = 4
    mlp_dim: int = 640
    num_encoder_layers: int = 4
    num_decoder_layers: int = 2
    sentiment: str = "prompts"
    decoder: str = "kept"

    def __post_init__(self) -> None:
        if self.sentiment not in ("prompts", "features", "both"):
            raise ValueError(
                "sentiment is taught by prompts, features or both, not "
                f"{self.sentiment!r}"
            )
        if self.decoder not in ("kept", "fresh"):
            raise ValueError(f"a decoder is kept or fresh, not {self.decoder!r}")
        if self.emb_dim % self.num_heads:
            raise ValueError(
                f"num_heads is {self.num_heads}, which does not divide emb_dim "
                f"{self.emb_dim}; heads share the width"
            )
        steps = {f"{name}_steps": num for name, num, *_ in self._parts()}
        for name, value in {**steps, "save_every": self.save_every - 1}.items():
            if value < 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it is too small")
        if not any(steps.values()):
            raise ValueError(f"no phase has a step; give one of {', '.join(steps)}")
        if not self.teacher and (self.distil_steps or self.reads_sentiment):
            raise ValueError(
                "teacher is False, so that distil_steps must be 0 and sentiment taught "
                f"by prompts; they are {self.distil_steps} and {self.sentiment!r}"
            )

    def _parts(self) -> tuple[tuple[str, int, float, int], ...]:
        """Name, steps, peak and divisor of every phase, those of no steps included."""
        return (
            ("distil", self.distil_steps, self.learning_rate, 4),
            ("span", self.span_steps, self.span_learning_rate, 4),
            ("prefix_lm", self.prefix_lm_steps, self.prefix_lm_learning_rate, 4),
            ("mixed", self.mixed_steps, self.mixed_learning_rate, 50),
        )

    @property
    def phases(self) -> tuple[Phase, ...]:
        """The phases that have steps, in order."""
        found: list[Phase] = []
        for name, num_steps, learning_rate, divisor in self._parts():
            if num_steps:
                found.append(
                    Phase(
                        name=name,
                        first_step=found[-1].end if found else 0,
                        num_steps=num_steps,
                        learning_rate=learning_rate,
                        divisor=divisor,
                    )
                )
        return tuple(found)

    @property
    def num_steps(self) -> int:
        """Steps of all phases."""
        return self.phases[-1].end

    def phase_at(self, step: int) -> Phase:
        """The phase that a step belongs to."""
        return next(phase for phase in self.phases if step < phase.end)

    def kind_at(self, step: int) -> str:
        """What a step's batch is: distil, span, prefix_lm or choice."""
        phase = self.phase_at(step)
        if phase.name != "mixed":
            return phase.name
        kind = _CYCLE[step % len(_CYCLE)]
        return "choice" if kind == "distil" and not self.teacher else kind

    @property
    def without(self) -> tuple[str, ...]:
        """Kinds of prompted rows that are left out."""
        # A topic is what the teacher finds similar.
        left_out = () if self.teacher else ("topic",)
        return left_out if self.asks_sentiment else (*left_out, "sentiment")

    @property
    def asks_sentiment(self) -> bool:
        """Whether prompted rows ask for the sentiment of a text."""
        return self.sentiment != "features"

    @property
    def reads_sentiment(self) -> bool:
        """Whether the training head reads it off the encoder in distillation."""
        return self.sentiment != "prompts"

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
        """Warm-up and cosine decay, once for each phase.

        The first phase begins at 0, a later one at a quarter of its peak.
        """
        pieces = [
            optax.warmup_cosine_decay_schedule(
                phase.learning_rate / 4 if phase.first_step else 0.0,
                phase.learning_rate,
                min(self.warmup_steps, phase.num_steps // 2),
                phase.num_steps,
                phase.learning_rate / phase.divisor,
            )
            for phase in self.phases
        ]
        ends = [phase.end for phase in self.phases[:-1]]
        return jnp.asarray(optax.join_schedules(pieces, ends)(step))

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
