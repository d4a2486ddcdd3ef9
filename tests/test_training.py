"""The training loop learns, resumes to the same bits, and stops when it must."""

import contextlib
import itertools
import json
import math
import os
import shutil
from dataclasses import asdict, replace
from types import SimpleNamespace

import numpy as np
import pytest
import safetensors.torch
import torch
from accelerate import Accelerator
from safetensors import SafetensorError
from torch import nn

from pixelprior import VQVAE2, HierarchicalPixelCNN, training
from pixelprior.checkpoints import Pretrained, fingerprint, load_model
from pixelprior.data import held_out
from pixelprior.data.codes import CodeData
from pixelprior.data.held_out import hold_out
from pixelprior.data.images import ImageData
from pixelprior.devices import make_accelerator
from pixelprior.settings import TrainingSettings
from pixelprior.training import (
    STATE,
    TrainingRun,
    average_weights,
    decaying_parameters,
    fit,
    learning_rate_factor,
    read_history,
)

SETTINGS = TrainingSettings(epochs=4, batch_size=16, lr=3e-3, mixed_precision="no")
ONE_EPOCH = replace(SETTINGS, epochs=1)


def stripes(count, seed):
    """Codes with structure: top rows count up, and bottom grids repeat the top."""
    generator = torch.Generator().manual_seed(seed)
    start = torch.randint(8, (count, 1, 1), generator=generator)
    z_top = ((start + torch.arange(4)) % 8).expand(count, 4, 4).to(torch.uint8)
    z_bottom = z_top.repeat_interleave(2, 1).repeat_interleave(2, 2)
    return CodeData((z_top, z_bottom), None, 8)


def new_model(seed=0, **options):
    torch.manual_seed(seed)
    return HierarchicalPixelCNN(8, 4, 8, 3, **options)


def train(folder, settings=SETTINGS, model=None, **options):
    data = options.pop("data", stripes(96, 1)), options.pop("heldout", stripes(32, 2))
    return fit(model or new_model(), *data, settings, folder, **options)


def resume(folder, settings=SETTINGS, **options):
    return train(folder, settings, new_model(seed=9), resume=True, **options)


def run_of(model, folder, accelerator=None, settings=SETTINGS, parts=None):
    accelerator = accelerator or make_accelerator(settings, folder)
    return TrainingRun(model, parts, {}, {}, 96, settings, folder, accelerator)


def without_times(history):
    times = {"seconds", "steps_per_second"}
    return [{k: v for k, v in epoch.items() if k not in times} for epoch in history]


def ends(folder) -> list[str]:
    """The fingerprints of a run's checkpoints."""
    names = ("last", "best")
    return [fingerprint(load_model(HierarchicalPixelCNN, folder / n)) for n in names]


def watched(monkeypatch, owner, name, note):
    """Call `note` with the arguments of each call of a function, before it."""
    function = getattr(owner, name)

    def call(*arguments, **options):
        note(*arguments)
        return function(*arguments, **options)

    monkeypatch.setattr(owner, name, call)


def stopped(folder, steps, settings=SETTINGS):
    """A run that ends when AdamW is about to take one step more."""
    count = itertools.count(1)

    def stop(*_):
        if next(count) > steps:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        watched(patch, torch.optim.AdamW, "step", stop)
        train(folder, settings)


def interrupt(epoch, _model):
    raise KeyboardInterrupt


class MeanCode(nn.Module, Pretrained):
    """A model whose loss is the mean of the top codes, whatever its weights are; the
    gradients of its weights add up to it."""

    factor = 1.0  # of the loss in evaluation mode

    def __init__(self, size: int = 2):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(size))

    def loss_function(self, z_top, z_bottom, labels=None):
        nothing = (self.weight - self.weight.detach()).mean()
        factor = 1.0 if self.training else self.factor
        return {"loss": z_top.float().mean() * factor * (1 + nothing)}

    def training_parts(self):
        return {"loss": self}


class OneOf:
    """An accelerator that takes itself for one of several processes. Nothing is
    exchanged between them."""

    def __init__(self, folder, rank, world, settings=SETTINGS):
        self.own = make_accelerator(settings, folder)
        self.process_index, self.num_processes = rank, world
        self.is_main_process = rank == 0

    def __getattr__(self, name):
        return getattr(self.own, name)


