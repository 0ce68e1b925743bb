"""T0's training mixtures: which sets, which templates, how often each.

Sanh et al., 2022 (https://arxiv.org/abs/2110.08207): every template of every set is a
task of its own, drawn in proportion to its cap. With n templates in a set of m rows:

    "t0":    m if m <= 500,000, else floor(500,000 / n)
    "tfew":  min(m, floor(500,000 / n)), of the first rows alone; so T-Few's
             pre-training (Liu et al., 2022, https://arxiv.org/abs/2205.05638)

With promptsource 0.2.3 `t0_train` has 313 tasks, of 17,277,798 examples by T0's rule
and 10,606,443 by T-Few's. Sets and sizes are those of T0's own table; ANLI, CB, RTE,
WinoGrande and StoryCloze are in none of the mixtures, hellaswag is in the larger two.
"""

import csv
import dataclasses
import functools
import os
import pathlib
import re
from collections.abc import Collection, Iterable, Sequence

import tfew_jax
from tfew_jax.data import labels, promptsource, promptsource_archive, promptsource_sets

MAX_EXAMPLES_PER_SET = 500_000
RULES = ("t0", "tfew")
# Of T0's black list, the one name of a set in the mixtures; 0.2.3 has no such template.
BLACKLIST = frozenset({"gigaword_summarize_"})

_TABLE = pathlib.Path(tfew_jax.__file__).parent / "assets" / "t0_mixture.csv"
_MIXTURES = {  # each adds to the one before
    "t0_train": "T0's training sets",
    "t0_plus_train": "T0+: also those of GPT-3's evaluation",
    "t0_pp_train": "T0++: also SuperGLUE's, but for RTE and CB",
}
_ALIASES = {"t0+_train": "t0_plus_train", "t0++_train": "t0_pp_train"}
_NOT_IN_NAMES = re.compile(r"[^\w\d._]+")
_ENGLISH = "en"


class MixtureError(ValueError):
    """A mixture that is not known, or that lacks something."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Member:
    """A set of a mixture.

    Attributes:
        set_name: In promptsource, for example "glue/mrpc".
        train_size: Official number of training rows.
        kind: Of task, in T0's words.
    """

    set_name: str
    train_size: int
    kind: str = ""

    def __post_init__(self):
        if self.train_size < 1:
            raise MixtureError(
                f"{self.set_name}: train_size={self.train_size}; a set has a row or "
                "more"
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Definition:
    """What a mixture is made of.

    Attributes:
        name: For example "t0_train".
        members: Its sets, none of them twice.
        description: One line.
    """

    name: str
    members: tuple[Member, ...]
    description: str = ""

    def __post_init__(self):
        sets = [member.set_name for member in self.members]
        if not sets:
            raise MixtureError(f"{self.name}: a mixture of no sets; give at least one")
        if twice := [name for name in sets if sets.count(name) > 1]:
            raise MixtureError(f"{self.name}: the set {twice[0]!r} stands twice")


@dataclasses.dataclass(frozen=True, kw_only=True)
class MixtureTask:
    """A template of a set, as a mixture draws from it.

    Attributes:
        name: As in P3, for example "glue_mrpc_equivalent".
        member: The set.
        template: The template.
        num_templates: How many the set has; they share what the rule allows.
        rule: One of `RULES`.
    """

    name: str
    member: Member
    template: promptsource.Template
    num_templates: int
    rule: str

    @property
    def set_name(self) -> str:
        return self.member.set_name

    @property
    def cap(self) -> int:
        """Its share of the mixture, in examples."""
        return cap(self.member.train_size, self.num_templates, rule=self.rule)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Missing:
    """A set or task that a mixture lacks.

    Attributes:
        name: Of the set, or of the task where the rest of the set is there.
        where: Where it was looked for.
        num_tasks: How many tasks are missing with it; 0 where its templates are.
        num_examples: The sum of their caps.
    """

    name: str
    where: str
    num_tasks: int = 0
    num_examples: int = 0

    def __str__(self) -> str:
        count = f" ({self.num_tasks} tasks, {self.num_examples:,} examples)"
        return f"{self.name}{count if self.num_tasks else ''}: {self.where}"


def names() -> list[str]:
    """The mixtures, each of which holds the one before."""
    return list(_MIXTURES)


def aliases() -> dict[str, str]:
    """Other names of mixtures, as T0 writes them."""
    return dict(_ALIASES)


def get(name: str) -> Definition:
    """A mixture by its name; `t0+_train` and `t0++_train`, as T0 says, are known, too.

    Raises:
        MixtureError: There is no such mixture.
    """
    name = _ALIASES.get(name, name)
    if name not in _MIXTURES:
        raise MixtureError(
            f"unknown mixture {name!r}; available: {', '.join(_MIXTURES)}"
        )
    included = names()[: names().index(name) + 1]
    return Definition(
        name=name,
        members=tuple(member for first, member in _table() if first in included),
        description=_MIXTURES[name],
    )


def cap(train_size: int, num_templates: int, *, rule: str) -> int:
    """Examples of one template of a set.

    Args:
        train_size: Rows of the set.
        num_templates: Templates of the set.
        rule: One of `RULES`.

    Raises:
        MixtureError: There is no such rule.
    """
    check_rule(rule)
    share = MAX_EXAMPLES_PER_SET // num_templates
    if rule == "tfew":
        return min(train_size, share)
    return share if train_size > MAX_EXAMPLES_PER_SET else train_size


def check_rule(rule: str) -> None:
    """Refuses a rule that is not known.

    Raises:
        MixtureError: There is no such rule.
    """
    if rule not in RULES:
        raise MixtureError(f"rule={rule!r}; choose from {', '.join(RULES)}")


def task_name(set_name: str, template_name: str) -> str:
    """P3's name of a task: what is no letter, digit, point or line becomes a line."""
    joined = f"{set_name.replace('/', '_')}_{template_name}"
    return _NOT_IN_NAMES.sub("_", joined)


