"""The rules can fail: a right notebook keeps all of them, and a wrong one breaks each.

nbval and notebooks/conftest.py, which find stale outputs and slow notebooks, are run as
they are.
"""

import base64
import copy
import os
import re
import shutil
import subprocess
import sys

import nbformat
import pytest
import rules
import torch
from matplotlib.figure import Figure

from pixelprior.course import figures

build = rules.of_the_course("build")

NATS = rules.measured("results", "likelihood.top.nats_per_code.value", rules.ROOT)
NATS_MARKER = "<!--= results likelihood.top.nats_per_code.value -->"

RIGHT = f"""\
# %% [markdown]
# # 00 · A right notebook
#
# **What you will do.** Look.
#
# **What you will learn.** To see.
#
# **What you need.** Eyes.
#
# **Time.** About 5 minutes for the core and 9 for all, with the exercises;
# 5<!--= timings 00_right --> seconds to run.
#
# [the course](README.md#the-course) · [words](GLOSSARY.md)
# · next: [01 · Another](01_another.ipynb) →

# %% tags=["version"]
from pixelprior.course import needs

needs("0.2")

# %%
print("images", [2, 3])

# %%
import time

import torch

from pixelprior.course import figures
from pixelprior.course.checks.verdict import Wrong, call, judged
from pixelprior.course.widgets import explore


@judged
def is_six(answer):
    if answer != 6:
        raise Wrong(f"{{answer}} is not six")
    return "it is six"


@judged
def gives_six(function):
    return is_six(call(function)).words

# %% [markdown]
# ## 00.1 A first section
#
# *Core · 2 minutes*
#
# It needs {NATS:.2f}{NATS_MARKER} nats, where 6.5 is a number like any other,
# `12.5 seconds` is code, and [this](https://example.org/about-2.5-s/just) an address.

# %%
figures.show(
    figures.heatmaps({{"map": torch.eye(2)}}, unit="nats"),
    "uniform_codes",
)

# %% tags=["cover"]
figures.show(
    figures.masks({{"A": torch.eye(3)}}),
    "code_grids",
)


# %%
def draw(height):
    return figures.bars({{"bar": height}}, y_label="height in cm")


explore(draw, "one_code_changed", height=[1, 2, 3])

# %% tags=["nbval-ignore-output"]
now = time.perf_counter()
print(now)
assert now > 0

# %% [markdown]
# ## 00.2 Exercises
#
# *Core: exercise 1*
#
# ```
# ## This is code.
# ```

# %% [markdown] tags=["about-solutions"]
# Solutions stand at the end.

# %% [markdown]
# ### Exercise 1: six
#
# *Difficulty 1 of 5 · importance 3 of 5 · 2 minutes*
#
# <details><summary>Hint 1</summary>
#
# Count.
#
# </details>

# %% tags=["exercise"]
my_six = None  # your turn

is_six(my_six)

# %% [markdown] tags=["about-solutions"]
# [To solution 1](#Solution-1)

# %% [markdown]
# ### Exercise 2: a function
#
# *Difficulty 1 of 5 · importance 3 of 5 · 2 minutes*
#
# <details><summary>Hint 1</summary>
#
# Count.
#
# </details>


# %% tags=["exercise"]
def my_function():
    return None  # your turn


gives_six(my_function)

# %% [markdown] tags=["about-solutions"]
# [To solution 2](#Solution-2)

# %% [markdown]
# ### Exercise 3: six again?
#
# *Difficulty 2 of 5 · importance 3 of 5 · 2 minutes*
#
# <details><summary>Hint 1</summary>
#
# Count.
#
# </details>

# %% tags=["exercise"]
my_other_six = None  # your turn

is_six(my_other_six)

# %% [markdown] tags=["about-solutions"]
# [To solution 3](#Solution-3)

# %% [markdown]
# ## What you can do now
#
# - See.
#
# **To take away.** Why?
#
# **Sources.** A book.

# %% [markdown] tags=["solution"]
# ## Solutions

# %% [markdown] tags=["solution"]
# ### Solution 1
#
# [Back to exercise 1](#Exercise-1:-six)

# %% tags=["solution"]
is_six(3 + 3)

# %% [markdown] tags=["solution"]
# ### Solution 2
#
# [Back to exercise 2](#Exercise-2:-a-function)

# %% tags=["solution"]
gives_six(lambda: 6)

# %% [markdown] tags=["solution"]
# ### Solution 3
#
# [Back to exercise 3](#Exercise-3:-six-again?)

# %% tags=["solution"]
six = 2 * 3

is_six(six)
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A course of one right notebook, built as the course is."""
    folder = tmp_path_factory.mktemp("course")
    source = folder / "00_right.py"
    source.write_text(RIGHT, encoding="utf-8")
    build.build(source)
    for name in ("README.md", "GLOSSARY.md", "01_another.py", "01_another.ipynb"):
        (folder / name).touch()
    (folder / "README.md").write_text("## The course\n", encoding="utf-8")
    (folder / "timings.json").write_text('{"00_right": 5}')
    return source


