"""Several processes: one codebook, a clear end if one is lost, and none too few."""

import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import time

import psutil
import pytest
import torch
from accelerate.commands import launch
from PIL import Image

from pixelprior import VQVAE2, cli, load_images, read_codes
from pixelprior.checkpoints import load_model

pytestmark = pytest.mark.slow

QUIET = os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
TWO = ["torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
CONFIG = "distributed_type: MULTI_GPU\nuse_cpu: true\nnum_processes: 2\n"
CONFIG += "main_process_port: {port}\n"
SMALL = ["--dataset", "fashion_mnist_mini", "--hidden_channels", "8"]
SMALL += ["--embedding_dim", "8", "--num_embeddings", "16"]

# Like `train-vqvae2`, and writes which codebooks this process has at the end to
# codebooks_RANK: what two processes print may stand in one line.
TRAIN = """
import hashlib, os, sys
from pathlib import Path
from pixelprior import VQVAE2, cli, vqvae2
made, init = [], vqvae2.Quantizer.__init__
def remember(self, *arguments):
    init(self, *arguments)
    made.append(self)
vqvae2.Quantizer.__init__ = remember
cli.main(["train-vqvae2", *sys.argv[1:]])
books = [hashlib.sha256(m.codebook.numpy().tobytes()).hexdigest() for m in made[:2]]
here = Path(__file__).with_name("codebooks_" + os.environ["RANK"])
here.write_text(" ".join(books))
"""


def history_of(folder):
    return json.loads((folder / "history.json").read_text())


@pytest.fixture(params=["torchrun", "accelerate launch"])
def launcher(request, tmp_path):
    """The start of a command that starts two processes, as docs/scale.md says."""
    if request.param == "torchrun":
        return [sys.executable, "-m", *TWO]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (tmp_path / "two.yaml").write_text(CONFIG.format(port=port))
    flags = ["--config_file", str(tmp_path / "two.yaml")]
    return [sys.executable, "-m", "accelerate.commands.launch", *flags]


def test_two_processes_have_the_codebooks_of_one_run(launcher, tmp_path):
    (tmp_path / "train.py").write_text(TRAIN)
    flags = [*SMALL, "--max_images", "192", "--epochs", "2", "--validation_share", "0"]
    flags += ["--sample_every", "1", "--mixed_precision", "no", "--output_dir"]
    two, one = tmp_path / "two", tmp_path / "one"
    done = subprocess.run(
        [*launcher, str(tmp_path / "train.py"), "--batch_size", "16", *flags, str(two)],
        capture_output=True,
        text=True,
        env=QUIET,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    books, others = [(tmp_path / f"codebooks_{rank}").read_text() for rank in (0, 1)]
    assert books == others, "the processes' codebooks differ"
    assert len(set(books.split())) == 2, "two levels, two codebooks"
    cli.main(["train-vqvae2", "--batch_size", "32", *flags, str(one)])
    losses = [history_of(folder)[-1]["train_total_loss"] for folder in (two, one)]
    # k-means and the replaced codes draw from other random numbers.
    assert losses[0] == pytest.approx(losses[1], rel=0.1)
    names = [sorted(p.name for p in (f / "samples").iterdir()) for f in (two, one)]
    assert names[0] == names[1] and names[0]
    best = load_model(VQVAE2, two / "best")
    weights = hashlib.sha256(best.vq_top.codebook.numpy().tobytes()).hexdigest()
    assert weights in books, "the weights that are kept are those of both processes"


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
@pytest.mark.parametrize("lost", [0, 1])
def test_a_lost_process_ends_the_run(lost, launcher, tmp_path):
    """The other process and the launcher end within a minute, and the run goes on."""
    flags = [*SMALL, "--max_images", "96", "--save_steps", "2", "--batch_size", "8"]
    command = ["train-vqvae2", *flags, "--output_dir", str(tmp_path / "run")]
    started = subprocess.Popen(
        [*launcher, "-m", "pixelprior.cli", *command, "--epochs", "10000"],
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
        (victim,) = [w for w in workers if w.environ().get("RANK") == str(lost)]
        killed = time.monotonic()
        victim.send_signal(signal.SIGKILL)
        said = started.communicate(timeout=60)[1]
        assert time.monotonic() - killed < 60
    finally:
        started.kill()
    assert started.returncode != 0
    assert f"Signal 9 (SIGKILL) received by PID {victim.pid}" in said
    assert not [worker for worker in workers if worker.is_running()]
    history = history_of(tmp_path / "run")
    epochs = len(history) + 1
    cli.main([*command, "--resume", "--epochs", str(epochs)])
    resumed = history_of(tmp_path / "run")
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


# Commands one after the other, on images that are said not to fit into memory, with
# parts of 8 images in a file of codes. Which training images were trained on is
# written to seen_RANK_N.json; STOP=1 ends at the first checkpoint within an epoch.
WATCHED = """
import json, os, shlex, sys
from pathlib import Path
from pixelprior import cli, training
from pixelprior.data import codes, images
images.free_memory = lambda: 0
codes.PART = 8
seen, batches = [], images.StreamedImages.batches
def watched(self, parts):
    parts = [part.cpu() for part in parts]
    for part, batch in zip(parts, batches(self, parts)):
        if self.split == "train":
            seen.append(self.numbers[part].tolist())
        yield batch
images.StreamedImages.batches = watched
save = training.TrainingRun.save
def save_and_stop(self, *arguments, **options):
    save(self, *arguments, **options)
    if os.environ.get("STOP") and self.images:
        raise SystemExit
training.TrainingRun.save = save_and_stop
name, *commands = sys.argv[1:]
try:
    for command in commands:
        cli.main(shlex.split(command))
finally:
    Path(f"{name}_{os.environ.get('RANK', 0)}.json").write_text(json.dumps(seen))
"""


@pytest.fixture(scope="module")
def watched(tmp_path_factory):
    """A folder of images, the script, and a function that runs commands by it."""
    folder = tmp_path_factory.mktemp("watched")
    (folder / "watched.py").write_text(WATCHED)
    images = load_images("fashion_mnist_mini", max_images=44)
    for number, (image, label) in enumerate(
        zip(images.images[:, 0].numpy(), images.labels.tolist(), strict=True)
    ):
        path = folder / "images" / str(label) / f"{number:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)

    def run(processes: int, name: str, *commands: str, **more) -> list[list[int]]:
        launcher = ["-m", *TWO] if processes == 2 else []
        done = subprocess.run(
            [sys.executable, *launcher, "watched.py", name, *commands],
            cwd=folder,
            capture_output=True,
            text=True,
            env=QUIET | more,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
        seen = sorted(folder.glob(f"{name}_?.json"))
        return [json.loads(path.read_text()) for path in seen]

    run(2, "first", FIRST + "vqvae2")
    return folder, run


STREAMED = "--dataset imagefolder --data_root images --mixed_precision no --workers 1"
FIRST = f"train-vqvae2 {STREAMED} --hidden_channels 8 --embedding_dim 8"
FIRST += " --num_embeddings 16 --validation_share 0 --epochs 1 --batch_size 2"
FIRST += " --gradient_accumulation_steps 2 --save_steps 2 --output_dir "
PRIOR = f"train-prior {STREAMED} --vqvae2_checkpoint vqvae2 --class_conditional"
PRIOR += " --hidden_channels 8 --num_layers 2 --batch_size 2"


def test_two_processes_train_as_one_does_and_one_goes_on_with_it(watched):
    folder, run = watched
    prior = PRIOR + " --dropout 0 --validation_share 0.2 --output_dir "
    run(2, "half", prior + "half --epochs 1")
    run(1, "full", prior + "full --epochs 1 --batch_size 4")
    (two,), (one,) = (history_of(folder / name) for name in ("half", "full"))
    for name in one:
        if "loss" in name:
            assert two[name] == pytest.approx(one[name], rel=1e-4), name
    run(1, "on", prior + "half --epochs 2 --resume")
    assert history_of(folder / "half")[0] == two
    about = json.loads((folder / "half/last/state/run.json").read_text())
    assert about["step"] == 2 * 16 and about["about"]["processes"] == 1


def test_two_processes_encode_a_stream_and_draw_images_as_one_does(watched):
    """Codes in five parts, each to a file; images to PNG files. All are those that one
    process writes."""
    folder, run = watched
    prior = PRIOR + " --epochs 1 --output_dir "
    draw = "sample --vqvae2_checkpoint vqvae2 --prior_checkpoint two --num_samples 7"
    draw += " --output_dir "
    shares = run(2, "encode_2", prior + "two")
    run(2, "drawn", draw + "drawn_2")
    encoded = [{some[0] // 8 for some in each} for each in shares]
    assert sorted([*encoded[0], *encoded[1]]) == [0, 1, 2, 3, 4] and all(encoded)
    run(1, "encode_1", prior + "one", draw + "drawn_1 --batch_size 2")
    for split in ("train", "test"):
        one, two = (read_codes(folder / n / "codes" / split) for n in ("one", "two"))
        every = torch.arange(len(one))
        assert all(map(torch.equal, one.batch(every), two.batch(every)))
    drawn = [sorted(folder.glob(f"drawn_{n}/*.png")) for n in (1, 2)]
    assert len(drawn[0]) == len(drawn[1]) == 7
    for one, two in zip(*drawn, strict=True):
        assert one.name == two.name and one.read_bytes() == two.read_bytes()


@pytest.mark.parametrize("stage", ["vqvae2", "prior"])
def test_two_processes_go_on_to_the_same_bits(watched, stage):
    """Stopped within an epoch, and started again in as many processes."""
    folder, run = watched
    command = FIRST if stage == "vqvae2" else PRIOR + " --save_steps 2 --output_dir "
    run(2, f"whole_{stage}", command + f"whole_{stage} --epochs 2")
    run(2, f"cut_{stage}", command + f"cut_{stage} --epochs 2", STOP="1")
    assert not (folder / f"cut_{stage}" / "best").exists()
    run(2, f"again_{stage}", command + f"cut_{stage} --epochs 2 --resume")
    for name in ("best", "last"):
        weights = f"_{stage}/{name}/model.safetensors"
        files = [(folder / (run + weights)).read_bytes() for run in ("whole", "cut")]
        assert files[0] == files[1]
    histories = [history_of(folder / f"{run}_{stage}") for run in ("whole", "cut")]
    for one, other in zip(*histories, strict=True):
        assert {k: v for k, v in one.items() if "loss" in k and other[k] != v} == {}
