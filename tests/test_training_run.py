"""A training run in one process or several: order of images, means, when it stops."""

import contextlib
import json
import math
from dataclasses import replace

import pytest
import torch
from accelerate import Accelerator
from test_training import SETTINGS, Diverges, new_model, stopped_after, stripes, train
from torch import nn

from pixelprior import HierarchicalPixelCNN, training, training_run
from pixelprior.checkpoints import Pretrained
from pixelprior.data.codes import CodeData
from pixelprior.devices import make_accelerator
from pixelprior.modes import random_state
from pixelprior.schedule import learning_rate_factor
from pixelprior.training import fit
from pixelprior.training_run import TrainingRun, decaying_parameters


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

    def __init__(self, own, rank, world):
        self.own, self.process_index, self.num_processes = own, rank, world
        self.is_main_process = rank == 0

    def __getattr__(self, name):
        return getattr(self.own, name)


def train_as(rank, world, folder, settings, data, **options):
    """Train a MeanCode as one of several processes, without held-out data."""
    accelerator = OneOf(make_accelerator(settings, folder), rank, world)
    options = {"log": lambda line: None} | options
    return fit(MeanCode(), data, None, settings, folder, accelerator, **options)


def order_of(count, seed):
    return torch.randperm(count, generator=torch.Generator().manual_seed(seed))


def mean_of(data, images=slice(None)):
    return pytest.approx(data.z_top[images].float().mean().item(), rel=1e-5)


@pytest.mark.parametrize("batch_size, batches", [(16, 1), (8, 2), (7, 3)])
def test_losses_and_gradients_are_means_over_images(tmp_path, batch_size, batches):
    """The last step of 90 images, and the last batch of 23, has fewer images. The order
    of each epoch is that of its own seed."""
    sizes = {"batch_size": batch_size, "gradient_accumulation_steps": batches}
    settings = replace(SETTINGS, epochs=2, seed=3, max_grad_norm=1e6, **sizes)
    data, heldout = stripes(90, 1), stripes(23, 2)
    model, gradients, step = MeanCode(), [], torch.optim.AdamW.step

    def watched(optimizer, *arguments, **more):
        gradients.append(model.weight.grad.sum().item())
        return step(optimizer, *arguments, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim.AdamW, "step", watched)
        history = train(tmp_path, settings, model, data=data, heldout=heldout)
    for epoch in history:
        assert epoch["train_loss"] == mean_of(data)
        assert epoch["heldout_loss"] == mean_of(heldout)
    orders = [order_of(90, 3 * 1_000_003 + epoch) for epoch in range(2)]
    steps = [some for order in orders for some in order.split(batch_size * batches)]
    assert len(gradients) == len(steps)
    for gradient, images in zip(gradients, steps, strict=True):
        assert gradient == mean_of(data, images)


@pytest.mark.parametrize("rank", [0, 1, 2])
def test_each_of_three_processes_takes_every_third_image(tmp_path, rank):
    """The first two of 100 images are taken again, so that each process has 34."""
    settings = replace(SETTINGS, epochs=1, batch_size=8)
    data, seen, batch = stripes(100, 1), [], CodeData.batch

    def watched(data, indices):
        seen.extend(indices.tolist())
        return batch(data, indices)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CodeData, "batch", watched)
        (epoch,) = train_as(rank, 3, tmp_path, settings, data)
    order = order_of(100, 0)
    own = torch.cat([order, order[:2]])[rank::3]
    assert seen == own.tolist()
    assert epoch["train_loss"] == mean_of(data, own)
    assert epoch["lr"] == settings.lr * learning_rate_factor(settings, 5)(4)


@pytest.mark.parametrize(
    "before, now, rank",
    [(3, 3, 0), (3, 3, 1), (1, 2, 0), (1, 2, 1), (2, 3, 0), (2, 1, 0)],
)
def test_what_was_done_of_an_epoch_is_counted_once(
    tmp_path, monkeypatch, before, now, rank
):
    """Two steps were done by `before` processes. If as many resume, each takes its own
    sums; otherwise the first takes the sums of all. The first counts the images."""
    settings = replace(SETTINGS, epochs=1, batch_size=8, save_steps=2)
    data, order = stripes(96, 1), order_of(96, 0)

    def gathered(own):
        """As if the sums of process r were those of process 0, and r."""
        (first,) = own
        return [
            first | {"totals": {name: t + r for name, t in first["totals"].items()}}
            for r in range(before)
        ]

    monkeypatch.setattr(training_run, "gather_object", gathered)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(torch.optim.AdamW, "step", stopped_after(2))
        train_as(0, before, tmp_path, settings, data)
    (epoch,) = train_as(rank, now, tmp_path, settings, data, resume=True)
    losses, done = data.z_top.float().mean((1, 2)), 2 * 8 * before
    left = order[done:]
    own = torch.cat([left, order[: -len(left) % now]])[rank::now]
    of_first = losses[order[:done:before]].sum()
    total, count = 0.0, done if rank == 0 else 0
    if before == now:
        total = of_first + rank
    elif rank == 0:
        total = before * of_first + sum(range(before))
    mean = (total + losses[own].sum()) / (count + len(own))
    assert epoch["train_loss"] == pytest.approx(mean.item(), rel=1e-5)


