"""The training loop learns, resumes to the same bits, and stops when it must."""

import contextlib
import itertools
import json
import math
import os
import platform
import subprocess
import sys
from dataclasses import asdict, replace
from types import SimpleNamespace

import numpy as np
import pytest
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import nn

from pixelprior import (
    VQVAE2,
    HierarchicalPixelCNN,
    cli,
    devices,
    training,
    training_run,
)
from pixelprior.checkpoints import fingerprint, load_model
from pixelprior.data import held_out
from pixelprior.data.code_files import read_codes
from pixelprior.data.codes import CodeData
from pixelprior.data.held_out import hold_out
from pixelprior.data.images import ImageData
from pixelprior.devices import make_accelerator
from pixelprior.runs import read_history
from pixelprior.schedule import average_weights, learning_rate_factor
from pixelprior.settings import TrainingSettings
from pixelprior.training import fit
from pixelprior.training_run import TrainingRun, decaying_parameters

SETTINGS = TrainingSettings(epochs=4, batch_size=16, lr=3e-3, mixed_precision="no")


def stripes(count, seed):
    """Codes with structure: top rows count up, and bottom grids repeat the top."""
    start = torch.randint(
        8, (count, 1, 1), generator=torch.Generator().manual_seed(seed)
    )
    top = (start + torch.arange(4)) % 8
    z_top = top.expand(count, 4, 4).to(torch.uint8)
    z_bottom = z_top.repeat_interleave(2, 1).repeat_interleave(2, 2)
    return CodeData(z_top, z_bottom, None, 8)


def new_model(seed=0):
    torch.manual_seed(seed)
    return HierarchicalPixelCNN(8, 4, 8, 3)


def train(folder, settings=SETTINGS, model=None, **options):
    accelerator = make_accelerator(settings, folder)
    options = {"heldout": stripes(32, 2), "log": lambda line: None} | options
    return fit(
        model or new_model(),
        options.pop("data", None) or stripes(96, 1),
        options.pop("heldout"),
        settings,
        folder,
        accelerator,
        **options,
    )


def without_times(history):
    times = {"seconds", "steps_per_second"}
    return [
        {name: value for name, value in epoch.items() if name not in times}
        for epoch in history
    ]


def checkpoints(folder) -> list[str]:
    """The fingerprints of a run's checkpoints."""
    names = ("last", "best")
    return [fingerprint(load_model(HierarchicalPixelCNN, folder / n)) for n in names]


def test_both_levels_learn_and_the_best_is_kept(tmp_path):
    history = train(tmp_path, replace(SETTINGS, epochs=20, lr=1e-2))
    assert history[-1]["heldout_top_loss"] < 0.6 * math.log(8)
    assert history[-1]["heldout_bottom_loss"] < 0.3 * math.log(8)
    assert json.loads((tmp_path / "history.json").read_text()) == history
    assert read_history(tmp_path) == history and read_history(tmp_path / "no run") == []
    about = json.loads((tmp_path / "best" / "training.json").read_text())
    best = load_model(HierarchicalPixelCNN, tmp_path)
    for level in ("top", "bottom"):
        lowest = min(epoch[f"heldout_{level}_loss"] for epoch in history)
        assert about["heldout"][f"{level}_loss"] == lowest
        data = stripes(32, 2)
        losses = best.loss_function(*data.batch(torch.arange(32)))
        assert losses[f"{level}_loss"].item() == pytest.approx(lowest, rel=1e-4)


def test_the_same_seed_gives_the_same_weights(tmp_path):
    for name in ("one", "two"):
        train(tmp_path / name)
    one, two = (load_model(HierarchicalPixelCNN, tmp_path / n) for n in ("one", "two"))
    assert fingerprint(one) == fingerprint(two)


def test_a_killed_run_resumes_to_the_same_bits(tmp_path):
    whole = train(tmp_path / "whole")

    def kill(epoch, _model):
        if epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "cut", after_epoch=kill)
    resumed = train(tmp_path / "cut", resume=True, model=new_model(seed=9))
    assert without_times(resumed) == without_times(whole)
    assert checkpoints(tmp_path / "cut") == checkpoints(tmp_path / "whole")


def stopped_after(steps: int):
    """A method for AdamW.step that ends the training after so many steps."""
    step, count = torch.optim.AdamW.step, itertools.count(1)

    def counted(optimizer, *arguments, **more):
        if next(count) > steps:
            raise KeyboardInterrupt
        return step(optimizer, *arguments, **more)

    return counted


