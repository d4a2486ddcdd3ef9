"""Facts about the repository itself."""

import itertools
import re
import subprocess
import sys
from pathlib import Path

import draw_readme_figures
import matplotlib
import pytest
import yaml

import pixelprior
from pixelprior.cli import lab
from pixelprior.course.showing import alt_text

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = PYPROJECT["project"]


def test_each_name_that_the_package_exports_can_be_imported():
    for name in pixelprior.__all__:
        assert getattr(pixelprior, name).__name__ == name


def test_environment_yml_installs_what_pyproject_names():
    environment = yaml.safe_load((ROOT / "environment.yml").read_bytes())
    python, *_, last = environment["dependencies"]
    assert environment["channels"] == ["conda-forge"]
    assert python == "python" + PROJECT["requires-python"]
    assert last["pip"] == [*PROJECT["dependencies"], "-e .[dev]"]


def test_dependencies_are_ranges_with_one_bound_each_and_all_has_them_all():
    extras = PROJECT["optional-dependencies"].copy()
    all_extras = extras.pop("all")
    declared = {*PROJECT["dependencies"], *itertools.chain(*extras.values())}
    form = r"([a-z0-9-]+)>=[\d.]+(,<[\d.]+|; python_version<'3.11')?"
    names = [re.fullmatch(form, requirement)[1] for requirement in declared]
    assert len(names) == len({*names})
    assert all_extras == [f"pixelprior[{','.join(extras)}]"]


def test_a_wheel_has_the_files_that_lab_copies():
    files = PYPROJECT["tool"]["setuptools"]["data-files"].values()
    assert sorted(itertools.chain(*files)) == sorted(lab.PATTERNS)


def test_actions_are_pinned_by_their_commit():
    """A tag can be moved to other code, a commit cannot."""
    workflow = (ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8")
    for used in re.findall(r"uses: *(.+)", workflow):
        assert re.fullmatch(r"[\w./-]+@[0-9a-f]{40} # v[\d.]+", used), used


def test_binary_files_keep_within_their_sizes():
    command = ["git", "ls-files", "-z"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    kinds = (".npz", ".safetensors", ".png", ".pth", ".gif")
    names = [name for name in listed.stdout.split("\0") if name.endswith(kinds)]
    sizes = [(ROOT / name).stat().st_size for name in names]
    assert max(sizes) < 6e6 and sum(sizes) < 24e6


def test_the_diagrams_of_the_pages_are_those_of_the_course(tmp_path):
    tool, picture = draw_readme_figures, r'pictures/(\w+)\.svg"[^>]*?alt="([^"]+)"'
    pages = [ROOT / "README.md", *ROOT.glob("docs/*.md")]
    text = "\n".join(page.read_text(encoding="utf-8") for page in pages)
    described = dict(re.findall(picture, text))
    assert described.keys() == tool.DIAGRAMS.keys()
    for name in ("two_levels", "gated_block"):  # the notebooks show them as well
        assert described[name] == alt_text(name)
    for path in tool.draw(tmp_path):
        kept = (tool.FOLDER / path.name).read_bytes()
        if f"Matplotlib v{matplotlib.__version__},".encode() in kept:
            assert path.read_bytes() == kept, "python tools/draw_readme_figures.py"
