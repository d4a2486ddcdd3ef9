"""The command `lab`: the course in a folder of the reader's own."""

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from pixelprior import cli
from pixelprior.cli import lab

ROOT = Path(__file__).parents[2]


def test_the_course_is_copied_whole_and_its_links_lead_somewhere(tmp_path, capsys):
    cli.main(["lab", "--copy_only", "--folder", str(tmp_path / "course")])
    course = tmp_path / "course"
    assert f"the course is in {course / 'notebooks'}" in capsys.readouterr().out
    names = {path.name for path in course.glob("notebooks/*.ipynb")}
    assert names == {path.name for path in ROOT.glob("notebooks/[0-9]*.ipynb")}
    for page in course.glob("notebooks/*.md"):
        text = page.read_text(encoding="utf-8")
        for link in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", text):
            assert (page.parent / link).exists(), f"{page.name}: {link}"
    assert not list(course.rglob("*.unfinished"))


def test_what_the_reader_changed_stays_and_what_is_missing_comes(tmp_path, capsys):
    command = ["lab", "--copy_only", "--folder", str(tmp_path)]
    cli.main(command)
    mine, gone = (next(tmp_path.glob(f"notebooks/{n}_*.ipynb")) for n in ("00", "01"))
    mine.write_text("mine", encoding="utf-8")
    gone.unlink()
    capsys.readouterr()
    cli.main(command)
    assert "1 file is not as installed" in capsys.readouterr().out
    assert mine.read_text(encoding="utf-8") == "mine" and gone.is_file()


def test_a_checkout_opens_its_own_notebooks(monkeypatch, capsys):
    started = []
    done = subprocess.CompletedProcess([], 0)
    monkeypatch.setattr(
        lab.subprocess, "run", lambda command: started.append(command) or done
    )
    with pytest.raises(SystemExit) as stop:
        cli.main(["lab", "07"])
    assert stop.value.code == 0
    path = str(ROOT / "notebooks" / "07_generate_and_judge.ipynb")
    assert started == [[sys.executable, "-m", "jupyter", "lab", path]]


@pytest.mark.parametrize("name", ["0", "10", "nothing"])
def test_a_notebook_that_is_not_one_is_named(name, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["lab", name])
    assert stop.value.code == 2
    assert "00_start_here" in capsys.readouterr().err


def test_an_installed_package_has_the_course_among_its_files(tmp_path, monkeypatch):
    """The data files of a wheel, found as the package's metadata lists them."""
    place = tmp_path / "share" / "pixelprior" / "notebooks" / "00_start_here.ipynb"
    place.parent.mkdir(parents=True)
    place.write_text("{}", encoding="utf-8")

    class Listed:
        parts = ("..", "..", "..", "share", "pixelprior", "notebooks", place.name)

        def locate(self):
            return place

    monkeypatch.setattr(lab, "OURS", Path("nowhere"))
    monkeypatch.setattr(lab.importlib.metadata, "files", lambda name: [Listed()])
    assert lab.course_files() == {lab.PurePosixPath("notebooks", place.name): place}
    monkeypatch.setattr(lab.importlib.metadata, "files", lambda name: None)
    with pytest.raises(FileNotFoundError, match="has no notebooks"):
        lab.course_files()


@pytest.mark.skipif(
    "PIXELPRIOR_WHEEL" not in os.environ, reason="PIXELPRIOR_WHEEL names no wheel"
)
def test_the_wheel_has_the_files_of_a_checkout():
    with zipfile.ZipFile(os.environ["PIXELPRIOR_WHEEL"]) as wheel:
        names = {
            name.partition("/data/share/pixelprior/")[2]
            for name in wheel.namelist()
            if "/data/share/pixelprior/" in name
        }
    assert names == {str(name) for name in lab.course_files()}
