"""The count of what training needs agrees with torch's allocator and the loop."""

import json

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from pixelprior import VQVAE2, HierarchicalPixelCNN
from pixelprior.assets import FOLDER as ASSETS
from pixelprior.course.planning import (
    KEPT,
    example_batch,
    kept_for_backward,
    measured_speeds,
    parameter_count,
    plan,
    tried_runs,
)
from pixelprior.training import TrainingRun

PRIOR = {"num_embeddings": 32, "embedding_dim": 16, "hidden_channels": 24}
PRIOR |= {"num_layers": 4, "num_classes": 5, "attention_layers": 2}
IMAGES = {"image_size": 16, "hidden_channels": 24, "embedding_dim": 8}
IMAGES |= {"num_embeddings": 32}
MODELS = [(HierarchicalPixelCNN, PRIOR), (VQVAE2, IMAGES)]
PRECISIONS = ["no", "bf16"]
each_precision = pytest.mark.parametrize("precision", PRECISIONS)
each_model = pytest.mark.parametrize(("model_class", "arguments"), MODELS)


def built(model_class, arguments):
    """A model ready for training, whose codebooks have seen a first batch."""
    torch.manual_seed(0)
    model = model_class(**arguments).train()
    with torch.no_grad():
        model.loss_function(*example_batch(model, 8))
    return model


@each_model
def test_parameters_are_counted_without_building_the_model(model_class, arguments):
    count = sum(p.numel() for p in model_class(**arguments).parameters())
    assert parameter_count(model_class, **arguments) == count
    assert plan(model_class, **arguments).parameters == count


def test_a_model_that_fits_no_memory_can_be_counted():
    count = parameter_count(HierarchicalPixelCNN, **PRIOR | {"hidden_channels": 2**16})
    assert count > 1e11  # 400 GB of float32


@each_precision
@each_model
def test_a_plan_from_small_batches_holds_for_a_large_one(
    model_class, arguments, precision
):
    planned = plan(model_class, mixed_precision=precision, **arguments)
    model = built(model_class, arguments)
    counted = {
        size: kept_for_backward(model, example_batch(model, size), precision)
        for size in (1, 2, 3, 7, 64)
    }
    assert planned.parts(64)[KEPT] == pytest.approx(counted[64], rel=0.01)
    if model_class is HierarchicalPixelCNN:  # each image adds the same
        steps = counted[2] - counted[1], counted[3] - counted[2]
        assert steps[0] == steps[1] == (counted[7] - counted[3]) / 4 > 0


def peak_of_a_step(model, batch, precision):
    """Bytes by which torch's CPU allocator rises, at its peak, in a training step."""
    optimizer = torch.optim.AdamW(model.parameters())

    def step():
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            loss = model.loss_function(*batch)["total_loss"]
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    step()  # the first step creates the moments of AdamW
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        step()
    now = peak = 0
    for event in profiled.profiler.kineto_results.events():
        if event.name() == "[memory]":
            now += event.nbytes()
            peak = max(peak, now)
    return peak


@each_precision
@each_model
def test_the_allocator_gives_out_what_was_counted_and_up_to_half_more(
    model_class, arguments, precision
):
    model = built(model_class, arguments)
    batch = example_batch(model, 64)
    kept = kept_for_backward(model, batch, precision)
    given = sum(each.nbytes for each in batch)  # allocated before, but kept as well
    assert kept - given < peak_of_a_step(model, batch, precision) < 1.5 * kept


def test_the_training_loop_holds_as_many_copies_of_each_parameter(tmp_path):
    """There are six: weights, gradients, two moments, the average and the best."""
    from pixelprior.devices import make_accelerator
    from pixelprior.settings import TrainingSettings

    settings = TrainingSettings(mixed_precision="no")
    accelerator = make_accelerator(settings, tmp_path)
    model = HierarchicalPixelCNN(**PRIOR).to(accelerator.device)
    run = TrainingRun(model, None, {}, {}, 8, settings, tmp_path, accelerator)
    batch = example_batch(model, 2)
    run.loss(*(each.to(accelerator.device) for each in batch))["total_loss"].backward()
    run.optimizer.step()
    held = list(model.parameters())
    held += [p.grad for p in model.parameters()]
    for state in run.optimizer.optimizer.state.values():
        held += [state["exp_avg"], state["exp_avg_sq"]]
    held += [*run.average.module.parameters(), *run.best.parameters()]
    addresses = {each.data_ptr(): each.nbytes for each in held if each is not None}
    parts = plan(HierarchicalPixelCNN, **PRIOR).parts(1)
    state = sum(count for name, count in parts.items() if name != KEPT)
    unused = sum(p.nbytes for p in model.parameters() if p.grad is None)
    assert sum(addresses.values()) == state - 3 * unused  # no gradient, no moments


