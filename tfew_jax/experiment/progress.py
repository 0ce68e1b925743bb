"""What a person sees of a run: a bar on a terminal, lines in a log, TensorBoard.

On a terminal one bar shows the current run with loss, steps a second and time left,
over all runs. Elsewhere, and always in `log.txt`, plain lines say the same at the
first, the last and every tenth part of the steps.
"""

import collections
import contextlib
import io
import pathlib
import statistics
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any

import rich.console
import rich.progress

_LINES_PER_RUN = 10
_REMEMBERED = 50  # steps
_ENOUGH = 3  # steps without which a speed would mislead


class Progress:
    """Reports the steps of several runs of equal length."""

    def __init__(
        self,
        *,
        log_file: io.TextIOBase | None = None,
        tensorboard: pathlib.Path | None = None,
        stream: io.TextIOBase | None = None,
        quiet: bool = False,
        tokens_per_step: float | None = None,
    ):
        """Makes a reporter that shows nothing yet.

        Args:
            log_file: Where plain lines go as well.
            tensorboard: Directory of TensorBoard event files, one a run.
            stream: Where a person looks; standard error if None.
            quiet: Whether nothing is shown there.
            tokens_per_step: Of inputs and targets; None does not tell tokens.
        """
        self._log_file = log_file
        self._tensorboard = tensorboard
        self._tokens_per_step = tokens_per_step
        self._console = rich.console.Console(
            file=stream or sys.stderr,  # pyright: ignore[reportArgumentType]
            quiet=quiet,
            highlight=False,
            soft_wrap=True,
        )
        self._bar: rich.progress.Progress | None = None
        self._task: Any = None
        self._writers: dict[str, Any] = {}
        self._run, self._num_steps = "", 0
        self._steps_left = 0  # of all runs, this one included
        self._speed = _Speed()

    def say(self, line: str) -> None:
        """Shows a line and writes it to the log."""
        self._log(line)
        self._console.print(line, markup=False)

    def events_of(self, name: str) -> pathlib.Path | None:
        """Directory of the TensorBoard files of a run, where some are written."""
        return None if self._tensorboard is None else self._tensorboard / name

    def plan(self, num_steps: int) -> None:
        """States how many steps all runs have together, done ones included."""
        self._steps_left = num_steps

    @contextlib.contextmanager
    def run(
        self,
        name: str,
        *,
        first_step: int,
        num_steps: int,
        members: Mapping[str, pathlib.Path | None] | None = None,
    ) -> Iterator[None]:
        """Reports one run, or several at once, from their first step here to the last.

        Args:
            name: Of the run, or of all of them.
            first_step: Steps done before.
            num_steps: Steps done at the end.
            members: Names of several runs with the directory of each one's TensorBoard
                files; None for one in that of the others.
        """
        self._run, self._num_steps = name, num_steps
        left_afterwards = max(self._steps_left - num_steps, 0)
        self._steps_left = left_afterwards + num_steps - first_step
        self._speed.restart()
        line = f"{name}: steps {first_step} to {num_steps}; the first ones compile"
        self._log(line)
        if not self._console.is_terminal:
            self._console.print(line, markup=False)
        if self._console.is_terminal:
            self._bar = rich.progress.Progress(
                rich.progress.TextColumn("{task.description}"),
                rich.progress.BarColumn(),
                rich.progress.MofNCompleteColumn(),
                rich.progress.TextColumn("{task.fields[numbers]}"),
                console=self._console,
                transient=True,
            )
            self._task = self._bar.add_task(
                name, total=num_steps, completed=first_step, numbers="compiling"
            )
            self._bar.start()
        for member, events in (members or {name: None}).items():
            events = events or self.events_of(member)
            if events is not None:
                self._writers[member] = _event_writer(events, first_step)
        try:
            yield
        finally:
            self._steps_left = left_afterwards  # also where it ended early
            if self._bar is not None:
                self._bar.stop()
                self._bar = None
            for writer in self._writers.values():
                writer.close()
            self._writers = {}

    def step(
        self,
        step: int,
        metrics: Mapping[str, float],
        by_member: Mapping[str, Mapping[str, float]] | None = None,
    ) -> None:
        """Reports that `step` steps of the run are done.

        Args:
            step: Their number.
            metrics: Numbers by name; means over the members of several.
            by_member: The same of each of them.
        """
        self._steps_left -= 1
        self._speed.count()
        every = max(1, self._num_steps // _LINES_PER_RUN)
        due = step == self._num_steps or step % every == 0
        numbers = self._numbers(metrics)
        if self._bar is not None:
            self._bar.update(self._task, completed=step, numbers=numbers)
        if due:
            line = f"{self._run}: step {step}/{self._num_steps}  {numbers}"
            self._log(line)
            if self._bar is None:
                self._console.print(line, markup=False)
        for member, own in (by_member or {self._run: metrics}).items():
            if (writer := self._writers.get(member)) is not None:
                for name, value in own.items():
                    writer.add_scalar(f"train/{name}", value, step)

    def scalars(self, name: str, step: int, values: Mapping[str, float]) -> None:
        """Writes numbers of a finished run to TensorBoard."""
        if self._tensorboard is None:
            return
        writer = _event_writer(self._tensorboard / name, None)
        for key, value in values.items():
            writer.add_scalar(key, value, step)
        writer.close()

    def _numbers(self, metrics: Mapping[str, float]) -> str:
        rate = self._speed.rate()
        parts = [f"loss {metrics['loss']:.4f}"]
        if rate is not None:
            left = _duration(self._steps_left / rate)
            parts.append(f"{rate:.1f} steps/s")
            if self._tokens_per_step is not None:
                parts.append(f"{rate * self._tokens_per_step:,.0f} tokens/s")
            parts.append(f"{left} left")
        return "  ".join(parts)

    def _log(self, line: str) -> None:
        if self._log_file is not None:
            stamp = time.strftime("%Y-%m-%d %H:%M:%S")
            self._log_file.write(f"{stamp}  {line}\n")
            self._log_file.flush()


class _Speed:
    """Steps a second: the median of the last ones, so that compiling counts little."""

    def __init__(self) -> None:
        self._seconds: collections.deque[float] = collections.deque(maxlen=_REMEMBERED)
        self._last: float | None = None

    def restart(self) -> None:
        self._last = None

    def count(self) -> None:
        now = time.monotonic()
        if self._last is not None:
            self._seconds.append(now - self._last)
        self._last = now

    def rate(self) -> float | None:
        if len(self._seconds) < _ENOUGH:
            return None
        return 1 / max(statistics.median(self._seconds), 1e-6)


def _event_writer(directory: pathlib.Path, first_step: int | None) -> Any:
    import tensorboardX  # slow to import

    purge = None if first_step is None else first_step + 1
    return tensorboardX.SummaryWriter(str(directory), purge_step=purge)


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {seconds:02d} s" if minutes else f"{seconds} s"