def test_what_follows_the_last_epoch_is_not_lost(tmp_path):
    """The run is killed when the checkpoints are written and history.json is not."""
    pictures = []

    def draw(epoch, model):
        pictures.append((epoch, fingerprint(model), model.training))

    whole = train(tmp_path, after_epoch=draw)
    (tmp_path / "history.json").unlink()
    last = pictures.pop()
    assert last[0] == 4 and not last[2]
    train(tmp_path, resume=True, model=new_model(9), after_epoch=draw)
    assert pictures[-1] == last
    assert json.loads((tmp_path / "history.json").read_text()) == whole


@pytest.mark.slow
@pytest.mark.parametrize("broken", ["state", "weights", "second rename"])
def test_a_full_disk_leaves_the_last_good_checkpoint(tmp_path, broken):
    one = replace(SETTINGS, epochs=1)
    train(tmp_path / "whole", one)
    whole = train(tmp_path / "whole", resume=True, model=new_model(9))
    folder, rename = tmp_path / "full", os.rename

    def no_room(source, *arguments, **named):
        if broken == "state":  # as torch.save has it
            raise RuntimeError("PytorchStreamWriter failed writing file\nFrames: …")
        if broken == "weights":
            raise SafetensorError("No space left on device (os error 28)")
        if str(source).endswith("previous"):
            return rename(source, *arguments, **named)
        count = next(renames)
        if count % 2:
            raise OSError(28, "No space left on device", str(source))
        return rename(source, *arguments, **named)

    renames = itertools.count()
    place = {
        "state": (torch, "save"),
        "weights": (safetensors.torch, "save_file"),
        "second rename": (os, "rename"),
    }[broken]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(*place, no_room)
        nothing = "cannot write a checkpoint .* there is no checkpoint before it"
        if broken != "second rename":
            with pytest.raises(OSError, match=nothing):
                train(folder, one)
    train(folder, one, resume=(folder / "last").is_dir())
    before = checkpoints(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(*place, no_room)
        kept = "the checkpoint before it, .*last, is whole; make room on the disk"
        with pytest.raises(OSError, match=kept) as error:
            train(folder, SETTINGS, resume=True, model=new_model(9))
    assert "--resume" in str(error.value)
    assert checkpoints(folder) == before, "half of a checkpoint is in its place"
    resumed = train(folder, SETTINGS, resume=True, model=new_model(9))
    assert without_times(resumed) == without_times(whole)


@pytest.mark.parametrize("stopped", [4, 11])
def test_a_run_killed_within_an_epoch_resumes_to_the_same_bits(tmp_path, stopped):
    """There are 6 steps per epoch: it is killed in the first or the second one. What
    dropout draws is part of the run."""
    settings = replace(SETTINGS, epochs=2, save_steps=2)
    whole = train(tmp_path / "whole", settings)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(torch.optim.AdamW, "step", stopped_after(stopped))
        train(tmp_path / "cut", settings)
    state = torch.load(tmp_path / "cut" / "last" / "training_state.pt")
    assert state["step"] == stopped // 2 * 2
    assert state["within_epoch"]["images"] == 16 * (state["step"] % 6)
    assert (tmp_path / "cut" / "best").exists() == (stopped > 6)
    resumed = train(tmp_path / "cut", settings, resume=True, model=new_model(seed=9))
    assert without_times(resumed) == without_times(whole)
    assert checkpoints(tmp_path / "cut") == checkpoints(tmp_path / "whole")


def test_the_time_of_an_epoch_has_what_it_took_before_each_break(tmp_path, monkeypatch):
    """On a clock that the test sets: a step takes 2 s, and the held-out losses 3 s."""
    settings, clock = replace(SETTINGS, epochs=2, save_steps=1), [1000.0]
    for module in (training, training_run):
        its = SimpleNamespace(perf_counter=lambda: clock[0])
        monkeypatch.setattr(module, "time", its)

    def taking(seconds, function):
        def timed(*arguments, **more):
            clock[0] += seconds
            return function(*arguments, **more)

        return timed

    evaluate = taking(3, TrainingRun.evaluate)
    monkeypatch.setattr(TrainingRun, "evaluate", evaluate)
    for resume, steps in ((False, 8), (True, 2)):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(torch.optim.AdamW, "step", taking(2, stopped_after(steps)))
            train(tmp_path, settings, resume=resume)
        clock[0] += 500
    monkeypatch.setattr(torch.optim.AdamW, "step", taking(2, torch.optim.AdamW.step))
    history = train(tmp_path, settings, resume=True, model=new_model(seed=9))
    for epoch in history:
        assert epoch["seconds"] == 6 * 2 + 3
        assert epoch["steps_per_second"] == 6 / (6 * 2)


def test_checkpoints_within_an_epoch_change_nothing(tmp_path):
    one, two = (
        train(tmp_path / str(steps), replace(SETTINGS, save_steps=steps))
        for steps in (0, 1)
    )
    assert without_times(one) == without_times(two)


@pytest.mark.parametrize("images, steps", [(96, 6), (100, 7)])
def test_another_number_of_processes_goes_on_where_the_epoch_was_left(
    tmp_path, images, steps
):
    """The state is changed to say that two processes wrote it: after 1 step of 32
    images, so that of 96 images 64 are left for one process, in 4 steps, and of 100
    images 68, in 5 steps, the last of which has 4 images."""
    settings = replace(SETTINGS, epochs=1, save_steps=2)
    data = stripes(images, 1)
    whole = train(tmp_path / "whole", settings, data=data)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(torch.optim.AdamW, "step", stopped_after(2))
        train(tmp_path / "cut", settings, data=data)
    path = tmp_path / "cut" / "last" / "training_state.pt"
    state = torch.load(path)
    state["step"], state["identity"]["processes"] = 1, 2
    (both,) = state["within_epoch"]["processes"]
    half = {name: value / 2 for name, value in both["totals"].items()}
    state["within_epoch"]["processes"] = [both | {"totals": half}] * 2
    torch.save(state, path)
    seen, batch = [], CodeData.batch

    def watched(data, indices):
        if len(data) == images:
            seen.extend(indices.tolist())
        return batch(data, indices)

    again = {"resume": True, "model": new_model(9), "data": data}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CodeData, "batch", watched)
        history = train(tmp_path / "cut", settings, **again)
    order = torch.randperm(images, generator=torch.Generator().manual_seed(0)).tolist()
    assert seen == order[32:]
    assert torch.load(path)["step"] == steps
    # The first 32 images are in the mean; the rest had other dropout.
    assert history[0]["train_total_loss"] == pytest.approx(
        whole[0]["train_total_loss"], rel=0.02
    )


