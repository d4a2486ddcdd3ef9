"""What the shipped weights can do, measured on real held-out images."""

import contextlib
import hashlib
import io
import json
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from pixelprior import cli
from pixelprior.assets import FOLDER, SHIPPED, load_shipped, shipped_folder
from pixelprior.checkpoints import load_model
from pixelprior.evaluation.classifier import load_shipped_reference_models
from pixelprior.evaluation.measures import nats_per_code
from pixelprior.evaluation.report import model_card
from pixelprior.vqvae2 import VQVAE2

RESULTS = {"fashion_mnist": FOLDER / "results"}
RESULTS |= {name: FOLDER / "results" / name for name in ("cifar10", "emoji")}
PARTS = {
    name: {f"{name}_{part}" for part in ("vqvae2", "prior", "classifier")}
    for name in SHIPPED
}
PARTS["fashion_mnist"] |= {"fashion_mnist_without_top"}
SET_UP = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text(encoding="utf-8")


def test_the_shipped_prior_is_far_under_the_unigram_entropy(
    shipped, heldout_codes, some_heldout_codes
):
    nats = nats_per_code(shipped[1], some_heldout_codes)
    for level, value in nats.items():
        assert value < 0.75 * heldout_codes.unigram_entropy(level)


def test_the_right_label_and_the_right_top_codes_help(shipped, some_heldout_codes):
    z_top, z_bottom, labels = some_heldout_codes.batch(torch.arange(100))
    with torch.no_grad():
        right, wrong_label, wrong_top = (
            shipped[1].loss_function(*codes)
            for codes in (
                (z_top, z_bottom, labels),
                (z_top, z_bottom, (labels + 3) % 10),
                (z_top.roll(1, 0), z_bottom, labels),
            )
        )
    assert right["top_loss"] < wrong_label["top_loss"] - 0.05
    assert right["bottom_loss"] < wrong_top["bottom_loss"] - 0.2


def test_most_codes_are_in_use(heldout_codes):
    for codes in (heldout_codes.z_top, heldout_codes.z_bottom):
        assert len(codes.unique()) > 0.9 * heldout_codes.num_embeddings


def test_samples_look_like_their_class(shipped, heldout_images):
    """A new image is nearer to the mean of its class than to most other means."""
    vqvae2, prior = shipped
    labels = prior.labels_in_turn(60)
    samples = prior.sample_with_vqvae2(vqvae2, 60, labels=labels, seed=0)
    images, truth = heldout_images[torch.arange(1000)]
    means = torch.stack([images[truth == c].mean(0).flatten() for c in range(10)])
    distances = torch.cdist(samples.flatten(1), means)  # [60, 10]
    own = distances[torch.arange(60), labels][:, None]
    assert (distances < own).sum(1).float().mean() < 1.5


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """What `pixelprior demo` prints, and the folder that it writes to."""
    folder = tmp_path_factory.mktemp("demo")
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        cli.main(["demo", "--output_dir", str(folder)])
    return printed.getvalue(), folder


def test_the_demo_draws_garments_and_prints_held_out_figures(demo):
    printed, folder = demo
    names = sorted(path.name for path in folder.rglob("*") if path.is_file())
    assert names == ["chosen_samples.png", "reconstructions.png", "samples.png"]
    assert "1,000 held-out test images" in printed and "nats per code" in printed


def test_the_set_up_shows_what_the_demo_prints(demo):
    printed, _ = demo
    shown = re.search(r"```text\n(.*?)```", SET_UP, re.DOTALL)[1]
    pattern = r"(?:error|codes:|entropy) ([\d.]+)"
    now, then = (
        [float(number) for number in re.findall(pattern, text)]
        for text in (printed, shown)
    )
    assert len(now) == 5 and now == pytest.approx(then, rel=0.005)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cifar10", "emoji"])
