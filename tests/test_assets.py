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

from pixelprior import VQVAE2, HierarchicalPixelCNN, cli
from pixelprior.assets import FOLDER
from pixelprior.checkpoints import load_model
from pixelprior.codes import CodeData, extract_codes
from pixelprior.evaluation.measures import nats_per_code, reconstruction_errors
from pixelprior.evaluation.report import table

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_shipped_prior_is_far_under_the_unigram_entropy(
    shipped, heldout_codes, some_heldout_codes
):
    nats = nats_per_code(shipped[1], some_heldout_codes)
    for level, value in nats.items():
        assert value < 0.75 * heldout_codes.unigram_entropy(level)


def test_the_right_top_codes_help_the_bottom(shipped, heldout_codes):
    _, prior = shipped
    z_top, z_bottom, labels = heldout_codes.batch(torch.arange(0, 1000, 10))
    with torch.no_grad():
        right = prior.loss_function(z_top, z_bottom, labels)["bottom_loss"]
        wrong = prior.loss_function(z_top.roll(1, 0), z_bottom, labels)["bottom_loss"]
    assert right < wrong - 0.2


def test_the_right_label_helps(shipped, heldout_codes):
    _, prior = shipped
    z_top, z_bottom, labels = heldout_codes.batch(torch.arange(0, 1000, 10))
    with torch.no_grad():
        right = prior.loss_function(z_top, z_bottom, labels)["top_loss"]
        wrong = prior.loss_function(z_top, z_bottom, (labels + 3) % 10)["top_loss"]
    assert right < wrong - 0.05


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
    assert names == ["reconstructions.png", "samples.png"]
    assert "1,000 held-out test images" in printed and "nats per code" in printed


def test_the_readme_shows_what_the_demo_prints(demo):
    printed, _ = demo
    shown = re.search(r"```text\n(.*?)```", README, re.DOTALL)[1]
    pattern = r"(?:error|codes:|entropy) ([\d.]+)"
    now, then = (
        [float(number) for number in re.findall(pattern, text)]
        for text in (printed, shown)
    )
    assert len(now) == 5 and now == pytest.approx(then, rel=0.005)


def test_weights_are_small_and_in_half_precision():
    files = list(FOLDER.rglob("*.safetensors"))
    # What is to replace the shipped pair is not in the wheel.
    shipped = [path for path in files if "fashion_mnist_3" not in str(path)]
    assert (len(shipped), len(files)) == (4, 7)
    assert sum(path.stat().st_size for path in shipped) < 8e6
    for path in files:
        kinds = {
            tensor.dtype
            for name, tensor in load_file(path).items()
            if name.endswith(("weight", "bias"))
        }
        assert kinds == {torch.float16}


@pytest.fixture(scope="module")
def next_pair():
    """The VQ-VAE-2 of 30 codes and its prior, which are to replace the shipped pair."""
    return (
        load_model(VQVAE2, FOLDER / "fashion_mnist_30_vqvae2"),
        load_model(HierarchicalPixelCNN, FOLDER / "fashion_mnist_30_prior"),
    )


def test_fewer_codes_and_a_longer_training_need_fewer_nats(
    shipped, heldout_images, some_heldout_codes, next_pair
):
    codes = extract_codes(next_pair[0], heldout_images)
    some = CodeData(*codes.batch(torch.arange(0, 1000, 10)), codes.num_embeddings)
    ours, theirs = (
        64 * nats["top"] + 256 * nats["bottom"]
        for nats in (
            nats_per_code(next_pair[1], some),
            nats_per_code(shipped[1], some_heldout_codes),
        )
    )
    assert ours < theirs - 5


def test_the_documents_have_the_figures_of_the_next_pair():
    path = FOLDER / "fashion_mnist_30_results" / "results.json"
    page = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    assert table(json.loads(path.read_text(encoding="utf-8"))) in page


def test_fewer_codes_and_more_passes_lose_less(shipped, heldout_images, next_pair):
    other = next_pair[0]
    assert other.num_embeddings < shipped[0].num_embeddings
    ours, theirs = (
        reconstruction_errors(model, heldout_images).mean()
        for model in (other, shipped[0])
    )
    assert ours < theirs


def test_the_model_card_names_the_weights_that_ship():
    card = (FOLDER / "results" / "MODEL_CARD.md").read_text(encoding="utf-8")
    for name in ("vqvae2", "prior", "without_top", "classifier"):
        path = FOLDER / f"fashion_mnist_{name}" / "model.safetensors"
        assert hashlib.sha256(path.read_bytes()).hexdigest() in card, name
