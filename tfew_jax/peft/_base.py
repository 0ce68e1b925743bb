"""The contract between models and methods.

A method adds parameters at sites of the model, or selects some of the model's own. A
site is a place where a method may act. There are three kinds, each with one signature,
so that a new method never changes a layer:

    rescale   x -> x                    keys, values, hidden layer
    lengthen  (x, mask) -> (x, mask)    the encoder's input, the decoder's input
    dense     (inputs, y) -> y          every dense kernel

`adapter_index` names the adapter of each row where a method holds several (a bank);
it is None where it holds one.

Modules initialise what they add; `PeftMethod.initial` may put other values in their
place, made of what its `StartContext` tells about the frozen model and the task.
"""

import dataclasses
import enum
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from flax import traverse_util
from jaxtyping import Array, Bool, Float, Int, Key, Shaped

from tfew_jax import sharding, types
from tfew_jax.types import Params


class Site(enum.StrEnum):
    """Where a method may act; the value is part of parameter names."""

    KEY = "key"  # rescale, before the head split
    VALUE = "value"  # rescale, before the head split
    MLP_HIDDEN = "mlp_hidden"  # rescale, after the activation
    ENCODER_INPUT = "encoder_input"  # lengthen, before the embedding dropout
    DECODER_INPUT = "decoder_input"  # lengthen, before the embedding dropout
    DENSE = "dense"  # dense, at every kernel of attention and feed-forward


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class StartContext:
    """What initial values may be made of, beside a key.

    Attributes:
        embedding: The frozen model's token embedding.
        encode: Token ids of a text, without end of sequence.
        class_labels: Answers of the task, where all its rows have the same ones.
        file_rows: What the method's `read_start` has read; None lets it read again.
    """

    embedding: Float[types.Array, "vocab embed"]
    encode: Callable[[str], list[int]]
    class_labels: tuple[str, ...] = ()
    file_rows: Float[np.ndarray, "prompt columns"] | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class PeftMethod:
    """A way to tune a frozen model with few parameters.

    Subclasses say what module acts at a site and how their parameters fold into
    the frozen ones. They are hashable, so that a model may hold them.

    Attributes:
        num_adapters: Size of the bank, or None for one adapter without that axis.
    """

    name: ClassVar[str]
    trainable: ClassVar[str]  # pattern of the parameter paths that are trained
    adds_parameters: ClassVar[bool] = True  # else it trains some of the model's own
    folds: ClassVar[bool] = True  # whether a plain model can compute the same
    banks: ClassVar[bool] = True  # whether rows of a batch can each have their own
    start_settings: ClassVar[tuple[str, ...]] = ()  # that say no more than the start
    recipe: ClassVar[Mapping[str, Any]] = {}  # training that differs from T-Few's

    num_adapters: int | None = None

    def __post_init__(self) -> None:
        if self.num_adapters is not None and self.num_adapters < 1:
            raise ValueError(f"num_adapters must be positive, got {self.num_adapters}")

    def module_at(self, site: Site) -> nn.Module | None:
        """The module that acts at a site, or None."""
        raise NotImplementedError

    def added_positions(self, site: Site) -> int:
        """How many positions the method puts in front at a lengthening site."""
        del site
        return 0

    @property
    def lengthens(self) -> bool:
        """Whether sequences get longer, so that examples cannot be packed."""
        return any(self.added_positions(site) for site in Site)

    @property
    def acts_in_encoder(self) -> bool:
        """Whether the encoded input depends on the adapter; else adapters share it."""
        sites = set(Site) - {Site.DECODER_INPUT}
        return not self.adds_parameters or any(
            self.module_at(site) is not None for site in sites
        )

    def read_start(self) -> Float[np.ndarray, "prompt columns"] | None:
        """What training starts from in a file; None where it starts from none.

        Raises:
            ValueError: If the file cannot be read.
        """
        return None

    def check_start(self, context: StartContext) -> list[str]:
        """What is worth knowing of the initial values, a line each.

        Raises:
            ValueError: If they cannot be made on that model for that task.
        """
        del context
        return []

    def initial(
        self, params: Params, key: Key[Array, ""], context: StartContext
    ) -> Params:
        """The trainable half that a run starts from.

        Args:
            params: The trainable half as the modules initialise it.
            key: The run's; the same key gives the same values.
            context: The frozen model and the task.

        Raises:
            ValueError: As `check_start`.
        """
        del key, context
        return params

    def fold(self, params: Params) -> Params:
        """Parameters of a plain model that computes the same.

        The given tree is left as it is: the base is kept, never divided back.

        Raises:
            ValueError: If the method does not fold, or holds a bank.
        """
        raise NotImplementedError

    def bank(self, others: Iterable["PeftMethod"], num_adapters: int) -> "PeftMethod":
        """The method whose bank holds adapters of this method and of the others.

        It says nothing of how they started, so that banks of equal shapes are equal.

        Raises:
            ValueError: If a row cannot choose between them.
        """
        if not self.banks:
            raise ValueError(f"adapters of the method {self.name!r} have no bank")
        for other in others:
            if difference := self.difference(other):
                raise ValueError(
                    f"an adapter {difference} as the others beside it; adapters of one "
                    "bank share method and settings"
                )
        return dataclasses.replace(self.without_start(), num_adapters=num_adapters)

    def slot(
        self, params: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]
    ) -> dict[str, np.ndarray]:
        """One adapter's arrays as a bank of this method holds them.

        Args:
            params: The arrays by path; none for a slot that changes nothing.
            shapes: The paths and shapes of a slot of the bank.
        """
        raise NotImplementedError

    def compose(
        self,
        parts: Sequence[tuple["PeftMethod", Mapping[str, Any]]],
        weights: Sequence[float] | None,
    ) -> tuple["PeftMethod", dict[str, np.ndarray]]:
        """One adapter that stands for several of a model.

        Args:
            parts: Method and arrays by path of each; this method is the first one's.
            weights: Factors of a sum of the arrays, one a part. None for what the parts
                do to the model together, in their order.

        Returns:
            Method and float32 arrays of the one adapter.

        Raises:
            ValueError: If there is no such adapter.
        """
        raise ValueError(f"adapters of the method {self.name!r} do not compose")

    def num_parameters(self, config: Any) -> int:
        """Trainable parameters that the method adds to a model of that config."""
        raise NotImplementedError

    def trainable_paths(self, params: Params) -> set[str]:
        """Paths, joined by '/', of the parameters that are trained.

        Raises:
            ValueError: If there is none.
        """
        paths = ["/".join(path) for path in traverse_util.flatten_dict(dict(params))]
        found = {path for path in paths if re.search(self.trainable, path)}
        if not found:
            raise ValueError(
                f"no parameter path matches {self.trainable!r}, so nothing would be "
                f"trained; the first paths are {sorted(paths)[:3]}"
            )
        return found

    def difference(self, other: "PeftMethod") -> str:
        """How the arrays of another method are not this one's; empty if they are.

        Settings that only say where training starts make no difference.
        """
        if self.name != other.name:
            return f"is of the method {other.name!r}, not {self.name!r}"
        mine, theirs = self.to_dict(), other.to_dict()
        settings = [
            f"{name}={theirs[name]}, not {mine[name]}"
            for name in mine
            if name not in self.start_settings and mine[name] != theirs[name]
        ]
        return f"has {'; '.join(settings)}" if settings else ""

    def without_start(self) -> "PeftMethod":
        """The same with the default start: equal where the arrays are alike."""
        defaults = {
            field.name: field.default
            for field in dataclasses.fields(self)
            if field.name in self.start_settings
        }
        return dataclasses.replace(self, **defaults)

    def to_dict(self) -> dict[str, Any]:
        """Name and settings, as they are saved beside an adapter."""
        settings = dataclasses.asdict(self)
        settings = {
            k: list(v) if isinstance(v, tuple) else v for k, v in settings.items()
        }
        return {"name": self.name, **settings}

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> "PeftMethod":
        """Builds the method from `to_dict` without the name.

        Raises:
            ValueError: If a setting is unknown or not allowed.
        """
        known = {field.name for field in dataclasses.fields(cls)}
        if unknown := sorted(set(settings) - known):
            raise ValueError(
                f"unknown settings {unknown} of method {cls.name!r}; "
                f"known: {', '.join(sorted(known))}"
            )
        tuples: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in settings.items()
        }
        return cls(**tuples)