def order_of(count, seed):
    return torch.randperm(count, generator=torch.Generator().manual_seed(seed))


def mean_of(data, images=slice(None)):
    return pytest.approx(data.z_top[images].float().mean().item(), rel=1e-5)


# Learning, and what is kept


def test_both_levels_learn_and_the_best_is_kept(tmp_path):
    history = train(tmp_path, replace(SETTINGS, epochs=20, lr=1e-2))
    assert history[-1]["heldout_top_loss"] < 0.6 * math.log(8)
    assert history[-1]["heldout_bottom_loss"] < 0.3 * math.log(8)
    assert read_history(tmp_path) == history and read_history(tmp_path / "no run") == []
    about = json.loads((tmp_path / "best" / "training.json").read_text())
    best = load_model(HierarchicalPixelCNN, tmp_path)
    losses = best.loss_function(*stripes(32, 2).batch(torch.arange(32)))
    for level in ("top", "bottom"):
        lowest = min(epoch[f"heldout_{level}_loss"] for epoch in history)
        assert about["heldout"][f"{level}_loss"] == lowest
        assert losses[f"{level}_loss"].item() == pytest.approx(lowest, rel=1e-4)


def test_the_best_weights_are_copies_not_references(tmp_path):
    """The top gets worse while the bottom improves: `best` keeps the good top."""
    kept = {}

    def spoil(epoch, averaged):
        if epoch == 3:
            best = load_model(HierarchicalPixelCNN, tmp_path / "best")
            kept.update(top=fingerprint(best.prior_top))
            for parameter in averaged.prior_top.parameters():
                parameter.detach().fill_(10.0)

    history = train(tmp_path, after_epoch=spoil)
    assert history[3]["heldout_bottom_loss"] < history[2]["heldout_bottom_loss"]
    assert history[3]["heldout_top_loss"] > history[2]["heldout_top_loss"]
    best = load_model(HierarchicalPixelCNN, tmp_path / "best")
    assert fingerprint(best.prior_top) == kept["top"]


def test_an_epoch_that_is_no_better_does_not_become_the_best(tmp_path):
    train(tmp_path, replace(SETTINGS, epochs=3), MeanCode())  # its loss stays the same
    for name, epochs in (("best", 1), ("last", 3)):
        about = json.loads((tmp_path / name / "training.json").read_text())
        assert about["epochs_done"] == epochs


def test_without_held_out_data_the_last_weights_are_the_best(tmp_path):
    history = train(tmp_path, heldout=None)
    assert not [name for name in history[0] if name.startswith("heldout")]
    assert len(set(ends(tmp_path))) == 1
    about = json.loads((tmp_path / "best" / "training.json").read_text())
    assert about["heldout"] == {} and about["epochs_done"] == SETTINGS.epochs


def test_one_level_can_be_trained_alone(tmp_path):
    """Several processes would wait for the gradients of a level that gets none."""
    model, only = new_model(), {"parts": ("top_loss",)}
    before = fingerprint(model.prior_bottom)
    run = run_of(model, tmp_path, **only)
    trained = {id(p) for group in run.optimizer.param_groups for p in group["params"]}
    assert trained == {id(each) for each in model.prior_top.parameters()}
    train(tmp_path, model=model, loss_options={"levels": ("top",)}, **only)
    best = load_model(HierarchicalPixelCNN, tmp_path)
    assert fingerprint(best.prior_bottom) == before
    assert fingerprint(best.prior_top) != fingerprint(new_model().prior_top)


@pytest.mark.parametrize("wanted", [None, 0.9])
def test_the_weights_of_a_vqvae2_are_averaged_only_if_asked_for(wanted, tmp_path):
    """Averaged weights do not fit its newest codebooks. Those of a prior are."""
    settings = replace(ONE_EPOCH, ema_decay=wanted)
    torch.manual_seed(0)
    images = (255 * torch.rand(40, 1, 16, 16)).byte()
    vqvae2, data = VQVAE2(1, 16, 8, 4, 8), ImageData(images, torch.zeros(40).long(), ())
    for model, train_data in ((vqvae2, data), (new_model(), stripes(40, 1))):
        folder = tmp_path / type(model).__name__
        fit(model, train_data, None, settings, folder)
        last = load_model(type(model), folder / "last").state_dict()
        kept = all(
            torch.equal(last[name], value)
            for name, value in model.cpu().state_dict().items()
        )
        assert kept == (model is vqvae2 and wanted is None)


