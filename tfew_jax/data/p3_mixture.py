"""T0's mixtures as a stream of examples that any position of it can be asked for.

Every epoch of a mixture holds each task's cap of examples, once each and shuffled, as
if T-Few's concatenation were reshuffled; a task with more rows than its cap goes on in
the next epoch where it stopped. What stands at a position depends on it and the seed
alone, so a run resumes anywhere, and hosts take every so many positions.
"""

import bisect
import dataclasses
import functools
import hashlib
import itertools
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from tfew_jax.data import p3, patterns, promptsource, sources, tables
from tfew_jax.data.p3_rows import Pair, Source

_NUM_ROUNDS = 6
_ODD = 0x9E3779B97F4A7C15  # 2^64 over the golden ratio


@dataclasses.dataclass(frozen=True, kw_only=True)
class Example(Pair):
    """A row as text, and where it is from.

    Attributes:
        task: P3's name of the task.
        row: The row's index among the task's.
        position: In the stream.
        num_skipped: Rows before it in the task's order that do not apply.
    """

    task: str
    row: int
    position: int
    num_skipped: int = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mixture:
    """The tasks of a mixture with their rows.

    Attributes:
        definition: What it should be made of.
        rule: One of `p3.RULES`.
        tasks: What it is made of.
        rows: The rows of each task, by its name.
        missing: What it goes without, by leave of the caller.
        source: Reads rows.
    """

    definition: p3.Definition
    rule: str
    tasks: Sequence[p3.MixtureTask]
    rows: Mapping[str, tables.Rows]
    missing: Sequence[p3.Missing] = ()
    source: Source

    @functools.cached_property
    def _ends(self) -> list[int]:
        """Of each task, the slot of an epoch after its last one."""
        return list(itertools.accumulate(task.cap for task in self.tasks))

    @property
    def num_examples(self) -> int:
        """Of an epoch: the sum of the caps."""
        return self._ends[-1]

    def num_rows(self, task: p3.MixtureTask) -> int:
        """Rows of a task that the mixture draws from; T-Few's are the first alone."""
        there = len(self.rows[task.name])
        return min(there, task.cap) if self.rule == "tfew" else there

    def example(self, position: int, *, seed: int) -> Example:
        """What stands at a position of the stream.

        Where the row does not apply to its task, the next one in the task's order does
        that; so tasks keep their share.

        Raises:
            ValueError: The position is negative, a row cannot be read, or none of the
                task's rows applies.
        """
        if position < 0:
            raise ValueError(f"position {position} is negative; they count from 0")
        epoch, place = divmod(position, self.num_examples)
        slot = permute(place, self.num_examples, (seed, epoch))
        number = bisect.bisect_right(self._ends, slot)
        task = self.tasks[number]
        within = slot - (self._ends[number - 1] if number else 0)
        size = self.num_rows(task)
        turn, start = divmod(epoch * task.cap + within, size)
        reason = ""
        for skipped in range(size):
            row = permute((start + skipped) % size, size, (seed, task.name, turn))
            try:
                pair = self.read(task, row)
            except promptsource.NotApplicableError as error:
                reason = f"{sources.where(self.rows[task.name][row], row)}: {error}"
                continue
            return Example(
                inputs=pair.inputs,
                targets=pair.targets,
                choices=pair.choices,
                task=task.name,
                row=row,
                position=position,
                num_skipped=skipped,
            )
        raise p3.MixtureError(
            f"{task.name} applies to none of its {size:,} rows; {reason}"
        )

    def read(self, task: p3.MixtureTask, index: int) -> Pair:
        """A row of a task as text.

        Raises:
            promptsource.NotApplicableError: The row is none of the task's.
            p3.MixtureError: It cannot be rendered; the message names it.
            ValueError: It cannot be read.
        """
        row = self.rows[task.name][index]
        try:
            return self.source.read(task, row)
        except promptsource.NotApplicableError:
            raise
        except patterns.TemplateError as error:
            place = f"{task.set_name}, {sources.where(row, index)}"
            raise p3.MixtureError(f"{place}: {error}") from None

    def examples(
        self, *, seed: int, start: int = 0, shard: int = 0, num_shards: int = 1
    ) -> Iterator[Example]:
        """The stream without end, or every `num_shards`-th of it.

        Args:
            seed: Of the order.
            start: First position; to resume, the one after the last that was taken.
            shard: Which host's: positions that are `shard` modulo `num_shards`.
            num_shards: How many hosts.

        Raises:
            ValueError: There is no such shard; see also `example`.
        """
        if not 0 <= shard < num_shards:
            raise ValueError(
                f"shard={shard} of num_shards={num_shards}; shards count from 0 to "
                f"{num_shards - 1}"
            )
        first = start + (shard - start) % num_shards
        return (
            self.example(position, seed=seed)
            for position in itertools.count(first, num_shards)
        )

    def report(self) -> list[str]:
        """Lines that say what the mixture holds, and what it lacks."""
        sizes: dict[str, list[int]] = {}
        for task in self.tasks:
            sizes.setdefault(task.set_name, []).append(len(self.rows[task.name]))
        lines = [
            f"{self.definition.name} by the rule {self.rule!r}: {len(self.tasks)} "
            f"tasks of {len(sizes)} sets, {self.num_examples:,} examples an epoch"
        ]
        for member in self.definition.members:
            found = sizes.get(member.set_name, [])
            enough = member.train_size
            if self.rule == "tfew" and not self.source.raw:  # no more are read
                tasks = (t for t in self.tasks if t.set_name == member.set_name)
                enough = min(enough, *(t.cap for t in tasks)) if found else enough
            if any(size != enough for size in found):
                span = " to ".join(f"{n:,}" for n in sorted({min(found), max(found)}))
                lines.append(
                    f"{member.set_name}: {span} rows a task, the set has "
                    f"{member.train_size:,}"
                )
        return lines + [f"without {item}" for item in self.missing]