@pytest.mark.parametrize("before", [1, 2, 3])
@pytest.mark.parametrize("now", [1, 2, 3])
def test_images_and_losses_of_a_part_of_an_epoch_are_counted_once(
    tmp_path, before, now
):
    """Also if the images are no multiple of the processes, as after one step by one
    process and one step by two."""
    own = {"random_state": random_state(), "totals": {"loss": torch.tensor(2.0)}}
    counted, added = 0, 0.0
    for rank in range(now):
        accelerator = OneOf(make_accelerator(SETTINGS, tmp_path), rank, now)
        run = TrainingRun(MeanCode(), SETTINGS, tmp_path, accelerator)
        run.within_epoch = {"images": 17, "seconds": 0.0, "processes": before * [own]}
        totals, count = run._take_within_epoch(rank, now)
        counted += count
        added += totals.get("loss", 0.0)
    assert counted == 17 and added == 2 * before


@pytest.mark.parametrize("rank", [0, 1])
def test_each_epoch_and_process_has_random_numbers_of_its_own(
    tmp_path, monkeypatch, rank
):
    """The seeds are the same in every release."""
    seeds, seed = [], torch.manual_seed

    def watched(number):
        seeds.append(number)
        return seed(number)

    monkeypatch.setattr(torch, "manual_seed", watched)
    settings = replace(SETTINGS, epochs=3, seed=7)
    train_as(rank, 2, tmp_path, settings, stripes(32, 1))
    assert seeds == [7_000_021 + rank, 7_001_030 + rank, 7_002_039 + rank]


def test_gradients_are_exchanged_with_the_last_batch_of_a_step_alone(
    tmp_path, monkeypatch
):
    """The last step has a single batch: 80 = 2 · 32 + 16."""
    inside, alone, backward = [], [], Accelerator.backward

    @contextlib.contextmanager
    def no_sync(accelerator, model):
        inside.append(model)
        yield
        inside.pop()

    def watched(accelerator, loss, **options):
        alone.append(bool(inside))
        return backward(accelerator, loss, **options)

    monkeypatch.setattr(Accelerator, "no_sync", no_sync)
    monkeypatch.setattr(Accelerator, "backward", watched)
    settings = replace(SETTINGS, epochs=1, gradient_accumulation_steps=2)
    train(tmp_path, settings, data=stripes(80, 1))
    assert alone == [True, False, True, False, False]


def test_a_gradient_that_is_not_finite_is_found_at_the_end_of_its_epoch(
    tmp_path, monkeypatch
):
    """At the latest: looking is due every 50 steps, and an epoch has 6."""
    monkeypatch.setattr(training_run, "checking_interval", lambda device: 50)
    model = Diverges()
    model.steps = -6  # so that it diverges at step 9, in the second epoch
    words = "stopped at step 12: the gradient of loss"
    with pytest.raises(FloatingPointError, match=words):
        train(tmp_path, model=model)


@pytest.mark.parametrize("loss", [math.inf, math.nan])
def test_a_held_out_loss_that_is_not_finite_stops_the_run(tmp_path, monkeypatch, loss):
    monkeypatch.setattr(MeanCode, "factor", loss)
    words = "after step 6: the held-out loss is not finite; no epoch was finished"
    with pytest.raises(FloatingPointError, match=words):
        train(tmp_path, model=MeanCode())
    assert not (tmp_path / "last").exists()


def test_an_epoch_that_is_no_better_does_not_become_the_best(tmp_path):
    train(tmp_path, replace(SETTINGS, epochs=3), MeanCode())  # its loss stays the same
    for name, epochs in (("best", 1), ("last", 3)):
        about = json.loads((tmp_path / name / "training.json").read_text())
        assert about["epochs_done"] == epochs


@pytest.mark.parametrize(("count", "images"), [(96, [32, 64]), (100, [32, 64, 96])])
def test_no_checkpoint_within_an_epoch_is_written_at_its_end(
    tmp_path, monkeypatch, count, images
):
    """A run resumed from a checkpoint with all images done would have an empty step."""
    written, write = [], training_run.write_last

    def watched(folder, state, *more):
        written.append(state["within_epoch"]["images"])
        write(folder, state, *more)

    monkeypatch.setattr(training_run, "write_last", watched)
    settings = replace(SETTINGS, epochs=1, batch_size=32, save_steps=1)
    train(tmp_path, settings, data=stripes(count, 1))
    assert written == images