# Means over images, in one process or several


@pytest.mark.parametrize("batch_size, batches", [(16, 1), (7, 3)])
def test_losses_and_gradients_are_means_over_images(
    tmp_path, monkeypatch, batch_size, batches
):
    """Several batches make one step. The last step of 90 images, and the last batch of
    23, has fewer. The order of each epoch is that of its own seed. What accelerate's
    launcher hands on as an environment variable divides no loss."""
    sizes = {"batch_size": batch_size, "gradient_accumulation_steps": batches}
    settings = replace(SETTINGS, epochs=2, seed=3, max_grad_norm=1e6, **sizes)
    data, heldout, model, gradients = stripes(90, 1), stripes(23, 2), MeanCode(), []
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", str(batches))

    def note(*_):
        gradients.append(model.weight.grad.sum().item())

    watched(monkeypatch, torch.optim.AdamW, "step", note)
    for epoch in train(tmp_path, settings, model, data=data, heldout=heldout):
        assert epoch["train_loss"] == mean_of(data)
        assert epoch["heldout_loss"] == mean_of(heldout)
    orders = [order_of(90, 3 * 1_000_003 + epoch) for epoch in range(2)]
    steps = [some for order in orders for some in order.split(batch_size * batches)]
    assert gradients == [mean_of(data, images) for images in steps]


@pytest.mark.parametrize("rank", [0, 1, 2])
def test_each_of_three_processes_takes_every_third_image(tmp_path, monkeypatch, rank):
    """The first two of 100 images are taken again, so that each process has 34."""
    settings, data, seen = replace(ONE_EPOCH, batch_size=8), stripes(100, 1), []
    watched(monkeypatch, CodeData, "batch", lambda _, some: seen.extend(some.tolist()))
    accelerator = OneOf(tmp_path, rank, 3, settings)
    (epoch,) = fit(MeanCode(), data, None, settings, tmp_path, accelerator)
    order = order_of(100, 0)
    own = torch.cat([order, order[:2]])[rank::3]
    assert seen == own.tolist()
    assert epoch["train_loss"] == mean_of(data, own)
    assert epoch["lr"] == settings.lr * learning_rate_factor(settings, 5)(4)


@pytest.mark.parametrize("images", [2, 100])
def test_held_out_images_are_each_counted_once_by_three_processes(tmp_path, images):
    """Also where there are fewer images than processes."""
    data, sums = stripes(images, 1), []
    for rank in range(3):
        run = run_of(MeanCode(), tmp_path, OneOf(tmp_path, rank, 3))
        run.accelerator.reduce = lambda values, how: sums.append(values) or values
        run.evaluate(data)
    loss, count = sum(sums)
    assert count == images and loss / count == mean_of(data)


@pytest.mark.parametrize("rank", [0, 1])
def test_each_epoch_and_process_has_random_numbers_of_its_own(
    tmp_path, monkeypatch, rank
):
    """The seeds are the same in every release."""
    settings, seeds = replace(SETTINGS, epochs=3, seed=7), []
    watched(monkeypatch, torch, "manual_seed", seeds.append)
    accelerator = OneOf(tmp_path, rank, 2, settings)
    fit(MeanCode(), stripes(32, 1), None, settings, tmp_path, accelerator)
    assert seeds == [7_000_021 + rank, 7_001_030 + rank, 7_002_039 + rank]


def test_gradients_are_exchanged_with_the_last_batch_of_a_step_alone(
    tmp_path, monkeypatch
):
    """The last step has a single batch: 80 = 2 · 32 + 16."""
    inside, alone = [], []

    @contextlib.contextmanager
    def no_sync(accelerator, model):
        inside.append(model)
        yield
        inside.pop()

    monkeypatch.setattr(Accelerator, "no_sync", no_sync)
    watched(monkeypatch, Accelerator, "backward", lambda *_: alone.append(bool(inside)))
    settings = replace(ONE_EPOCH, gradient_accumulation_steps=2)
    train(tmp_path, settings, data=stripes(80, 1))
    assert alone == [True, False, True, False, False]


