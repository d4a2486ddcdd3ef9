"""Rules for every notebook of the course, besides the outputs that nbval compares.

A rule returns a list of problems in words, which is empty for a notebook that keeps the
rule. The rules in `OF_NOTEBOOKS` take the notebook, and those in `OF_FILES` the path of
its source as well. The rules are in `rules_of_….py`, by what they are about.
"""

from pathlib import Path

import rules_of_code as code
import rules_of_exercises as exercises
import rules_of_numbers as numbers
import rules_of_outputs as outputs
import rules_of_text as text
from nbformat import NotebookNode

OF_NOTEBOOKS = (
    outputs.executed_and_numbered,
    outputs.outputs_are_plain,
    outputs.pictures_have_alt_text,
    outputs.pictures_fit_a_page,
    outputs.figures_and_something_to_explore,
    outputs.few_outputs_are_ignored,
    outputs.under_a_megabyte,
    exercises.exercises_have_solutions,
    exercises.tasks_say_what_they_take,
    exercises.solutions_can_be_left_out,
    text.nothing_is_called_easy,
    text.equations_are_formulas,
    code.cells_fit_a_page,
    code.the_core_stands_alone,
    code.the_version_is_checked_first,
    code.minutes_are_stated,
)
OF_FILES = (
    outputs.pair_is_equal,
    outputs.cover_is_in_the_notebook,
    text.head_and_foot,
    text.links_lead_somewhere,
    text.sections_are_numbered,
    text.figures_are_named,
    numbers.numbers_are_measured,
)


def problems(rule, notebook: NotebookNode, source: Path) -> list[str]:
    """What a rule finds in a notebook that belongs to a source."""
    return rule(notebook, source) if rule in OF_FILES else rule(notebook)
