"""The training loop learns, resumes to the same bits, and stops when it must."""

import contextlib
import itertools
import json
import math
import os
import shutil
from dataclasses import replace
from typing import ClassVar

import pytest
import torch
from accelerate import Accelerator
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
    fit,
    learning_rate_factor,
    read_history,
)

SETTINGS = TrainingSettings(epochs=4, batch_size=16, lr=3e-3, mixed_precision="no")
ONE_EPOCH, TWO_EPOCHS = replace(SETTINGS, epochs=1), replace(SETTINGS, epochs=2)
TOP_ALONE = {"parts": ("top_loss",), "loss_options": {"levels": ("top",)}}


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


def run_of(model, folder, settings=SETTINGS):
    accelerator = make_accelerator(settings, folder)
    return TrainingRun(model, None, {}, {}, 96, settings, folder, accelerator)


def without_times(history):
    times = {"seconds", "steps_per_second"}
    return [{k: v for k, v in epoch.items() if k not in times} for epoch in history]


def notes_of(folder):
    return json.loads((folder / "training.json").read_text())


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


class MeanCode(nn.Module, Pretrained):
    """A model whose loss is the mean of the top codes, whatever its weights are; the
    gradients of its weights add up to it."""

    factors: ClassVar = {True: 1.0, False: 1.0}  # of the loss, in training mode or not

    def __init__(self, size: int = 2):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(size))

    def loss_function(self, z_top, z_bottom, labels=None):
        nothing = (self.weight - self.weight.detach()).mean()
        mean = z_top.float().mean() * self.factors[self.training]
        return {"loss": mean * (1 + nothing)}

    def training_parts(self):
        return {"loss": self}


def order_of(count, seed):
    return torch.randperm(count, generator=torch.Generator().manual_seed(seed))


def mean_of(data, images=slice(None)):
    return pytest.approx(data.z_top[images].float().mean().item(), rel=1e-5)


# Learning, and what is kept


def test_both_levels_learn_and_the_best_weights_of_each_are_kept(tmp_path):
    """The top gets worse at the end while the bottom improves: `best` keeps the good
    top, as a copy."""

    def spoil(epoch, averaged):
        if epoch == 11:
            for parameter in averaged.prior_top.parameters():
                parameter.detach().fill_(10.0)

    settings = replace(SETTINGS, epochs=12, lr=2e-2)
    history = train(tmp_path, settings, after_epoch=spoil)
    assert history[-1]["heldout_top_loss"] > history[-2]["heldout_top_loss"]
    assert read_history(tmp_path) == history and read_history(tmp_path / "no run") == []
    best = load_model(HierarchicalPixelCNN, tmp_path)
    losses = best.loss_function(*stripes(32, 2).batch(torch.arange(32)))
    for name, share in (("top_loss", 0.6), ("bottom_loss", 0.3)):
        lowest = min(epoch[f"heldout_{name}"] for epoch in history)
        assert lowest < share * math.log(8)
        assert notes_of(tmp_path / "best")["heldout"][name] == lowest
        assert losses[name].item() == pytest.approx(lowest, rel=1e-4)


def test_an_epoch_that_is_no_better_does_not_become_the_best(tmp_path):
    train(tmp_path, TWO_EPOCHS, MeanCode())  # its loss stays the same
    assert notes_of(tmp_path / "best")["epochs_done"] == 1
    assert notes_of(tmp_path / "last")["epochs_done"] == 2


def test_without_held_out_data_the_last_weights_are_the_best(tmp_path):
    history = train(tmp_path, heldout=None)
    assert not [name for name in history[0] if name.startswith("heldout")]
    assert len(set(ends(tmp_path))) == 1
    assert notes_of(tmp_path / "best")["heldout"] == {}