def test_held_out_losses_are_computed_in_evaluation_mode_without_gradients(
    tmp_path, monkeypatch
):
    asked = set()

    def note(model, *_):
        asked.add((model.training, torch.is_grad_enabled()))

    watched(monkeypatch, HierarchicalPixelCNN, "loss_function", note)
    train(tmp_path, ONE_EPOCH)
    assert asked == {(True, True), (False, False)}


# Steps: rate, decay, clipping


def test_the_learning_rate_rises_linearly_and_falls_as_a_cosine():
    factor = learning_rate_factor(replace(SETTINGS, warmup=0.1), total_steps=100)
    assert [factor(step) for step in (0, 4, 9)] == pytest.approx([0.1, 0.5, 1.0])
    assert factor(10) == 1
    assert factor(55) == pytest.approx(0.5)
    assert factor(100) == pytest.approx(0)
    factor = learning_rate_factor(replace(SETTINGS, warmup=0.9), total_steps=4)
    assert [factor(step) for step in range(5)] == [0.25, 0.5, 0.75, 1, 1]


def test_the_learning_rate_in_the_history_is_that_of_the_epochs_last_step(
    tmp_path, monkeypatch
):
    rates = []

    def note(optimizer, *_):
        rates.append(optimizer.param_groups[0]["lr"])

    watched(monkeypatch, torch.optim.AdamW, "step", note)
    history = train(tmp_path, replace(SETTINGS, epochs=3))
    factor = learning_rate_factor(SETTINGS, total_steps=18)
    assert rates == [SETTINGS.lr * factor(step) for step in range(18)]
    assert [epoch["lr"] for epoch in history] == rates[5::6]


def names_of_decaying(model):
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return [{names[id(p)] for p in some} for some in decaying_parameters(model)]


def test_weights_decay_and_biases_scales_embeddings_and_what_is_not_trained_do_not():
    model = nn.Sequential(
        nn.Embedding(5, 4), nn.Linear(4, 4), nn.Conv1d(4, 4, 3), nn.LayerNorm(4)
    )
    model.append(nn.Linear(4, 4).requires_grad_(False))
    model.scale = nn.Parameter(torch.ones(()))
    decaying, others = names_of_decaying(model)
    assert decaying == {"1.weight", "2.weight"}
    assert others == {"0.weight", "1.bias", "2.bias", "3.weight", "3.bias", "scale"}


def test_a_step_shrinks_what_decays_and_nothing_else(tmp_path):
    """A step at rate 0.1 with gradients of 0: weights lose 0.1 · 0.5 of themselves."""
    model = new_model()
    settings = replace(ONE_EPOCH, lr=0.1, weight_decay=0.5)
    run = run_of(model, tmp_path, settings=settings)
    before = {name: each.clone() for name, each in model.named_parameters()}
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    run.optimizer.step()
    decaying, _ = names_of_decaying(model)
    for name, parameter in model.named_parameters():
        share = 0.95 if name in decaying else 1
        assert torch.allclose(parameter, share * before[name]), name


def test_each_level_is_clipped_by_itself(tmp_path):
    """A top with a huge gradient must not shrink the steps of the bottom."""

    class Loud(HierarchicalPixelCNN):
        def loss_function(self, *batch, **options):
            losses = super().loss_function(*batch, **options)
            return losses | {"top_loss": losses["top_loss"] * 1e6}

    quiet = new_model(dropout=0.0)
    loud = Loud(8, 4, 8, 3, dropout=0.0)
    loud.load_state_dict(quiet.state_dict())
    a, b = (
        train(tmp_path / name, ONE_EPOCH, model)[0]["heldout_bottom_loss"]
        for name, model in (("loud", loud), ("quiet", quiet))
    )
    assert a == b


@pytest.mark.parametrize("steps, decay", [(0, 0.1), (7, 8 / 17), (99, 0.9)])
def test_averaged_weights_move_slowly_once_there_were_many_steps(steps, decay):
    """The decay after n steps is (1 + n) / (10 + n), and no more than what is given."""
    average, current = torch.tensor([1.0, -2.0]), torch.tensor([3.0, 4.0])
    expected = decay * average + (1 - decay) * current
    average_weights([average], [current], steps, 0.9)
    torch.testing.assert_close(average, expected)


