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
from pixelprior.assets import FOLDER, SHIPPED, load_shipped
from pixelprior.evaluation.classifier import load_shipped_reference_models
from pixelprior.evaluation.report import model_card

SET_UP = Path(__file__).parents[1] / "CONTRIBUTING.md"


def test_the_demo_draws_garments_and_prints_the_figures_of_the_set_up(tmp_path):
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        cli.main(["demo", "--output_dir", str(tmp_path)])
    names = sorted(path.name for path in tmp_path.rglob("*") if path.is_file())
    assert names == ["chosen_samples.png", "reconstructions.png", "samples.png"]
    assert "1,000 held-out test images" in printed.getvalue()
    shown = re.search(r"```text\n(.*?)```", SET_UP.read_text("utf-8"), re.DOTALL)[1]
    now, then = (
        [float(n) for n in re.findall(r"(?:error|codes:|entropy) ([\d.]+)", text)]
        for text in (printed.getvalue(), shown)
    )
    assert len(now) == 5 and now == pytest.approx(then, rel=0.005)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name, words", [("cifar10", "no test images"), ("emoji", "on 159 held-out test")]
)
def test_the_demo_draws_in_colour(name, words, tmp_path, capsys):
    cli.main(["demo", "--dataset", name, "--output_dir", str(tmp_path)])
    assert words in capsys.readouterr().out
    assert (tmp_path / "reconstructions.png").is_file() == (name == "emoji")


def test_cifar10_has_colour_and_its_classes_differ():
    """Samples have colours, and the classifier takes many of them for their class."""
    vqvae2, prior = load_shipped("cifar10")
    _, classifier = load_shipped_reference_models("cifar10")
    labels = prior.labels_in_turn(60)
    images = prior.sample_with_vqvae2(vqvae2, 60, labels=labels, seed=0, guidance=0.5)
    assert 0.05 < (images.amax(1) - images.amin(1)).mean() < 0.3
    with torch.no_grad():
        right = classifier(images).argmax(1).eq(labels).float().mean()
    assert right > 0.3  # 0.1 by chance


def test_no_other_weights_ship_and_all_are_small_and_in_half_precision():
    files = list(FOLDER.rglob("*.safetensors"))
    parts = ("vqvae2", "prior", "classifier")
    names = {f"{name}_{part}" for name in SHIPPED for part in parts}
    names |= {"fashion_mnist_without_top", "fashion_mnist_unused_top"}
    assert {path.parent.name for path in files} == names
    assert sum(path.stat().st_size for path in files) < 18.5e6
    assert sum(p.stat().st_size for p in FOLDER.rglob("*") if p.is_file()) < 24e6
    for path in files:
        tensors = load_file(path).items()
        learned = [each for key, each in tensors if key.endswith(("weight", "bias"))]
        assert {tensor.dtype for tensor in learned} == {torch.float16}


@pytest.mark.parametrize("name", SHIPPED)
def test_the_model_card_is_what_the_files_beside_it_give(name):
    folder = FOLDER / "results" / ("" if name == "fashion_mnist" else name)
    results, about = (
        json.loads((folder / file).read_text(encoding="utf-8"))
        for file in ("results.json", "recipe.json")
    )
    by_seed = {
        int(path.parent.name.removeprefix("seed_")): json.loads(path.read_text())
        for path in folder.glob("seed_*/results.json")
    }
    card = (folder / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert card == model_card(results, about, by_seed)
    for path in FOLDER.glob(f"{name}_[!u]*/model.safetensors"):
        assert hashlib.sha256(path.read_bytes()).hexdigest() in card, path
    about["prior"]["validation_share"] = "0.0"
    assert "No training images were held out" in model_card(results, about, by_seed={})
