"""Training on prepared arrays by a course; needs the core install only.

A run's folder holds

    settings.json         the course, the data and the start; others are refused
    state.safetensors     parameters, optimizer and average, replaced as a whole
    log.jsonl             means of the metrics, every 50 steps and at a stop
    snapshots/PHASE/      the averaged model at the end of each phase, a model folder
"""

import collections
import dataclasses
import functools
import json
import logging
import os
import pathlib
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import safetensors.numpy
from flax import traverse_util

from base_model import batches, corpora, embedding, losses, starts
from base_model import course as course_lib
from tfew_jax import checkpoint, models
from tfew_jax.experiment import directory

log = logging.getLogger(__name__)

SETTINGS, STATE, LOG = "settings.json", "state.safetensors", "log.jsonl"
SNAPSHOTS = "snapshots"
_REPORT_EVERY = 50
State = tuple[Any, Any, Any]  # parameters, optimizer state, average of the parameters


def initial_params(
    work: pathlib.Path,
    config: models.T5Config,
    data: batches.Data,
    *,
    teacher: bool = True,
) -> dict[str, Any]:
    """Random parameters; with a teacher the prepared embeddings and the training head.

    With a teacher the encoder's output kernels start at zero, so that it first passes
    the embeddings on: training starts from a bag of words.

    Args:
        work: Folder that `prepare` wrote.
        config: The model's shape.
        data: The arrays of that folder.
        teacher: Whether a teacher is learned from.

    Raises:
        ValueError: The folder holds no embeddings, or ones that do not fit.
    """
    params = dict(models.init(config, None, jax.random.key(0)))
    if not teacher:
        return params
    table = embedding.load(work, config.vocab_size, config.emb_dim)
    flat: dict[Any, Any] = dict(traverse_util.flatten_dict(params))
    for path in flat:
        if path[0] == "encoder" and path[-2] in ("out", "wo"):
            flat[path] = jnp.zeros_like(flat[path])
    flat["token_embedder", "embedding"] = jnp.asarray(table)
    flat[losses.HEAD, "kernel"] = jnp.asarray(starts.bag_of_words_head(table, data))
    flat[losses.HEAD, "sentiment"] = jnp.zeros(config.emb_dim)
    return traverse_util.unflatten_dict(flat)


@functools.cache
def make_step(model: models.T5, course: course_lib.Course) -> Any:
    """The jitted update: step(state, batch, kind=...) -> state, metrics."""
    optimizer = course.optimizer()

    @functools.partial(jax.jit, static_argnames="kind", donate_argnums=0)
    def step(state: State, batch: Any, *, kind: str) -> tuple[State, Any]:
        params, opt_state, average = state
        grads, metrics = jax.grad(losses.loss_fn, has_aux=True)(
            params, batch, model=model, course=course, kind=kind
        )
        updates, opt_state = optimizer.update(grads, opt_state, params)
        params = optax.apply_updates(params, updates)
        decay = course.average_decay
        average = jax.tree.map(
            lambda a, p: decay * a + (1 - decay) * p, average, params
        )
        return (params, opt_state, average), metrics

    return step


def batch_at(
    data: batches.Data, course: course_lib.Course, step: int
) -> tuple[str, dict[str, np.ndarray]]:
    """Kind and batch of a step: a pure function of the step."""
    kind = course.kind_at(step)
    if kind == "distil":
        return kind, data.distil_batch(step, course.distil_tokens)
    if kind == "choice":
        return kind, data.choice_batch(step, course.rows)
    is_mixed = course.phase_at(step).name == "mixed"
    rows = course.span_rows if is_mixed else course.language_rows
    return kind, data.language_batch(kind, step, rows)


def initial_state(params: dict[str, Any], course: course_lib.Course) -> State:
    """State before the first step."""
    average = jax.tree.map(jnp.copy, params)
    return params, course.optimizer().init(params), average


def save_state(path: pathlib.Path, state: State, step: int) -> None:
    """Write the state so that the file is whole or the old one."""
    leaves = jax.tree.leaves(state)
    arrays = {str(number): np.asarray(leaf) for number, leaf in enumerate(leaves)}
    partial = path.with_suffix(".partial")
    safetensors.numpy.save_file(arrays | {"step": np.array(step)}, partial)
    os.replace(partial, path)


def load_state(path: pathlib.Path, state: State) -> tuple[State, int]:
    """Read what `save_state` wrote into a state of the same form.

    Raises:
        ValueError: The file's state has another form.
    """
    arrays = safetensors.numpy.load_file(path)
    leaves, form = jax.tree.flatten(state)
    if len(arrays) != len(leaves) + 1 or any(
        arrays[str(n)].shape != np.shape(leaf) for n, leaf in enumerate(leaves)
    ):
        raise ValueError(f"{path} belongs to other settings; choose another --run")
    read = [jnp.asarray(arrays[str(number)]) for number in range(len(leaves))]
    return jax.tree.unflatten(form, read), int(arrays["step"])


def remember(run: pathlib.Path, settings: dict[str, Any]) -> None:
    """Keep the settings of a run's first start, and compare those of a later one.

    Args:
        run: Folder of the run.
        settings: What determines its result, as JSON values.

    Raises:
        ValueError: The run was started with others; the differing ones are named.
    """
    path = run / SETTINGS
    if path.is_file() and (run / STATE).is_file():
        before = json.loads(path.read_text("utf-8"))
        if differing := directory.differences(before, settings):
            raise ValueError(
                f"{run} holds a run with other settings: {'; '.join(differing)}. "
                "Choose another --run"
            )
        return
    if (run / STATE).is_file():
        log.warning("%s has no %s: nothing to compare its state with", run, SETTINGS)
    run.mkdir(parents=True, exist_ok=True)
    directory.write_json(path, settings)