def test_a_training_step_asks_the_device_for_no_number():
    """Tensors on torch's meta device hold no numbers: asking for one is an error."""
    with torch.device("meta"):
        model, average = (
            HierarchicalPixelCNN(16, 8, 8, 3, num_classes=3, attention_layers=1)
            for _ in range(2)
        )
        codes = [torch.zeros(4, side, side, dtype=torch.long) for side in (4, 8)]
        labels = torch.zeros(4, dtype=torch.long)
    optimizer = torch.optim.AdamW(model.parameters())
    model.train().loss_function(*codes, labels)["total_loss"].backward()
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    average_weights(list(average.parameters()), list(model.parameters()), 5, 0.9)
    with pytest.raises(RuntimeError, match="meta"):
        float(norm)


# Stopped, and resumed


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that was never stopped: 2 epochs of 6 steps, with dropout."""
    folder = tmp_path_factory.mktemp("whole")
    history = train(folder, replace(SETTINGS, epochs=2))
    return without_times(history), ends(folder)


@pytest.mark.parametrize("steps", [4, 6, 11])
def test_a_stopped_run_resumes_to_the_same_bits(tmp_path, whole, steps):
    """In the first epoch, at its end, or in the second; a checkpoint every 2 steps,
    which changes nothing."""
    settings = replace(SETTINGS, epochs=2, save_steps=2)
    stopped(tmp_path, steps, settings)
    done = steps // 2 * 2
    state = json.loads((tmp_path / STATE / "run.json").read_text())
    assert state["step"] == done and state["images"] == 16 * (done % 6)
    assert (tmp_path / "best").exists() == (steps >= 6)
    assert without_times(resume(tmp_path, settings)) == whole[0]
    assert ends(tmp_path) == whole[1]


@pytest.mark.parametrize(
    "move, swap", [(n, 9) for n in (2, 8, 14, 33, 38, 44)] + [(99, n) for n in range(4)]
)
def test_a_run_killed_at_any_moment_resumes_to_the_same_bits(
    tmp_path, whole, move, swap
):
    """From a rename or removal on no more take place: from the one of this number, or
    from the one that would put a new folder in place of the old one."""
    settings, moves, asides = replace(SETTINGS, epochs=2, save_steps=4), [], []

    def die(*paths):
        moves.append(paths)
        if len(moves) >= move or len(asides) > swap:
            raise KeyboardInterrupt
        asides.extend(each for each in paths[1:] if str(each).endswith(".previous"))

    with pytest.MonkeyPatch.context() as patch, contextlib.suppress(KeyboardInterrupt):
        for owner, name in ((os, "rename"), (os, "replace"), (shutil, "rmtree")):
            watched(patch, owner, name, die)
        train(tmp_path, settings)
    kept = {each.name for each in tmp_path.iterdir()}
    lost = [each for each in kept if each.endswith(".previous")]
    assert (len(lost) == 1 and lost[0].split(".")[1] not in kept) == (swap < 9)
    begun = any(each.is_dir() for each in tmp_path.glob("*last*"))
    model = new_model(9 if begun else 0)
    history = train(tmp_path, settings, model, resume=begun)
    assert without_times(history) == whole[0] and ends(tmp_path) == whole[1]
    assert not list(tmp_path.rglob(".*"))


def test_no_checkpoint_within_an_epoch_is_written_at_its_end(tmp_path, monkeypatch):
    """A run resumed from one with all images done would have an empty step."""
    done = []
    watched(monkeypatch, TrainingRun, "save", lambda run, *_: done.append(run.images))
    settings = replace(ONE_EPOCH, batch_size=32, save_steps=1)
    train(tmp_path, settings, data=stripes(100, 1))
    assert done == [32, 64, 96, 0]


@pytest.mark.parametrize(
    "owner, name, error",
    [
        (torch, "save", RuntimeError("PytorchStreamWriter failed\nFrames: …")),
        (safetensors.torch, "save_file", SafetensorError("No space left on device")),
        (os, "rename", OSError(28, "No space left on device")),
    ],
)
def test_a_full_disk_leaves_the_last_good_checkpoint(tmp_path, owner, name, error):
    """At the state of the run, at the weights, or at a folder's second rename."""
    two, rename, renames = replace(SETTINGS, epochs=2), os.rename, itertools.count()

    def no_room(source, *arguments, **named):
        back = str(source).endswith("previous")
        if owner is os and (back or next(renames) % 2 == 0):
            return rename(source, *arguments, **named)
        raise error

    train(tmp_path, ONE_EPOCH)
    before = ends(tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, name, no_room)
        words = "cannot write a checkpoint in .* is whole; make room .* --resume"
        with pytest.raises(OSError, match=words):
            resume(tmp_path, two)
    assert ends(tmp_path) == before, "half of a checkpoint is in its place"
    resume(tmp_path, two)
    assert len(read_history(tmp_path)) == 2


