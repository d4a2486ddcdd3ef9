"""ONNX graphs draw the codes that PyTorch draws."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from pixelprior import VQVAE2, HierarchicalPixelCNN, cli
from pixelprior.onnx.export import export_onnx
from pixelprior.onnx.sampler import OnnxSampler
from pixelprior.sampling import uniforms

pytestmark = pytest.mark.slow
pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

DRAW = Path(__file__).parents[1] / "docs" / "site" / "static" / "draw.mjs"


def small_pair(**options):
    torch.manual_seed(0)
    vqvae2 = VQVAE2(3, 16, hidden_channels=8, embedding_dim=4, num_embeddings=6).eval()
    vqvae2.get_code_indices(torch.rand(4, 3, 16, 16))  # starts the codebooks
    options = {"num_classes": 3, "num_layers": 3} | options
    prior = HierarchicalPixelCNN(6, 4, 8, **options).eval()
    return vqvae2, prior


@pytest.fixture(scope="module")
def guided(tmp_path_factory):
    """A small pair that can be guided, and its graphs."""
    pair = small_pair(label_dropout=0.1, kernel_size=5, attention_layers=2)
    folder = tmp_path_factory.mktemp("onnx") / "graphs"
    export_onnx(*pair, folder, ("a", "b", "c"))
    return *pair, folder


def test_graphs_draw_the_codes_of_pytorch_in_any_batch(guided):
    vqvae2, prior, folder = guided
    labels, sampler = [2, 0, 1, 2, 1], OnnxSampler(folder)
    found, alone = (sampler.sample(each, seed=3) for each in (labels, labels[:1]))
    wanted = prior.sample(5, *vqvae2.grids, labels=labels, method="cached", seed=3)
    for ours, one, theirs in zip(found, alone, wanted, strict=True):
        assert np.array_equal(ours, theirs.numpy()) and np.array_equal(one, ours[:1])
    with torch.no_grad():
        images = vqvae2.decode_codes(*wanted).numpy()
    assert np.abs(sampler.decode(*found) - images).max() < 1e-5


def test_a_label_past_the_last_class_stands_for_none(guided):
    vqvae2, prior, folder = guided
    codes = prior.sample(2, *vqvae2.grids, labels=[0, 2], seed=1)
    with torch.no_grad():
        wanted = prior.prior_top(codes[0]), prior.prior_bottom(codes[1], codes[0])
    found = OnnxSampler(folder).logits([3, 3], *(each.numpy() for each in codes))
    for ours, theirs in zip(found, wanted, strict=True):
        assert np.abs(ours - theirs.numpy()).max() < 1e-4


def test_the_shipped_prior_has_the_same_logits_in_its_graphs(shipped, tmp_path):
    export_onnx(*shipped, tmp_path / "graphs")
    about = json.loads((tmp_path / "graphs" / "about.json").read_text(encoding="utf-8"))
    assert 0 < about["logits_apart"] < 1e-4 and about["pixels_apart"] < 1e-4
    assert about["codes_that_agree"] > 0.85  # a rounding tie changes one image of 8
    assert about["guided"] and about["class_names"] == list("0123456789")


def test_graphs_with_other_logits_are_not_kept(tmp_path, monkeypatch):
    monkeypatch.setattr("pixelprior.onnx.export.TOLERANCE", 0.0)
    with pytest.raises(ValueError, match="the logits differ from PyTorch's"):
        export_onnx(*small_pair(), tmp_path / "graphs")
    assert not list(tmp_path.iterdir())


def test_a_prior_without_graphs_is_named(tmp_path):
    for options, words in (
        ({"num_classes": None}, "no classes"),
        ({"num_layers": 1}, "single block"),
    ):
        with pytest.raises(ValueError, match=words):
            export_onnx(*small_pair(**options), tmp_path / "graphs")


def test_a_folder_of_something_else_is_left_alone(guided, tmp_path):
    folder = tmp_path / "graphs"
    shutil.copytree(guided[2], folder)
    export_onnx(*guided[:2], folder)  # an earlier export is replaced
    own, about = folder / "mine.txt", (folder / "about.json").read_text()
    for text in (about, "{}", '{"graphs": 5}', "[" * 10**5):
        own.write_text("mine")
        (folder / "about.json").write_text(text)
        with pytest.raises(ValueError, match="give a new folder"):
            export_onnx(*guided[:2], folder)
    assert own.read_text() == "mine"


def test_a_package_that_is_missing_is_named(guided, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ValueError, match=r"of onnxruntime halted.* run pip install"):
        export_onnx(*guided[:2], tmp_path / "graphs")


def test_the_command_writes_graphs_of_checkpoints(guided, tmp_path, capsys):
    command = ["export-onnx", "--output_dir", str(tmp_path / "graphs")]
    for name, model in zip(("vqvae2", "prior"), guided[:2], strict=True):
        model.save_pretrained(tmp_path / name)
        command += [f"--{name}_checkpoint", str(tmp_path / name)]
    cli.main(command)
    printed = capsys.readouterr().out
    assert "7 graphs" in printed and "100.00% of the codes drawn" in printed


@pytest.mark.skipif(shutil.which("node") is None, reason="there is no node here")
def test_the_page_has_the_random_numbers_of_the_package(tmp_path):
    """Philox in JavaScript, bit for bit, and the same draw from the same number."""
    lines = DRAW.read_text(encoding="utf-8").splitlines()
    lines = [line for line in lines if not line.startswith(("import", "ort."))]
    script = "\n".join(lines).replace("import.meta.url", "'file:///'")
    asked = """[
        uniforms(7, 0, 11), uniforms(0, 3, 5),
        uniforms(seedOf('18446744073709551615'), 0, 3),
        [0, 0.3, 0.6, 0.999].map((u) => drawCode([0.5, 2, -1], u, 0.8)),
        ['1.5', '-1', '', '18446744073709551616'].map((text) => {
            try { return seedOf(text).toString() } catch (e) { return e.message } })]"""
    script = f"const ort = {{}};\n{script}\nconsole.log(JSON.stringify({asked}));"
    (tmp_path / "run.mjs").write_text(script, encoding="utf-8")
    *numbers, codes, refused = json.loads(
        subprocess.check_output(["node", tmp_path / "run.mjs"], text=True)
    )
    streams = ((7, 0, 1, 11), (0, 3, 1, 5), (2**64 - 1, 0, 1, 3))
    assert numbers == [uniforms(*each)[0].tolist() for each in streams]
    assert all("give a whole number" in message for message in refused)
    p = (torch.tensor([0.5, 2.0, -1.0]).double() / 0.8).softmax(0).cumsum(0)
    assert codes == [int((p <= u).sum()) for u in (0, 0.3, 0.6, 0.999)]
