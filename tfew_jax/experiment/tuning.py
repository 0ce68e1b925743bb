"""One run: a recipe, a frozen base, batches, and a state that survives a kill.

Programs depend on the base's sizes, the arrays of the method and the recipe, on neither
seed, rows, initial values nor peak rate: one `Tuner` serves all runs of an experiment
and compiles once for each shape, and so do several that differ in no more.
"""

import contextlib
import dataclasses
import functools
import hashlib
import math
import pathlib
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tfew_jax import checkpoint, losses, models, optim, peft, train
from tfew_jax.data import batching
from tfew_jax.experiment import memory, training
from tfew_jax.experiment import progress as progress_module
from tfew_jax.experiment.base import Base
from tfew_jax.peft import PeftMethod
from tfew_jax.types import Batch, Params


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """How an adapter is trained; the defaults are T-Few's.

    Liu et al., 2022 (https://arxiv.org/abs/2205.05638), Section 3 and appendix A.

    Attributes:
        num_steps: Updates of a run, whatever the base was trained for.
        batch_size: Inputs a step, each with all its answer choices.
        num_micro_batches: Parts in which a batch is computed; saves memory only.
        learning_rate: Peak rate.
        schedule: "linear_decay" after a linear warm-up, "constant", or "inverse_sqrt",
            T5's in pre-training, which holds the rate for 10,000 steps.
        warmup_ratio: Share of the steps that the rate rises in a linear decay.
        loss: Weights of the three losses.
        adafactor: Arguments of `optim.adafactor` that differ from its defaults;
            kept as pairs, so that a recipe can be hashed.
    """

    num_steps: int = 1000
    batch_size: int = 8
    num_micro_batches: int = 1
    learning_rate: float = 3e-3
    schedule: str = "linear_decay"
    warmup_ratio: float = 0.06
    loss: losses.TFewLoss = dataclasses.field(default_factory=losses.TFewLoss)
    adafactor: Mapping[str, Any] | tuple[tuple[str, Any], ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(
            self, "adafactor", tuple(sorted(dict(self.adafactor).items()))
        )
        for name in ("num_steps", "batch_size", "num_micro_batches"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} must be a positive integer, got {value!r}")
        if self.batch_size % self.num_micro_batches:
            raise ValueError(
                f"batch_size={self.batch_size} is not divisible by "
                f"num_micro_batches={self.num_micro_batches}"
            )
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise ValueError(
                f"learning_rate must be positive, got {self.learning_rate}"
            )
        if self.schedule not in ("linear_decay", "constant", "inverse_sqrt"):
            raise ValueError(
                "schedule must be linear_decay, constant or inverse_sqrt, got "
                f"{self.schedule!r}"
            )

    @classmethod
    def for_method(cls, method: PeftMethod, **settings: Any) -> "Recipe":
        """The recipe of a method: what it states, T-Few's for the rest.

        Args:
            method: What is trained.
            **settings: Fields that are given; None leaves one to the method.
        """
        given = {name: value for name, value in settings.items() if value is not None}
        return cls(**{**method.recipe, **given})

    def to_dict(self) -> dict[str, Any]:
        """Fields as JSON values."""
        return {**dataclasses.asdict(self), "adafactor": dict(self.adafactor)}

    def by_likelihood(self) -> "Recipe":
        """The same with the likelihood of the right target as the only loss."""
        loss = losses.TFewLoss(unlikelihood=0.0, length_normalized=0.0)
        return dataclasses.replace(self, loss=loss)

    def make_schedule(self) -> optim.Schedule:
        """From updates done to the learning rate of the next one."""
        if self.schedule == "constant":
            return optim.constant(self.learning_rate)
        if self.schedule == "inverse_sqrt":
            return optim.inverse_sqrt(self.learning_rate)
        return optim.linear_decay(
            self.learning_rate, self.num_steps, warmup_ratio=self.warmup_ratio
        )


class Tuner:
    """Trains adapters of one method over one base by one recipe."""

    def __init__(
        self,
        base: Base,
        method: PeftMethod,
        recipe: Recipe,
        *,
        initial: checkpoint.Adapter | None = None,
        class_labels: Sequence[str] = (),
    ):
        """Builds the programs; they compile when they are first called.

        Args:
            base: The frozen model.
            method: What is trained.
            recipe: How.
            initial: Adapter that runs start from, as T-Few's pre-trained vectors;
                None for the method's own start.
            class_labels: Answers of the task, of which a method may make its start.

        Raises:
            ValueError: If the method trains nothing on this base, cannot make its
                start there, or the adapter is another method's or another model's.
        """
        self.base, self.method, self.recipe = base, method, recipe
        self._initial = initial
        rows = None if initial is not None else method.read_start()
        self._context = peft.StartContext(
            embedding=base.params["token_embedder"]["embedding"],
            encode=functools.partial(base.tokenizer.encode, add_eos=False),
            class_labels=tuple(class_labels),
            file_rows=rows,
        )
        self.notes: list[str] = []
        if initial is None:
            self.notes += method.check_start(self._context)
        else:
            if difference := method.difference(initial.method):
                raise ValueError(
                    f"the adapter to start from {difference} as this run trains; give "
                    "one of the same method and settings"
                )
            initial.check(base.config, source="the adapter to start from")
        self.model = models.T5(base.config, method)
        self._frozen = train.frozen_half(base.packed, method)
        self._init_trainable = _initializer(base.config, method)
        self._programs = _make_programs(base.config, *_shared(method, recipe))

    @property
    def start_settings(self) -> dict[str, Any]:
        """What determines the start beside the method's settings, as JSON values."""
        initial = self._initial
        settings = {"initial": None if initial is None else initial.fingerprint}
        if (rows := self._context.file_rows) is not None:
            content = repr(rows.shape).encode() + rows.tobytes()
            settings["init_file.digest"] = hashlib.sha256(content).hexdigest()[:16]
        return settings

    def init_state(self, seed: int) -> train.TrainState:
        """The state of a run before its first step."""
        if self._initial is not None:
            scans = self.base.config.scan_layers
            stack = models.stack_layers if scans else models.unstack_layers
            arrays = jax.tree.map(
                lambda leaf: jnp.array(leaf, jnp.float32), stack(self._initial.params)
            )
            return self._programs.state_of(arrays)
        if not self.method.adds_parameters:
            own, _ = train.partition(self.base.params, self.method)
            return self._programs.state_of(own)
        key = jax.random.key(seed)
        own = self._init_trainable(key)
        return self._programs.state_of(self.method.initial(own, key, self._context))

    def params(self, trainable: Params) -> Params:
        """Parameters of the adapted model."""
        return train.combine(trainable, self._frozen)

    def adapter(
        self, trainable: Params, *, task: dict[str, Any], metadata: dict[str, Any]
    ) -> checkpoint.Adapter:
        """The trained half as it is saved; the metadata say what it started from."""
        arrays = jax.tree.map(np.asarray, models.unstack_layers(trainable))
        return checkpoint.Adapter(
            method=self.method,
            params=arrays,
            config=self.base.config,
            task=task,
            metadata={**metadata, **self.start_settings},
        )

    def train(
        self,
        batch_at: Callable[[int], Batch],
        *,
        seed: int,
        name: str,
        progress: progress_module.Progress,
        checkpoints: pathlib.Path | None = None,
        checkpoint_period: int | None = None,
        keep_last: int = 2,
        watch: training.Watch | None = None,
    ) -> tuple[Params, int]:
        """Trains one adapter, from its last checkpoint if there is one.

        Args:
            batch_at: The batch of a step.
            seed: Of dropout and initial values.
            name: Of the run, for messages.
            progress: Where the steps are reported.
            checkpoints: Directory of the run's checkpoints; None keeps none.
            checkpoint_period: See `training.train_members`, as of the following ones.
            keep_last: How many are kept beside the best.
            watch: Called with the number of updates and the state.

        Returns:
            The trainable half, and the step from which this process went on.

        Raises:
            train.NonFiniteLoss: If the loss is not finite; the last checkpoint,
                which is good, is kept.
            Interrupted: If the user pressed Ctrl-C; the state is saved.
        """
        (trained,) = self.train_members(
            [self.member(seed, name, checkpoints=checkpoints)],
            self.reads(batch_at),
            name=name,
            progress=progress,
            checkpoint_period=checkpoint_period,
            keep_last=keep_last,
            watch=watch,
        )
        if trained.trainable is None:
            assert trained.failure is not None
            raise trained.failure
        return trained.trainable, trained.first_step

    def member(self, seed: int, name: str, **more: Any) -> training.Member:
        """One run of this tuner; see `training.Member`."""
        return training.Member(
            name=name,
            seed=seed,
            peak_rate=self.recipe.learning_rate,
            start=functools.partial(self.init_state, seed),
            **more,
        )

    def train_members(
        self,
        members: Sequence[training.Member],
        batch_at: Callable[[int], Batch],
        **settings: Any,
    ) -> list[training.Trained]:
        """Trains runs of this tuner, and of others of the same `program`, together.

        Args:
            members: Each made by `member` of its own tuner.
            batch_at: The batch of a step as `reads` leaves it, with an adapters axis
                if there are several members.
            **settings: Of `training.train_members`.

        Raises:
            Interrupted: If the user pressed Ctrl-C; the states are saved.
            MemoryError: If the device has too little memory.
        """
        with self._explained_memory(batch_at):
            return training.train_members(
                members,
                batch_at,
                step_fn=self._programs.step,
                frozen=self._frozen,
                num_steps=self.recipe.num_steps,
                **settings,
            )

    def reads(self, batch_at: Callable[[int], Batch]) -> Callable[[int], Batch]:
        """Batches of one run without the choices that the loss does not read."""
        if self.recipe.loss.reads_wrong_choices:
            return batch_at
        return functools.partial(_right_choices_at, batch_at)

    @property
    def program(self) -> Hashable:
        """What runs must have in common to train together."""
        return self.base, *_shared(self.method, self.recipe)

    def step_bytes(self, batch: Batch) -> int:
        """What the compiler says a step needs beside the frozen model.

        Args:
            batch: With an adapters axis.
        """
        num_adapters = len(batch["label"])
        keys = train.adapter_keys(range(num_adapters))
        own = jax.eval_shape(self._init_trainable, jax.random.key(0))
        state = jax.eval_shape(
            lambda own: self._programs.state_of([own] * num_adapters), own
        )
        rates = jnp.ones(num_adapters)
        step: Any = self._programs.step
        lowered = step.lower(state, self._frozen, batch, keys, rates)
        needed = lowered.compile().memory_analysis().temp_size_in_bytes
        for leaf in jax.tree.leaves((state, batch)):
            needed += leaf.size * leaf.dtype.itemsize
        return needed

    def _explained_memory(
        self, batch_at: Callable[[int], Batch]
    ) -> contextlib.AbstractContextManager[None]:
        """Says of a device without memory what a step needs and what helps."""

        def need() -> str:
            batch = batch_at(0)
            return (
                f"a step of {self.recipe.batch_size} inputs as long as "
                f"{batch['encoder_input_tokens'].shape[-1]} tokens with "
                f"{batch['decoder_target_tokens'].shape[-2]} choices needs "
                f"{self._step_memory(batch)}"
            )

        return memory.explained(
            self.base.params,
            need,
            "A larger NUM_MICRO_BATCHES, a smaller BATCH_SIZE and shorter "
            "TASK_FEATURE_LENGTHS help",
        )

    def _step_memory(self, batch: Batch) -> str:
        try:
            has_axis = np.ndim(batch["label"]) > 1
            batch = batch if has_axis else train.stack_batches([batch])
            return memory.size(self.step_bytes(batch))
        except Exception:  # the compiler may be out of memory as well
            return "more than is left"


@dataclasses.dataclass(frozen=True)
class _Programs:
    """What is compiled for a model, the arrays of a method and a recipe."""

    state_of: Callable[[Params | Sequence[Params]], train.TrainState]
    step: train.StepFn


@functools.lru_cache(maxsize=4)  # as many experiments of a process share them
def _make_programs(
    config: models.T5Config, method: PeftMethod, recipe: Recipe
) -> _Programs:
    boxed = models.boxed_abstract_params(config, method)
    leading_axes = optim.stacked_axes(train.partition(boxed, method)[0])
    optimizer = optim.adafactor(leading_axes=leading_axes, **dict(recipe.adafactor))
    step = train.make_train_step(
        log_probs_fn=functools.partial(
            models.token_log_probs, models.T5(config, method)
        ),
        loss=recipe.loss,
        optimizer=optimizer,
        schedule=recipe.make_schedule(),
        num_steps=recipe.num_steps,
        num_micro_batches=recipe.num_micro_batches,
    )
    state_of = jax.jit(functools.partial(train.init_state, optimizer=optimizer))
    return _Programs(state_of, step)


@functools.lru_cache(maxsize=16)
def _initializer(
    config: models.T5Config, method: PeftMethod
) -> Callable[[jax.Array], Params]:
    """The trainable half as the modules of a method initialise it, from a key."""

    def init_trainable(key: jax.Array) -> Params:
        params = models.init(config, method, key)  # the frozen half is not computed
        return train.partition(params, method)[0]

    return jax.jit(init_trainable)


def _shared(method: PeftMethod, recipe: Recipe) -> tuple[PeftMethod, Recipe]:
    """What a program depends on: neither initial values nor the peak rate."""
    return method.without_start(), dataclasses.replace(recipe, learning_rate=1.0)


def _right_choices_at(batch_at: Callable[[int], Batch], step: int) -> Batch:
    return batching.right_choices(batch_at(step))