def test_the_demo_draws_in_colour(name, tmp_path, capsys):
    cli.main(["demo", "--dataset", name, "--output_dir", str(tmp_path)])
    printed, names = capsys.readouterr().out, {"chosen_samples.png", "samples.png"}
    if name == "cifar10":
        assert "no test images of this data set ship" in printed
    else:
        names |= {"reconstructions.png"}
        assert "on 159 held-out test images, measured now" in printed
    assert {path.name for path in tmp_path.rglob("*") if path.is_file()} == names


def test_cifar10_has_colour_and_its_classes_differ():
    """Samples have colours, and the classifier takes many of them for their class."""
    vqvae2, prior = load_shipped("cifar10")
    assert load_shipped_reference_models("cifar10")[0] is None
    classifier = load_shipped_reference_models("cifar10")[1]
    labels = prior.labels_in_turn(60)
    images = prior.sample_with_vqvae2(vqvae2, 60, labels=labels, seed=0, guidance=0.5)
    assert images.shape == (60, 3, 32, 32)
    assert 0.05 < (images.amax(1) - images.amin(1)).mean() < 0.3
    with torch.no_grad():
        right = classifier(images).argmax(1).eq(labels).float().mean()
    assert right > 0.3  # 0.1 by chance


def test_without_bottom_dropout_the_top_codes_are_of_little_use(
    shipped, heldout_images
):
    """Another image's top codes, as notebook 01 shows."""
    unused = load_model(VQVAE2, shipped_folder("fashion_mnist", "unused_top"))
    assert unused.bottom_dropout == 0 < shipped[0].bottom_dropout
    images, errors = heldout_images[torch.arange(100)][0], []
    for vqvae2 in (unused, shipped[0]):
        with torch.no_grad():
            quant_t, quant_b, *_ = vqvae2.encode(images)
            given = quant_t, quant_t.roll(1, 0)
            own, others = (vqvae2.decode(top, quant_b) for top in given)
        errors += [(each - images).square().mean().item() for each in (own, others)]
    assert errors[0] < 2e-3 and errors[1] < 0.01
    assert errors[2] < 1e-3 and errors[3] > 0.05


def test_no_other_weights_ship_and_all_are_small_and_in_half_precision():
    files = list(FOLDER.rglob("*.safetensors"))
    of_the_course = {"fashion_mnist_unused_top"}
    assert {path.parent.name for path in files} == of_the_course.union(*PARTS.values())
    for name in SHIPPED:
        own = FOLDER.glob(f"{name}_*/*.safetensors")
        assert sum(path.stat().st_size for path in own) < 10e6
    assert sum(path.stat().st_size for path in files) < 18.5e6
    assert sum(p.stat().st_size for p in FOLDER.rglob("*") if p.is_file()) < 24e6
    for path in files:
        tensors = load_file(path).items()
        learned = [each for key, each in tensors if key.endswith(("weight", "bias"))]
        assert {tensor.dtype for tensor in learned} == {torch.float16}


@pytest.mark.parametrize("name", SHIPPED)
def test_the_model_card_is_what_the_files_beside_it_give(name):
    results, about = (
        json.loads((RESULTS[name] / file).read_text(encoding="utf-8"))
        for file in ("results.json", "recipe.json")
    )
    by_seed = {
        int(path.parent.name.removeprefix("seed_")): json.loads(path.read_text())
        for path in RESULTS[name].glob("seed_*/results.json")
    }
    assert sorted(by_seed) == ([1] if name == "fashion_mnist" else [])
    card = (RESULTS[name] / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert card == model_card(results, about, by_seed)
    for part in PARTS[name]:
        weights = (FOLDER / part / "model.safetensors").read_bytes()
        assert hashlib.sha256(weights).hexdigest() in card, part
    assert "no setting of sampling were chosen by them. What was chosen" in card
    from_files = "All images were read from image files" in card
    assert from_files == (about["vqvae2"]["dataset"] == "imagefolder")
    about["prior"]["validation_share"] = "0.0"
    assert "No training images were held out" in model_card(results, about, by_seed={})
