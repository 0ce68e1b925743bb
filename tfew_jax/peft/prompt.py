"""Prompt tuning: learned rows in front of the embedded input.

Lester et al., 2021 (https://arxiv.org/abs/2104.08691), Section 2: the model reads

    [P; X]  instead of  X,  P learned, [prompt, embed], and X the embedded tokens

with the encoder's rows alone. Prompt rows are ordinary positions 0 ... prompt - 1, the
text follows; they are seen by all others and stand before the embedding dropout, as in
the reference code. Nothing of the model's own changes, so that no plain model computes
the same: a prompt does not fold.

T-Few's baseline (Liu et al., 2022, https://arxiv.org/abs/2205.05638, Section 4.2) puts
another prompt before the decoder's start token (`decoder_length`); the outputs of its
positions are dropped. Every answer choice gets the same one.

The paper draws random rows from [-0.5, 0.5], which is the default here; the released
code's initialiser draws from [0, 0.5). T-Few's code draws token ids with replacement,
here each comes once.
"""

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util
from jaxtyping import Array, Bool, Float, Int, Key

from tfew_jax import sharding
from tfew_jax.peft import _base
from tfew_jax.peft import _prompt_start as start
from tfew_jax.peft._base import PeftMethod, Site, StartContext
from tfew_jax.types import Params

INITS = ("uniform", "sampled_vocabulary", "class_labels", "text", "file")
_SITES = (Site.ENCODER_INPUT, Site.DECODER_INPUT)
_NAME = "prompt"

read_file, read_matrix = start.read_file, start.read_matrix


