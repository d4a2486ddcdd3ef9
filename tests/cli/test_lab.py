"""The command `lab`: the course in a folder of the reader's own."""

import contextlib
import json
import os
import re
import shutil
import signal
import sys
import zipfile
from pathlib import Path, PurePosixPath
from types import SimpleNamespace

import pytest

from pixelprior import cli
from pixelprior.cli import lab

ROOT = Path(__file__).parents[2]


@pytest.fixture
def course(tmp_path):
    cli.main(["lab", "--copy_only", "--folder", str(tmp_path / "course")])
    return tmp_path / "course"


def test_the_course_is_copied_whole_and_its_links_lead_somewhere(course):
    names = {path.name for path in course.glob("notebooks/*.ipynb")}
    assert names == {path.name for path in ROOT.glob("notebooks/[0-9]*.ipynb")}
    for page in course.glob("notebooks/*.[im][pd]*"):
        text = page.read_text(encoding="utf-8")
        for link in re.findall(r"\]\(([\w./]+)(?:#[^)]*)?\)", text):
            assert (page.parent / link).exists(), f"{page.name}: {link}"
    assert not list(course.glob(".*"))


def test_the_copy_has_the_cells_of_the_course_without_their_outputs(course):
    for copied in course.glob("notebooks/*.ipynb"):
        own = json.loads((ROOT / "notebooks" / copied.name).read_text(encoding="utf-8"))
        assert any(cell.get("outputs") for cell in own["cells"])
        for cell in own["cells"]:
            if cell["cell_type"] == "code":
                cell |= {"outputs": [], "execution_count": None}
            del cell["metadata"]["slideshow"]
        assert json.loads(copied.read_text(encoding="utf-8")) == own


def test_what_the_reader_changed_stays_and_what_is_missing_comes(course, capsys):
    mine, gone = (next(course.glob(f"notebooks/{n}_*.ipynb")) for n in ("00", "01"))
    mine.write_text("mine", encoding="utf-8")
    gone.unlink()
    capsys.readouterr()
    cli.main(["lab", "--copy_only", "--folder", str(course)])
    said = capsys.readouterr().out
    assert "not as installed, and stay as they are: 1;" in said
    assert f"the course is in {course / 'notebooks'}" in said
    assert mine.read_text(encoding="utf-8") == "mine" and gone.is_file()


@pytest.mark.parametrize("number", ["7", "07_generate_and_judge"])
def test_a_copy_is_opened_and_opened_again_in_its_folder(course, monkeypatch, number):
    opened, notebook = [], course / "notebooks" / "07_generate_and_judge.ipynb"
    monkeypatch.setattr(lab, "open_lab", lambda notebook: opened.append(notebook) or 0)

    def opens(*words):
        with pytest.raises(SystemExit) as stop:
            cli.main(["lab", *words])
        assert stop.value.code == 0
        return opened.pop()

    assert opens(number, "--folder", str(course)) == notebook
    monkeypatch.chdir(course)
    assert opens(number) == notebook
    for source in ROOT.glob("notebooks/[0-9]*.py"):
        shutil.copy(source, course / "notebooks")
    monkeypatch.setattr(lab, "CHECKOUT", course)  # which is not opened, but copied
    copied = course / "pixelprior_course"
    assert opens(number) == copied / "notebooks" / notebook.name


def test_jupyterlab_runs_in_this_environment_and_has_the_interrupt(monkeypatch):
    """`-m jupyterlab` is this Python's, Ctrl-C is for it alone, and its root has the
    README and the documents that the notebooks link to."""
    started, before = [], signal.getsignal(signal.SIGINT)

    def start(command):
        started.append(command)
        running = SimpleNamespace(wait=lambda: signal.getsignal(signal.SIGINT))
        return contextlib.nullcontext(running)

    monkeypatch.setattr(lab.subprocess, "Popen", start)
    try:
        assert lab.open_lab(Path("course/notebooks/a.ipynb")) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
    command = [sys.executable, "-m", "jupyterlab", "--ServerApp.root_dir=course"]
    assert started == [[*command, "course/notebooks/a.ipynb"]]


@pytest.mark.parametrize("name", ["11", "nothing"])
def test_a_notebook_that_is_not_one_is_named(name, fails, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "00_start_here" in fails("lab", name)


def test_an_installed_package_has_the_course_among_its_files(tmp_path, monkeypatch):
    """The data files of a wheel, found as the package's metadata lists them."""
    name = "share/pixelprior/notebooks/00_start_here.py"
    place = tmp_path / name
    place.parent.mkdir(parents=True)
    place.write_text("# %%\n", encoding="utf-8")

    class Listed(PurePosixPath):
        def locate(self):
            return place

    listed = [Listed("pixelprior/__init__.py"), Listed(f"../../../{name}")]
    monkeypatch.setattr(lab, "CHECKOUT", tmp_path / "nowhere")
    monkeypatch.setattr(lab.importlib.metadata, "files", lambda name: listed)
    found = list(lab.course_files())
    assert found[0] == "notebooks/00_start_here.ipynb"
    assert all(name.startswith("pixelprior/assets/results/") for name in found[1:])
    monkeypatch.setattr(lab.importlib.metadata, "files", lambda name: None)
    with pytest.raises(FileNotFoundError, match="has no notebooks"):
        lab.course_files()


@pytest.mark.slow
@pytest.mark.skipif(
    "PIXELPRIOR_WHEEL" not in os.environ, reason="PIXELPRIOR_WHEEL names no wheel"
)
def test_the_wheel_has_the_files_of_a_checkout():
    with zipfile.ZipFile(os.environ["PIXELPRIOR_WHEEL"]) as wheel:
        names = {
            name.partition("/data/share/pixelprior/")[2] or name
            for name in wheel.namelist()
        }
    names = {re.sub(r"^(notebooks/\d.*)\.py$", r"\1.ipynb", name) for name in names}
    assert set(lab.course_files()) <= names
