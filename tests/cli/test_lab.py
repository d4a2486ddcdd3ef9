"""The command `lab`: the course in a folder of the reader's own."""

import contextlib
import json
import re
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from pixelprior import cli
from pixelprior.cli import lab

ROOT = Path(__file__).parents[2]


NOTEBOOKS = {path.name: path for path in ROOT.glob("notebooks/[0-9]*.ipynb")}


@pytest.fixture
def course(tmp_path):
    cli.main(["lab", "--copy_only", "--folder", str(tmp_path / "course")])
    return tmp_path / "course"


def test_the_course_is_copied_whole_and_its_links_lead_somewhere(course):
    assert {path.name for path in course.glob("notebooks/*.ipynb")} == {*NOTEBOOKS}
    for page in course.glob("notebooks/*.[im][pd]*"):
        text = page.read_text(encoding="utf-8")
        for link in re.findall(r"\]\(([\w./]+)(?:#[^)]*)?\)", text):
            assert (page.parent / link).exists(), f"{page.name}: {link}"


def test_the_copy_has_the_cells_of_the_course_without_their_outputs(course):
    for copied in course.glob("notebooks/*.ipynb"):
        own = json.loads(NOTEBOOKS[copied.name].read_text(encoding="utf-8"))
        for cell in own["cells"]:
            if cell["cell_type"] == "code":
                cell |= {"outputs": [], "execution_count": None}
            del cell["metadata"]["slideshow"]
        assert json.loads(copied.read_text(encoding="utf-8")) == own


def test_what_the_reader_changed_stays_and_what_is_missing_comes(course, capsys):
    mine, gone = (next(course.glob(f"notebooks/{n}_*.ipynb")) for n in ("00", "01"))
    mine.write_text("mine", encoding="utf-8")
    gone.unlink()
    cli.main(["lab", "--copy_only", "--folder", str(course)])
    said = capsys.readouterr().out
    assert "not as installed, and stay as they are: 1;" in said
    assert mine.read_text(encoding="utf-8") == "mine" and gone.is_file()


def test_a_copy_is_opened_in_its_folder_and_a_checkout_is_copied(course, monkeypatch):
    opened, name = [], Path("notebooks", "07_generate_and_judge.ipynb")
    running = contextlib.nullcontext(SimpleNamespace(wait=lambda: 0))
    monkeypatch.setattr(lab.signal, "signal", lambda *_: None)
    monkeypatch.setattr(lab.subprocess, "Popen", lambda c: opened.append(c) or running)

    def opens(root, *words):
        with pytest.raises(SystemExit, match="0"):
            cli.main(["lab", *words])
        command = [sys.executable, "-m", "jupyterlab", f"--ServerApp.root_dir={root}"]
        assert opened.pop() == [*command, str(root / name)]

    opens(course, "7", "--folder", str(course))
    monkeypatch.chdir(course)
    opens(course, name.stem)
    for source in ROOT.glob("notebooks/[0-9]*.py"):
        shutil.copy(source, course / "notebooks")
    monkeypatch.setattr(lab, "CHECKOUT", course)
    opens(course / "pixelprior_course", "7")


def test_a_notebook_that_is_not_one_is_named(fails, tmp_path):
    assert "00_start_here" in fails("lab", "11", "--folder", tmp_path)
