"""The command `lab`: the course in a folder of the reader's own."""

import os
import re
import signal
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
    for page in course.glob("notebooks/*.[im][pd]*"):
        text = page.read_text(encoding="utf-8")
        for link in re.findall(r"\]\(([\w./]+)(?:#[^)]*)?\)", text):
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
    assert "not as installed, and stay as they are: 1;" in capsys.readouterr().out
    assert mine.read_text(encoding="utf-8") == "mine" and gone.is_file()


@pytest.mark.parametrize("number", ["07", "7", "07_generate_and_judge"])
def test_a_checkout_opens_its_own_notebooks(monkeypatch, number):
    opened = []
    monkeypatch.setattr(lab, "open_lab", lambda notebook: opened.append(notebook) or 0)
    with pytest.raises(SystemExit) as stop:
        cli.main(["lab", number])
    assert stop.value.code == 0
    assert opened == [ROOT / "notebooks" / "07_generate_and_judge.ipynb"]


def test_a_course_in_this_folder_is_opened_again(tmp_path, monkeypatch):
    cli.main(["lab", "--copy_only", "--folder", str(tmp_path / "course")])
    opened = []
    monkeypatch.setattr(lab, "open_lab", lambda notebook: opened.append(notebook) or 0)
    monkeypatch.chdir(tmp_path / "course")
    with pytest.raises(SystemExit):
        cli.main(["lab"])
    (notebook,) = opened
    assert notebook == tmp_path / "course" / "notebooks" / "00_start_here.ipynb"


def test_jupyterlab_runs_in_this_environment_and_has_the_interrupt(tmp_path):
    """`-m jupyterlab` is this Python's, Ctrl-C is for it alone, and its root has the
    README and the documents that the notebooks link to."""
    program = (
        "import signal, subprocess, sys\n"
        "from pathlib import Path\n"
        "from pixelprior.cli import lab\n"
        "class Opened:\n"
        "    def __init__(self, command): print(command)\n"
        "    def __enter__(self): return self\n"
        "    def __exit__(self, *error): pass\n"
        "    def wait(self): return signal.getsignal(signal.SIGINT).value\n"
        "subprocess.Popen = Opened\n"
        "print(lab.open_lab(Path('course/notebooks/a.ipynb')))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    command = [sys.executable, "-m", "jupyterlab", "--ServerApp.root_dir=course"]
    command.append("course/notebooks/a.ipynb")
    assert done.stdout.split("\n")[:2] == [str(command), str(int(signal.SIG_IGN))]


@pytest.mark.parametrize("name", ["0x", "11", "nothing"])
def test_a_notebook_that_is_not_one_is_named(name, fails):
    assert "00_start_here" in fails("lab", name)


def test_an_installed_package_has_the_course_among_its_files(tmp_path, monkeypatch):
    """The data files of a wheel, found as the package's metadata lists them."""
    place = tmp_path / "share" / "pixelprior" / "notebooks" / "00_start_here.ipynb"
    place.parent.mkdir(parents=True)
    place.write_text("{}", encoding="utf-8")

    class Listed:
        parts = ("..", "..", "..", "share", "pixelprior", "notebooks", place.name)

        def locate(self):
            return place

    monkeypatch.setattr(lab, "FIRST", Path("nowhere"))
    monkeypatch.setattr(lab.importlib.metadata, "files", lambda name: [Listed()])
    assert lab.course_files() == {lab.PurePosixPath("notebooks", place.name): place}
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
            name.partition("/data/share/pixelprior/")[2]
            for name in wheel.namelist()
            if "/data/share/pixelprior/" in name
        }
    assert names == {str(name) for name in lab.course_files()}