@dataclasses.dataclass(frozen=True, kw_only=True)
class Prompt(PeftMethod):
    """A prompt of the encoder and, if asked for, one of the decoder.

    Attributes:
        length: Rows before the encoder's input.
        decoder_length: Rows before the decoder's start token.
        init: What the rows start from: "uniform" random numbers; "sampled_vocabulary",
            rows of the token embedding; "class_labels", the embedded answers, one a
            row; "text", the embedded tokens of `init_text`, one a row; "file", a numpy
            file. Rows that labels or text leave over are sampled from the vocabulary,
            and so are those of the decoder unless they are uniform.
        init_range: Least and largest of the uniform numbers.
        init_vocabulary: From how many rows of the embedding is sampled; the most
            frequent pieces come first. None for all of them.
        init_offset: The first of these rows; T-Few leaves out the three that are not
            text.
        init_labels: Answers to use instead of the task's.
        init_text: The text.
        init_file: The file, [length, embed].
    """

    name: ClassVar[str] = "prompt"
    trainable: ClassVar[str] = rf"^(en|de)coder_input/{_NAME}/embedding$"
    folds: ClassVar[bool] = False
    start_settings: ClassVar[tuple[str, ...]] = (
        *("init", "init_range", "init_vocabulary", "init_offset"),
        *("init_labels", "init_text", "init_file"),
    )
    recipe: ClassVar[Mapping[str, Any]] = {
        "learning_rate": 0.3,
        "schedule": "constant",
        "adafactor": {
            "multiply_by_parameter_scale": False,
            "weight_decay": 1e-5,
            "max_grad_norm": None,
            "decay_offset": 0,
        },
    }

    length: int = 100
    decoder_length: int = 0
    init: str = "class_labels"
    init_range: tuple[float, float] = (-0.5, 0.5)
    init_vocabulary: int | None = 5000
    init_offset: int = 0
    init_labels: tuple[str, ...] = ()
    init_text: str | None = None
    init_file: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("length", "decoder_length", "init_offset"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 0:
                raise ValueError(f"{name} must be 0 or more, got {value!r}")
        if not self.length and not self.decoder_length:
            raise ValueError("length and decoder_length are 0; a prompt has rows")
        if self.init not in INITS:
            raise ValueError(f"init must be {', '.join(INITS)}; got {self.init!r}")
        if self.init_vocabulary is not None and self.init_vocabulary < 1:
            raise ValueError(
                f"init_vocabulary must be positive or None, got {self.init_vocabulary}"
            )
        self._check_sequences()
        self._check_uses()

    def _check_sequences(self) -> None:
        """Makes tuples of lists, so that a method can be hashed, and looks at them."""
        for name in ("init_range", "init_labels"):
            if isinstance(value := getattr(self, name), list):
                object.__setattr__(self, name, tuple(value))
        pair = self.init_range
        is_pair = isinstance(pair, tuple) and len(pair) == 2
        is_pair = is_pair and all(isinstance(x, int | float) for x in pair)
        if not (is_pair and all(map(math.isfinite, pair)) and pair[0] < pair[1]):
            raise ValueError(
                f"init_range must be two finite numbers, the lower first; got {pair!r}"
            )
        labels = self.init_labels
        is_texts = isinstance(labels, tuple)
        if not (is_texts and all(isinstance(label, str) for label in labels)):
            raise ValueError(
                f"init_labels must be a tuple of texts, got {labels!r}; write a single "
                "one as ('good',)"
            )

    def _check_uses(self) -> None:
        """Refuses settings that the chosen start does not read or lacks."""
        for init, name, is_needed in (
            ("class_labels", "init_labels", False),
            ("text", "init_text", True),
            ("file", "init_file", True),
        ):
            value = getattr(self, name)
            if is_needed and self.init == init and not value:
                raise ValueError(f"init={init!r} needs {name}")
            if value and self.init != init:
                raise ValueError(
                    f"{name} is given, but init={self.init!r} does not read it; give "
                    f"init={init!r} or leave it out"
                )
            if is_needed and value and not self.length:
                raise ValueError(f"{name} fills the encoder's rows, but length is 0")

    def added_positions(self, site: Site) -> int:
        if site == Site.ENCODER_INPUT:
            return self.length
        return self.decoder_length if site == Site.DECODER_INPUT else 0

    def module_at(self, site: Site) -> nn.Module | None:
        length = self.added_positions(site)
        if not length:
            return None
        return Rows(length, self.init_range, self.num_adapters, name=_NAME)

    def trainable_paths(self, params: Params) -> set[str]:
        paths = super().trainable_paths(params)
        for site in _SITES:
            if self.added_positions(site) and path_of(site) not in paths:
                raise ValueError(f"the parameters have no {path_of(site)}")
        return paths

    def read_start(self) -> Float[np.ndarray, "prompt columns"] | None:
        return None if self.init_file is None else read_file(self.init_file)

    def check_start(self, context: StartContext) -> list[str]:
        if self.init == "uniform":
            return []
        num_given = len(self._given(context)) if self.length else 0
        if num_given < self.length or self.decoder_length:
            start.check_vocabulary(
                context.embedding,
                vocabulary=self._vocabulary(context),
                offset=self.init_offset,
            )
        if self.init == "class_labels" and self.length and not num_given:
            return [
                "the task has no class labels that all its rows have in common; the "
                "whole prompt is sampled from the vocabulary"
            ]
        if num_given > self.length:
            what = "tokens of init_text" if self.init_text else "class labels"
            return [
                f"of {num_given} {what} the first {self.length} start a row of the "
                "prompt; it has no more"
            ]
        return []

    def initial(
        self, params: Params, key: Key[Array, ""], context: StartContext
    ) -> Params:
        self.check_start(context)
        if self.init == "uniform":
            return params
        flat: dict[str, Any] = dict(traverse_util.flatten_dict(dict(params), sep="/"))
        for number, site in enumerate(_SITES):
            if not self.added_positions(site):
                continue
            keys = jax.random.split(
                jax.random.fold_in(key, number), self.num_adapters or 1
            )
            rows = jnp.stack([self._start_at(site, key, context) for key in keys])
            flat[path_of(site)] = rows[0] if self.num_adapters is None else rows
        return traverse_util.unflatten_dict(flat, sep="/")

    def _start_at(
        self, site: Site, key: Key[Array, ""], context: StartContext
    ) -> Float[Array, "prompt embed"]:
        length = self.added_positions(site)
        given = self._given(context)[: length * (site == Site.ENCODER_INPUT)]
        if len(given) == length:
            return given
        rows = start.sampled(
            key,
            context.embedding,
            length=length,
            vocabulary=self._vocabulary(context),
            offset=self.init_offset,
        )
        return rows.at[: len(given)].set(given)

    def _given(self, context: StartContext) -> Float[Array, "given embed"]:
        """The rows of labels, text or file, as many as there are."""
        embed = context.embedding.shape[1]
        if self.init == "class_labels" and (
            labels := self.init_labels or context.class_labels
        ):
            return start.of_labels(labels, context)
        if self.init_text is not None:
            return start.of_text(self.init_text, context)
        rows = self.read_start() if context.file_rows is None else context.file_rows
        if rows is not None:
            if rows.shape != (self.length, embed):
                raise ValueError(
                    f"init_file {self.init_file} has shape {rows.shape}; length="
                    f"{self.length} on this model needs {(self.length, embed)}"
                )
            return jnp.asarray(rows)
        return jnp.zeros((0, embed), jnp.float32)

    def _vocabulary(self, context: StartContext) -> int:
        if self.init_vocabulary is None:
            return max(1, len(context.embedding) - self.init_offset)
        return self.init_vocabulary

    def bank(self, others: Iterable[PeftMethod], num_adapters: int) -> PeftMethod:
        """As every method's, but lengths may differ: the longest is the bank's."""
        prompts = [m for m in (self, *others) if isinstance(m, Prompt)]
        lengths = {
            name: max(getattr(method, name) for method in prompts)
            for name in ("length", "decoder_length")
        }
        others = [
            dataclasses.replace(m, **lengths) if isinstance(m, Prompt) else m
            for m in others
        ]
        longest = dataclasses.replace(self, **lengths)
        return PeftMethod.bank(longest, others, num_adapters)

    def slot(
        self, params: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]
    ) -> dict[str, np.ndarray]:
        slot: dict[str, np.ndarray] = {
            path: np.zeros(shape, np.float32) for path, shape in shapes.items()
        }
        for site in _SITES:
            if (length := length_path(site)) not in slot:
                continue
            own = np.asarray(params.get(path_of(site), slot[path_of(site)][:0]))
            slot[path_of(site)][self.added_positions(site) - len(own) :] = own
            slot[length] = np.asarray(len(own), np.int32)
        return slot

    def compose(
        self,
        parts: Sequence[tuple[PeftMethod, Mapping[str, Any]]],
        weights: Sequence[float] | None,
    ) -> tuple[PeftMethod, dict[str, np.ndarray]]:
        """The rows one after another, or weighted sums of equally many."""
        self.bank([method for method, _ in parts[1:]], 1)  # says what does not fit
        composed, lengths = {}, {}
        for site, name in zip(_SITES, ("length", "decoder_length"), strict=True):
            counts = [method.added_positions(site) for method, _ in parts]
            if weights is not None and len(set(counts)) > 1:
                raise ValueError(
                    f"prompts of {', '.join(map(str, counts))} rows at {site} have no "
                    "weighted sum; leave out the weights to join them"
                )
            lengths[name] = sum(counts) if weights is None else counts[0]
            if not lengths[name]:
                continue
            path = path_of(site)
            rows = [np.asarray(params[path]) for _, params in parts if path in params]
            joined = (
                np.concatenate(rows)
                if weights is None
                else np.tensordot(weights, rows, axes=1)
            )
            composed[path] = joined.astype(np.float32)
        return Prompt(**lengths), composed

    def fold(self, params: Params) -> Params:
        del params
        raise ValueError(
            "a prompt is read by the model and does not fold into its parameters; keep "
            "it as an adapter"
        )

    def num_parameters(self, config: Any) -> int:
        """P d for the encoder, as in Lester et al., Table 4, and for the decoder."""
        one = (self.length + self.decoder_length) * config.emb_dim
        return one * (self.num_adapters or 1)


