"""Which templates render the rows that are scored: T-Few's two protocols, and one more.

Liu et al., 2022 (https://arxiv.org/abs/2205.05638): the accuracies of Tables 5 to 7 are
those of a template drawn at random for each row, one number a seed; Table 9's of all
templates, one number a seed and template. People with rows of their own write the best
template first, and that one is what their adapter predicts with.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

MODES = ("first", "random", "all")
_STREAM = 1  # so that templates are not drawn with the numbers that order the rows


@dataclasses.dataclass(frozen=True)
class View:
    """Scored rows as one rule for templates renders them.

    Attributes:
        template: "first", "random", or the index of a template.
    """

    template: str | int

    @property
    def name(self) -> str:
        """Part of the names of records and files."""
        is_mode = isinstance(self.template, str)
        return str(self.template) if is_mode else f"template-{self.template}"

    @property
    def in_records(self) -> str | int | None:
        """What a record says: None for the first template."""
        return None if self.template == "first" else self.template

    @property
    def depends_on_seed(self) -> bool:
        """Whether the rows look different from seed to seed."""
        return self.template == "random"

    def draw(
        self, num_rows: int, num_templates: int, seed: int
    ) -> Int[np.ndarray, " rows"]:
        """The template of every row of a split; of a row it is always the same."""
        if isinstance(self.template, int):
            return np.full(num_rows, self.template)
        if self.template == "first":
            return np.zeros(num_rows, int)
        random = np.random.RandomState([seed, _STREAM])
        return random.randint(num_templates, size=num_rows)


def make_views(
    eval_templates: str | int | Sequence[str | int], num_templates: int
) -> tuple[View, ...]:
    """The views of a task; the first one is that of summaries and predictions.

    Args:
        eval_templates: "first", "random", "all", an index, or several of them.
        num_templates: Of the task.

    Raises:
        ValueError: If one is unknown, or there are none.
    """
    given: tuple[str | int, ...]
    one = isinstance(eval_templates, str | int)
    given = (eval_templates,) if one else tuple(eval_templates)
    found: list[View] = []
    for entry in given:
        is_index = isinstance(entry, int) and 0 <= entry < num_templates
        if entry not in MODES and not is_index:
            raise ValueError(
                f"eval_templates holds {entry!r}; choose from {', '.join(MODES)} and "
                f"the indices 0 to {num_templates - 1} of the templates"
            )
        found += [*map(View, range(num_templates))] if entry == "all" else [View(entry)]
    if not found:
        raise ValueError(f"eval_templates is empty; give one of {', '.join(MODES)}")
    return tuple(dict.fromkeys(found))