@pytest.mark.slow
def test_new_text_keeps_the_outputs_unless_the_code_has_changed(source):
    before = nbformat.read(source.with_suffix(".ipynb"), as_version=4)
    text = source.read_text(encoding="utf-8")
    source.write_text(text + "\n# %% [markdown]\n# One more.\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"are not those of 00_right[.]ipynb"):
        build.build(source, text_alone=True)
    heading = next(line for line in text.splitlines() if line.startswith("# # "))
    source.write_text(text.replace(heading, heading + "!"), encoding="utf-8")
    build.build(source, text_alone=True)
    after = nbformat.read(source.with_suffix(".ipynb"), as_version=4)
    assert heading[2:] + "!" in after.cells[0].source
    assert before.cells[1:] == after.cells[1:]
    code = next(line for line in text.splitlines() if line.startswith("import "))
    source.write_text(text.replace(code, code + "  # so"), encoding="utf-8")
    with pytest.raises(ValueError, match=r"python notebooks/build[.]py 00"):
        build.build(source, text_alone=True)


@pytest.fixture
def source(built, tmp_path):
    """The right notebook's source in a folder of its own, to be changed."""
    shutil.copytree(built.parent, tmp_path, dirs_exist_ok=True)
    return tmp_path / built.name


@pytest.fixture
def notebook(built):
    """The right notebook, to be changed."""
    return copy.deepcopy(rules.read(built))


def cell(notebook, text):
    """The first cell with that text in its source."""
    return next(each for each in notebook.cells if text in each.source)


def reword(notebook, old, new):
    changed = cell(notebook, old)
    changed.source = changed.source.replace(old, new)


def save(notebook, source):
    nbformat.write(notebook, source.with_suffix(".ipynb"))


@pytest.mark.parametrize("rule", rules.OF_NOTEBOOKS, ids=lambda rule: rule.__name__)
def test_a_right_notebook_keeps(rule, notebook):
    assert rule(notebook) == []


@pytest.mark.parametrize("rule", rules.OF_FILES, ids=lambda rule: rule.__name__)
def test_a_right_pair_of_files_keeps(rule, source):
    assert rule(source) == []


WRONG_NOTEBOOKS, WRONG_FILES = [], []


def wrong(rule, words):
    """Register a change that makes a right notebook wrong, and the expected words."""
    cases = WRONG_NOTEBOOKS if rule in rules.OF_NOTEBOOKS else WRONG_FILES

    def register(change):
        name = change.__name__.strip("_").replace("_", " ")
        cases.append(pytest.param(rule, change, words, id=name))
        return change

    return register


@wrong(rules.executed_and_numbered, "was not executed")
def a_notebook_that_was_never_executed(notebook):
    for each in rules.code_cells(notebook):
        each.execution_count, each.outputs = None, []


@wrong(rules.executed_and_numbered, "has number 9, and is number 3")
def a_cell_executed_out_of_order(notebook):
    cell(notebook, "import torch").execution_count = 9


@wrong(rules.executed_and_numbered, "was not executed")
def an_empty_code_cell(notebook):
    notebook.cells.append(nbformat.v4.new_code_cell())


@wrong(rules.executed_and_numbered, "has the output of execution 99")
def the_output_of_another_execution(notebook):
    cell(notebook, "is_six(3 + 3)").outputs[0].execution_count = 99


@wrong(rules.nothing_of_the_machine, "names the Python that ran it, 3.14.1")
def a_version_of_python(notebook):
    notebook.metadata.language_info["version"] = "3.14.1"


@wrong(rules.nothing_of_the_machine, "times of its execution")
def times_of_execution(notebook):
    notebook.cells[1].metadata["execution"] = {"iopub.status.busy": "2025-01-01"}


def add_stream(notebook, text, name="stdout"):
    stream = nbformat.v4.new_output("stream", name=name, text=text)
    cell(notebook, "images").outputs.append(stream)


@wrong(rules.outputs_are_plain, "wrote to stderr: 'UserWarning")
def a_warning_on_stderr(notebook):
    add_stream(notebook, "UserWarning: old\n", name="stderr")


@wrong(rules.outputs_are_plain, "ended in ValueError: no")
def an_error(notebook):
    error = nbformat.v4.new_output("error", ename="ValueError", evalue="no")
    cell(notebook, "images").outputs.append(error)


@wrong(rules.outputs_are_plain, "state of widgets")
def the_state_of_widgets(notebook):
    notebook.metadata["widgets"] = {"state": {}}


@wrong(rules.outputs_are_plain, "shows a widget")
def a_view_of_a_widget(notebook):
    kind = "application/vnd.jupyter.widget-view+json"
    data = {"text/plain": "VBox()", kind: {"model_id": "1"}}
    view = nbformat.v4.new_output("display_data", data=data)
    cell(notebook, "explore(").outputs.append(view)


@wrong(rules.outputs_are_plain, "progress bar")
def a_progress_bar(notebook):
    add_stream(notebook, "epoch 1:  50%|#####     | 2/4 [00:01<00:01, 1.90it/s]\n")


@wrong(rules.outputs_are_plain, "progress bar")
def a_line_that_was_written_over(notebook):
    add_stream(notebook, "step 1\rstep 2\n")


@wrong(rules.comparisons_hold, "says 'a block differs by < 1e-5: False'")
def code_by_hand_that_differs_from_the_packages(notebook):
    add_stream(notebook, "shapes [2]\na block differs by < 1e-5: False\n")


@wrong(rules.outputs_are_plain, "says None")
def a_none_left_over(notebook):
    add_stream(notebook, "None\n")


@wrong(rules.outputs_are_plain, "says None")
def a_list_of_nones_left_over(notebook):
    add_stream(notebook, "loss 1.0\n[None, None]\n")


def picture_of(notebook, text):
    return cell(notebook, text).outputs[0]


@wrong(rules.pictures_have_alt_text, "alt text ''")
def a_picture_without_alt_text(notebook):
    picture_of(notebook, "figures.masks").metadata.clear()


@wrong(rules.pictures_have_alt_text, "alt text 'a figure'")
def a_picture_with_too_little_alt_text(notebook):
    shown = picture_of(notebook, "figures.masks")
    shown.metadata["image/png"].alt = shown.data["text/plain"] = "a figure"


@wrong(rules.pictures_have_alt_text, "and the plain text '<Figure size 640x480>'")
def a_picture_that_nbval_does_not_compare(notebook):
    picture_of(notebook, "figures.masks").data["text/plain"] = "<Figure size 640x480>"


@wrong(rules.pictures_have_alt_text, "has text/html, which not every host shows")
def a_picture_as_html(notebook):
    html = (
        '<img alt="A square of nine cells, in red." src="data:image/png;base64,aGk=">'
    )
    picture_of(notebook, "figures.masks").data["text/html"] = html


@wrong(rules.pictures_have_alt_text, "has image/svg+xml, which not every host shows")
def a_picture_of_another_kind(notebook):
    picture_of(notebook, "figures.masks").data["image/svg+xml"] = "<svg/>"


@wrong(rules.pictures_have_alt_text, "alt text 'plot'")
def a_picture_in_prose_with_too_little_alt_text(notebook):
    reword(notebook, "Look.", "Look: ![plot](plot.png)")


@wrong(rules.pictures_fit_a_page, "pixels, declared as 901")
def a_picture_that_is_declared_too_wide(notebook):
    picture_of(notebook, "figures.masks").metadata["image/png"].width = 901


@wrong(rules.pictures_fit_a_page, "declared as None")
def a_picture_without_a_width(notebook):
    del picture_of(notebook, "figures.masks").metadata["image/png"]["width"]


@wrong(rules.pictures_fit_a_page, "pixels, declared as 130")
def a_plot_that_is_declared_half_as_wide(notebook):
    picture_of(notebook, "figures.masks").metadata["image/png"].width = 130


@wrong(rules.pictures_fit_a_page, "has a picture 1000 pixels wide")
def a_picture_that_is_too_wide(notebook):
    wide = figures.picture(Figure(figsize=(10, 1)), 20 * "x").png
    data = picture_of(notebook, "figures.masks").data
    data["image/png"] = base64.b64encode(wide).decode()


@wrong(rules.at_least_three_pictures, "2 pictures")
def too_few_pictures(notebook):
    cell(notebook, "figures.masks").outputs.clear()


@wrong(rules.something_to_explore, "nowhere")
def nothing_to_explore(notebook):
    reword(notebook, "explore(draw", "draw(")
    cell(notebook, "draw(").source += "\n# explore(draw)"


def ignore(notebook, text):
    cell(notebook, text).metadata["tags"] = [rules.IGNORED]


@wrong(rules.slides_are_marked, "is marked as 'subslide' for slides, and is a slide")
def a_section_below_another(notebook):
    cell(notebook, "00.1 ").metadata.slideshow.slide_type = "subslide"


@wrong(rules.slides_are_marked, "is marked as None for slides")
def a_cell_without_a_slide(notebook):
    del cell(notebook, "00.1 ").metadata["slideshow"]


@wrong(rules.solutions_can_be_left_out, "uses six, which only the solution 00-")
def a_cell_that_needs_a_solution(notebook):
    reword(notebook, "figures.masks(", "six and figures.masks(")


@wrong(rules.solutions_can_be_left_out, "is tagged about-solutions, and is no text")
def code_that_a_handout_leaves_out(notebook):
    cell(notebook, "images").metadata["tags"] = ["about-solutions"]


@wrong(rules.solutions_can_be_left_out, "speaks of a solution")
def a_handout_that_speaks_of_solutions(notebook):
    reword(notebook, "A book.", "See the solution.")


@wrong(rules.few_outputs_are_ignored, "2 of 13 code cells")
def too_many_ignored_outputs(notebook):
    ignore(notebook, "import torch")
    cell(notebook, "import torch").source += "\nassert torch.ones(1) == 1"


@wrong(rules.few_outputs_are_ignored, "asserts nothing")
def an_ignored_output_without_an_assertion(notebook):
    reword(notebook, "assert now > 0", "# assert now > 0")


@wrong(rules.few_outputs_are_ignored, "asserts nothing")
def an_ignored_output_with_an_assertion_that_cannot_fail(notebook):
    reword(notebook, "assert now > 0", "assert True")


@wrong(rules.few_outputs_are_ignored, "marker NBVAL_IGNORE_OUTPUT")
def a_comment_that_hides_an_output(notebook):
    cell(notebook, "images").source += "\n# NBVAL_IGNORE_OUTPUT"


@wrong(rules.few_outputs_are_ignored, "marker raises-exception")
def a_cell_that_may_fail(notebook):
    cell(notebook, "images").metadata["tags"] = ["raises-exception"]


@wrong(rules.few_outputs_are_ignored, "marker nbval-skip")
def a_cell_that_is_skipped(notebook):
    cell(notebook, "images").metadata["tags"] = ["nbval-skip"]


def say(notebook, text, words):
    cell(notebook, text).outputs[0].data["text/plain"] = words


@wrong(rules.exercises_have_solutions, "says 'right: it is six' before it")
def a_stub_that_passes(notebook):
    say(notebook, "is_six(my_six)", "right: it is six")


@wrong(rules.exercises_have_solutions, "before it was attempted")
def a_stub_that_is_judged_wrong(notebook):
    say(notebook, "is_six(my_six)", "not yet: 0 is not six")


@wrong(rules.exercises_have_solutions, "says '' before it was attempted")
def a_stub_that_nobody_judges(notebook):
    cell(notebook, "is_six(my_six)").outputs.clear()


@wrong(rules.exercises_have_solutions, "says 'not yet: 5 is not six'")
def a_solution_that_fails(notebook):
    say(notebook, "is_six(3 + 3)", "not yet: 5 is not six")


@wrong(rules.exercises_have_solutions, "says 'not attempted yet'")
def a_solution_that_attempts_nothing(notebook):
    say(notebook, "is_six(3 + 3)", "not attempted yet")


@wrong(rules.exercises_have_solutions, "assigns my_other_six")
def a_solution_that_takes_the_name_of_the_stub(notebook):
    reword(notebook, "six = 2 * 3", "my_other_six = six = 2 * 3")


@wrong(rules.exercises_have_solutions, "assigns my_function")
def a_solution_that_takes_the_name_of_a_function(notebook):
    reword(notebook, "gives_six(lambda: 6)", "def my_function():\n    return 6")


@wrong(rules.exercises_have_solutions, "is collapsed, in JupyterLab alone")
def a_collapsed_solution(notebook):
    cell(notebook, "is_six(3 + 3)").metadata["jupyter"] = {"source_hidden": True}


def below_its_exercise(notebook, text, exercise):
    moved = cell(notebook, text)
    notebook.cells.remove(moved)
    notebook.cells.insert(notebook.cells.index(cell(notebook, exercise)) + 1, moved)


@wrong(rules.exercises_have_solutions, "stands before the part ## Solutions")
def a_solution_right_below_its_exercise(notebook):
    below_its_exercise(notebook, "is_six(3 + 3)", "my_six = None")


@wrong(rules.exercises_have_solutions, "has no link to its solution")
def an_exercise_that_leads_to_another_solution(notebook):
    reword(notebook, "#Solution-2", "#Solution-3")


@wrong(rules.exercises_have_solutions, "has no link to its solution")
def an_exercise_that_leads_nowhere(notebook):
    notebook.cells.remove(cell(notebook, "#Solution-2"))


@wrong(
    rules.exercises_have_solutions, "solution 3 has no link back to #Exercise-3:-six"
)
def a_solution_that_does_not_lead_back(notebook):
    reword(notebook, "#Exercise-3:-six-again?", "#Exercise-3")


@wrong(rules.exercises_have_solutions, "stands among the solutions, but is none")
def a_question_among_the_solutions(notebook):
    cell(notebook, "# Solution 2").metadata.clear()


@wrong(rules.exercises_have_solutions, "are {'1': 1, '2': 0, '3': 1}; one is needed")
def an_exercise_without_a_solution(notebook):
    notebook.cells.remove(cell(notebook, "gives_six(lambda"))


@wrong(rules.exercises_have_solutions, "below each solution are {'1': 2, '3': 1}; one")
def a_solution_without_a_heading(notebook):
    notebook.cells.remove(cell(notebook, "# Solution 2"))


@wrong(rules.exercises_have_solutions, "are {'1': 2, '2': 0, '3': 1}; one is needed")
def two_programs_below_one_solution(notebook):
    moved = cell(notebook, "gives_six(lambda")
    notebook.cells.remove(moved)
    notebook.cells.insert(notebook.cells.index(cell(notebook, "# Solution 2")), moved)


@wrong(rules.exercises_have_solutions, "there are 2 headings of 3 exercises")
def an_exercise_without_a_heading(notebook):
    notebook.cells.remove(cell(notebook, "# Exercise 3"))


@wrong(rules.exercises_have_solutions, "has no stub named my_")
def a_stub_without_a_name(notebook):
    reword(notebook, "my_six = None  # your turn\n\nis_six(my_six)", "is_six(None)")


@wrong(rules.exercises_have_solutions, "there are 2 exercises")
def too_few_exercises(notebook):
    cell(notebook, "my_other_six").metadata.clear()
    cell(notebook, "six = 2 * 3").metadata.clear()


@wrong(rules.exercises_say_what_they_take, "Exercise 2: a function does not say what")
def an_exercise_without_its_minutes(notebook):
    cell(notebook, "# Exercise 2").source = "### Exercise 2: a function"


@wrong(
    rules.exercises_say_what_they_take, "Exercise 3: six again? comes after a harder"
)
def an_exercise_after_a_harder_one(notebook):
    changed = cell(notebook, "# Exercise 2")
    changed.source = changed.source.replace("Difficulty 1", "Difficulty 3")


@wrong(rules.exercises_say_what_they_take, "Exercise 1: six has the hints []; one to")
def an_exercise_without_hints(notebook):
    changed = cell(notebook, "# Exercise 1")
    changed.source = changed.source.replace("<details>", "")


@wrong(
    rules.exercises_say_what_they_take, "Exercise 1: six has the hints ['2']; one to"
)
def hints_that_do_not_begin_with_the_first(notebook):
    changed = cell(notebook, "# Exercise 1")
    changed.source = changed.source.replace("Hint 1", "Hint 2")


@wrong(rules.head_and_foot, "the head has no **Time.**")
def a_head_without_the_time(notebook):
    reword(notebook, "**Time.**", "It takes")


@wrong(rules.head_and_foot, "does not begin with '# NN")
def a_head_without_a_number(notebook):
    reword(notebook, "# 00 · ", "# ")


@wrong(rules.head_and_foot, "the foot has no 'To take away'")
def a_foot_without_questions(notebook):
    reword(notebook, "**To take away.**", "")


@wrong(rules.head_and_foot, "the foot has no 'Sources'")
def code_after_the_foot(notebook):
    notebook.cells.append(nbformat.v4.new_code_cell("pass"))


@pytest.mark.parametrize(
    "word", ["simply", "Just", "obviously", "easy", "CLEARLY", "*clearly*"]
)
def test_nothing_is_called_easy(word, notebook):
    reword(notebook, "Look.", f"You {word} look.")
    (problem,) = rules.nothing_is_called_easy(notebook)
    assert repr(word.strip("*")) in problem


@wrong(rules.nothing_is_called_easy, "says 'just'")
def a_word_that_belittles(notebook):
    reword(notebook, "**To take away.**", "That was just it. **To take away.**")


@pytest.mark.parametrize("text", ["`just`", "adjust", "easily", "[a](just.ipynb)"])
def test_other_words_are_no_such_word(text, notebook):
    reword(notebook, "Look.", f"You {text} it.")
    assert not rules.nothing_is_called_easy(notebook)


@wrong(rules.equations_are_formulas, "as plain text: y = tanh(W_f ∗ x)")
def an_equation_in_plain_text(notebook):
    reword(
        notebook, "## 00.1 A first", "The gate is\n\ny = tanh(W_f ∗ x)\n\n## A first"
    )


@wrong(rules.equations_are_formulas, "as plain text: y = 2 x\nz = 3 y")
def two_equations_in_plain_text(notebook):
    reword(notebook, "## 00.1 A first", "y = 2 x\nz = 3 y\n\n## A first")


@wrong(rules.equations_are_formulas, "as plain text: N_k ← γ N_k + n_k")
def an_update_in_plain_text(notebook):
    reword(notebook, "## 00.1 A first", "N_k ← γ N_k + n_k\n\n## A first")


@pytest.mark.parametrize(
    "text", ["$$\ny = 2 x\n$$", "Here y = 2 x is meant.", "`y = 2 x`", "- y = 2 x"]
)
def test_formulas_and_sentences_are_no_equation_in_plain_text(text, notebook):
    reword(notebook, "## 00.1 A first", f"{text}\n\n## A first")
    assert not rules.equations_are_formulas(notebook)


@wrong(rules.code_fits_a_page, "a line of 79 characters")
def a_long_line(notebook):
    cell(notebook, "images").source += "\n# " + 77 * "x"


@wrong(rules.the_core_stands_alone, "00.1 A first section is marked neither core nor")
def a_section_that_is_not_marked(notebook):
    reword(notebook, "*Core · 2 minutes*", "")


@wrong(rules.the_core_stands_alone, "needs is_six, which 00.1 A first section assigns")
def a_core_that_needs_what_comes_further_on(notebook):
    moved = [cell(notebook, text) for text in ("def is_six", "00.1 A first")]
    for each in moved:
        notebook.cells.remove(each)
        notebook.cells.insert(1, each)
    reword(notebook, "*Core · 2 minutes*", "*Further · 2 minutes*")


@wrong(rules.the_core_stands_alone, "needs is_six, which 00.1 A first section assigns")
def a_core_that_changes_what_comes_further_on(notebook):
    a_core_that_needs_what_comes_further_on(notebook)
    cell(notebook, "is_six(my_six)").source += "\nis_six = is_six"


@wrong(rules.the_version_is_checked_first, "does not check the version")
def no_check_of_the_version(notebook):
    reword(notebook, 'needs("0.2")', "pass")


@wrong(rules.the_version_is_checked_first, "does not check the version")
def a_check_of_the_version_that_slides_show(notebook):
    cell(notebook, "needs(").metadata["tags"] = []


@wrong(rules.the_version_is_checked_first, "needs version 9.7, and the package has 0.2")
def a_version_that_is_not_the_packages(notebook):
    reword(notebook, 'needs("0.2")', 'needs("9.7")')


@wrong(rules.minutes_are_stated, "states 9 minutes, and its length says 2")
def a_mark_with_other_minutes(notebook):
    reword(notebook, "*Core · 2 minutes*", "*Core · 9 minutes*")


@wrong(rules.minutes_are_stated, "the head states (5, 15) minutes for the core and for")
def a_head_with_other_minutes(notebook):
    reword(notebook, "and 9 for all", "and 15 for all")


@wrong(rules.minutes_are_stated, "the head states None minutes for the core and")
def a_head_without_minutes(notebook):
    reword(notebook, "for the core", "for a start")


@wrong(rules.cells_are_short, "has 21 lines; 20 are allowed")
def a_long_cell(notebook):
    cell(notebook, "images").source = "x = 1\n\n" + 20 * "x += 1\n"


@wrong(rules.cells_are_short, "has 13 lines; 12 are allowed")
def many_imports(notebook):
    cell(notebook, "images").source = 13 * "import math\n"


@pytest.mark.parametrize(("rule", "change", "words"), WRONG_NOTEBOOKS)
def test_a_notebook_is_wrong_with(rule, change, words, notebook):
    change(notebook)
    assert any(words in problem for problem in rule(notebook)), rule(notebook)


def changed_notebook(change):
    """A change of the files that changes the notebook in them."""

    def change_files(source):
        notebook = rules.read(source)
        change(notebook)
        save(notebook, source)

    change_files.__name__ = change.__name__
    return change_files


def rewrite(source, old, new):
    text = source.read_text(encoding="utf-8")
    assert old in text
    source.write_text(text.replace(old, new), encoding="utf-8")


@wrong(rules.pair_is_equal, "00-003 has another text")
def a_source_that_was_changed_later(source):
    rewrite(source, "[2, 3]", "[2, 4]")


@wrong(rules.pair_is_equal, "00-001 has another text")
def prose_that_was_changed_later(source):
    rewrite(source, "Look.", "Listen.")


@wrong(rules.pair_is_equal, "has metadata {'tags': ['exercise']}, and {'tags'")
def a_tag_that_was_changed_later(source):
    rewrite(source, 'tags=["exercise"]', 'tags=["exercise", "hard"]')


@wrong(rules.pair_is_equal, "the notebook has no cell 00-029")
def a_cell_that_was_added_later(source):
    rewrite(source, "is_six(six)\n", "is_six(six)\n\n# %%\nprint(2)\n")


@wrong(rules.pair_is_equal, " more")
def a_cell_that_was_put_in_front_later(source):
    rewrite(source, "# %% [markdown]\n# # 00", "# %%\n1\n\n# %% [markdown]\n# # 00")


@wrong(rules.pair_is_equal, "the source has no cell 00-029")
@changed_notebook
def a_cell_that_the_source_lacks(notebook):
    notebook.cells.append(nbformat.v4.new_markdown_cell("more"))


@wrong(rules.pair_is_equal, "00-002 is raw, and code in the source")
@changed_notebook
def a_cell_of_another_type(notebook):
    raw = nbformat.v4.new_raw_cell(notebook.cells[1].source)
    notebook.cells[1] = raw


@wrong(rules.pair_is_equal, "cell 00-002 is named 1f3a")
@changed_notebook
def a_cell_with_a_name_by_chance(notebook):
    notebook.cells[1].id = "1f3a"


@wrong(rules.pair_is_equal, "says that it is paired")
@changed_notebook
def a_notebook_that_jupyterlab_may_refuse_to_open(notebook):
    notebook.metadata["jupytext"] = {"formats": "ipynb,py:percent"}


@wrong(rules.figures_are_named, "shown as 'pipelines', which alt_texts.json does not")
@changed_notebook
def a_figure_by_an_unknown_name(notebook):
    reword(notebook, '"code_grids"', '"pipelines"')


@wrong(rules.figures_are_named, "shown as 'masks', which alt_texts.json does not have")
@changed_notebook
def a_figure_by_the_name_of_another_notebook(notebook):
    reword(notebook, '"one_code_changed"', '"masks"')


@wrong(rules.figures_are_named, "which alt_texts.json does not have for notebook 00")
@changed_notebook
def a_figure_by_a_name_that_is_computed(notebook):
    reword(notebook, '"code_grids"', 'f"{1}"')


@wrong(rules.links_lead_somewhere, "links to the heading #Exercise-4, which is none")
@changed_notebook
def a_link_to_a_heading_that_is_not_there(notebook):
    reword(notebook, "See.", "[See](#Exercise-4).")


@wrong(rules.under_a_megabyte, "must stay under 1 MB")
@changed_notebook
def a_large_notebook(notebook):
    add_stream(notebook, 1_000_000 * "x")


@wrong(rules.cover_is_in_the_notebook, "0 cells are tagged cover")
@changed_notebook
def no_cover(notebook):
    cell(notebook, "figures.masks").metadata.clear()


@wrong(rules.cover_is_in_the_notebook, "2 cells are tagged cover")
@changed_notebook
def two_covers(notebook):
    cell(notebook, "figures.heatmaps").metadata["tags"] = ["cover"]


@wrong(rules.cover_is_in_the_notebook, "has no picture")
@changed_notebook
def a_cover_without_a_picture(notebook):
    cell(notebook, "figures.masks").outputs.clear()


@wrong(rules.cover_is_in_the_notebook, "00_right.png is not there")
def a_cover_that_was_never_written(source):
    (source.parent / "pictures" / "00_right.png").unlink()


@wrong(rules.cover_is_in_the_notebook, "is another picture")
def a_cover_that_was_drawn_before(source):
    (source.parent / "pictures" / "00_right.png").write_bytes(b"an older one")


@wrong(rules.links_lead_somewhere, "does not link to 01_another.ipynb")
@changed_notebook
def a_head_without_the_next_notebook(notebook):
    reword(notebook, "next: [01 · Another](01_another.ipynb)", "")


@wrong(rules.links_lead_somewhere, "does not link to GLOSSARY.md")
@changed_notebook
def a_head_without_the_glossary(notebook):
    reword(notebook, "[words](GLOSSARY.md)", "")


@wrong(rules.sections_are_numbered, "section 1 is called '## A first section'")
@changed_notebook
def a_section_without_a_number(notebook):
    reword(notebook, "00.1 ", "")


@wrong(rules.sections_are_numbered, "it begins with '## 00.2 '")
@changed_notebook
def a_section_with_the_number_of_another(notebook):
    reword(notebook, "00.2 ", "00.1 ")


@wrong(rules.sections_are_numbered, "has a heading below other text: ## 00.2")
@changed_notebook
def a_section_within_a_cell(notebook):
    reword(notebook, "## 00.2", "Before it.\n\n## 00.2")


@wrong(rules.links_lead_somewhere, "links to 01_another.ipynb, which is not there")
def a_neighbour_that_is_not_there(source):
    (source.parent / "01_another.ipynb").unlink()


@wrong(rules.links_lead_somewhere, "links to gone.md, which is not there")
@changed_notebook
def a_link_into_nowhere(notebook):
    reword(notebook, "A book.", "A [book](gone.md#page).")


@wrong(rules.links_lead_somewhere, "links to GLOSSARY.md#none, which is no heading")
@changed_notebook
def a_link_to_a_heading_that_a_page_lacks(notebook):
    reword(notebook, "A book.", "A [book](GLOSSARY.md#none).")


@wrong(rules.links_lead_somewhere, "does not begin with # 00")
@changed_notebook
def the_number_of_another_notebook(notebook):
    reword(notebook, "# 00 ·", "# 01 ·")


@wrong(rules.numbers_are_measured, f"but it is {NATS}")
@changed_notebook
def a_number_that_drifted(notebook):
    reword(notebook, f"{NATS:.2f}<", f"{NATS + 0.01:.2f}<")


@wrong(rules.numbers_are_measured, "but it is 5")
@changed_notebook
def a_time_that_drifted(notebook):
    reword(notebook, "5<!--=", "10<!--=")


@wrong(rules.numbers_are_measured, "'1.5 nats' and not where")
@changed_notebook
def a_measured_number_without_a_source(notebook):
    reword(notebook, "A book.", "A book of 1.5 nats.")


@wrong(rules.numbers_are_measured, "no number before")
@changed_notebook
def a_source_without_a_number(notebook):
    reword(notebook, "A book.", f"A book{NATS_MARKER}.")


@wrong(rules.numbers_are_measured, "results.json has no likelihood.middle: middle")
@changed_notebook
def a_source_without_such_a_key(notebook):
    reword(notebook, "A book.", "2<!--= results likelihood.middle --> books.")


@wrong(rules.numbers_are_measured, "likelihood in results.json is no number")
@changed_notebook
def a_source_that_is_no_number(notebook):
    reword(notebook, "A book.", "2<!--= results likelihood --> books.")


@wrong(rules.numbers_are_measured, "hearsay is no results file")
@changed_notebook
def a_source_that_is_no_results_file(notebook):
    reword(notebook, "A book.", "2<!--= hearsay books --> books.")


@wrong(rules.numbers_are_measured, "timings.json is not there")
def times_that_nobody_measured(source):
    (source.parent / "timings.json").unlink()


@wrong(rules.numbers_are_measured, "a marker that does not end")
@changed_notebook
def a_marker_that_does_not_end(notebook):
    reword(notebook, "A book.", "2<!--= results books")


@wrong(rules.numbers_are_measured, "does not state its seconds")
@changed_notebook
def a_head_without_seconds(notebook):
    reword(notebook, "5<!--= timings 00_right --> seconds", "some seconds")


@pytest.mark.parametrize(("rule", "change", "words"), WRONG_FILES)
def test_files_are_wrong_with(rule, change, words, source):
    change(source)
    assert any(words in problem for problem in rule(source)), rule(source)


def test_every_rule_is_broken_by_some_notebook():
    broken = {case.values[0] for case in WRONG_NOTEBOOKS + WRONG_FILES}
    assert broken == {*rules.OF_NOTEBOOKS, *rules.OF_FILES}


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("1.83", 1.8281826),
        ("1.8", 1.8281826),
        ("2", 1.8281826),
        ("813,760", 813760),
        ("−0.5", -0.52),
        ("0.001", 0.00082),
        ("1.80", 1.795),
        ("10", 10),
    ],
)
def test_a_number_agrees_with_its_source_when_rounded(written, value):
    assert rules.agrees(written, value)


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("1.82", 1.8281826),
        ("1.830", 1.8281826),
        ("1", 1.8281826),
        ("0.5", -0.5),
        ("813,761", 813760),
        ("1", float("nan")),
    ],
)
def test_a_number_that_rounds_to_another_does_not_agree(written, value):
    assert not rules.agrees(written, value)