def test_gradients_of_several_batches_make_one_step(tmp_path):
    """4 batches of 8 give the weights of a batch of 32, to the rounding of float32; the
    last step of an epoch has fewer images (100 = 3 · 32 + 4)."""
    whole = replace(SETTINGS, batch_size=32)
    parts = replace(SETTINGS, batch_size=8, gradient_accumulation_steps=4)
    histories, sizes, batch = [], [], CodeData.batch

    def watched(data, indices):
        sizes.append(len(indices))
        return batch(data, indices)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CodeData, "batch", watched)
        for name, settings in (("whole", whole), ("parts", parts)):
            torch.manual_seed(0)
            model = HierarchicalPixelCNN(8, 4, 8, 3, dropout=0.0)
            more = {"data": stripes(100, 1), "heldout": None}
            histories.append(train(tmp_path / name, settings, model, **more))
    assert sizes == 4 * [32, 32, 32, 4] + 4 * (12 * [8] + [4])
    for one, other in zip(*histories, strict=True):
        for name in ("train_total_loss", "lr"):
            assert other[name] == pytest.approx(one[name], rel=1e-4)


def test_weights_decay_and_biases_and_embeddings_do_not():
    model = HierarchicalPixelCNN(8, 4, 8, 3, num_classes=3, attention_layers=1)
    model.prior_top.requires_grad_(False)
    decaying, others = decaying_parameters(model)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    decaying, others = (
        {names[id(each)] for each in some} for some in (decaying, others)
    )
    trained = {name for name in names.values() if name.startswith("prior_bottom")}
    assert decaying | others == trained and not decaying & others
    kinds = dict(model.named_modules())
    embeddings = {
        n for n in trained if type(kinds[n.rpartition(".")[0]]) is nn.Embedding
    }
    assert len(embeddings) == 3, "of the codes above and here, and of the labels"
    assert others == embeddings | {name for name in trained if name.endswith("bias")}