class Rows(nn.Module):
    """Puts learned rows in front of a sequence.

    The adapters of a bank may have fewer: theirs are the last ones, and those before
    them are not seen. Behind them they would move the text away from the prompt.

    Attributes:
        length: How many; of a bank, the most that an adapter has.
        init_range: Least and largest of the uniform initial values.
        num_adapters: Sets of rows in the bank; None for a single one.
    """

    length: int
    init_range: tuple[float, float]
    num_adapters: int | None = None

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch *rest length embed"],
        mask: Bool[Array, "batch *rest length"],
        adapter_index: Int[Array, "batch"] | None,
    ) -> tuple[
        Float[Array, "batch *rest longer embed"], Bool[Array, "batch *rest longer"]
    ]:
        low, high = self.init_range
        bank = () if self.num_adapters is None else (self.num_adapters,)
        axes = (*(("adapters",) if bank else ()), "prompt", "prompt_embed")
        shape = (*bank, self.length, x.shape[-1])
        init = sharding.boxed(
            lambda key, shape, dtype: jax.random.uniform(key, shape, dtype, low, high),
            axes,
        )
        rows = self.param("embedding", init, shape, jnp.float32).astype(x.dtype)
        seen = jnp.ones((*mask.shape[:-1], self.length), bool)
        if bank:
            rows = _base.rows_of(rows, adapter_index, x.ndim)
            every = sharding.boxed(nn.initializers.constant(self.length), ("adapters",))
            lengths = self.param("length", every, bank, jnp.int32)
            lengths = _base.rows_of(lengths[:, None], adapter_index, mask.ndim)
            number = jnp.arange(self.length).reshape((1,) * (mask.ndim - 1) + (-1,))
            seen &= number >= self.length - lengths
        else:
            rows = rows.reshape((1,) * (x.ndim - 2) + rows.shape)
        rows = jnp.broadcast_to(rows, (*x.shape[:-2], *rows.shape[-2:]))
        return (
            jnp.concatenate([rows, x], axis=-2),
            jnp.concatenate([seen, mask], axis=-1),
        )


def path_of(site: Site) -> str:
    """The parameter that holds the rows of a site, joined by '/'."""
    return f"{site}/{_NAME}/embedding"


def length_path(site: Site) -> str:
    """The array of a bank that says how many rows each adapter has at a site."""
    return f"{site}/{_NAME}/length"


METHOD = Prompt