def tasks(
    definition: Definition,
    *,
    rule: str = "t0",
    directory: str | os.PathLike[str] | None = None,
    allow_missing: Collection[str] = (),
) -> tuple[list[MixtureTask], list[Missing]]:
    """The tasks of a mixture, by the templates at hand.

    Templates that say that they are in other languages than English are not in it, and
    neither are those of `BLACKLIST`; both as in T0, where the latter still count among
    the templates that share a set's examples.

    Args:
        definition: The mixture.
        rule: One of `RULES`.
        directory: Of templates, see `promptsource_sets.names`.
        allow_missing: Names of sets that may lack; names of tasks may stand there, too.

    Returns:
        The tasks in the order of sets and templates, and the sets without templates.

    Raises:
        MixtureError: The rule is unknown, sets have no templates, `allow_missing` names
            what the mixture does not hold, or two templates have the same name in P3.
        ValueError: There are no templates at all, or a file of them cannot be read.
    """
    check_rule(rule)
    known = set(promptsource_sets.names(directory))
    place = directory or promptsource_archive.directory()
    found, missing = [], []
    for member in definition.members:
        if member.set_name not in known:
            missing.append(
                Missing(name=member.set_name, where=f"no templates in {place}")
            )
            continue
        found += _tasks_of(member, rule, directory)
    _check_allowed(definition, [task.name for task in found], allow_missing)
    refuse_missing(definition, missing, allow_missing)
    taken = {}
    for task in found:
        other = taken.setdefault(task.name, task)
        if other is not task:
            raise MixtureError(
                f"{task.template} and {other.template} have the same name in P3, "
                f"{task.name}; rename one"
            )
    return found, missing


def refuse_missing(
    definition: Definition,
    missing: Sequence[Missing],
    allow_missing: Collection[str],
) -> None:
    """Refuses a mixture that lacks more than it may.

    Args:
        definition: The mixture.
        missing: What it lacks.
        allow_missing: Names of sets and tasks that may lack.

    Raises:
        MixtureError: In one line, all that is missing and where it was looked for.
    """
    lacking = [item for item in missing if item.name not in allow_missing]
    if not lacking:
        return
    raise MixtureError(
        f"{definition.name} lacks {len(lacking)} of what it is made of: "
        f"{listed(lacking)}; get them, or name those to go without in allow_missing"
    )


def listed(missing: Iterable[Missing]) -> str:
    """What is missing, by where it was looked for."""
    places = {}
    for item in missing:
        places.setdefault(item.where, []).append(item.name)
    return "; ".join(f"{where}: {', '.join(n)}" for where, n in places.items())


def _check_allowed(
    definition: Definition, tasks_: Sequence[str], allow_missing: Collection[str]
) -> None:
    """Refuses names that are none of the mixture's, as misspelt ones are."""
    if isinstance(allow_missing, str):
        raise MixtureError(
            f"allow_missing={allow_missing!r} is one text; give a list of names"
        )
    sets = {member.set_name for member in definition.members}
    if unknown := sorted(set(allow_missing) - sets - set(tasks_)):
        raise MixtureError(
            f"allow_missing names {labels.show(unknown)}, which {definition.name} does "
            f"not hold; its sets are {', '.join(sorted(sets))}"
        )


def _tasks_of(
    member: Member, rule: str, directory: str | os.PathLike[str] | None
) -> list[MixtureTask]:
    found = promptsource_sets.load(member.set_name, directory).templates
    english = [t for t in found if _is_english(t.metadata.languages)]
    named = [(task_name(member.set_name, t.name), t) for t in english]
    return [
        MixtureTask(
            name=name,
            member=member,
            template=template,
            num_templates=len(english),
            rule=rule,
        )
        for name, template in named
        if name not in BLACKLIST
    ]


def _is_english(languages: Sequence[str]) -> bool:
    return not languages or any(
        re.split("[-_]", code)[0].lower() == _ENGLISH for code in languages
    )


@functools.cache
def _table() -> tuple[tuple[str, Member], ...]:
    """The first mixture of each set, and the set."""
    with _TABLE.open(encoding="utf-8", newline="") as file:
        return tuple(
            (
                row["mixture"],
                Member(
                    set_name=row["set"],
                    train_size=int(row["train_size"]),
                    kind=row["kind"],
                ),
            )
            for row in csv.DictReader(file)
        )