def test_a_step_shrinks_what_decays_and_nothing_else(tmp_path):
    """A step at rate 0.1 with gradients of 0: weights lose 0.1 · 0.5 of themselves."""
    model = new_model()
    settings = replace(SETTINGS, lr=0.1, weight_decay=0.5, warmup=0, epochs=1)
    run = TrainingRun(model, settings, tmp_path, make_accelerator(settings, tmp_path))
    run.set_parts(None, {}, {})
    run.start(stripes(96, 1), resume=False)
    before = {name: each.clone() for name, each in model.named_parameters()}
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    run.bare_optimizer.step()
    decaying = {id(each) for each in decaying_parameters(model)[0]}
    for name, parameter in model.named_parameters():
        share = 0.95 if id(parameter) in decaying else 1
        assert torch.allclose(parameter, share * before[name]), name


def test_accelerates_own_setting_divides_no_loss(tmp_path, monkeypatch):
    """`accelerate launch` hands its file's settings on as environment variables."""
    settings = replace(SETTINGS, epochs=1, batch_size=8, gradient_accumulation_steps=2)
    plain = train(tmp_path / "plain", settings)
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "2")
    assert without_times(train(tmp_path / "same", settings)) == without_times(plain)
    with pytest.raises(ValueError, match=r"steps 2, but the command 1; give the comma"):
        train(tmp_path / "other", replace(settings, gradient_accumulation_steps=1))
    for name in ("fp16", "bf16"):
        monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", name)
        with pytest.raises(ValueError, match=f"mixed_precision {name}, .* in float32;"):
            train(tmp_path / name, settings)
    monkeypatch.delenv("ACCELERATE_MIXED_PRECISION")
    for name in ("FSDP", "DEEPSPEED"):
        monkeypatch.setenv(f"ACCELERATE_USE_{name}", "true")
        with pytest.raises(ValueError, match=f"given {name}, .* MULTI_GPU"):
            train(tmp_path / name, settings)
        monkeypatch.delenv(f"ACCELERATE_USE_{name}")


def test_a_run_goes_on_to_more_epochs_than_it_was_started_with(tmp_path):
    """The second epoch follows the schedule of both; the first one stays as it is."""
    one, two = replace(SETTINGS, epochs=1), replace(SETTINGS, epochs=2)
    first, said = train(tmp_path, one), []
    last = load_model(HierarchicalPixelCNN, tmp_path / "last")
    assert train(tmp_path, one, resume=True, model=new_model(9)) == first
    unchanged = load_model(HierarchicalPixelCNN, tmp_path / "last")
    assert fingerprint(unchanged) == fingerprint(last)
    history = train(tmp_path, two, new_model(9), resume=True, log=said.append)
    assert history[:1] == first and len(history) == 2
    assert said[0] == (
        "resumed with 2 epochs instead of 1: from here on the learning rate follows "
        "the schedule of 2 epochs"
    )
    assert history[1]["lr"] == SETTINGS.lr * learning_rate_factor(two, 12)(11)
    assert history[1]["train_total_loss"] < first[0]["train_total_loss"]
    with pytest.raises(ValueError, match=r"has 2 epochs.* epochs is 1; give at least"):
        train(tmp_path, one, resume=True)


@pytest.mark.parametrize("batch_size, batches", [(16, 1), (8, 2)])
def test_a_run_goes_on_with_another_number_of_processes(tmp_path, batch_size, batches):
    """The state is changed to say that two processes wrote it, in 3 steps per epoch."""
    sizes = {"batch_size": batch_size, "gradient_accumulation_steps": batches}
    settings, said = replace(SETTINGS, epochs=2, **sizes), []
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, settings, after_epoch=interrupt)
    path = tmp_path / "last" / "training_state.pt"
    state = torch.load(path, weights_only=True)
    assert state["step"] == 6
    state["step"], state["identity"]["processes"] = 3, 2
    torch.save(state, path)
    history = train(tmp_path, settings, resume=True, log=said.append)
    assert said[0] == (
        "resumed on 1 process(es) instead of 2: 16 images per step instead of 32, so 6 "
        "steps per epoch instead of 3; the learning rate goes on at the same share of "
        "the epochs"
    )
    assert torch.load(path, weights_only=True)["step"] == 12
    assert history[1]["lr"] == SETTINGS.lr * learning_rate_factor(settings, 12)(11)


