"""A notebook runs commands as a shell would, and prints the same on every machine."""

import json

import pytest

from pixelprior.course.running import WIDTH, Terminal, _same

EPOCH = "print(open('history.json', 'w').write(json.dumps([{}])), flush=True)"


@pytest.fixture
def terminal():
    return Terminal()


@pytest.fixture
def program(terminal):
    """A function that puts another program into the place of the package's."""

    def put(code):
        folder = terminal.folder / "pixelprior"
        folder.mkdir()
        (folder / "__init__.py").write_text("")
        (folder / "cli.py").write_text(f"import json, os, sys, time\n{code}\n")

    return put


def test_a_command_is_shown_as_one_types_it_and_its_lines_are_joined(terminal, capsys):
    terminal.run("sample\n--help", "num_samples")
    first, second, *shown = capsys.readouterr().out.splitlines()
    assert (first, second) == ("$ pixelprior sample \\", "      --help")
    assert "--num_samples" in shown[0]


def test_a_command_runs_in_the_folder_on_the_processor(terminal, program, capsys):
    program("print('wrote', os.getcwd(), os.environ['ACCELERATE_USE_CPU'])")
    terminal.run("train")
    said = "".join(capsys.readouterr().out.split())
    assert said.endswith(f"wrote{terminal.folder}true".replace(" ", ""))


def test_long_lines_are_wrapped(terminal, program, capsys):
    program("print('wrote ' * 40)")
    terminal.run("train")
    _, *shown = capsys.readouterr().out.splitlines()
    assert len(shown) == 4 and max(map(len, shown)) <= WIDTH


@pytest.mark.parametrize(("given", "expected"), [(3, 0), (0, 2)])
def test_another_status_than_expected_is_an_error_with_what_was_said(
    terminal, program, given, expected
):
    program(f"print('wrote a', file=sys.stderr)\nsys.exit({given})")
    with pytest.raises(RuntimeError, match="wrote a"):
        terminal.run("train", status=expected)


def test_numbers_of_the_processor_are_left_out_and_others_are_kept():
    wrote = "wrote 30 images (4 ms each, 0.25 nats, 12 s, 1.2e-05, 1,234.5 ms)"
    assert _same(wrote) == "wrote 30 images (… ms each, … nats, … s, …, … ms)"
    error = "pixelprior: error: stopped at step 41 (loss 1.5e9); --lr (now 0.003)"
    assert _same(error) == error.replace("41", "…").replace("1.5e9", "…")


def test_a_started_training_runs_on_when_its_epochs_are_done(terminal, program):
    program(f"os.mkdir('cut')\nos.chdir('cut')\n{EPOCH}\ntime.sleep(60)")
    started = terminal.start("train", "cut", 1)
    assert started.poll() is None
    assert json.loads((terminal.folder / "cut" / "history.json").read_text()) == [{}]
    started.kill()
    assert started.wait() != 0


def test_a_training_that_ends_too_early_is_an_error(terminal, program):
    program("")
    with pytest.raises(RuntimeError, match="ended before 1 epochs"):
        terminal.start("train", "cut", 1)
