"""The programs of the README and of docs/, run word for word."""

import json
from pathlib import Path

import pytest
import torch

from pixelprior import HierarchicalPixelCNN

ROOT = Path(__file__).parents[1]


def program_with(name, page="README.md"):
    """The only program of a page that uses this name."""
    text = (ROOT / page).read_text(encoding="utf-8")
    blocks = (block.split("```")[0] for block in text.split("```python\n")[1:])
    (program,) = (block for block in blocks if name in block)
    return program


@pytest.fixture
def world(small_vqvae2, heldout_images):
    """The names that the programs use."""
    some = torch.utils.data.Subset(heldout_images, range(12))
    loader = torch.utils.data.DataLoader(some, batch_size=4)
    names = {"torch": torch, "vqvae2": small_vqvae2, "dataloader": loader}
    sides = {"Ht": 8, "Wt": 8, "Hb": 16, "Wb": 16, "D": small_vqvae2.embedding_dim}
    return names | sides | {"device": torch.device("cpu")}


def test_the_training_program_trains(world):
    exec(program_with("for images, _ in dataloader"), world)
    losses = world["losses"]
    assert losses.keys() == {"total_loss", "top_loss", "bottom_loss"}
    assert losses["total_loss"] == losses["top_loss"] + losses["bottom_loss"]
    (first, _) = next(iter(world["dataloader"]))
    codes = world["vqvae2"].get_code_indices(first).values()
    with torch.no_grad():
        after = world["prior"].loss_function(*codes)
        before = HierarchicalPixelCNN(512, 8).loss_function(*codes)
    assert after["total_loss"] < before["total_loss"] - 0.05


def test_the_sampling_programs_draw_images(world, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    world["prior"] = HierarchicalPixelCNN(512, 8, hidden_channels=16, num_layers=4)
    torch.save(world["prior"].state_dict(), "prior.pth")
    exec(program_with("prior.pth"), world)
    assert not world["prior"].training
    assert world["samples"].shape == (64, 1, 32, 32)
    exec(program_with("quant_t"), world)
    decoded = world["vqvae2"].decode_codes(world["z_top"], world["z_bottom"])
    assert torch.allclose(world["images"], decoded, atol=1e-6)
    assert not torch.equal(world["images"], world["samples"]), "no seed: new images"


def test_the_program_with_the_shipped_weights_runs():
    names = {}
    exec(program_with("load_shipped"), names)
    assert names["bags"].shape == names["completed"][:1].expand(16, -1, -1, -1).shape
    assert names["varied"].shape == names["images"].shape
    assert names["nats"]["bottom"].shape == (8, 16, 16)
    exec(program_with("calibrate"), names)
    p_values = names["found"].p_values
    assert p_values.shape == (8,) and p_values[0] == p_values.min()
    assert names["found"].best.shape == names["images"].shape
    assert names["found"].maps.shape == (8, 32, 32)


def test_the_program_with_a_tokenizer_of_ones_own_learns(tmp_path, monkeypatch):
    """The tokenizer: sixteen grey levels of squares of 4×4 pixels."""

    def encode(images):
        means = torch.nn.functional.avg_pool2d(images, 4)[:, 0]
        return (means * 16).long().clamp(max=15)

    def decode(codes):
        grey = (codes[:, None].float() + 0.5) / 16
        return torch.nn.functional.interpolate(grey, scale_factor=4)

    monkeypatch.chdir(tmp_path)
    names = {"encode": encode, "decode": decode}
    exec(program_with("FunctionTokenizer", "docs/data.md"), names)
    assert names["drawn"].shape == (16, 8, 8)
    assert names["images"].shape == (16, 1, 32, 32)
    history = json.loads((tmp_path / "outputs/own_codes/history.json").read_text())
    unigram = names["codes"].unigram_entropy(0)
    assert history[-1]["train_total_loss"] < unigram - 0.3


def test_the_program_with_three_levels_learns_each(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(program_with("FunctionTokenizer", "docs/levels.md"), names)
    assert names["images"].shape == (20, 1, 32, 32)
    (*_, last), codes = names["history"], names["codes"]
    for level, size in enumerate((4, 8, 16)):
        assert codes.size_of(level) == size
        assert last[f"train_level_{level}_loss"] < codes.unigram_entropy(level) - 0.15


def test_the_program_with_a_vector_draws_by_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(program_with("condition_dim", "docs/levels.md"), names)
    assert names["much"].mean() > 1.5 * names["little"].mean()