def test_the_time_of_an_epoch_has_what_it_took_before_each_break(tmp_path, monkeypatch):
    """On a clock that the test sets: a step takes 2 s, and the held-out losses 3 s."""
    settings, now = replace(SETTINGS, epochs=2, save_steps=1), [1000.0]
    clock = SimpleNamespace(perf_counter=lambda: now[0])
    monkeypatch.setattr(training, "time", clock)

    def tick(seconds):
        return lambda *_: now.__setitem__(0, now[0] + seconds)

    watched(monkeypatch, TrainingRun, "evaluate", tick(3))
    watched(monkeypatch, torch.optim.AdamW, "step", tick(2))
    stopped(tmp_path, 8, settings)
    tick(500)()
    for epoch in resume(tmp_path, settings):
        assert epoch["seconds"] == 6 * 2 + 3
        assert epoch["steps_per_second"] == 6 / (6 * 2)


@pytest.mark.parametrize("steps", [6, 8])
def test_on_another_number_of_processes_an_epoch_begins_again(
    tmp_path, monkeypatch, steps
):
    """The state is changed to say that two processes wrote it, of 32 images per step:
    at the end of an epoch of 3 steps, or 1 step later."""
    settings, said, seen = replace(SETTINGS, epochs=2, save_steps=2), [], []
    stopped(tmp_path, steps, settings)
    path = tmp_path / STATE / "run.json"
    state = json.loads(path.read_text())
    state["step"] //= 2
    state["about"]["processes"] = 2
    path.write_text(json.dumps(state))
    watched(monkeypatch, CodeData, "batch", lambda _, some: seen.extend(some.tolist()))
    history = resume(tmp_path, settings, log=said.append, heldout=None)
    assert said[0] == (
        "resumed with processes 1 instead of 2: an epoch has 6 steps of 16 images, and "
        "the learning rate follows the schedule of 2 epochs"
    )
    assert seen == order_of(96, 1).tolist()
    assert json.loads(path.read_text())["step"] == 12
    assert history[1]["lr"] == SETTINGS.lr * learning_rate_factor(settings, 12)(11)


def test_a_run_goes_on_to_more_epochs_than_it_was_started_with(tmp_path):
    """The second epoch follows the schedule of both; the first one stays as it is."""
    two, said = replace(SETTINGS, epochs=2), []
    first = train(tmp_path, ONE_EPOCH)
    last = ends(tmp_path)
    assert resume(tmp_path, ONE_EPOCH) == first and ends(tmp_path) == last
    history = resume(tmp_path, two, log=said.append)
    assert history[:1] == first and len(history) == 2
    assert said[0].startswith(
        "resumed with epochs 2 instead of 1: an epoch has 6 steps"
    )
    assert history[1]["lr"] == SETTINGS.lr * learning_rate_factor(two, 12)(11)
    assert history[1]["train_total_loss"] < first[0]["train_total_loss"]


def test_resuming_nothing_or_with_other_settings_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="no training run to resume"):
        resume(tmp_path)
    train(tmp_path, ONE_EPOCH)
    with pytest.raises(ValueError, match=r"already holds a training run.*--resume"):
        train(tmp_path, ONE_EPOCH)
    with pytest.raises(ValueError, match=r"with lr 0\.003 and not 0\.1; resume"):
        resume(tmp_path, replace(SETTINGS, lr=0.1))
    with pytest.raises(ValueError, match="'num_layers': 3"):
        train(tmp_path, ONE_EPOCH, HierarchicalPixelCNN(8, 4, 8, 4), resume=True)