def test_half_the_bytes_are_kept_in_bf16_and_the_weights_once_more():
    full, half = (
        plan(HierarchicalPixelCNN, mixed_precision=precision, **PRIOR)
        for precision in PRECISIONS
    )
    assert 0.45 < half.kept_per_image / full.kept_per_image < 0.65
    assert abs(full.kept_once) < 100
    assert half.kept_once == pytest.approx(2 * full.parameters, rel=0.15)
    assert half.multiply_adds == full.multiply_adds


def test_a_step_multiplies_three_times_what_a_forward_pass_does():
    from torch.utils.flop_counter import FlopCounterMode

    model = built(HierarchicalPixelCNN, PRIOR)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.loss_function(*example_batch(model, 1))
    forward = counter.get_total_flops() / 2
    planned = plan(HierarchicalPixelCNN, **PRIOR).multiply_adds
    assert 2.8 < planned / forward < 3.1


def test_rectangular_images_are_planned_for():
    of = {"hidden_channels": 8, "embedding_dim": 4, "num_embeddings": 16}
    wide, high = (
        plan(VQVAE2, image_size=sides, **of) for sides in ((16, 32), (32, 16))
    )
    assert wide.parameters == high.parameters
    assert wide.kept_per_image == high.kept_per_image > 0


def test_larger_grids_take_more():
    small, large = (
        plan(HierarchicalPixelCNN, top_size=side, **PRIOR) for side in (4, 8)
    )
    assert large.kept_per_image == pytest.approx(4 * small.kept_per_image, rel=0.05)


@each_model
def test_planning_twice_gives_the_same_and_leaves_the_random_numbers_alone(
    model_class, arguments
):
    torch.manual_seed(3)
    wanted = torch.rand(3)
    torch.manual_seed(3)
    assert plan(model_class, **arguments) == plan(model_class, **arguments)
    assert torch.equal(torch.rand(3), wanted)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"mixed_precision": "fp8"}, "'fp8'"),
        ({"top_size": 0}, "top_size is 0"),
        ({"hidden_channels": 0}, "hidden_channels is 0"),
    ],
)
def test_wrong_arguments_are_named(wrong, words):
    with pytest.raises(ValueError, match=words):
        plan(HierarchicalPixelCNN, **PRIOR | wrong)


def test_no_batch_is_refused():
    with pytest.raises(ValueError, match="batch_size is 0"):
        plan(HierarchicalPixelCNN, **PRIOR).bytes_at(0)


def kept_results(name):
    text = (ASSETS / "results" / name).read_text(encoding="utf-8")
    return json.loads(text) if name.endswith("json") else text


def test_the_speeds_are_those_of_the_kept_files():
    speeds, log = measured_speeds(), kept_results("cifar10_reduced.log")
    images = kept_results("cifar10_reduced.json")["data"]["training_images"]
    for name in ("VQ-VAE-2", "prior"):
        seconds = images / speeds[f"cifar10_reduced, {name}"]
        part = log[log.index(f"== {name}, ") : log.index(f"== {name}: ")]
        assert f"(training / held out), {seconds:.0f} s\n" in part
    about = kept_results("recipe.json")
    seconds = about["seconds_of_the_fastest_epoch"]["prior"]
    share = float(about["prior"].get("validation_share", 0))
    trained_on = pytest.approx((1 - share) * 60_000)
    assert speeds["shipped prior"] * seconds == trained_on
    loops = kept_results("training.json")
    steps = speeds["benchmark"] / loops["sizes"]["batch_size"]
    assert steps == loops["loops"]["fit"]["steps_per_second"][0]


def test_the_runs_that_were_tried_are_those_of_the_kept_file():
    tried, order = tried_runs(), [*tried_runs()]
    kept = sorted(
        kept_results("tried.json")["tried"], key=lambda run: order.index(run["option"])
    )
    assert [run for runs in tried.values() for run in runs] == kept
    assert len(tried["base"]) == 3