class Rescale(nn.Module):
    """Multiplies the last dimension by a learned vector that starts at one.

    Attributes:
        axis: Logical name of the last dimension.
        num_adapters: Rows of the bank; None for a single vector.
    """

    axis: str
    num_adapters: int | None = None

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch *rest features"],
        adapter_index: Int[Array, "batch"] | None,
    ) -> Float[Array, "batch *rest features"]:
        bank = () if self.num_adapters is None else (self.num_adapters,)
        axes = (*(("adapters",) if bank else ()), self.axis)
        init = sharding.boxed(nn.initializers.ones_init(), axes)
        scale = self.param("scale", init, (*bank, x.shape[-1]), jnp.float32)
        scale = scale.astype(x.dtype)
        if bank:
            scale = rows_of(scale, adapter_index, x.ndim)
        else:
            scale = scale.reshape((1,) * (x.ndim - 1) + (-1,))
        return x * scale


def rows_of(
    bank: Shaped[types.Array, "adapters *rest features"],
    adapter_index: Int[Array, "batch"] | None,
    ndim: int,
) -> Shaped[Array, "batch *ones features"]:
    """Each row's array, shaped to broadcast over `ndim` dimensions.

    Raises:
        ValueError: If a bank is used without an index for each row.
    """
    if adapter_index is None:
        raise ValueError("a bank of adapters needs adapter_index, one entry a row")
    rows = jnp.asarray(bank)[adapter_index]
    return rows.reshape(rows.shape[0], *(1,) * (ndim - bank.ndim), *rows.shape[1:])


def rescale(
    method: PeftMethod | None,
    site: Site,
    x: Float[Array, "batch *rest features"],
    adapter_index: Int[Array, "batch"] | None,
) -> Float[Array, "batch *rest features"]:
    """What a method makes of an activation at a rescaling site."""
    module = None if method is None else method.module_at(site)
    return x if module is None else module(x, adapter_index)


def lengthen(
    method: PeftMethod | None,
    site: Site,
    x: Float[Array, "batch *rest length embed"],
    mask: Bool[Array, "batch *rest length"],
    adapter_index: Int[Array, "batch"] | None,
) -> tuple[Float[Array, "batch *rest longer embed"], Bool[Array, "batch *rest longer"]]:
    """What a method makes of a sequence and its mask at a lengthening site."""
    module = None if method is None else method.module_at(site)
    return (x, mask) if module is None else module(x, mask, adapter_index)


def added_positions(method: PeftMethod | None, site: Site) -> int:
    """How many positions `lengthen` puts in front at a site."""
    return 0 if method is None else method.added_positions(site)


def dense(
    method: PeftMethod | None,
    inputs: Float[Array, "batch *rest features"],
    y: Float[Array, "batch *rest outputs"],
    adapter_index: Int[Array, "batch"] | None,
) -> Float[Array, "batch *rest outputs"]:
    """What a method makes of a dense kernel's output, given its inputs."""
    module = None if method is None else method.module_at(Site.DENSE)
    return y if module is None else module(inputs, y, adapter_index)