def test_one_level_can_be_trained_alone(tmp_path):
    model = new_model()
    before = fingerprint(model.prior_bottom)
    train(
        tmp_path,
        model=model,
        parts=("top_loss",),
        loss_options={"levels": ("top",)},
    )
    best = load_model(HierarchicalPixelCNN, tmp_path)
    assert fingerprint(best.prior_bottom) == before
    assert fingerprint(best.prior_top) != fingerprint(new_model().prior_top)


def test_the_best_weights_are_copies_not_references(tmp_path):
    """The top gets worse while the bottom improves: `best` keeps the good top."""

    def spoil(epoch, averaged):
        if epoch == 3:
            best = load_model(HierarchicalPixelCNN, tmp_path / "best")
            kept.update(top=fingerprint(best.prior_top))
            with torch.no_grad():
                for parameter in averaged.prior_top.parameters():
                    parameter.fill_(10.0)

    kept = {}
    history = train(tmp_path, after_epoch=spoil)
    assert history[3]["heldout_bottom_loss"] < history[2]["heldout_bottom_loss"]
    assert history[3]["heldout_top_loss"] > history[2]["heldout_top_loss"]
    best = load_model(HierarchicalPixelCNN, tmp_path / "best")
    assert fingerprint(best.prior_top) == kept["top"]


def interrupt(epoch, _model):
    raise KeyboardInterrupt


def test_a_run_leaves_the_callers_random_state_and_gradients_as_they_were(tmp_path):
    """This holds after an interrupt too: an untrained level is not left frozen."""
    for name, after_epoch in (("whole", None), ("cut", interrupt)):
        model = new_model()
        model.prior_top.embedding.requires_grad_(False)
        required = [p.requires_grad for p in model.parameters()]
        torch.manual_seed(123)
        expected = torch.rand(3)
        torch.manual_seed(123)
        with contextlib.suppress(KeyboardInterrupt):
            train(
                tmp_path / name,
                replace(SETTINGS, epochs=1),
                model,
                parts=("top_loss",),
                loss_options={"levels": ("top",)},
                after_epoch=after_epoch,
            )
        assert torch.equal(torch.rand(3), expected)
        assert [p.requires_grad for p in model.parameters()] == required


def test_the_learning_rate_in_the_history_is_that_of_the_epochs_last_step(tmp_path):
    rates = []

    step = torch.optim.AdamW.step

    def watched(optimizer, *arguments, **more):
        rates.append(optimizer.param_groups[0]["lr"])
        return step(optimizer, *arguments, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim.AdamW, "step", watched)
        history = train(tmp_path, replace(SETTINGS, epochs=3))
    factor = learning_rate_factor(SETTINGS, total_steps=18)
    assert rates == [SETTINGS.lr * factor(step) for step in range(18)]
    assert [epoch["lr"] for epoch in history] == rates[5::6]


def test_without_held_out_data_the_last_weights_are_the_best(tmp_path):
    history = train(tmp_path, heldout=None)
    assert not [name for name in history[0] if name.startswith("heldout")]
    ends = [load_model(HierarchicalPixelCNN, tmp_path / n) for n in ("best", "last")]
    assert fingerprint(ends[0]) == fingerprint(ends[1])
    about = json.loads((tmp_path / "best" / "training.json").read_text())
    assert about["heldout"] == {} and about["epochs_done"] == SETTINGS.epochs


@pytest.mark.parametrize(
    ("share", "count"), [(0.05, 5), (0.001, 1), (0.999, 95), (0.5, 20)]
)
def test_what_chooses_the_best_epoch_is_not_trained_on(share, count, monkeypatch):
    if share == 0.5:  # MOST_VALIDATION_IMAGES limits the count
        monkeypatch.setattr(held_out, "MOST_VALIDATION_IMAGES", 20)
    codes = stripes(96, 1)
    codes.z_top, codes.labels = torch.arange(96).view(96, 1, 1), torch.arange(96)
    training_part, validation = hold_out(codes, share)
    assert len(validation) == count and len(training_part) == 96 - count
    trained_on = training_part.copied().labels
    together = torch.cat([trained_on, validation.labels])
    assert torch.equal(together.sort().values, codes.labels)
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


