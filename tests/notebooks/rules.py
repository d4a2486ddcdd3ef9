"""Rules for every notebook of the course, besides the outputs that nbval compares.

A rule is a function in `rules_of_….py` of the notebook, and of the path of its source
if it needs that. It returns problems in words: none if the notebook keeps the rule.
"""

import inspect
from pathlib import Path

import rules_of_exercises
import rules_of_numbers
import rules_of_outputs
import rules_of_text
from nbformat import NotebookNode

RULES = [
    each
    for module in (
        rules_of_exercises,
        rules_of_numbers,
        rules_of_outputs,
        rules_of_text,
    )
    for name, each in inspect.getmembers(module, inspect.isfunction)
    if next(iter(inspect.signature(each).parameters)) == "notebook" and name[0] != "_"
    if each.__module__ == module.__name__
]


def problems(rule, notebook: NotebookNode, source: Path) -> list[str]:
    """What a rule finds in a notebook that belongs to a source."""
    count = len(inspect.signature(rule).parameters)
    return rule(*(notebook, source)[:count])
