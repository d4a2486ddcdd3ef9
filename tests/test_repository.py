"""Facts about the repository itself, and about what comes to it from elsewhere."""

import importlib
import importlib.metadata
import itertools
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import draw_readme_figures
import matplotlib
import pytest
import yaml

import pixelprior
from pixelprior.course.showing import alt_text

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
ENVIRONMENT = (ROOT / "environment.yml").read_text(encoding="utf-8")
WORKFLOW = (ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8")
PYPROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
PROJECT = tomllib.loads(PYPROJECT)["project"]
EXTRAS = PROJECT["optional-dependencies"].copy()
all_extras = EXTRAS.pop("all")
DECLARED = [*PROJECT["dependencies"], *itertools.chain(*EXTRAS.values())]


def test_environment_yml_installs_what_pyproject_names():
    environment = yaml.safe_load(ENVIRONMENT)
    python, *_, last = environment["dependencies"]
    assert environment["channels"] == ["conda-forge"]
    assert python == "python" + PROJECT["requires-python"]
    assert last["pip"] == [*PROJECT["dependencies"], "-e .[dev]"]
    for line in re.findall(r"(?m)^ +- (?!pip:).*$", ENVIRONMENT):
        assert "#" in line, f"{line} does not say what it is for"


def test_dependencies_are_ranges_with_one_bound_each_and_all_has_them_all():
    bounds = {requirement.partition(">=")[0]: requirement for requirement in DECLARED}
    for requirement in DECLARED:
        assert re.fullmatch(
            r"[a-z0-9-]+>=[\d.]+(,<[\d.]+|; python_version<'3.11')?", requirement
        )
        assert bounds[requirement.partition(">=")[0]] == requirement
    assert all_extras == [f"pixelprior[{','.join(EXTRAS)}]"]


@pytest.mark.skipif(
    not os.environ.get("PIXELPRIOR_LOWEST"),
    reason="`.ci/lowest` runs it where the lowest declared versions are installed",
)
def test_the_lowest_declared_versions_are_the_installed_ones():
    python = ".".join(map(str, sys.version_info[:2]))
    assert PROJECT["requires-python"] == f">={python}"
    untested = []
    for requirement in DECLARED:
        needed, _, only_before = requirement.partition("; python_version<'3.11'")
        name, _, bound = needed.partition(",")[0].partition(">=")
        if not only_before or sys.version_info < (3, 11):
            installed = importlib.metadata.version(name).partition("+")[0]
            # 2.6 and 2.6.0 are one version.
            if re.sub(r"(\.0)+$", "", installed) != re.sub(r"(\.0)+$", "", bound):
                untested.append(f"{requirement} has {installed}")
    assert not untested, "raise these bounds to what is installed, or install them"


def test_the_workflow_runs_the_lowest_versions_and_every_python():
    jobs = yaml.safe_load(WORKFLOW)["jobs"]
    pythons = jobs["test"]["strategy"]["matrix"]["python"]
    assert PROJECT["requires-python"] == f">={pythons[0]}"
    assert pythons == ["3.10", "3.12", "3.13"]
    assert "bash .ci/lowest" in [step.get("run") for step in jobs["lowest"]["steps"]]


def test_actions_are_pinned_by_their_commit():
    """A tag can be moved to other code, a commit cannot."""
    found = re.findall(r"uses: *(.+)", WORKFLOW)
    assert found
    for used in found:
        assert re.fullmatch(r"[\w./-]+@[0-9a-f]{40} # v[\d.]+", used), used


@pytest.mark.parametrize(
    "installs",
    ["pip install -e . && pixelprior demo", 'pip install -e ".[dev]" && pytest'],
)
def test_the_readme_has_the_command_that(installs):
    venv = "python3 -m venv .venv && . .venv/bin/activate && "
    assert f"\n{venv}{installs}\n" in README


def test_binary_files_keep_within_their_sizes():
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    kinds = (".npz", ".safetensors", ".png", ".pth", ".gif")
    names = [name for name in listed.stdout.split("\0") if name.endswith(kinds)]
    sizes = [(ROOT / name).stat().st_size for name in names]
    assert max(sizes) < 6e6 and sum(sizes) < 24e6


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
    program = f"import sys; from pixelprior.{module} import {name}; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert not set(not_loaded) & set(done.stdout.split())


def test_every_exported_name_is_the_one_of_its_module():
    assert sorted(pixelprior.MODULES) == sorted(pixelprior.__all__)
    for name, module in pixelprior.MODULES.items():
        home = importlib.import_module(f"pixelprior.{module}")
        assert getattr(pixelprior, name) is getattr(home, name)
        assert name in dir(pixelprior)
    with pytest.raises(AttributeError, match="no attribute 'PixelCNM'"):
        pixelprior.PixelCNM  # noqa: B018


def test_the_diagrams_of_the_pages_are_those_of_the_course(tmp_path):
    tool, picture = draw_readme_figures, r'pictures/(\w+)\.svg"[^>]*?alt="([^"]+)"'
    pages = [ROOT / "README.md", *ROOT.glob("docs/*.md")]
    text = "\n".join(page.read_text(encoding="utf-8") for page in pages)
    assert dict(re.findall(picture, text)) == {n: alt_text(n) for n in tool.DIAGRAMS}
    first, again = (
        {path.name: path.read_bytes() for path in tool.draw(tmp_path)} for _ in range(2)
    )
    assert first == again, "not the same bytes each time"
    kept = {path.name: path.read_bytes() for path in tool.FOLDER.iterdir()}
    assert first.keys() == kept.keys()
    for name, content in kept.items():
        if f"Matplotlib v{matplotlib.__version__},".encode() in content:
            assert first[name] == content, "python tools/draw_readme_figures.py"


@pytest.mark.asks_for_the_network
def test_the_tests_have_no_network():
    """Every command is run in this process by some test, and would fail there."""
    with pytest.raises(OSError, match=r"no network, but 192\.0\.2\.1"):
        socket.create_connection(("192.0.2.1", 80), timeout=1)
    with pytest.raises(OSError, match=r"no network, but pypi\.org"):
        socket.getaddrinfo("pypi.org", 443)
    with socket.socket() as here:
        here.bind(("127.0.0.1", 0))
        here.listen()
        socket.create_connection(here.getsockname(), timeout=1).close()


IMPORTS = """
import importlib, pkgutil, sys

def refuse(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname"):
        raise SystemExit(f"{event} {arguments}")

sys.addaudithook(refuse)
import pixelprior
for module in pkgutil.walk_packages(pixelprior.__path__, "pixelprior."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
"""


def test_no_module_asks_for_the_network_when_it_is_imported():
    command = [sys.executable, "-c", IMPORTS]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