def test_each_level_is_clipped_by_itself(tmp_path):
    """A top with a huge gradient must not shrink the steps of the bottom."""

    class Loud(HierarchicalPixelCNN):
        def loss_function(self, *batch, **options):
            losses = super().loss_function(*batch, **options)
            return losses | {"top_loss": losses["top_loss"] * 1e6}

    torch.manual_seed(0)
    loud = Loud(8, 4, 8, 3, dropout=0.0)
    torch.manual_seed(0)
    quiet = HierarchicalPixelCNN(8, 4, 8, 3, dropout=0.0)
    one_epoch = replace(SETTINGS, epochs=1)
    a, b = (
        train(tmp_path / name, one_epoch, model=model)[0]["heldout_bottom_loss"]
        for name, model in (("loud", loud), ("quiet", quiet))
    )
    assert a == b


class Diverges(nn.Module):
    """A model whose loss becomes infinite at its third step."""

    steps = 0

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(2))

    def loss_function(self, z_top, z_bottom, labels=None):
        if self.training:
            self.steps += 1
        scale = math.inf if self.steps == 3 else 1.0
        return {"loss": (self.weight * scale + 1).square().sum()}

    def training_parts(self):
        return {"loss": self}

    def save_pretrained(self, folder):
        folder.mkdir()


def test_where_looking_costs_time_it_is_found_at_the_next_look(tmp_path, monkeypatch):
    monkeypatch.setattr(training_run, "checking_interval", lambda device: 2)
    with pytest.raises(FloatingPointError, match="stopped at step 4"):
        train(tmp_path, model=Diverges())
    assert not (tmp_path / "last").exists()


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path):
    with pytest.raises(FloatingPointError) as error:
        train(tmp_path, replace(SETTINGS, batch_size=48), model=Diverges())
    words = str(error.value)
    assert "step 3" in words and "the last good checkpoint is" in words
    assert "--lr" in words and "--warmup" in words
    assert (tmp_path / "last").is_dir()


def test_one_levels_gradient_does_not_depend_on_the_other():
    model, data = new_model(), stripes(16, 1)

    def bottom_gradient():
        model.zero_grad()
        model.loss_function(*data.batch(torch.arange(16)))["total_loss"].backward()
        return [p.grad.clone() for p in model.prior_bottom.parameters()]

    model.eval()
    before = bottom_gradient()
    model.prior_top.head[-1].weight.data.mul_(1e20)
    after = bottom_gradient()
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_a_folder_that_holds_a_run_is_not_written_over(tmp_path):
    train(tmp_path, replace(SETTINGS, epochs=1))
    with pytest.raises(ValueError, match=r"already holds a training run.*--resume"):
        train(tmp_path, replace(SETTINGS, epochs=1))


def test_resuming_nothing_or_with_other_settings_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="no training run to resume"):
        train(tmp_path, resume=True)
    train(tmp_path, replace(SETTINGS, epochs=1))
    with pytest.raises(ValueError, match=r"started with lr 0\.003 and not 0\.1"):
        train(tmp_path, replace(SETTINGS, epochs=1, lr=0.1), resume=True)
    with pytest.raises(ValueError, match="'num_layers': 3"):
        train(
            tmp_path,
            replace(SETTINGS, epochs=1),
            model=HierarchicalPixelCNN(8, 4, 8, 4),
            resume=True,
        )


def test_a_training_state_cut_short_is_named(tmp_path):
    train(tmp_path, replace(SETTINGS, epochs=1))
    path = tmp_path / "last" / "training_state.pt"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"training_state\.pt cannot be read"):
        train(tmp_path, replace(SETTINGS, epochs=1), resume=True)


@pytest.mark.parametrize("state", [[1], {}, {"identity": None}])
def test_a_training_state_of_something_else_is_named(tmp_path, state):
    train(tmp_path, replace(SETTINGS, epochs=1))
    torch.save(state, tmp_path / "last" / "training_state.pt")
    with pytest.raises(ValueError, match="holds no training run"):
        train(tmp_path, replace(SETTINGS, epochs=1), resume=True)


def test_a_training_state_with_parts_missing_is_named(tmp_path):
    train(tmp_path, replace(SETTINGS, epochs=1))
    path = tmp_path / "last" / "training_state.pt"
    state = torch.load(path, weights_only=True)
    for key in ("model", "optimizer", "history", "averaged_steps"):
        torch.save({k: v for k, v in state.items() if k != key}, path)
        with pytest.raises(ValueError, match=r"is damaged \(KeyError\)"):
            train(tmp_path, replace(SETTINGS, epochs=1), resume=True)