def load(
    definition: p3.Definition | str,
    source: Source,
    *,
    rule: str = "t0",
    directory: str | os.PathLike[str] | None = None,
    allow_missing: Collection[str] = (),
    allow_partial: bool = False,
) -> Mixture:
    """A mixture with its rows.

    Args:
        definition: The mixture, or the name of one.
        source: Of rows.
        rule: One of `p3.RULES`.
        directory: Of templates, see `promptsource_sets.names`.
        allow_missing: Names of sets and tasks that may lack.
        allow_partial: Also take raw sets with another number of rows than the official
            one; their caps are then those of the rows at hand.

    Raises:
        p3.MixtureError: The mixture or rule is unknown; something is missing that may
            not be; a set does not have its official number of rows.
        ValueError: A file cannot be read.
    """
    if isinstance(definition, str):
        definition = p3.get(definition)
    tasks, missing = p3.tasks(
        definition, rule=rule, directory=directory, allow_missing=allow_missing
    )
    rows = {}
    for task in tasks:
        found = source.rows(task)
        if found is not None and len(found):
            rows[task.name] = found
    missing += _without_rows(tasks, rows, source)
    p3.refuse_missing(definition, missing, allow_missing)
    tasks = [task for task in tasks if task.name in rows]
    if not tasks:
        raise p3.MixtureError(
            f"nothing is left of {definition.name}: {p3.listed(missing)}"
        )
    if source.raw:
        tasks = _sized(tasks, rows, allow_partial)
    return Mixture(
        definition=definition,
        rule=rule,
        tasks=tasks,
        rows=rows,
        missing=missing,
        source=source,
    )


def permute(index: int, size: int, key: object) -> int:
    """Where a shuffle of `size` things puts one of them.

    A Feistel network over the next power of four, walked until it falls below `size`:
    the place of one thing without the places of all others.

    Args:
        index: From 0 to `size` - 1.
        size: How many things.
        key: Of the shuffle; what it prints counts.
    """
    assert 0 <= index < size
    half = max(1, ((size - 1).bit_length() + 1) // 2)
    low = (1 << half) - 1
    while True:
        left, right = index >> half, index & low
        for round_key in _round_keys(key):
            mixed = (right * _ODD + round_key) % 2**64
            mixed = (mixed ^ (mixed >> 29)) * _ODD % 2**64
            left, right = right, left ^ (mixed >> (64 - half))
        index = left << half | right
        if index < size:
            return index


@functools.lru_cache(maxsize=4096)
def _round_keys(key: object) -> tuple[int, ...]:
    digest = hashlib.blake2b(repr(key).encode(), digest_size=8 * _NUM_ROUNDS).digest()
    starts = range(0, len(digest), 8)
    return tuple(int.from_bytes(digest[i : i + 8], "little") for i in starts)


def _without_rows(
    tasks: Sequence[p3.MixtureTask], rows: Collection[str], source: Source
) -> list[p3.Missing]:
    """Sets without rows, and tasks without rows of sets that have some."""
    found = []
    for name, group in itertools.groupby(tasks, key=lambda task: task.set_name):
        members = list(group)
        lacking = [task for task in members if task.name not in rows]
        if len(lacking) == len(members):
            parts = {name: lacking}
        else:
            parts = {task.name: [task] for task in lacking}
        found += [
            p3.Missing(
                name=part,
                where=source.where(group_[0]),
                num_tasks=len(group_),
                num_examples=sum(task.cap for task in group_),
            )
            for part, group_ in parts.items()
        ]
    return found


def _sized(
    tasks: Sequence[p3.MixtureTask],
    rows: Mapping[str, Sequence[Any]],
    allow_partial: bool,
) -> list[p3.MixtureTask]:
    """The tasks with the number of rows that there are.

    Raises:
        p3.MixtureError: It is another one than the official one, and may not be.
    """
    other = {
        task.set_name: f"{task.set_name} has {len(rows[task.name]):,} rows instead of "
        f"{task.member.train_size:,}"
        for task in tasks
        if len(rows[task.name]) != task.member.train_size
    }
    if other and not allow_partial:
        raise p3.MixtureError(
            f"not the official training rows: {'; '.join(other.values())}; get them, "
            "or allow others with allow_partial"
        )
    return [
        dataclasses.replace(
            task,
            member=dataclasses.replace(task.member, train_size=len(rows[task.name])),
        )
        for task in tasks
    ]
