"""Several processes: one codebook, a clear end if one is lost, and none too few."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest
from accelerate.commands import launch

from pixelprior import VQVAE2, cli, devices
from pixelprior.checkpoints import load_model
from pixelprior.cli import doctor

QUIET = os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
TWO = ["torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
SMALL = ["--dataset", "fashion_mnist_mini", "--hidden_channels", "8"]
SMALL += ["--embedding_dim", "8", "--num_embeddings", "16"]

# Like `train-vqvae2`, and says which codebooks this process has at the end.
TRAIN = """
import hashlib, sys
from pixelprior import VQVAE2, cli, quantizer
made, init = [], quantizer.Quantizer.__init__
def remember(self, *arguments):
    init(self, *arguments)
    made.append(self)
quantizer.Quantizer.__init__ = remember
cli.main(["train-vqvae2", *sys.argv[1:]])
books = [hashlib.sha256(m.codebook.numpy().tobytes()).hexdigest() for m in made[:2]]
print("codebooks", *books, flush=True)
"""


def test_two_processes_have_the_codebooks_of_one_run(tmp_path):
    (tmp_path / "train.py").write_text(TRAIN)
    flags = [*SMALL, "--max_images", "192", "--epochs", "2", "--validation_share", "0"]
    flags += ["--sample_every", "1", "--mixed_precision", "no", "--output_dir"]
    two, one = tmp_path / "two", tmp_path / "one"
    done = subprocess.run(
        [sys.executable, "-m", *TWO, str(tmp_path / "train.py")]
        + ["--batch_size", "16", *flags, str(two)],
        capture_output=True,
        text=True,
        env=QUIET,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    said = [line for line in done.stdout.splitlines() if "codebooks" in line]
    assert len(said) == 2 and len(set(said)) == 1, "the processes' codebooks differ"
    assert len(set(said[0].split()[1:])) == 2, "two levels, two codebooks"
    cli.main(["train-vqvae2", "--batch_size", "32", *flags, str(one)])
    losses = [
        json.loads((folder / "history.json").read_text())[-1]["train_total_loss"]
        for folder in (two, one)
    ]
    # k-means and the replaced codes draw from other random numbers.
    assert losses[0] == pytest.approx(losses[1], rel=0.1)
    names = [sorted(p.name for p in (f / "samples").iterdir()) for f in (two, one)]
    assert names[0] == names[1] and names[0]
    best = load_model(VQVAE2, two / "best")
    weights = hashlib.sha256(best.vq_top.codebook.numpy().tobytes()).hexdigest()
    assert weights in said[0], "the weights that are kept are those of both processes"


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
@pytest.mark.parametrize("lost", [0, 1])
def test_a_lost_process_ends_the_run(lost, tmp_path):
    """The other process and the launcher end within a minute, and the run goes on."""
    flags = [*SMALL, "--max_images", "96", "--save_steps", "2", "--batch_size", "8"]
    command = ["train-vqvae2", *flags, "--output_dir", str(tmp_path / "run")]
    launcher = subprocess.Popen(
        [sys.executable, "-m", *TWO, "-m", "pixelprior.cli", *command]
        + ["--epochs", "10000"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=QUIET,
    )
    try:
        deadline = time.monotonic() + 120
        while not (tmp_path / "run" / "history.json").exists():
            assert launcher.poll() is None and time.monotonic() < deadline
            time.sleep(0.1)
        workers = psutil.Process(launcher.pid).children(recursive=True)
        (victim,) = [w for w in workers if w.environ().get("RANK") == str(lost)]
        started = time.monotonic()
        victim.send_signal(signal.SIGKILL)
        said = launcher.communicate(timeout=60)[1]
        assert time.monotonic() - started < 60
    finally:
        launcher.kill()
    assert launcher.returncode != 0
    assert f"Signal 9 (SIGKILL) received by PID {victim.pid}" in said
    assert not [worker for worker in workers if worker.is_running()]
    history = json.loads((tmp_path / "run" / "history.json").read_text())
    epochs = len(history) + 1
    cli.main([*command, "--resume", "--epochs", str(epochs)])
    resumed = json.loads((tmp_path / "run" / "history.json").read_text())
    assert resumed[: len(history)] == history and len(resumed) == epochs


def test_a_process_that_is_left_alone_says_so_in_one_line(monkeypatch, capsys):
    def lose(self):
        raise RuntimeError("[gloo/transport/tcp/pair.cc:534] Connection closed by peer")

    monkeypatch.setattr(cli.Doctor, "run", lose)
    with pytest.raises(SystemExit) as stop:
        cli.main(["doctor"])
    assert stop.value.code == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "another process of this run has ended" in error


def test_one_process_where_two_were_asked_for_is_refused(tmp_path):
    """`accelerate launch --cpu --num_processes 2` starts one, and does not say so."""
    done = subprocess.run(
        [sys.executable, launch.__file__, "--cpu", "--num_processes", "2"]
        + ["-m", "pixelprior.cli", "train-vqvae2", *SMALL]
        + ["--output_dir", str(tmp_path / "run")],
        capture_output=True,
        text=True,
        env={k: v for k, v in QUIET.items() if k != "WORLD_SIZE"},
        timeout=120,
    )
    assert done.returncode != 0
    assert "was asked for 2 processes and started one" in done.stderr
    assert "torchrun --standalone --nproc_per_node 2" in done.stderr
    assert not (tmp_path / "run" / "last").exists()


def test_the_doctor_knows_the_launcher_that_starts_one_process(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert not doctor._processes().fix
    asked = ["python", "accelerate", "launch", "--cpu", "--num-processes=3"]
    monkeypatch.setattr(psutil.Process, "cmdline", lambda self: asked)
    assert devices.processes_asked_for() == 3
    finding = doctor._processes()
    assert "asked for 3 processes and started one" in finding.found
    assert "torchrun --standalone --nproc_per_node 3" in finding.fix
    monkeypatch.setenv("WORLD_SIZE", "3")
    finding = doctor._processes()
    assert finding.found == "3, by a launcher" and not finding.fix


def test_other_programs_may_have_a_number_of_processes(monkeypatch):
    words = ["pytest", "--num_processes", "4"]
    monkeypatch.setattr(psutil.Process, "cmdline", lambda self: words)
    assert devices.processes_asked_for() == 1