@pytest.mark.parametrize("value", [0.5, torch.zeros(3), "text", None])
@pytest.mark.parametrize("key", ["history", "best_figures", "within_epoch"])
def test_a_training_state_with_parts_of_another_type_is_named(tmp_path, key, value):
    train(tmp_path, replace(SETTINGS, epochs=1))
    path = tmp_path / "last" / "training_state.pt"
    state = torch.load(path, weights_only=True)
    torch.save(state | {key: value}, path)
    with pytest.raises(ValueError, match=rf"is damaged \({key} is a "):
        train(tmp_path, replace(SETTINGS, epochs=2), resume=True)


def test_what_a_killed_process_left_is_removed(tmp_path):
    for place in (tmp_path, tmp_path / "samples"):
        (place / ".writing-abc").mkdir(parents=True)
    train(tmp_path, replace(SETTINGS, epochs=1))
    assert not list(tmp_path.rglob(".writing-*"))


def test_files_in_the_way_are_named_before_the_work(tmp_path):
    (tmp_path / "samples").write_text("")
    with pytest.raises(ValueError, match="samples is a file in the way"):
        train(tmp_path)


def test_the_learning_rate_rises_linearly_and_falls_as_a_cosine():
    factor = learning_rate_factor(replace(SETTINGS, warmup=0.1), total_steps=100)
    assert [factor(step) for step in (0, 4, 9)] == pytest.approx([0.1, 0.5, 1.0])
    assert factor(10) == 1
    assert factor(55) == pytest.approx(0.5)
    assert factor(100) == pytest.approx(0)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"lr": 0.0}, "lr is 0.0"),
        ({"lr": math.nan}, "lr is nan"),
        ({"epochs": 0}, "epochs is 0"),
        ({"seed": 1.5}, "seed is 1.5"),
        ({"batch_size": -1}, "batch_size is -1"),
        ({"warmup": 1.0}, "warmup is 1.0"),
        ({"weight_decay": -0.1}, "weight_decay is -0.1"),
        ({"mixed_precision": "fp8"}, "mixed_precision is 'fp8'"),
    ],
)
def test_wrong_settings_are_named(options, words):
    with pytest.raises(ValueError, match=words):
        TrainingSettings(**options)


def test_whole_numbers_of_any_library_are_kept_as_checkpoints_can_hold_them():
    settings = TrainingSettings(
        epochs=np.int64(2), batch_size=torch.tensor(4), seed=np.uint32(7)
    )
    assert json.loads(json.dumps(asdict(settings)))["batch_size"] == 4
    assert settings == TrainingSettings(epochs=2, batch_size=4, seed=7)


def test_a_missing_tracker_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(
        ValueError, match=r"wandb is not installed.*pixelprior\[wandb\]"
    ):
        make_accelerator(SETTINGS, tmp_path, ["wandb"])


ACCELERATE_CONFIG = """
compute_environment: LOCAL_MACHINE
distributed_type: MULTI_GPU
num_machines: 1
num_processes: 2
use_cpu: true
mixed_precision: 'no'
"""


