"""Several processes: one codebook, and a clear end if one is lost."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time

import psutil
import pytest
from PIL import Image

from pixelprior import VQVAE2, cli, load_images
from pixelprior.checkpoints import load_model

pytestmark = pytest.mark.slow

QUIET = os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
CONFIG = "distributed_type: MULTI_GPU\nuse_cpu: true\nnum_processes: 2\n"
CONFIG += "main_process_port: {port}\n"
BOTH = pytest.mark.parametrize("launcher", ["torchrun", "accelerate launch"])
NETWORK = "--hidden_channels 8 --embedding_dim 8 --num_embeddings 16"

# A command on images that are said not to fit into memory. A codebook at the end is
# written to NAME_RANK.json; STOP=1 ends at the first checkpoint within an epoch.
WATCHED = """
import json, os, shlex, sys
from pathlib import Path
from pixelprior import cli, training, vqvae2
from pixelprior.data import images
images.free_memory = lambda: 0
save = training.TrainingRun.save
def save_and_stop(self, *arguments, **options):
    save(self, *arguments, **options)
    if os.environ.get("STOP") and self.images:
        raise SystemExit
training.TrainingRun.save = save_and_stop
made, init = [], vqvae2.Quantizer.__init__
def remember(self, *arguments):
    init(self, *arguments)
    made.append(self)
