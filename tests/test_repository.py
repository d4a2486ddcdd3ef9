"""Facts about the repository itself."""

import importlib
import importlib.metadata
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import matplotlib
import pytest
import yaml

from pixelprior.course.showing import alt_text

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
ENVIRONMENT = (ROOT / "environment.yml").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_environment_yml_installs_what_pyproject_names():
    dependencies = yaml.safe_load(ENVIRONMENT)["dependencies"]
    (pip,) = (each["pip"] for each in dependencies if isinstance(each, dict))
    assert pip[:-1] == PROJECT["project"]["dependencies"]
    assert pip[-1] == "-e .[dev]"


def test_environment_yml_uses_conda_forge_alone_and_the_same_python():
    environment = yaml.safe_load(ENVIRONMENT)
    assert environment["channels"] == ["conda-forge"]
    python = next(d for d in environment["dependencies"] if d.startswith("python"))
    assert python == "python" + PROJECT["project"]["requires-python"]


def test_each_line_of_environment_yml_says_what_it_is_for():
    lines = [line for line in ENVIRONMENT.splitlines() if re.match(r" +- ", line)]
    bare = [line for line in lines if "#" not in line and not line.endswith("pip:")]
    assert not bare


def declared():
    """Every dependency that pyproject.toml names, with those of the extras."""
    project = PROJECT["project"]
    extras = project["optional-dependencies"]
    of_extras = [name for group in extras if group != "all" for name in extras[group]]
    return project["dependencies"] + of_extras


def test_dependencies_are_ranges_not_pins():
    for requirement in declared():
        assert re.fullmatch(
            r"[a-z0-9-]+>=[\d.]+(,<[\d.]+|; python_version<'3.11')?", requirement
        )


def test_the_extra_all_has_every_other_extra():
    extras = PROJECT["project"]["optional-dependencies"]
    others = ",".join(name for name in extras if name != "all")
    assert extras["all"] == [f"pixelprior[{others}]"]


def test_a_dependency_has_the_same_lower_bound_in_every_extra():
    bounds: dict[str, set] = {}
    for requirement in declared():
        bounds.setdefault(requirement.partition(">=")[0], set()).add(requirement)
    assert all(len(each) == 1 for each in bounds.values())


@pytest.mark.skipif(
    not os.environ.get("PIXELPRIOR_LOWEST"),
    reason="`.ci/lowest` runs it where the lowest declared versions are installed",
)
def test_the_lowest_declared_versions_are_the_installed_ones():
    python = ".".join(map(str, sys.version_info[:2]))
    untested = []
    if PROJECT["project"]["requires-python"] != f">={python}":
        untested.append(f"Python {python}")
    for requirement in declared():
        needed, _, only_before = requirement.partition("; python_version<'3.11'")
        name, _, bound = needed.partition(",")[0].partition(">=")
        if not only_before or sys.version_info < (3, 11):
            installed = importlib.metadata.version(name).partition("+")[0]
            # 2.6 and 2.6.0 are one version.
            if re.sub(r"(\.0)+$", "", installed) != re.sub(r"(\.0)+$", "", bound):
                untested.append(f"{requirement} has {installed}")
    assert not untested, "raise these bounds to what is installed, or install them"