WEIGHTS, RUN = "model.safetensors", "run.json"
CUT_SHORT = [(name, share) for name in (WEIGHTS, RUN) for share in (0, 0.5)]
CUT_SHORT += [("optimizer.bin", 0), ("optimizer.bin", 0.5)]
KEYS = ("history", "about", "best_losses", "sums")
WRONG = [(RUN, {key: value}) for key in KEYS for value in ("text", None)]
WRONG += [(RUN, {"best_losses": {"total_loss": "x"}}), (RUN, {"sums": [{"a": [1]}]})]


@pytest.fixture(scope="module")
def one_epoch(tmp_path_factory):
    folder = tmp_path_factory.mktemp("one epoch")
    train(folder, ONE_EPOCH)
    return folder


@pytest.mark.parametrize("name, harm", CUT_SHORT + WRONG)
def test_a_damaged_state_of_a_run_is_named(tmp_path, one_epoch, name, harm):
    folder = shutil.copytree(one_epoch, tmp_path / "run")
    path = folder / STATE / name
    if isinstance(harm, dict):
        path.write_text(json.dumps(json.loads(path.read_text()) | harm))
    else:
        path.write_bytes(path.read_bytes()[: int(path.stat().st_size * harm)])
    with pytest.raises(ValueError, match=r"state of the run in .* cannot be read"):
        resume(folder, ONE_EPOCH)


@pytest.mark.parametrize(
    "harm",
    [
        lambda state: state["param_groups"][0].update(betas=5),
        lambda state: state["param_groups"][0].update(amsgrad=True),
        lambda state: state["state"][0].pop("exp_avg"),
        lambda state: state["state"][0].update(step=torch.tensor(-1.0)),
        lambda state: state["state"][0].update(exp_avg_sq=torch.ones(1)),
    ],
)
def test_a_state_of_another_optimizer_is_named(tmp_path, one_epoch, harm):
    folder = shutil.copytree(one_epoch, tmp_path / "run")
    path = folder / STATE / "optimizer.bin"
    state = torch.load(path)
    harm(state)
    torch.save(state, path)
    with pytest.raises(ValueError, match=r"state of the run in .* cannot be read"):
        resume(folder, ONE_EPOCH)


def test_what_a_killed_process_left_is_removed(tmp_path):
    for place in (tmp_path, tmp_path / "samples"):
        (place / ".writing-abc").mkdir(parents=True)
    train(tmp_path, ONE_EPOCH)
    assert not list(tmp_path.rglob(".writing-*"))


# Losses that are not finite


class Diverges(MeanCode):
    """A model whose gradient becomes infinite at one step, counted from 1."""

    def __init__(self, at: int = 3):
        super().__init__()
        self.left = at

    def loss_function(self, *batch, **options):
        self.left -= self.training
        infinite = self.training and self.left == 0
        loss = super().loss_function(*batch)["loss"]
        return {"loss": loss * (math.inf if infinite else 1.0)}


@pytest.mark.parametrize(
    "at, every, found, left",
    [(3, 2, 4, "no epoch was finished"), (9, 50, 12, "the last good checkpoint is")],
)
def test_a_gradient_that_is_not_finite_stops_the_run(
    tmp_path, monkeypatch, at, every, found, left
):
    """At the next look, since looking costs time on a GPU, or at the epoch's end."""
    monkeypatch.setattr(training, "CHECK_EVERY", {"cpu": every})
    words = rf"stopped at step {found}: the gradient of loss is not finite \(loss .*\)"
    with pytest.raises(FloatingPointError, match=f"{words}; {left}.*--lr.*--warmup"):
        train(tmp_path, model=Diverges(at))
    assert (tmp_path / "last").exists() == ("good" in left)


def test_a_held_out_loss_that_is_not_finite_stops_the_run(tmp_path, monkeypatch):
    monkeypatch.setattr(MeanCode, "factor", math.nan)
    words = "after step 6: the held-out loss is not finite; no epoch was finished"
    with pytest.raises(FloatingPointError, match=words):
        train(tmp_path, model=MeanCode())
    assert not (tmp_path / "last").exists()