@pytest.mark.parametrize(
    "text",
    ["1.5 s", "1.5 seconds", "**2.25** ms", "1,024.5 nats", "99.9%", "0.3-nat gap"],
)
def test_a_decimal_number_with_a_unit_is_measured(text):
    assert rules.UNMARKED.search(f"It is {text}, then.")


@pytest.mark.parametrize(
    "text", ["arXiv 1906.00446", "section 3.1", "torch 2.6 sees", "1.44 bits", "3 s"]
)
def test_other_numbers_are_not_measured(text):
    assert not rules.UNMARKED.search(f"It is {text}, then.")


# What nbval and notebooks/conftest.py, run as they are, have to catch.

NOTEBOOKS = rules.ROOT / "notebooks"


def nbval(folder):
    """Run pytest in a folder with the course's conftest.py and sanitize.cfg.

    Returns:
        Its exit status, its output and the outcome of each cell.
    """
    for name in ("conftest.py", "sanitize.cfg"):
        if not (folder / name).exists():
            shutil.copy(NOTEBOOKS / name, folder)
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PIXELPRIOR_", "PYTEST_"))
    }
    environment |= {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "OMP_NUM_THREADS": "1"}
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "nbval.plugin", "--nbval"]
        + ["--nbval-current-env", "-rA", "-p", "no:cacheprovider", "--color=no", "."],
        cwd=folder,
        env=environment,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
    )
    lines = re.findall(r"(?m)^(PASSED|FAILED|ERROR) \S+::Cell (\d+)", ran.stdout)
    outcomes = {int(number): outcome for outcome, number in lines}
    return ran.returncode, ran.stdout, outcomes


