"""A notebook runs commands as a shell would, and prints the same on every machine."""

import os
import sys

import pytest

from pixelprior.course import running
from pixelprior.course.running import Terminal, loggers, read_events


@pytest.fixture
def terminal(tmp_path, monkeypatch):
    """A terminal whose program `say` prints its arguments and its variables."""
    (tmp_path / "say.py").write_text(
        "import os, sys\n"
        "status, *lines = sys.argv[1:]\n"
        "print(*(line.replace('_', ' ') for line in lines), sep='\\n')\n"
        "print('in', os.getcwd(), os.environ['WANDB_MODE'], file=sys.stderr)\n"
        "sys.exit(int(status))\n"
    )
    monkeypatch.setitem(running.PROGRAMS, "say", "say")
    return Terminal(tmp_path)


def test_a_command_is_shown_as_one_types_it_and_its_lines_are_joined(terminal, capsys):
    terminal.run("\nsay 0 one_image\n  wrote_a no\n")
    shown = capsys.readouterr().out.splitlines()
    assert shown == ["$ say 0 one_image \\", "      wrote_a no", "wrote a"]


def test_only_the_lines_that_are_asked_for_are_shown(terminal, capsys):
    terminal.run("say 0 wrote_a 3_images other", "other")
    assert capsys.readouterr().out.splitlines()[1:] == ["other"]


def test_a_command_runs_in_the_folder_and_keeps_its_logs_here(terminal, capsys):
    terminal.run("say 0", "^in ")
    _, *shown = capsys.readouterr().out.splitlines()
    where = os.path.realpath(terminal.folder)
    assert "".join(shown).replace(" ", "") == f"in{where}offline".replace(" ", "")


def test_numbers_of_the_processor_are_left_out_and_others_are_kept(terminal, capsys):
    terminal.run(
        "say 1 wrote_30_images_(4_ms_each,_0.25_nats,_12_s,_1.2e-05,_1,234.5_ms) "
        "pixelprior:_error:_stopped_at_step_41_(loss_1.5e9);_--lr_(now_0.003)",
        "wrote|error",
        status=1,
    )
    _, wrote, error = capsys.readouterr().out.splitlines()
    assert wrote == "wrote 30 images (… ms each, … nats, … s, …, … ms)"
    assert error == "pixelprior: error: stopped at step … (loss …); --lr (now 0.003)"


def test_long_lines_are_wrapped(terminal, capsys):
    terminal.run("say 0 " + "wrote_" * 40)
    _, *shown = capsys.readouterr().out.splitlines()
    assert len(shown) == 4 and max(map(len, shown)) <= running.WIDTH
    assert "".join(shown).replace(" ", "") == "wrote" * 40


@pytest.mark.parametrize(("given", "expected"), [(3, 0), (0, 2)])
def test_another_status_than_expected_is_an_error_with_what_was_said(
    terminal, given, expected
):
    with pytest.raises(RuntimeError, match="wrote a"):
        terminal.run(f"say {given} wrote_a", status=expected)


def test_another_program_is_refused(terminal):
    with pytest.raises(ValueError, match=r"begins with 'rm'.*pixelprior or accelerate"):
        terminal.run("rm -r folder")


def test_a_started_command_runs_beside_and_can_be_killed(terminal, capsys):
    sleeping = terminal.folder / "sleeping.py"
    sleeping.write_text("import time\ntime.sleep(60)\n")
    running.PROGRAMS["say"] = "sleeping"
    started = terminal.start("say")
    assert started.poll() is None
    started.kill()
    assert started.wait() != 0 and capsys.readouterr().out == "$ say\n"


def test_the_programs_are_those_of_this_python(tmp_path, capsys):
    Terminal(tmp_path).run("pixelprior sample --help", "num_samples")
    assert "--num_samples" in capsys.readouterr().out
    assert running._words("accelerate launch")[:2] == [sys.executable, "-m"]


def test_loggers_are_the_flags_of_what_is_installed(monkeypatch):
    monkeypatch.setattr(running.importlib.util, "find_spec", lambda name: name)
    assert loggers() == "--use_tensorboard --use_wandb"
    monkeypatch.setattr(running.importlib.util, "find_spec", lambda name: None)
    assert loggers() == ""


@pytest.mark.slow
def test_an_event_file_gives_back_the_values_of_each_name(tmp_path):
    pytest.importorskip("tensorboard")
    from torch.utils.tensorboard import SummaryWriter

    with pytest.raises(FileNotFoundError, match="--use_tensorboard"):
        read_events(tmp_path)
    with SummaryWriter(tmp_path / "pixelprior") as writer:
        for epoch, loss in enumerate((2.0, 1.5)):
            writer.add_scalar("train_loss", loss, epoch)
            writer.add_scalar("lr", 0.5, epoch)
    assert read_events(tmp_path) == {"train_loss": [2.0, 1.5], "lr": [0.5, 0.5]}
