"""One run: a recipe, a frozen base, batches, and a state that survives a kill.

Programs depend on the base's sizes, the method and the recipe, on neither seed nor
rows: one `Tuner` serves all runs of an experiment and compiles once for each shape.
"""

import contextlib
import dataclasses
import functools
import math
import pathlib
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tfew_jax import checkpoint, losses, models, optim, peft, train
from tfew_jax.data import batching
from tfew_jax.experiment import memory
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


class Interrupted(KeyboardInterrupt):
    """The user asked to stop; what was reached is saved."""


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
        self._context = peft.StartContext(
            embedding=base.params["token_embedder"]["embedding"],
            encode=functools.partial(base.tokenizer.encode, add_eos=False),
            class_labels=tuple(class_labels),
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
        self._frozen = train.frozen_half(base.params, method)
        self._programs = _make_programs(base.config, method, recipe)

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
        own = self._programs.init_trainable(key)
        return self._programs.state_of(self.method.initial(own, key, self._context))

    def params(self, trainable: Params) -> Params:
        """Parameters of the adapted model."""
        return train.combine(trainable, self._frozen)

    def adapter(
        self, trainable: Params, *, task: dict[str, Any], metadata: dict[str, Any]
    ) -> checkpoint.Adapter:
        """The trained half as it is saved."""
        arrays = jax.tree.map(np.asarray, models.unstack_layers(trainable))
        return checkpoint.Adapter(
            method=self.method,
            params=arrays,
            config=self.base.config,
            task=task,
            metadata=metadata,
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
        watch: Callable[[int, train.TrainState], bool | None] | None = None,
    ) -> tuple[Params, int]:
        """Trains one adapter, from its last checkpoint if there is one.

        Args:
            batch_at: The batch of a step.
            seed: Of dropout and initial values.
            name: Of the run, for messages.
            progress: Where the steps are reported.
            checkpoints: Directory of the run's checkpoints; None keeps none.
            checkpoint_period: Steps between checkpoints; None for the last only.
            keep_last: How many are kept beside the best.
            watch: Called with the number of updates and the state, before the first
                update here and after each, before a checkpoint. It must not keep the
                state; where it returns True the run ends there, and again where it
                is started again.

        Returns:
            The trainable half, and the step from which this process went on.

        Raises:
            train.NonFiniteLoss: If the loss is not finite; the last checkpoint,
                which is good, is kept.
            Interrupted: If the user pressed Ctrl-C; the state is saved.
        """
        if not self.recipe.loss.reads_wrong_choices:
            batch_at = functools.partial(_right_choices_at, batch_at)
        state = self.init_state(seed)
        manager = None
        if checkpoints is not None:
            from tfew_jax.checkpoint import run as run_checkpoints

            manager = run_checkpoints.RunCheckpoints(
                checkpoints, keep_last=keep_last, keep_best=True
            )
            if manager.latest_step() is not None:
                state = manager.restore(state)
        first_step = int(np.asarray(state.step)[0])
        num_steps = self.recipe.num_steps
        period = checkpoint_period or num_steps
        steps = train.training_steps(
            state,
            self._frozen,
            batch_at,
            train.adapter_keys([seed]),
            step_fn=self._programs.step,
            num_steps=num_steps,
        )
        with contextlib.ExitStack() as stack:
            if manager is not None:
                stack.callback(manager.close)
            stack.enter_context(
                progress.run(name, first_step=first_step, num_steps=num_steps)
            )
            stop = stack.enter_context(_stop_requested(progress.say))
            mean_loss = _Mean()
            stack.enter_context(self._explained_memory(batch_at))
            if watch is not None and watch(first_step, state):
                return train.adapter_params(state), first_step
            for info in steps:
                state = info.state
                metrics = {k: float(v[0]) for k, v in info.metrics.items()}
                progress.step(info.step, metrics)
                mean_loss.add(metrics["loss"])
                is_last = info.step == num_steps
                if watch is not None and watch(info.step, state):
                    is_last = True
                is_due = info.step % period == 0 or is_last
                if manager and (is_due or stop.is_set()):
                    metric = -mean_loss.take() if is_due else None
                    manager.save(info.step, state, metric=metric)
                if is_last:
                    break
                if stop.is_set():
                    kept = f"step {info.step} of {name} is saved" if manager else name
                    raise Interrupted(f"stopped; {kept}, the same command goes on")
        return train.adapter_params(state), first_step

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
        """What the compiler says a step needs beside the frozen model."""
        key = jax.random.key(0)
        own = jax.eval_shape(self._programs.init_trainable, key)
        state = jax.eval_shape(self._programs.state_of, own)
        batch = train.stack_batches([batch])
        try:
            step: Any = self._programs.step
            lowered = step.lower(state, self._frozen, batch, train.adapter_keys([0]))
            return memory.size(lowered.compile().memory_analysis().temp_size_in_bytes)
        except Exception:  # the compiler may be out of memory as well
            return "more than is left"


@dataclasses.dataclass(frozen=True)
class _Programs:
    """What is compiled for a model, a method and a recipe."""

    init_trainable: Callable[[jax.Array], Params]
    state_of: Callable[[Params], train.TrainState]
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

    def init_trainable(key: jax.Array) -> Params:
        params = models.init(config, method, key)  # the frozen half is not computed
        return train.partition(params, method)[0]

    state_of = jax.jit(functools.partial(train.init_state, optimizer=optimizer))
    return _Programs(jax.jit(init_trainable), state_of, step)


def _right_choices_at(batch_at: Callable[[int], Batch], step: int) -> Batch:
    return batching.right_choices(batch_at(step))


class _Mean:
    """Running mean of the losses since the last checkpoint."""

    def __init__(self) -> None:
        self._sum, self._count = 0.0, 0

    def add(self, value: float) -> None:
        self._sum, self._count = self._sum + value, self._count + 1

    def take(self) -> float:
        mean = self._sum / max(self._count, 1)
        self._sum, self._count = 0.0, 0
        return mean


@contextlib.contextmanager
def _stop_requested(say: Callable[[str], None]) -> Iterator[threading.Event]:
    """An event that the first SIGINT sets; the second one interrupts at once.

    Signals reach only the main thread; elsewhere the event is never set.
    """
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = signal.getsignal(signal.SIGINT)

    def request(signum: int, frame: Any) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        say("stopping after this step; press Ctrl-C again to stop at once")

    signal.signal(signal.SIGINT, request)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)