# Around the loop


@pytest.mark.parametrize("after_epoch", [None, interrupt])
def test_a_run_leaves_random_state_gradients_and_accelerator_as_they_were(
    tmp_path, after_epoch
):
    """This holds after an interrupt too: an untrained level is not left frozen."""
    model, accelerator = new_model(), make_accelerator(SETTINGS, tmp_path)
    model.prior_top.embedding.requires_grad_(False)
    required = [p.requires_grad for p in model.parameters()]
    torch.manual_seed(123)
    expected = torch.rand(3)
    torch.manual_seed(123)
    only = {"parts": ("top_loss",), "loss_options": {"levels": ("top",)}}
    with contextlib.suppress(KeyboardInterrupt):
        more = {"accelerator": accelerator, "after_epoch": after_epoch}
        train(tmp_path / "one", ONE_EPOCH, model, **only, **more)
    assert torch.equal(torch.rand(3), expected)
    assert [p.requires_grad for p in model.parameters()] == required
    train(tmp_path / "two", ONE_EPOCH, accelerator=accelerator)
    resume(tmp_path / "two", replace(SETTINGS, epochs=2))


@pytest.mark.parametrize("name", ["training", "held-out"])
def test_a_training_without_images_is_refused(tmp_path, name):
    """Nothing is written before."""
    data = {"training": stripes(8, 1), "held-out": stripes(8, 2), name: stripes(0, 1)}
    with pytest.raises(ValueError, match=f"there are 0 {name} images; give some"):
        fit(MeanCode(), *data.values(), SETTINGS, tmp_path)
    assert not list(tmp_path.iterdir())


WRONG_SETTINGS = {"lr": math.nan, "epochs": 0, "seed": 1.5, "save_steps": -1}
WRONG_SETTINGS |= {"warmup": 1.0, "weight_decay": -0.1, "mixed_precision": "fp8"}


@pytest.mark.parametrize("name, value", WRONG_SETTINGS.items())
def test_wrong_settings_are_named(name, value):
    with pytest.raises(ValueError, match=f"{name} is {value!r}; give"):
        TrainingSettings(**{name: value})


def test_whole_numbers_of_any_library_are_kept_as_checkpoints_can_hold_them():
    settings = TrainingSettings(batch_size=torch.tensor(4), seed=np.uint32(7))
    assert json.loads(json.dumps(asdict(settings)))["batch_size"] == 4
    assert settings == TrainingSettings(batch_size=4, seed=7)


# The images that choose the best epoch


@pytest.mark.parametrize("share, count", [(0.05, 5), (0.001, 1), (0.5, 20)])
def test_what_chooses_the_best_epoch_is_not_trained_on(share, count, monkeypatch):
    monkeypatch.setattr(held_out, "MOST_VALIDATION_IMAGES", 20)
    grids, numbers = stripes(96, 1).grids, torch.arange(96)
    codes = CodeData((numbers.view(96, 1, 1), grids[1]), numbers, 96)
    training_part, validation = hold_out(codes, share)
    assert len(validation) == count and len(training_part) == 96 - count
    together = torch.cat([training_part.copied().labels, validation.labels])
    assert torch.equal(together.sort().values, numbers)
    assert torch.equal(validation.z_top.flatten(), validation.labels)
    torch.manual_seed(5)  # plays no part
    assert torch.equal(hold_out(codes, share)[1].labels, validation.labels)


def test_images_and_their_codes_hold_out_the_same_ones(heldout_images, heldout_codes):
    _, images = hold_out(heldout_images, 0.05)
    _, codes = hold_out(heldout_codes, 0.05)
    assert len(images) == 50 and torch.equal(images.labels, codes.labels)


def test_one_image_cannot_be_held_out_of_one():
    with pytest.raises(ValueError, match=r"1 training image.*--validation_share 0"):
        hold_out(stripes(1, 0), 0.05)
    assert hold_out(stripes(1, 0), 0.0)[1] is None
    with pytest.raises(ValueError, match=r"validation_share is 1\.0"):
        hold_out(stripes(9, 0), 1.0)
