"""`find-anomalies` on image files: what it writes, how it goes on, and bad input."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pixelprior import VQVAE2, anomalies, cli
from pixelprior.assets import FOLDER
from pixelprior.checkpoints import load_model
from pixelprior.cli import anomaly_search as command

MODELS = ["--vqvae2_checkpoint", FOLDER / "fashion_mnist_vqvae2"]
MODELS += ["--prior_checkpoint", FOLDER / "fashion_mnist_prior"]
SHIRTS = ["--label", "0", "--draws", "2", "--rate", "0.05"]
ODD = 4
BROKEN = '093b, one of "two".png'


@pytest.fixture(autouse=True, scope="module")
def few_are_pictured():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(command, "PICTURED", 2)
        yield


def write(image, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image.squeeze(0).numpy()).save(path)


@pytest.fixture(scope="module")
def shirts(heldout_images):
    """100 test images of one class, uint8 [1, 32, 32] each."""
    return heldout_images.images[heldout_images.labels == 0]


@pytest.fixture(scope="module")
def normal(shirts, tmp_path_factory):
    """A folder of 180 normal images: shirts, and their mirror images."""
    folder = tmp_path_factory.mktemp("normal")
    for number in range(90):
        write(shirts[number], folder / "first" / f"{number:03d}.png")
        write(shirts[number].flip(2), folder / f"{number:03d}.png")
    return folder


@pytest.fixture(scope="module")
def new(shirts, tmp_path_factory):
    """A folder of new images: shirts, negatives of shirts, and a broken file."""
    folder = tmp_path_factory.mktemp("new")
    for number in range(90, 96):
        write(shirts[number], folder / "shirts" / f"{number:03d}.png")
    for number in range(ODD):
        write(255 - shirts[number], folder / "negatives" / f"{number}.png")
    (folder / "shirts" / BROKEN).write_bytes(b"no image")
    return folder


@pytest.fixture(scope="module")
def found(normal, new, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "found"
    run(*words(new, normal, folder))
    return folder


def words(new, normal, folder, *more):
    flags = ["--data_root", new, "--calibrate", normal, "--output_dir", folder]
    return ["find-anomalies", *MODELS, *SHIRTS, *flags, *more]


def run(*arguments):
    cli.main([str(each) for each in arguments])


def table(folder):
    with (folder / "scores.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_every_image_has_a_line_and_odd_ones_have_pictures(found):
    rows = table(found)
    names = [row["path"] for row in rows]
    assert names == sorted(names) and len(names) == 11
    (broken,) = (row for row in rows if row["problem"])
    assert broken["score"] == broken["flagged"] == ""
    assert f"shirts/{BROKEN} (cannot identify" in broken["problem"]
    for row in rows[:ODD]:
        assert row["path"].startswith("negatives") and row["flagged"] == "1"
        assert float(row["flagged_share"]) > 0.1 and float(row["p_value"]) <= 0.05
    flagged = {n: Path(names[n]).stem for n in range(11) if rows[n]["flagged"] == "1"}
    pictures = sorted(path.name for path in (found / "flagged").iterdir())
    assert pictures == [f"{n:06d}_{stem}.png" for n, stem in flagged.items()]
    assert (found / "summary.png").is_file()
    assert not list(found.glob(".*")) and not (found / "maps").exists()


@pytest.mark.slow
def test_a_run_that_was_stopped_goes_on_with_the_batches_that_are_missing(
    found, new, tmp_path, monkeypatch, fails
):
    out, real, searched = tmp_path / "out", anomalies.find, []
    kept = shutil.copy(found / "calibration.safetensors", tmp_path)
    monkeypatch.setattr(command, "BATCH", 3)

    def counted(*arguments, **more):
        searched.append(more["first_index"])
        if stopped and len(searched) == 3:
            raise OSError("the disk is full")
        return real(*arguments, **more)

    def resume():
        searched.clear()
        run(*words(new, kept, out, "--resume"))
        return searched[:-2]  # the oddest are searched once more

    monkeypatch.setattr(anomalies, "find", counted)
    stopped = True
    assert "disk is full; go on with --resume" in fails(*words(new, kept, out))
    assert searched == [0, 3, 6] and not (out / "scores.csv").exists()
    stopped = False
    assert resume() == [6, 9]
    whole = table(out)
    for row, other in zip(whole, table(found), strict=True):
        assert row["path"] == other["path"] and row["flagged"] == other["flagged"]
        scores = (float(each["score"] or 0) for each in (row, other))
        assert next(scores) == pytest.approx(next(scores), abs=1e-2)
    batch = out / "batches" / "000003.json"
    rows = json.loads(batch.read_text())
    batch.write_text(json.dumps(rows[:2]))
    assert resume() == [3] and table(out) == whole


@pytest.mark.slow
def test_a_calibration_is_used_again_and_a_new_run_removes_what_another_found(
    found, new, tmp_path, capsys, fails
):
    folder = shutil.copytree(found, tmp_path / "found")
    kept = folder / "calibration.safetensors"
    stale, own = folder / "flagged" / "000009_x.png", folder / "flagged" / "my.txt"
    for path in (stale, own):
        path.write_text("of another run, and of somebody")
    run(*words(new, kept, folder))
    said = capsys.readouterr()
    assert "of 10 images are flagged at a false-alarm rate of 0.05" in said.out
    assert "warning: 1 of 11 images cannot be read and have no score" in said.err
    assert table(folder) == table(found) and own.is_file() and not stale.exists()
    more = shutil.copytree(new, tmp_path / "new", copy_function=shutil.copy)
    error = fails(*words(more, kept, folder, "--resume", "--seed", 1, "--rate", 0.1))
    assert "with another data_root, rate, seed; resume" in error


def test_what_is_refused_is_named_and_leaves_what_another_run_found(
    fails, found, normal, new, tmp_path
):
    out, copies = tmp_path / "out", shutil.copytree(new, tmp_path / "copies")
    shutil.copy(normal / "007.png", copies / "shirts" / "copy.png")
    for name in ("test", "ground_truth"):
        (tmp_path / "bottle" / name).mkdir(parents=True)
    shutil.copytree(found, out)
    for flags, reason in (
        (["--rate", 0.001], "72 normal scores allow 1 / 73 or more; give such"),
        (["--data_root", copies], "copy.png has the same bytes as"),
        (["--data_root", out / "flagged"], "is not apart from"),
        (["--calibrate", tmp_path / "bottle"], "has images with defects as well"),
    ):
        assert reason in fails(*words(new, normal, out, *flags))
        assert table(out) == table(found)
        kept = [len([*(each / "flagged").iterdir()]) for each in (out, found)]
        assert kept[0] == kept[1]
    (out / "found_with.json").unlink()  # as if the files were of another program
    error = fails(*words(new, found / "calibration.safetensors", out))
    assert "is there, and no found_with.json says that this command" in error
    assert table(out) == table(found)


def make_mvtec(root, images, side):
    """A small set in the layout of MVTec AD; each file shows several of the images."""
    random = np.random.default_rng(0)
    for split, count in (("train/good", 98), ("test/good", 6), ("test/noise", 6)):
        for number in range(count):
            chosen = random.integers(0, len(images), (side // 32, side // 32))
            image = np.block([list(row) for row in images[chosen, 0].numpy()])
            name = f"{number:03d}.png"
            if split == "test/noise":
                mask = np.zeros((side, side), np.uint8)
                y, x = random.integers(side // 4, side // 2, 2)
                mask[y : y + side // 5, x : x + side // 5] = 255
                image[mask > 0] = random.integers(0, 256, (mask > 0).sum())
                write(torch.from_numpy(mask)[None], root / "ground_truth/noise" / name)
            write(torch.from_numpy(image)[None], root / split / name)


@pytest.mark.slow
def test_noise_is_found_where_the_masks_say_by_a_prior_that_has_seen_no_such_images(
    shirts, tmp_path
):
    make_mvtec(tmp_path / "four", shirts, 64)
    larger = load_model(VQVAE2, FOLDER / "fashion_mnist_vqvae2", image_size=64)
    larger.save_pretrained(tmp_path / "vqvae2")
    given = tmp_path / "four", tmp_path / "four" / "train", tmp_path / "found"
    run(*words(*given, "--vqvae2_checkpoint", tmp_path / "vqvae2", "--draws", 1))
    results = json.loads((tmp_path / "found" / "results.json").read_text())
    methods = results["methods"]
    assert methods["find"]["pixel_roc_auc_within"]["value"] > 0.9
    assert methods["reconstruction error"]["pixel_roc_auc"]["value"] > 0.95
    assert methods["reconstruction error"]["roc_auc"]["value"] > 0.95


@pytest.mark.slow
@pytest.mark.parametrize("side", [64, 128])
def test_a_folder_in_the_layout_of_mvtec_ad_is_trained_on_searched_and_evaluated(
    side, shirts, tmp_path, capsys
):
    root, found = tmp_path / "screw", tmp_path / "found"
    make_mvtec(root, shirts, side)
    data = ["--dataset", "imagefolder", "--data_root", root / "train"]
    data += ["--epochs", 1, "--batch_size", 16, "--hidden_channels", 8, "--output_dir"]
    sizes = ["--image_size", side, "--num_embeddings", 16, "--embedding_dim", 8]
    classed = ["--num_layers", 1, "--class_conditional"]
    vqvae2 = ["--vqvae2_checkpoint", tmp_path / "vqvae2"]
    run("train-vqvae2", *data, tmp_path / "vqvae2", *sizes)
    run("train-prior", *data, tmp_path / "prior", *classed, *vqvae2)
    arguments = words(root, root / "train" / "good", found, *vqvae2)
    arguments += ["--prior_checkpoint", tmp_path / "prior"]
    run(*arguments)
    assert (found / "results.md").read_text() in capsys.readouterr().out
    results = json.loads((found / "results.json").read_text())
    assert results["images"] == {"normal": 6, "defects": 6}
    methods = results["methods"]
    assert {"nats alone", "nats less complexity"} < methods.keys()
    assert {"average_precision", "dice"} < methods["find"].keys()
    with Image.open(found / "maps" / "noise" / "005.tiff") as written:
        assert written.mode == "F" and written.size == (side, side)
    (found / "batches" / "000000.json").unlink()
    run(*arguments, "--resume")
    again = json.loads((found / "results.json").read_text())["methods"]["find"]
    for name, before in methods["find"].items():
        assert again[name]["value"] == pytest.approx(before["value"], abs=1e-3)