@pytest.mark.slow
def test_nbval_sees_what_was_changed_but_for_the_bytes_of_a_picture(
    built, notebook, tmp_path
):
    cells = rules.code_cells(notebook)
    stale = cell(notebook, "images")
    stale.outputs[0].text = "images [2, 4]\n"
    other = figures.picture(figures.masks({"B": torch.ones(3, 3)}), 20 * "x")
    bytes_in_base64 = base64.b64encode(other.png).decode()
    picture_of(notebook, "figures.heatmaps").data["image/png"] = bytes_in_base64
    shown = picture_of(notebook, "figures.masks").data
    shown["text/plain"] = shown["text/plain"].replace("two grids", "three grids")
    retold = cell(notebook, "is_six(3 + 3)")
    say(notebook, "is_six(3 + 3)", "right: it is 6")
    save(notebook, tmp_path / built.name)

    status, printed, outcomes = nbval(tmp_path)

    masks = cell(notebook, "figures.masks")
    changed = {cells.index(each) for each in (stale, masks, retold)}
    assert {n for n, outcome in outcomes.items() if outcome == "FAILED"} == changed
    assert outcomes.keys() == set(range(len(cells))) and status == 1
    assert "images [2, 4]" in printed


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """The folder of a notebook with one executed cell."""
    folder = tmp_path_factory.mktemp("tiny")
    made = nbformat.v4.new_notebook()
    made.cells.append(nbformat.v4.new_code_cell('print("images")', execution_count=1))
    stream = nbformat.v4.new_output("stream", name="stdout", text="images\n")
    made.cells[0].outputs.append(stream)
    nbformat.write(made, folder / "00_tiny.ipynb")
    return folder


