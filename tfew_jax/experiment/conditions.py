"""What a comparison is over: conditions of the frozen model, and what is tuned on each.

The two of the prompt tuning paper (Lester et al., 2021,
https://arxiv.org/abs/2104.08691) are `adaptation_lengths`, Figure 3d, with the sentinel
of Figure 3c as a condition of its own, and `model_family`, Figures 1 and 3a;
`prompt_lengths` are the lengths of Figure 3a, on one model.
"""

import dataclasses
import math
import os
import pathlib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tfew_jax import peft
from tfew_jax.experiment import continuing, pretraining
from tfew_jax.experiment.tuning import Recipe

PathLike = str | os.PathLike[str]
PARAMETERS = "parameters"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Adaptation:
    """LM adaptation of a base before anything is tuned on it; see `pretrain`.

    Attributes:
        arrays: Directory of token arrays, of prefix LM in the paper.
        recipe: How; its `num_steps` is the length of the adaptation.
        validation: Directory of token arrays whose loss is measured.
        seed: Of the order of the rows and of dropout.
        dropout_rate: In the adaptation; tuning has the base's own.
        eval_period: Updates between validation losses.
        eval_batches: Batches of each.
        checkpoint_period: Updates between checkpoints.
    """

    arrays: PathLike
    recipe: Recipe
    validation: PathLike | None = None
    seed: int = 0
    dropout_rate: float = 0.0
    eval_period: int = 1000
    eval_batches: int = 20
    checkpoint_period: int = 1000

    @property
    def num_steps(self) -> int:
        return self.recipe.num_steps

    def is_start_of(self, other: "Adaptation") -> bool:
        """Whether the other one passes through this one's end, to the bit.

        It does if it is longer, the same otherwise, and its learning rate does not
        depend on the number of steps.
        """
        recipe = dataclasses.replace(self.recipe, num_steps=other.num_steps)
        return (
            self.num_steps < other.num_steps
            and self.recipe.schedule not in continuing.DEPENDENT
            and dataclasses.replace(self, recipe=recipe) == other
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Condition:
    """The frozen model of one point of a chart, and what it asks of a method.

    Attributes:
        name: What reports call it.
        base: Directory of the model; None for the embedded one.
        x: Its place on the chart's axis; "parameters" for the number of the model's;
            None for a place of its own beside the axis.
        adaptation: What is done to the model first.
        target_prefix: Before every choice; "<extra_id_0>" for a model that has seen
            nothing but span corruption.
        settings: Of each line's method, in place of its own; such as a length.
    """

    name: str
    base: PathLike | None = None
    x: int | float | str | None = None
    adaptation: Adaptation | None = None
    target_prefix: str = ""
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        if isinstance(self.x, str):
            if self.x != PARAMETERS:
                raise ValueError(
                    f"{self.name}: x must be a number, {PARAMETERS!r} or None, got "
                    f"{self.x!r}"
                )
        elif self.x is not None and not math.isfinite(self.x):
            raise ValueError(f"{self.name}: x must be finite, got {self.x}")

    def is_same_model(self, other: "Condition") -> bool:
        """Whether the frozen model is the same, and what its targets begin with."""
        fields = ("base", "adaptation", "target_prefix")
        return all(getattr(self, name) == getattr(other, name) for name in fields)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Line:
    """What is tuned on the model of every condition.

    Attributes:
        name: What reports call it; empty for the method's name.
        method: A PEFT method or its name.
        recipe: How it is trained.
    """

    name: str = ""
    method: peft.PeftMethod | str = "ia3"
    recipe: Recipe = dataclasses.field(default_factory=Recipe)

    def __post_init__(self) -> None:
        if isinstance(self.method, str):
            object.__setattr__(self, "method", peft.get(self.method)())
        if not self.name:
            object.__setattr__(self, "name", self.made.name)

    @property
    def made(self) -> peft.PeftMethod:
        """The method itself."""
        assert not isinstance(self.method, str)
        return self.method

    def method_on(self, condition: Condition) -> peft.PeftMethod:
        """The method with the settings of a condition.

        Raises:
            ValueError: If the method has no such setting, or not with this value.
        """
        if not condition.settings:
            return self.made
        try:
            return peft.from_dict({**self.made.to_dict(), **condition.settings})
        except ValueError as error:
            raise ValueError(f"{self.name}, {condition.name}: {error}") from error


def adaptation_lengths(
    *,
    base: PathLike | None,
    arrays: PathLike,
    lengths: Sequence[int],
    recipe: Recipe,
    validation: PathLike | None = None,
    seed: int = 0,
    dropout_rate: float = 0.0,
    eval_period: int = 1000,
    eval_batches: int = 20,
    checkpoint_period: int = 1000,
    name: str = "LM-adapted",
) -> tuple[Condition, ...]:
    """A condition for each length of an adaptation of one model.

    Each length has a run of its own, which ends as if it had started from the base.
    Where the learning rate does not depend on the number of steps, a longer one goes on
    from the end of a shorter one, so that all together cost what the longest costs;
    and a length that is added later costs only what it is longer.

    Args:
        base: Directory of the model that all start from; None for the embedded one.
        arrays: See `Adaptation`.
        lengths: Numbers of updates, increasing.
        recipe: How; its `num_steps` is replaced.
        validation: See `Adaptation`.
        seed: See `Adaptation`.
        dropout_rate: See `Adaptation`.
        eval_period: See `Adaptation`.
        eval_batches: See `Adaptation`.
        checkpoint_period: See `Adaptation`.
        name: What the names of the conditions begin with.

    Raises:
        ValueError: If there are no lengths, or they do not increase.
    """
    if not lengths or any(a >= b for a, b in zip([0, *lengths], lengths, strict=False)):
        raise ValueError(
            f"lengths must be positive and increase, got {list(lengths)}; the model "
            "without adaptation is a condition of its own"
        )
    return tuple(
        Condition(
            name=f"{name}, {length:,} steps",
            base=base,
            x=length,
            adaptation=Adaptation(
                arrays=arrays,
                recipe=dataclasses.replace(recipe, num_steps=length),
                validation=validation,
                seed=seed,
                dropout_rate=dropout_rate,
                eval_period=eval_period,
                eval_batches=eval_batches,
                checkpoint_period=checkpoint_period,
            ),
        )
        for length in lengths
    )


def model_family(models: Sequence[PathLike | None]) -> tuple[Condition, ...]:
    """A condition for each model of a family, placed by the number of its parameters.

    They are named by their directories; a `final_model` by the run that holds it, the
    embedded one (None) "embedded".
    """
    return tuple(
        Condition(name=model_name(model), base=model, x=PARAMETERS) for model in models
    )


def prompt_lengths(
    lengths: Sequence[int], *, base: PathLike | None = None
) -> tuple[Condition, ...]:
    """A condition for each length of a prompt; the model is always the same one.

    Args:
        lengths: Positions of the encoder's prompt.
        base: Directory of the model; None for the embedded one.
    """
    return tuple(
        Condition(
            name=f"{length} position{'' if length == 1 else 's'}",
            base=base,
            x=length,
            settings={"length": length},
        )
        for length in lengths
    )


def model_name(model: PathLike | None) -> str:
    """What a model is called: by its directory, or the run whose final one it is."""
    if model is None:
        return "embedded"
    path = pathlib.Path(model).expanduser().absolute()
    return path.parent.name if path.name == pretraining.FINAL_MODEL else path.name


def folder(name: str) -> str:
    """The name of a directory for what is called so."""
    return re.sub(r"[^\w.+-]+", "-", name).strip("-.") or "-"


def check_names(what: str, names: Iterable[str]) -> None:
    """Refuses none at all, and two that would share a directory.

    Raises:
        ValueError: If that is so.
    """
    found: dict[str, str] = {}
    for name in names:
        if (other := found.get(folder(name))) is not None:
            raise ValueError(
                f"two {what}s, {other!r} and {name!r}, would share the directory "
                f"{folder(name)}; give each its own name"
            )
        found[folder(name)] = name
    if not found:
        raise ValueError(f"there is no {what} to compare; give at least one")