@pytest.mark.slow
def test_two_processes_train_one_model_and_one_goes_on_with_it(tmp_path, capsys):
    """The VQ-VAE-2 under torchrun, the prior under accelerate launch with a config."""
    common = ["--dataset", "fashion_mnist_mini", "--max_images", "101"]
    common += ["--epochs", "1", "--hidden_channels", "16", "--save_steps", "1"]
    (tmp_path / "two.yaml").write_text(ACCELERATE_CONFIG)
    torchrun = ["torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    accelerate = ["accelerate.commands.launch", "--config_file", tmp_path / "two.yaml"]

    def launch(launcher, *arguments):
        command = [sys.executable, "-m", *launcher, "-m", "pixelprior.cli", *arguments]
        done = subprocess.run(
            list(map(str, command)),
            capture_output=True,
            text=True,
            env=os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"},
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    half = ["--batch_size", "16"]
    launch(
        torchrun, "train-vqvae2", *common, *half, "--output_dir", tmp_path / "images"
    )
    common += ["--vqvae2_checkpoint", tmp_path / "images", "--num_layers", "2"]
    common += ["--dropout", "0", "--mixed_precision", "no"]
    flags = ["train-prior", *common, *half, "--output_dir", tmp_path / "two"]
    out = launch(accelerate, *flags)
    assert out.count("epoch 1/1") == 1, "both processes spoke"
    state = torch.load(tmp_path / "two/last/training_state.pt", weights_only=True)
    assert state["step"] == 3, "96 images, in batches of 16 on each of two processes"
    one = ["train-prior", *common, "--batch_size", "32", "--output_dir"]
    cli.main([*map(str, one), str(tmp_path / "one")])
    histories = [
        json.loads((tmp_path / name / "history.json").read_text())[0]
        for name in ("two", "one")
    ]
    # Each run encodes the images itself; rounding may decide between two codes.
    a, b = (
        read_codes(tmp_path / name / "codes" / "train.safetensors")
        for name in ("two", "one")
    )
    same = torch.equal(a.z_top, b.z_top) and torch.equal(a.z_bottom, b.z_bottom)
    for level in ("top_loss", "bottom_loss"):
        for loss in (f"train_{level}", f"heldout_{level}"):
            two, one = (history[loss] for history in histories)
            assert two == pytest.approx(one, rel=1e-4 if same else 2e-3), loss
    capsys.readouterr()
    cli.main([*map(str, flags), "--epochs", "2", "--resume"])
    out = capsys.readouterr().out
    assert "resumed with 2 epochs instead of 1" in out
    assert "resumed on 1 process(es) instead of 2: 16 images per step" in out
    state = torch.load(tmp_path / "two/last/training_state.pt", weights_only=True)
    assert len(state["history"]) == 2 and state["step"] == 12


def test_a_training_step_asks_the_device_for_no_number():
    """Tensors on torch's meta device hold no numbers: asking for one is an error."""
    with torch.device("meta"):
        model = HierarchicalPixelCNN(16, 8, 8, 3, num_classes=3, attention_layers=1)
        average = HierarchicalPixelCNN(16, 8, 8, 3, num_classes=3, attention_layers=1)
        codes = [torch.zeros(4, side, side, dtype=torch.long) for side in (4, 8)]
        labels = torch.zeros(4, dtype=torch.long)
    optimizer = torch.optim.AdamW(model.parameters())
    model.train().loss_function(*codes, labels)["total_loss"].backward()
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    average_weights(list(average.parameters()), list(model.parameters()), 5, 0.9)
    with pytest.raises(RuntimeError, match="meta"):
        float(norm)


def test_the_command_line_keeps_freed_memory_but_for_the_benchmark(monkeypatch):
    called = []
    monkeypatch.setattr(devices, "keep_freed_memory", lambda: called.append(True))
    for command in (cli.Doctor, cli.Benchmark):
        monkeypatch.setattr(command, "run", lambda self: None)
    cli.main(["benchmark"])
    assert not called
    cli.main(["doctor"])
    assert called


def test_memory_that_was_freed_is_used_again():
    """Large blocks are reused without new pages from the system (only with glibc)."""
    if platform.libc_ver()[0] != "glibc":
        pytest.skip("not glibc: memory is kept as its C library likes")
    program = """
import resource, torch
from pixelprior.devices import keep_freed_memory
def new_pages():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        torch.ones(2**24)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
given_back = new_pages()
keep_freed_memory()
torch.ones(2**24)
print(given_back, new_pages())
"""
    run = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        # notebooks/conftest.py sets variables that glibc reads.
        env={k: v for k, v in os.environ.items() if not k.startswith("MALLOC_")},
    )
    given_back, kept = map(int, run.stdout.split())
    assert kept < 100 < given_back


@pytest.mark.parametrize("wanted", [None, 0.9])
def test_the_weights_of_a_vqvae2_are_averaged_only_if_asked_for(wanted, tmp_path):
    """Averaged weights do not fit its newest codebooks. Those of a prior are."""
    settings = replace(SETTINGS, epochs=1, ema_decay=wanted)
    torch.manual_seed(0)
    images = torch.rand(40, 1, 16, 16)
    vqvae2 = VQVAE2(1, 16, 8, 4, 8)
    data = ImageData((255 * images).byte(), torch.zeros(40).long(), ("one",))
    for model, train_data in ((vqvae2, data), (new_model(), stripes(40, 1))):
        folder = tmp_path / type(model).__name__
        fit(model, train_data, None, settings, folder)
        last = load_model(type(model), folder / "last").state_dict()
        kept = all(
            torch.equal(last[name], value)
            for name, value in model.cpu().state_dict().items()
        )
        assert kept == (model is vqvae2 and wanted is None)