@pytest.mark.parametrize("wanted", [None, 0.9])
def test_the_weights_of_a_vqvae2_are_averaged_only_if_asked_for(wanted, tmp_path):
    """Averaged weights do not fit its newest codebooks. Those of a prior are."""
    images = (255 * torch.rand(40, 1, 16, 16)).byte()
    vqvae2, data = VQVAE2(1, 16, 8, 4, 8), ImageData(images, torch.zeros(40).long(), ())
    for model, train_data in ((vqvae2, data), (new_model(), stripes(40, 1))):
        folder = tmp_path / type(model).__name__
        fit(model, train_data, None, replace(ONE_EPOCH, ema_decay=wanted), folder)
        last = fingerprint(load_model(type(model), folder / "last"))
        assert (last == fingerprint(model)) == (model is vqvae2 and wanted is None)


# Means over images, in one process or several


def test_losses_and_gradients_are_means_over_images(tmp_path, monkeypatch):
    """Three batches of 7 make one step. The last step of 90 images, and the last batch
    of 23, has fewer. The order of each epoch is that of its own seed. What accelerate's
    launcher hands on as an environment variable divides no loss."""
    sizes = {"batch_size": 7, "gradient_accumulation_steps": 3}
    settings = replace(TWO_EPOCHS, seed=3, max_grad_norm=1e6, **sizes)
    data, heldout, model, gradients = stripes(90, 1), stripes(23, 2), MeanCode(), []
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "3")

    def note(*_):
        gradients.append(model.weight.grad.sum().item())

    watched(monkeypatch, torch.optim.AdamW, "step", note)
    for epoch in train(tmp_path, settings, model, data=data, heldout=heldout):
        assert epoch["train_loss"] == mean_of(data)
        assert epoch["heldout_loss"] == mean_of(heldout)
    orders = [order_of(90, 3 * 1_000_003 + epoch) for epoch in range(2)]
    steps = [some for order in orders for some in order.split(21)]
    assert gradients == [mean_of(data, images) for images in steps]


@pytest.fixture
def one_of_three(monkeypatch):
    """A function that makes accelerators take themselves for one of three processes."""
    monkeypatch.setattr(Accelerator, "num_processes", 3)
    return lambda rank: monkeypatch.setattr(Accelerator, "process_index", rank)


@pytest.mark.parametrize("rank", [0, 2])
def test_each_of_three_processes_takes_every_third_image(
    tmp_path, monkeypatch, one_of_three, rank
):
    """The first two of 100 images are taken again, so that each process has 34. Random
    numbers are its own, and the seeds are the same in every release."""
    one_of_three(rank)
    settings, data, seen, seeds = replace(TWO_EPOCHS, seed=7), stripes(100, 1), [], []
    watched(monkeypatch, CodeData, "batch", lambda _, some: seen.extend(some.tolist()))
    watched(monkeypatch, torch, "manual_seed", seeds.append)
    history = fit(MeanCode(), data, None, settings, tmp_path)
    assert seeds == [7_000_021 + rank, 7_001_030 + rank]
    orders = order_of(100, 7_000_021), order_of(100, 7_000_022)
    own = [torch.cat([order, order[:2]])[rank::3] for order in orders]
    assert seen == torch.cat(own).tolist()
    assert [epoch["train_loss"] for epoch in history] == [mean_of(data, n) for n in own]


@pytest.mark.parametrize("images", [2, 100])
def test_held_out_images_are_each_counted_once_by_three_processes(
    tmp_path, one_of_three, images
):
    """Also where there are fewer images than processes."""
    data, sums = stripes(images, 1), []
    for rank in range(3):
        one_of_three(rank)
        run = run_of(MeanCode(), tmp_path)
        run.accelerator.reduce = lambda values, how: sums.append(values) or values
        run.evaluate(data)
    loss, count = sum(sums)
    assert count == images and loss / count == mean_of(data)


# Steps: rate, decay, clipping


def test_the_learning_rate_rises_linearly_and_falls_as_a_cosine(tmp_path, monkeypatch):
    """The history has that of each epoch's last step."""
    rates, settings = [], replace(TWO_EPOCHS, warmup=0.25)

    def note(optimizer, *_):
        rates.append(optimizer.param_groups[0]["lr"] / settings.lr)

    watched(monkeypatch, torch.optim.AdamW, "step", note)
    history = train(tmp_path, settings)
    falling = [0.5 + 0.5 * math.cos(math.pi * step / 9) for step in range(9)]
    assert rates == pytest.approx([1 / 3, 2 / 3, 1, *falling])
    assert [epoch["lr"] / settings.lr for epoch in history] == rates[5::6]