vqvae2.Quantizer.__init__ = remember
cli.main(shlex.split(sys.argv[2]))
path = Path(f"{sys.argv[1]}_{os.environ.get('RANK', 0)}.json")
path.write_text(json.dumps(made[-1].codebook.tolist()))
"""


def start_of(launcher, folder):
    """The start of a command that starts two processes, as docs/scale.md says."""
    if launcher == "torchrun":
        return [sys.executable, *TORCHRUN]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (folder / "two.yaml").write_text(CONFIG.format(port=port))
    flags = ["--config_file", str(folder / "two.yaml")]
    return [sys.executable, "-m", "accelerate.commands.launch", *flags]


def history_of(folder):
    return json.loads((folder / "history.json").read_text())


@pytest.fixture(scope="module")
def watched(tmp_path_factory):
    """A folder of images, and a function that runs a command by the script; it returns
    what each process has written."""
    folder = tmp_path_factory.mktemp("watched")
    (folder / "watched.py").write_text(WATCHED)
    images = load_images("fashion_mnist_mini", max_images=44)
    for number, label in enumerate(images.labels.tolist()):
        path = folder / "images" / str(label) / f"{number:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(images.images[number, 0].numpy()).save(path)

    def run(processes, name, command, launcher="torchrun", **more) -> list:
        start = start_of(launcher, folder) if processes == 2 else [sys.executable]
        done = subprocess.run(
            [*start, "watched.py", name, command],
            cwd=folder,
            capture_output=True,
            text=True,
            env=QUIET | more,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
        written = sorted(folder.glob(f"{name}_?.json"))
        return [json.loads(path.read_text()) for path in written]

    run(2, "first", FIRST + "vqvae2")
    return folder, run


STREAMED = "--dataset imagefolder --data_root images --mixed_precision no --workers 1"
FIRST = f"train-vqvae2 {STREAMED} {NETWORK} --validation_share 0 --epochs 1"
FIRST += " --batch_size 2 --gradient_accumulation_steps 2 --save_steps 2 --output_dir "
PRIOR = f"train-prior {STREAMED} --vqvae2_checkpoint vqvae2 --class_conditional"
PRIOR += " --hidden_channels 8 --num_layers 2 --output_dir "


@BOTH
def test_two_processes_have_the_codebooks_of_one_run(launcher, watched):
    folder, run = watched
    name = launcher.split()[0]
    one, two = folder / f"{name}_1", folder / f"{name}_2"
    codebook, other = run(2, f"books_{name}", FIRST + two.name, launcher=launcher)
    assert codebook == other, "the processes' codebooks differ"
    best = load_model(VQVAE2, two)
    assert best.vq_bottom.codebook.tolist() == codebook
    run(1, f"one_{name}", FIRST + f"{one.name} --batch_size 4")
    losses = [history_of(each)[-1]["train_total_loss"] for each in (two, one)]
    # k-means and the replaced codes draw from other random numbers.
    assert losses[0] == pytest.approx(losses[1], rel=0.1)


@BOTH
@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_a_lost_process_ends_the_run(launcher, tmp_path):
    """The other process and the launcher end within a minute, and the run goes on."""
    flags = f"train-vqvae2 --dataset fashion_mnist_mini {NETWORK} --max_images 96"
    command = [*flags.split(), "--save_steps", "2", "--batch_size", "8"]
    command += ["--output_dir", str(tmp_path / "run"), "--epochs"]
    started = subprocess.Popen(
        [*start_of(launcher, tmp_path), "-m", "pixelprior.cli", *command, "10000"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=QUIET,
    )
    try:
        deadline = time.monotonic() + 120
        while not (tmp_path / "run" / "history.json").exists():
            assert started.poll() is None and time.monotonic() < deadline
            time.sleep(0.1)
        workers = psutil.Process(started.pid).children(recursive=True)
        lost = "0" if launcher == "torchrun" else "1"
        (victim,) = [w for w in workers if w.environ().get("RANK") == lost]
        victim.send_signal(signal.SIGKILL)
        said = started.communicate(timeout=60)[1]
    finally:
        started.kill()
    assert started.returncode != 0
    assert f"Signal 9 (SIGKILL) received by PID {victim.pid}" in said
    assert not [worker for worker in workers if worker.is_running()]
    history = history_of(tmp_path / "run")
    cli.main([*command, str(len(history) + 1), "--resume"])
    assert history_of(tmp_path / "run")[:-1] == history


def test_two_processes_train_as_one_does(watched):
    """Each image counts once, with gradients of two batches per step, and held-out
    images, whose number is odd."""
    folder, run = watched
    flags = " --epochs 1 --dropout 0 --validation_share 0.2 --batch_size"
    run(2, "half", PRIOR + f"half{flags} 1 --gradient_accumulation_steps 2")
    run(1, "full", PRIOR + f"full{flags} 4")
    (two,), (one,) = (history_of(folder / name) for name in ("half", "full"))
    for name in one:
        if "loss" in name:
            assert two[name] == pytest.approx(one[name], rel=1e-4), name


@pytest.mark.parametrize("stage", ["vqvae2", "prior"])
def test_two_processes_go_on_to_the_same_bits(watched, stage):
    """Stopped within an epoch, and started again in as many processes. In one, the
    epoch begins again."""
    folder, run = watched
    start = {"vqvae2": FIRST, "prior": PRIOR}[stage]
    command = start + "{} --epochs 2 --batch_size 2 --save_steps 2"
    whole, cut = (folder / f"{name}_{stage}" for name in ("whole", "cut"))
    run(2, f"run_{whole.name}", command.format(whole.name))
    run(2, f"run_{cut.name}", command.format(cut.name), STOP="1")
    assert not (cut / "best").exists()
    alone = shutil.copytree(cut, folder / f"alone_{stage}")
    run(2, f"again_{stage}", command.format(cut.name) + " --resume")
    for name in ("best/model.safetensors", "last/model.safetensors"):
        assert (whole / name).read_bytes() == (cut / name).read_bytes()
    for one, other in zip(history_of(whole), history_of(cut), strict=True):
        assert {k: v for k, v in one.items() if "loss" in k and other[k] != v} == {}
    run(1, f"run_{alone.name}", command.format(alone.name) + " --resume")
    about = json.loads((alone / "last/state/run.json").read_text())
    in_two = json.loads((cut / "last/state/run.json").read_text())
    assert about["step"] > in_two["step"] and len(history_of(alone)) == 2
