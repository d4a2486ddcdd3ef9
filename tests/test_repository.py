"""Facts about the repository itself."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

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


def test_dependencies_are_ranges_not_pins():
    project = PROJECT["project"]
    extras = [
        name for group in project["optional-dependencies"].values() for name in group
    ]
    for requirement in project["dependencies"] + extras:
        assert re.fullmatch(r"[a-z-]+>=[\d.]+(; python_version<'3.11')?", requirement)


def test_the_readme_has_the_two_commands():
    for command in (
        "python3 -m venv .venv && . .venv/bin/activate && pip install -e . "
        "&& pixelprior demo",
        'python3 -m venv .venv && . .venv/bin/activate && pip install -e ".[dev]" '
        "&& pytest",
    ):
        assert f"\n{command}\n" in README


def test_what_the_readme_links_to_in_the_repository_is_there():
    for target in re.findall(r"\]\(([^)#]+)\)|<img src=\"([^\"]+)\"", README):
        target = target[0] or target[1]
        if not target.startswith("http"):
            assert (ROOT / target).exists(), target


def test_no_module_is_past_350_lines():
    long = {
        path.name: count
        for path in (ROOT / "pixelprior").rglob("*.py")
        if (count := len(path.read_text(encoding="utf-8").splitlines())) > 350
    }
    assert not long


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
    assert max(sizes.values()) < 4e6 and sum(sizes.values()) < 12e6


def test_imports_point_downwards():
    order = [
        ["checks"],  # a module a notebook; what they share is below them alone
        ["checks.verdict"],
        ["cli"],
        ["cli_reproduce"],
        ["cli_evaluate"],
        ["cli_train", "cli_benchmark", "doctor"],
        ["cli_flags"],
        ["benchmark_training"],
        ["results_report", "widgets", "viz_grids"],
        ["viz_plots"],
        ["viz", "assets", "benchmark_report"],
        ["results"],
        ["evaluation", "benchmark"],
        ["classifier"],
        ["training", "planning"],
        ["runs"],
        ["settings"],
        ["editing"],
        ["prior"],
        ["sampling"],
        ["pixelcnn"],
        ["layers"],
        ["codes"],
        ["data", "known_entropy"],
        ["vqvae2"],
        ["checkpoints", "quantizer", "recipes", "progress", "validation", "modes"],
        ["causality"],
    ]
    ranks = {name: level for level, names in enumerate(order) for name in names}

    def rank(module):
        package = module.split(".")[0]
        return ranks[module] if module in ranks else ranks[package]

    package = ROOT / "pixelprior"
    for path in [*package.glob("*.py"), *package.glob("checks/*.py")]:
        if path.stem == "__init__":
            continue
        module = ".".join(path.relative_to(package).with_suffix("").parts)
        text = path.read_text(encoding="utf-8")
        for imported in re.findall(r"^from pixelprior\.([\w.]+)", text, re.MULTILINE):
            assert rank(imported) > rank(module), f"{module} imports {imported}"