def test_a_step_shrinks_the_weights_that_are_trained_and_nothing_else(tmp_path):
    """A step at rate 0.1 with gradients of 0: weights lose 0.1 · 0.5 of themselves, and
    biases, scales, embeddings and what is not trained lose nothing."""
    model = nn.Sequential(
        nn.Embedding(5, 4), nn.Linear(4, 4), nn.Conv1d(4, 4, 3), nn.LayerNorm(4)
    )
    model.append(nn.Linear(4, 4))
    model.training_parts = lambda: {"loss": model[:4]}
    run = run_of(model, tmp_path, replace(ONE_EPOCH, lr=0.1, weight_decay=0.5))
    before = {name: each.clone() for name, each in model.named_parameters()}
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    run.optimizer.step()
    for name, parameter in model.named_parameters():
        share = 0.95 if name in ("1.weight", "2.weight") else 1
        assert torch.allclose(parameter, share * before[name]), name


def test_each_level_is_clipped_by_itself(tmp_path):
    """A top with a huge gradient must not shrink the steps of the bottom."""

    class Loud(HierarchicalPixelCNN):
        def loss_function(self, *batch, **options):
            losses = super().loss_function(*batch, **options)
            return losses | {"top_loss": losses["top_loss"] * 1e6}

    quiet, loud = new_model(dropout=0.0), Loud(8, 4, 8, 3, dropout=0.0)
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


# Stopped, and resumed


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that was never stopped: 2 epochs of 6 steps, with dropout."""
    folder = tmp_path_factory.mktemp("whole")
    history = train(folder, TWO_EPOCHS)
    return without_times(history), ends(folder)


@pytest.mark.parametrize("move", range(2, 48, 5))
def test_a_run_killed_at_any_moment_resumes_to_the_same_bits(tmp_path, whole, move):
    """From the rename or removal of this number on no more take place."""
    settings, count = replace(TWO_EPOCHS, save_steps=4), itertools.count(1)

    def die(*_):
        if next(count) >= move:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch, contextlib.suppress(KeyboardInterrupt):
        for owner, name in ((os, "rename"), (os, "replace"), (shutil, "rmtree")):
            watched(patch, owner, name, die)
        train(tmp_path, settings)
    begun = any(each.is_dir() for each in tmp_path.glob("*last*"))
    model = new_model(9 if begun else 0)
    history = train(tmp_path, settings, model, resume=begun)
    assert without_times(history) == whole[0] and ends(tmp_path) == whole[1]
    assert not list(tmp_path.rglob(".*"))


def test_a_full_disk_leaves_the_last_good_checkpoint(tmp_path, monkeypatch):
    def no_room(*_arguments, **_more):
        raise RuntimeError("PytorchStreamWriter failed\nFrames: …")  # of torch.save

    train(tmp_path, ONE_EPOCH)
    before = ends(tmp_path)
    monkeypatch.setattr(torch, "save", no_room)
    words = "cannot write a checkpoint in .* is whole; make room .* --resume"
    with pytest.raises(OSError, match=words):
        resume(tmp_path, TWO_EPOCHS)
    assert ends(tmp_path) == before, "half of a checkpoint is in its place"


def test_a_run_goes_on_to_more_epochs_than_it_was_started_with(tmp_path):
    """The second epoch follows the schedule of both; the first one stays as it is."""
    said, first = [], train(tmp_path, ONE_EPOCH)
    last = ends(tmp_path)
    assert resume(tmp_path, ONE_EPOCH) == first and ends(tmp_path) == last
    history = resume(tmp_path, TWO_EPOCHS, log=said.append)
    assert history[:1] == first and len(history) == 2
    assert said[0].startswith("resumed with epochs 2 instead of 1: ")
    assert history[1]["lr"] == SETTINGS.lr * learning_rate_factor(TWO_EPOCHS, 12)(11)
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


@pytest.mark.parametrize("name", ["run.json", "model.safetensors", "optimizer.bin"])
def test_a_state_of_a_run_that_is_cut_short_is_named(tmp_path, name):
    train(tmp_path, ONE_EPOCH)
    path = tmp_path / STATE / name
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ValueError, match=r"state of the run in .* cannot be read"):
        resume(tmp_path, ONE_EPOCH)


# Losses that are not finite


@pytest.mark.parametrize(
    "at, every, found, left",
    [(3, 2, 4, "no epoch was finished"), (9, 50, 12, "the last good checkpoint is")],
)
def test_a_gradient_that_is_not_finite_stops_the_run(
    tmp_path, monkeypatch, at, every, found, left
):
    """At the next look, since looking costs time on a GPU, or at the epoch's end."""
    monkeypatch.setattr(training, "CHECK_EVERY", {"cpu": every})
    count = itertools.count(1)

    def diverge(model, *_):
        if model.training and next(count) >= at:
            MeanCode.factors[True] = math.inf

    monkeypatch.setattr(MeanCode, "factors", dict(MeanCode.factors))
    watched(monkeypatch, MeanCode, "loss_function", diverge)
    words = rf"stopped at step {found}: the gradient of loss is not finite \(loss .*\)"
    with pytest.raises(FloatingPointError, match=f"{words}; {left}.*--lr.*--warmup"):
        train(tmp_path, model=MeanCode())
    assert (tmp_path / "last").exists() == ("good" in left)