def train(
    *,
    work: pathlib.Path,
    run: pathlib.Path,
    course: course_lib.Course,
    start: pathlib.Path | None = None,
    stop_at: int | None = None,
    dtype: str = "float32",
    on_start: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Train, or go on where an interrupted run stopped.

    Args:
        work: Folder that `prepare` wrote.
        run: Folder of the training state, log and snapshots.
        course: What to train.
        start: An earlier base whose layers and embeddings to begin with.
        stop_at: Step to stop at, as an interruption would.
        dtype: Of the computation.
        on_start: Called when the run is known to be this course's.

    Returns:
        The average of the model's parameters, without the training head.

    Raises:
        ValueError: The run was started with other settings, or the work folder, the
            earlier base and the course do not go together.
    """
    data = batches.Data(work, without=course.without)
    config = course.config(data.vocab_size, dtype)
    model = models.T5(config)
    params = _first_params(work, model, data, course, start)
    remember(run, _settings(work, course, start, dtype))
    on_start()
    state, first = initial_state(params, course), 0
    if (run / STATE).is_file():
        state, first = load_state(run / STATE, state)
        log.info("going on from step %d", first)
    readout = course.teacher and (start is None or course.decoder == "fresh")
    last = course.num_steps if stop_at is None else min(stop_at, course.num_steps)
    report = _Report(run / LOG)
    step_fn = make_step(model, course)  # pyright: ignore[reportArgumentType]
    for step in range(first, last):
        phase = course.phase_at(step)
        if step == phase.first_step:
            state = _enter(state, model, data, readout and step == course.distil_steps)
        kind, batch = batch_at(data, course, step)
        state, metrics = step_fn(state, batch, kind=kind)
        report.add(kind, metrics)
        done = step + 1
        if done % _REPORT_EVERY == 0 or done in (last, phase.end):
            report.write(done, phase.name)
        if done == phase.end:
            # Before the state, so that a run that goes on behind it has it.
            _save_snapshot(run / SNAPSHOTS / phase.name, state, config, work)
        if done % course.save_every == 0 or done == last:
            save_state(run / STATE, state, done)
    return _model_params(state)


def _first_params(
    work: pathlib.Path,
    model: models.T5,
    data: batches.Data,
    course: course_lib.Course,
    start: pathlib.Path | None,
) -> dict[str, Any]:
    """Parameters before the first step: random, the teacher's or an earlier base's."""
    if course.teacher and not data.has_teacher:
        raise ValueError(
            f"--work {work} was prepared without a teacher; prepare it with --teacher, "
            "or train with --gin.TEACHER=False --gin.DISTIL_STEPS=0"
        )
    params = initial_params(work, model.config, data, teacher=course.teacher)
    if start is None:
        return params
    return starts.earlier_model(
        start, model, params, data, keep_decoder=course.decoder == "kept"
    )


def _enter(state: State, model: models.T5, data: batches.Data, readout: bool) -> State:
    """The state a phase begins with: the average of the phase before it."""
    _, opt_state, average = state
    if readout:
        average = starts.decoder_readout(model, average, data)
    return average, opt_state, jax.tree.map(jnp.copy, average)


def _model_params(state: State) -> dict[str, Any]:
    return {name: value for name, value in state[2].items() if name != losses.HEAD}


def _save_snapshot(
    folder: pathlib.Path, state: State, config: models.T5Config, work: pathlib.Path
) -> None:
    """The averaged model as a model folder, in bfloat16 as the finished one."""
    stored = jax.tree.map(lambda x: jnp.asarray(x, jnp.bfloat16), _model_params(state))
    checkpoint.save_model(
        folder,
        config=dataclasses.replace(config, dtype="float32"),
        params=models.unstack_layers(stored),
        vocabulary=work / "sentencepiece.model",
    )


def _settings(
    work: pathlib.Path,
    course: course_lib.Course,
    start: pathlib.Path | None,
    dtype: str,
) -> dict[str, Any]:
    """What determines the result of a run."""
    start_hash = start and corpora.file_hash(start / "model.safetensors")
    return {
        "course": dataclasses.asdict(course),
        "dtype": dtype,
        "start": start_hash,
        "work": corpora.file_hash(work / "manifest.json"),
    }


class _Report:
    """Means of the metrics since the last line of the log."""

    def __init__(self, path: pathlib.Path):
        self._path = path
        self._started = time.monotonic()
        self._seen: dict[str, list[float]] = collections.defaultdict(list)

    def add(self, kind: str, metrics: dict[str, Any]) -> None:
        """Note the metrics of a step."""
        for name, value in metrics.items():
            self._seen[f"{kind}.{name}"].append(value)

    def write(self, step: int, phase: str) -> None:
        """Add a line to the log."""
        means = {n: round(float(np.mean(v)), 4) for n, v in self._seen.items()}
        seconds = round(time.monotonic() - self._started, 1)
        record = {"step": step, "phase": phase, "seconds": seconds, **means}
        log.info("%s", record)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
        self._seen.clear()