def test_bars_count_epochs_from_one(tmp_path, monkeypatch):
    shown = []

    def bar(iterable, *, desc, **_options):
        shown.append(desc)
        return iterable

    monkeypatch.setattr(training_run, "progress_bar", bar)
    train(tmp_path, replace(SETTINGS, epochs=2))
    assert shown == ["epoch 1/2", "held out", "epoch 2/2", "held out"]


def test_held_out_losses_are_computed_in_evaluation_mode_without_gradients(
    tmp_path, monkeypatch
):
    asked, loss = set(), HierarchicalPixelCNN.loss_function

    def watched(model, *batch, **options):
        asked.add((model.training, torch.is_grad_enabled()))
        return loss(model, *batch, **options)

    monkeypatch.setattr(HierarchicalPixelCNN, "loss_function", watched)
    train(tmp_path, replace(SETTINGS, epochs=1))
    assert asked == {(True, True), (False, False)}


@pytest.mark.parametrize("images", [1, 2, 4, 100])
def test_held_out_images_are_each_counted_once_by_three_processes(tmp_path, images):
    """Also where there are fewer images than processes."""
    data, sums = stripes(images, 1), []
    for rank in range(3):
        run = TrainingRun(
            MeanCode(),
            SETTINGS,
            tmp_path,
            OneOf(make_accelerator(SETTINGS, tmp_path), rank, 3),
        )
        run.accelerator.reduce = lambda values, how: sums.append(values) or values
        run.set_parts(None, {}, {})
        run.evaluate(data)
    loss, count = sum(sums)
    assert count == images and loss / count == mean_of(data)


@pytest.mark.parametrize("name", ["training", "held-out"])
def test_a_training_without_images_is_refused_before_anything_is_written(
    tmp_path, name
):
    data = {"training": stripes(8, 1), "held-out": stripes(8, 2), name: stripes(0, 1)}
    with pytest.raises(ValueError, match=f"there are 0 {name} images; give some"):
        fit(MeanCode(), data["training"], data["held-out"], SETTINGS, tmp_path)
    assert not list(tmp_path.iterdir())


def test_weights_of_linear_layers_decay_and_scales_do_not():
    model = nn.Sequential(
        nn.Embedding(5, 4), nn.Linear(4, 4), nn.Conv1d(4, 4, 3), nn.LayerNorm(4)
    )
    model.scale = nn.Parameter(torch.ones(()))
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    decaying, others = (
        {names[id(each)] for each in some} for some in decaying_parameters(model)
    )
    assert decaying == {"1.weight", "2.weight"}
    assert others == {"0.weight", "1.bias", "2.bias", "3.weight", "3.bias", "scale"}


def test_the_optimizer_has_what_is_trained_alone(tmp_path):
    """Several processes would wait for the gradients of a level that gets none."""
    model = new_model()
    accelerator = make_accelerator(SETTINGS, tmp_path)
    run = TrainingRun(model, SETTINGS, tmp_path, accelerator)
    run.set_parts(("top_loss",), {}, {})
    run.start(stripes(96, 1), resume=False)
    groups = run.bare_optimizer.param_groups
    trained = {id(each) for group in groups for each in group["params"]}
    assert trained == {id(each) for each in model.prior_top.parameters()}
    assert not any(each.requires_grad for each in model.prior_bottom.parameters())


def test_an_accelerator_is_made_only_if_none_is_given(tmp_path, monkeypatch):
    made, one_epoch = [], replace(SETTINGS, epochs=1)

    def watched(*arguments):
        made.append(arguments)
        return make_accelerator(*arguments)

    monkeypatch.setattr(training, "make_accelerator", watched)
    train(tmp_path / "given", one_epoch)
    assert not made
    folder = tmp_path / "none"
    fit(MeanCode(), stripes(96, 1), None, one_epoch, folder, log=lambda line: None)
    assert made == [(one_epoch, folder)]


def test_a_second_process_writes_and_says_nothing(tmp_path):
    data, said = stripes(96, 1), []
    one_epoch = replace(SETTINGS, epochs=1)
    train(tmp_path, one_epoch, MeanCode(), data=data, heldout=None)
    (tmp_path / "history.json").unlink()

    def files():
        found = [path for path in tmp_path.rglob("*") if path.is_file()]
        return {path: path.read_bytes() for path in found}

    before = files()
    history = train_as(
        1,
        2,
        tmp_path,
        replace(SETTINGS, epochs=2, save_steps=1),
        data,
        resume=True,
        after_epoch=lambda epoch, model: said.append(epoch),
        log=said.append,
    )
    assert len(history) == 2
    assert files() == before and not said