def test_a_held_out_loss_that_is_not_finite_stops_the_run(tmp_path, monkeypatch):
    monkeypatch.setattr(MeanCode, "factors", {True: 1.0, False: math.nan})
    words = "after step 6: the held-out loss is not finite; no epoch was finished"
    with pytest.raises(FloatingPointError, match=words):
        train(tmp_path, model=MeanCode())
    assert not (tmp_path / "last").exists()


# Around the loop


def test_an_interrupted_run_leaves_random_state_gradients_and_accelerator_as_they_were(
    tmp_path,
):
    """Or an untrained level would be left frozen."""

    def interrupt(epoch, _model):
        raise KeyboardInterrupt

    model, accelerator = new_model(), make_accelerator(SETTINGS, tmp_path)
    model.prior_top.embedding.requires_grad_(False)
    required = [p.requires_grad for p in model.parameters()]
    more = TOP_ALONE | {"accelerator": accelerator, "after_epoch": interrupt}
    before = torch.get_rng_state()
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "one", ONE_EPOCH, model, **more)
    assert torch.equal(torch.get_rng_state(), before)
    assert [p.requires_grad for p in model.parameters()] == required
    train(tmp_path / "two", ONE_EPOCH, accelerator=accelerator)
    resume(tmp_path / "two", TWO_EPOCHS)


def test_wrong_settings_are_named():
    wrong = {"lr": math.nan, "epochs": 0, "seed": 1.5, "save_steps": -1}
    wrong |= {"warmup": 1.0, "weight_decay": -0.1, "mixed_precision": "fp8"}
    for name, value in wrong.items():
        with pytest.raises(ValueError, match=f"{name} is {value!r}; give"):
            TrainingSettings(**{name: value})


# The images that choose the best epoch


@pytest.mark.parametrize("share, count", [(0.05, 5), (0.001, 1), (0.5, 20)])
def test_what_chooses_the_best_epoch_is_not_trained_on(share, count, monkeypatch):
    monkeypatch.setattr(held_out, "MOST_VALIDATION_IMAGES", 20)
    numbers = torch.arange(96)
    images = ImageData(torch.zeros(96, 1, 1, 1).byte(), numbers, ())
    training_part, validation = hold_out(images, share)
    assert len(validation) == count
    together = torch.cat([training_part.copied().labels, validation.labels])
    assert torch.equal(together.sort().values, numbers)


def test_one_image_cannot_be_held_out_of_one():
    with pytest.raises(ValueError, match=r"1 training image.*--validation_share 0"):
        hold_out(stripes(1, 0), 0.05)
    assert hold_out(stripes(1, 0), 0.0)[1] is None
    with pytest.raises(ValueError, match=r"validation_share is 1\.0"):
        hold_out(stripes(9, 0), 1.0)
