"""ONNX graphs draw the codes that PyTorch draws."""

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from pixelprior import VQVAE2, HierarchicalPixelCNN, cli
from pixelprior.onnx_export import OnnxSampler, export_onnx
from pixelprior.onnx_graphs import CodeStep, RowStep
from pixelprior.sampling import uniforms

DRAW = Path(__file__).parents[1] / "docs" / "site" / "static" / "draw.mjs"


def small_pair(**options):
    torch.manual_seed(0)
    vqvae2 = VQVAE2(3, 16, hidden_channels=8, embedding_dim=4, num_embeddings=6).eval()
    vqvae2.get_code_indices(torch.rand(4, 3, 16, 16))  # starts the codebooks
    prior = HierarchicalPixelCNN(6, 4, 8, 3, **{"num_classes": 3} | options).eval()
    return vqvae2, prior


@pytest.fixture(scope="module")
def guided(tmp_path_factory):
    """A small pair that can be guided, and its graphs."""
    pair = small_pair(label_dropout=0.1, kernel_size=5)
    folder = tmp_path_factory.mktemp("onnx") / "graphs"
    export_onnx(*pair, folder, ("a", "b", "c"))
    return *pair, folder


@pytest.mark.parametrize("guidance", [0.0, 1.5])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_graphs_draw_the_codes_of_pytorch(guided, guidance, temperature):
    vqvae2, prior, folder = guided
    labels = [0, 1, 2, 2, 1]
    options = {"seed": 3, "guidance": guidance, "temperature": temperature}
    found = OnnxSampler(folder).sample(labels, **options)
    wanted = prior.sample(5, *vqvae2.grids, labels=torch.tensor(labels), **options)
    for ours, theirs in zip(found, wanted, strict=True):
        assert np.array_equal(ours, theirs.numpy())
    with torch.no_grad():
        images = vqvae2.decode_codes(*wanted).numpy()
    decoded = OnnxSampler(folder).decode(*found)
    assert np.abs(decoded - images).max() < 1e-5


def test_what_was_compared_stands_beside_the_graphs(guided):
    about = json.loads((guided[2] / "about.json").read_text(encoding="utf-8"))
    assert about["codes_that_agree"] == 1 and about["pixels_apart"] < 1e-5
    assert about["class_names"] == ["a", "b", "c"] and about["guided"]
    names = {path.stem for path in guided[2].glob("*.onnx")}
    assert names == set(about["graphs"]) and len(names) == 7


def test_the_shipped_prior_draws_the_same_by_its_graphs(shipped, tmp_path):
    about = export_onnx(*shipped, tmp_path / "graphs")
    assert about["codes_that_agree"] == 1 and about["pixels_apart"] < 1e-4


def test_graphs_that_draw_otherwise_are_not_kept(tmp_path, monkeypatch):
    class Wrong(CodeStep):
        def forward(self, left, x, across, first_codes, codes):
            logits, *kept = super().forward(left, x, across, first_codes, codes)
            return -logits, *kept

    monkeypatch.setattr("pixelprior.onnx_export.CodeStep", Wrong)
    with pytest.raises(ValueError, match="of the codes are those of PyTorch"):
        export_onnx(*small_pair(), tmp_path / "graphs")
    assert not list(tmp_path.iterdir())


def test_a_step_keeps_rows_as_the_cache_does(guided):
    """Two rows by `RowStep` give what the vertical stack of the whole grid gives."""
    level = guided[1].prior_top
    codes = torch.randint(6, (2, 2, 5))
    r, count = level.blocks[0].reach, len(level.blocks)
    first = torch.zeros(2, 4, level.blocks[0].span, 5 + 2 * r)
    rows = torch.zeros(count - 1, 2, 8, level.blocks[-1].span, 5 + 2 * r)
    condition = torch.zeros(2, 8, 1, 1)
    above, found = torch.full((2, 5), 6), []
    step = RowStep(level)
    with torch.no_grad():
        for y in range(2):
            across, first, rows = step(above, condition, first, rows)
            found.append(across[0])
            above = codes[:, y]
        block, embedded = level.blocks[0], level.embed(codes)
        padded = torch.nn.functional.pad(embedded, (r, r, r, -1))
        wanted = block.vertical_to_horizontal(
            block.vertical(padded) + block.condition(condition)
        )
    assert torch.allclose(torch.stack(found, 2), wanted, atol=1e-5)


@pytest.mark.parametrize(
    "options, words",
    [
        ({"attention_layers": 1}, "attention"),
        ({"num_classes": None}, "no classes"),
    ],
)
def test_a_prior_without_graphs_is_named(tmp_path, options, words):
    with pytest.raises(ValueError, match=words):
        export_onnx(*small_pair(**options), tmp_path / "graphs")


def test_a_folder_of_something_else_is_left_alone(guided, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ValueError, match="give a new folder"):
        export_onnx(*guided[:2], tmp_path)
    assert (tmp_path / "mine.txt").read_text() == "mine"


def test_the_command_writes_graphs_of_checkpoints(guided, tmp_path, capsys):
    for name, model in zip(("vqvae2", "prior"), guided[:2], strict=True):
        model.save_pretrained(tmp_path / name)
    command = ["export-onnx", "--output_dir", str(tmp_path / "graphs")]
    command += ["--vqvae2_checkpoint", str(tmp_path / "vqvae2")]
    cli.main([*command, "--prior_checkpoint", str(tmp_path / "prior")])
    assert "100.00% of the codes are those of PyTorch" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        cli.main(command)
    assert "go together" in capsys.readouterr().err


@pytest.mark.skipif(shutil.which("node") is None, reason="there is no node here")
def test_the_page_has_the_random_numbers_of_the_package(tmp_path):
    """Philox in JavaScript, bit for bit, and the same draw from the same number."""
    text = DRAW.read_text(encoding="utf-8")
    lines = [
        line for line in text.splitlines() if not line.startswith(("import", "ort."))
    ]
    script = "const ort = {};\n" + "\n".join(lines).replace(
        "import.meta.url", "'file:///'"
    )
    script += "\nconsole.log(JSON.stringify([uniforms(7, 0, 11), uniforms(0, 3, 5),"
    script += " [0, 0.3, 0.6, 0.999].map((u) => drawCode([0.5, 2, -1], u, 0.8))]));"
    (tmp_path / "run.mjs").write_text(script, encoding="utf-8")
    done = subprocess.run(
        ["node", tmp_path / "run.mjs"], capture_output=True, text=True, check=True
    )
    of_seven, of_three, codes = json.loads(done.stdout)
    assert of_seven == uniforms(7, 0, 1, 11)[0].tolist()
    assert of_three == uniforms(0, 3, 1, 5)[0].tolist()
    p = (torch.tensor([0.5, 2.0, -1.0]).double() / 0.8).softmax(0).cumsum(0)
    wanted = [int((p <= u).sum()) for u in (0, 0.3, 0.6, 0.999)]
    assert codes == wanted