def test_the_workflow_runs_the_lowest_versions_and_every_python():
    text = (ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8")
    jobs = yaml.safe_load(text)["jobs"]
    pythons = jobs["test"]["strategy"]["matrix"]["python"]
    assert PROJECT["project"]["requires-python"] == f">={pythons[0]}"
    assert pythons == ["3.10", "3.12", "3.13"]
    commands = [step.get("run") for step in jobs["lowest"]["steps"]]
    assert "bash .ci/lowest" in commands


def test_the_readme_has_the_two_commands():
    for command in (
        "python3 -m venv .venv && . .venv/bin/activate && pip install -e . "
        "&& pixelprior demo",
        'python3 -m venv .venv && . .venv/bin/activate && pip install -e ".[dev]" '
        "&& pytest",
    ):
        assert f"\n{command}\n" in README


@pytest.mark.parametrize(
    "page",
    ["README.md", "CONTRIBUTING.md", "docs/data.md"]
    + [
        "docs/anomalies.md",
        "docs/performance.md",
        "docs/reliability.md",
        "docs/results.md",
        "docs/scale.md",
        "docs/survivors.md",
    ],
)
def test_what_a_page_links_to_in_the_repository_is_there(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)#]*)(#[^)]+)?\)|<img src=\"([^\"]+)\"", text)
    assert links
    for path, anchor, image in links:
        if path.startswith("http"):
            continue
        target = (ROOT / page).parent / (path or image or Path(page).name)
        assert target.exists(), target
        if anchor:
            headings = re.findall(r"(?m)^#+ (.+)$", target.read_text(encoding="utf-8"))
            anchors = [
                "#" + re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")
                for heading in headings
            ]
            assert anchor in anchors, (path, anchor)


def test_the_numbers_of_the_readme_are_those_of_the_kept_results():
    markers = re.findall(r"([\d.,]+)<!--= (\S+) (.+?) -->", README)
    assert len(markers) >= 23
    names = {"results", "cifar10/results", "anomalies"}
    assert {name for _, name, _ in markers} == names
    for written, name, key in markers:
        kept = ROOT / "pixelprior" / "assets" / "results" / f"{name}.json"
        value = json.loads(kept.read_text(encoding="utf-8"))
        for step in key.split("."):
            value = value[step]
        decimals = len(written.partition(".")[2])
        assert f"{value:.{decimals}f}" == written, key


def test_binary_files_keep_within_their_sizes():
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    files = [ROOT / name for name in listed.stdout.split("\0") if name]
    sizes = {
        path: path.stat().st_size
        for path in files
        if path.suffix in {".npz", ".safetensors", ".png", ".pth", ".gif"}
    }
    assert max(sizes.values()) < 6e6 and sum(sizes.values()) < 24e6


LOADED = """
import sys
from pixelprior.{module} import {name}
print(*sys.modules)
"""


@pytest.mark.parametrize(
    ("module", "name", "not_loaded"),
    [
        ("data.images", "load_images", ["vector_quantize_pytorch", "matplotlib"]),
        ("training", "fit", ["vector_quantize_pytorch", "pixelprior.pixelcnn"]),
        ("pixelcnn", "ConditionalPixelCNN", ["vector_quantize_pytorch"]),
        ("evaluation.suite", "evaluate", ["pixelprior.benchmark.sampling"]),
    ],
)
def test_a_part_does_not_load_what_it_does_not_need(module, name, not_loaded):
    program = LOADED.format(module=module, name=name)
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert not set(not_loaded) & set(done.stdout.split())


def test_every_exported_name_is_the_one_of_its_module():
    import pixelprior

    assert sorted(pixelprior.MODULES) == sorted(pixelprior.__all__)
    for name, module in pixelprior.MODULES.items():
        home = importlib.import_module(f"pixelprior.{module}")
        assert getattr(pixelprior, name) is getattr(home, name)
        assert name in dir(pixelprior)
    with pytest.raises(AttributeError, match="no attribute 'PixelCNM'"):
        pixelprior.PixelCNM  # noqa: B018


def test_the_diagrams_of_the_readme_are_those_of_the_course(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "tools")
    import draw_readme_figures as tool

    shown = dict(
        re.findall(r'src="docs/pictures/(\w+)\.svg"[^>]*?alt="([^"]+)"', README)
    )
    assert shown == {name: alt_text(name) for name in tool.DIAGRAMS}
    drawn = {path.name: path.read_bytes() for path in tool.draw(tmp_path)}
    assert set(drawn) == {path.name for path in tool.FOLDER.iterdir()}
    again = {path.name: path.read_bytes() for path in tool.draw(tmp_path)}
    assert again == drawn, "the same bytes each time"
    for path in tool.FOLDER.iterdir():
        kept = path.read_bytes()
        if f"Matplotlib v{matplotlib.__version__}," in kept.decode():
            assert drawn[path.name] == kept, "python tools/draw_readme_figures.py"