@pytest.mark.slow
def test_nbval_passes_what_was_not_changed(tiny):
    status, printed, outcomes = nbval(tiny)
    assert (status, outcomes) == (0, {0: "PASSED"}), printed
    assert "TOO SLOW" not in printed


@pytest.mark.slow
def test_a_notebook_over_its_time_fails_the_session(tiny, tmp_path):
    shutil.copy(tiny / "00_tiny.ipynb", tmp_path)
    conftest = (NOTEBOOKS / "conftest.py").read_text(encoding="utf-8")
    shorter, count = re.subn(r"(?m)^(SECONDS_\w+) = \d+$", r"\1 = 0.0", conftest)
    assert count == 2
    (tmp_path / "conftest.py").write_text(shorter, encoding="utf-8")
    status, printed, outcomes = nbval(tmp_path)
    assert status == 1 and outcomes == {0: "PASSED"}
    for who in (r"00_tiny\.ipynb", "all notebooks"):
        words = rf"TOO SLOW: {who} took \d+ s; 0.0 are allowed"
        assert re.search(words, printed), printed


def test_each_notebook_and_all_together_have_a_limit():
    limits = rules.of_the_course("conftest")
    each, together = limits.SECONDS_EACH, limits.SECONDS_ALL
    most = together // each
    within = {str(n): each for n in range(most)} | {"rest": together - most * each}
    assert not limits.over_time(within)
    (problem,) = limits.over_time({"00": each + 1})
    assert problem == f"00 took {each + 1} s; {each} are allowed"
    (problem,) = limits.over_time(within | {"more": 1})
    assert problem == f"all notebooks took {together + 1} s; {together} are allowed"


def test_limits_are_stretched_for_notebooks_side_by_side_alone():
    limits = rules.of_the_course("conftest")
    seconds = {"00": 1.4 * limits.SECONDS_EACH}
    assert limits.over_time(seconds)
    assert not limits.over_time(seconds, limits.SIDE_BY_SIDE)
    assert limits.over_time({"00": 1.6 * limits.SECONDS_EACH}, limits.SIDE_BY_SIDE)

    class Config:
        def __init__(self, processes):
            self.processes = processes

        def getoption(self, name, default):
            return self.processes

    factors = [limits.slower(Config(processes)) for processes in (None, 0, 1, 2)]
    assert factors == [1, 1, 1, limits.SIDE_BY_SIDE]
