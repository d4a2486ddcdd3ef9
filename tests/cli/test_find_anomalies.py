"""`find-anomalies` on image files: what it writes, how it goes on, and bad input."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pixelprior import VQVAE2, HierarchicalPixelCNN, cli
from pixelprior.anomalies.scores import load_calibration
from pixelprior.assets import FOLDER
from pixelprior.checkpoints import load_model
from pixelprior.cli import anomaly_search as command

MODELS = ["--vqvae2_checkpoint", str(FOLDER / "fashion_mnist_vqvae2")]
MODELS += ["--prior_checkpoint", str(FOLDER / "fashion_mnist_prior")]
SHIRTS = ["--label", "0", "--draws", "2", "--rate", "0.05"]
ODD = 4
BROKEN = '093b, one of "two".png'


@pytest.fixture(autouse=True, scope="module")
def few_are_pictured():
    """The summary shows few images, which are searched one by one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(command, "PICTURED", 2)
        yield


def write(image, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image.squeeze(0).numpy()).save(path)


@pytest.fixture(scope="module")
def shirts(heldout_images):
    """Test images of one class: 100 of them, which are all."""
    return heldout_images.subset(heldout_images.labels == 0)


@pytest.fixture(scope="module")
def normal(shirts, tmp_path_factory):
    """A folder of 180 normal images: shirts, and the same from left to right."""
    folder = tmp_path_factory.mktemp("normal")
    for number in range(90):
        write(shirts.images[number], folder / "first" / f"{number:03d}.png")
        write(shirts.images[number].flip(2), folder / f"{number:03d}.png")
    return folder


@pytest.fixture(scope="module")
def new(shirts, tmp_path_factory):
    """A folder of new images: shirts, negatives of shirts, and a broken file."""
    folder = tmp_path_factory.mktemp("new")
    for number in range(90, 96):
        write(shirts.images[number], folder / "shirts" / f"{number:03d}.png")
    for number in range(ODD):
        colour = 255 - shirts.images[number].expand(3, -1, -1).permute(1, 2, 0)
        path = folder / "negatives" / f"{number}.jpg"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(colour.numpy()).save(path, quality=100)
    (folder / "shirts" / BROKEN).write_bytes(b"no image")
    return folder


@pytest.fixture(scope="module")
def found(normal, new, tmp_path_factory):
    """The folder of a run that was not stopped."""
    folder = tmp_path_factory.mktemp("runs") / "found"
    search(new, normal, folder)
    return folder


def search(new, normal, folder, *more):
    flags = ["--data_root", str(new), "--calibrate", str(normal)]
    flags += ["--output_dir", str(folder), *map(str, more)]
    cli.main(["find-anomalies", *MODELS, *SHIRTS, *flags])


def table(folder):
    with (folder / "scores.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_every_image_has_a_line_and_odd_ones_have_pictures(found):
    rows = table(found)
    names = [row["path"] for row in rows]
    assert names == sorted(names) and len(names) == 11
    broken = [row for row in rows if row["problem"]]
    assert [row["path"] for row in broken] == [f"shirts/{BROKEN}"]
    assert broken[0]["score"] == broken[0]["flagged"] == ""
    assert f"shirts/{BROKEN} (cannot identify" in broken[0]["problem"]
    negatives = [row for row in rows if row["path"].startswith("negatives")]
    assert all(row["flagged"] == "1" for row in negatives) and len(negatives) == ODD
    assert all(float(row["flagged_share"]) > 0.1 for row in negatives)
    for row in rows:
        if not row["problem"]:
            assert (row["flagged"] == "1") == (float(row["p_value"]) <= 0.05)
    pictures = {path.name for path in (found / "flagged").iterdir()}
    assert pictures == {
        f"{number:06d}_{Path(row['path']).stem}.png"
        for number, row in enumerate(rows)
        if row["flagged"] == "1"
    }
    with Image.open(found / "summary.png") as summary:
        assert summary.width > 600
    assert not list(found.glob(".*")) and not (found / "maps").exists()


@pytest.mark.slow
def test_a_run_that_was_stopped_goes_on_with_the_batches_that_are_missing(
    shipped, found, normal, new, tmp_path, monkeypatch, capsys
):
    out, real, searched = tmp_path / "out", command.find, []
    monkeypatch.setattr(command, "BATCH", 3)

    def counted(*arguments, **more):
        searched.append(more["first_index"])
        if stopped and len(searched) == 3:
            raise OSError("the disk is full")
        return real(*arguments, **more)

    def resume():
        searched.clear()
        search(new, normal, out, "--resume")
        return searched[: -command.PICTURED]  # the oddest are searched once more

    monkeypatch.setattr(command, "find", counted)
    kept = load_calibration(found / "calibration.safetensors", *shipped)
    monkeypatch.setattr(command, "calibrate", lambda *_, **__: kept)
    stopped = True
    with pytest.raises(SystemExit):
        search(new, normal, out)
    assert "error: the disk is full; go on with --resume" in capsys.readouterr().err
    assert searched == [0, 3, 6] and not (out / "scores.csv").exists()
    stopped = False
    monkeypatch.delattr(command, "calibrate")  # the one from before is used
    assert resume() == [6, 9]
    whole = table(out)
    for row, other in zip(whole, table(found), strict=True):
        assert row["path"] == other["path"] and row["flagged"] == other["flagged"]
        if not row["problem"]:
            assert float(row["score"]) == pytest.approx(float(other["score"]), abs=1e-2)
    assert resume() == []
    missing = min((out / "flagged").iterdir())
    missing.unlink()
    for number, content in (("000003", "[{"), ("000006", "[]"), ("000009", "[3, 4]")):
        (out / "batches" / f"{number}.json").write_text(content)
    assert resume() == [0, 3, 6, 9]
    assert missing.is_file() and table(out) == whole


@pytest.mark.slow
def test_what_is_resumed_must_be_the_same(found, new, tmp_path, fails):
    out, more = shutil.copytree(found, tmp_path / "out"), tmp_path / "new"
    shutil.copytree(new, more, copy_function=shutil.copy)
    flags = ["find-anomalies", *MODELS, *SHIRTS, "--output_dir", out]
    flags += ["--calibrate", shutil.copy(out / "calibration.safetensors", tmp_path)]
    assert "with another data_root, calibrate, rate, seed; resume" in fails(
        *flags, "--data_root", more, "--resume", "--seed", "1", "--rate", "0.1"
    )
    assert "was made with draws 2, but here are 3" in fails(
        *flags, "--data_root", new, "--draws", "3"
    )


@pytest.mark.slow
def test_a_calibration_is_used_again_and_a_new_run_removes_what_another_found(
    found, new, tmp_path, capsys
):
    kept = shutil.copy(found / "calibration.safetensors", tmp_path)
    search(new, kept, tmp_path)
    said = capsys.readouterr()
    assert "of 10 images are flagged at a false-alarm rate of 0.05" in said.out
    assert "warning: 1 of 11 images cannot be read and have no score" in said.err
    assert table(tmp_path) == table(found)
    before = Path(kept).read_bytes()
    stale = tmp_path / "flagged" / "000009_another.png"
    stale.write_bytes(b"of another run")
    own = [tmp_path / "notes.txt", tmp_path / "flagged" / "notes.txt"]
    own.append(tmp_path / "flagged" / "000009_folder.png" / "000009_another.png")
    own[-1].parent.mkdir()
    for path in own:
        path.write_text("of somebody")
    search(new, kept, tmp_path)
    assert not stale.exists() and all(path.is_file() for path in own)
    assert Path(kept).read_bytes() == before
    pictures = [path for path in (tmp_path / "flagged").glob("*.png") if path.is_file()]
    assert len(pictures) == ODD


def test_a_run_that_is_refused_leaves_what_another_found(
    found, new, shirts, tmp_path, fails
):
    folder = shutil.copytree(found, tmp_path / "found")
    for number in range(100):
        write(shirts.images[number], tmp_path / "few" / f"{number:03d}.png")
    for number in range(10):
        (tmp_path / "few" / f"{number:03d}.png").write_bytes(b"no image")
    flags = [*MODELS, *SHIRTS, "--data_root", str(new), "--output_dir", str(folder)]
    with pytest.raises(SystemExit):  # with a warning of what cannot be read before
        cli.main(["find-anomalies", *flags, "--calibrate", str(tmp_path / "few")])
    assert table(folder) == table(found)
    assert len(list((folder / "flagged").iterdir())) == ODD


def test_a_run_stopped_while_it_calibrates_does_not_go_on_with_another_calibration(
    found, normal, new, tmp_path, monkeypatch, capsys
):
    folder = shutil.copytree(found, tmp_path / "found")
    others = shutil.copytree(normal, tmp_path / "others")
    (others / "000.png").unlink()

    def stopped(*_arguments, **_more):
        raise OSError("stopped")

    monkeypatch.setattr(command, "calibrate", stopped)
    for more in ([], ["--resume"]):
        with pytest.raises(SystemExit):
            search(new, others, folder, *more)
        assert "error: stopped" in capsys.readouterr().err
        assert not (folder / "calibration.safetensors").exists()


@pytest.mark.parametrize("name", ["maps/own.txt", "scores.csv"])
def test_files_of_others_are_neither_taken_over_nor_removed(
    found, new, tmp_path, name, fails
):
    own = tmp_path / name
    own.parent.mkdir(exist_ok=True)
    own.write_text("of somebody")
    flags = ["find-anomalies", *MODELS, *SHIRTS, "--data_root", new]
    flags += ["--calibrate", found / "calibration.safetensors"]
    assert "no run of find-anomalies has noted that it wrote it" in fails(
        *flags, "--output_dir", tmp_path
    )
    assert own.read_text() == "of somebody"


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (
            ["--rate", "0.001"],
            "72 normal scores allow 1 / 73 or more; give such a rate",
        ),
        (["--rate", "0"], "the false-alarm rate is 0.0; give one between"),
        (["--draws", "0"], "draws is 0; give a whole number"),
        (["--seed", "-1"], "seed is -1"),
        (["--label", "10"], "label 10 is out of range"),
        (["--label", str(2**70)], "labels"),
        (["--device", "abacus"], "abacus"),
        (["--data_root", "nowhere"], "there is no folder nowhere"),
        (["--calibrate", "nowhere"], "there is no folder nowhere"),
        (["--vqvae2_checkpoint", "nowhere"], "no checkpoint at nowhere"),
    ],
)
def test_bad_flags_end_in_one_line_and_write_nothing(
    fails, normal, new, tmp_path, flags, words
):
    error = fails(
        *["find-anomalies", *MODELS, *SHIRTS, "--data_root", new],
        *["--calibrate", normal, "--output_dir", tmp_path / "out", *flags],
    )
    assert words in error
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_folders_that_are_of_no_use_are_named(
    fails, found, normal, new, tmp_path, capsys
):
    def refused(data=new, calibrate=normal, output=tmp_path / "out", models=MODELS):
        flags = ["--data_root", data, "--calibrate", calibrate, "--output_dir", output]
        return fails("find-anomalies", *models, *SHIRTS, *flags)

    empty = tmp_path / "empty"
    empty.mkdir()
    assert "there are no images in" in refused(data=empty)
    assert "there are no images in" in refused(calibrate=empty)
    assert "there are 4 normal images, too few" in refused(
        data=normal, calibrate=new / "negatives"
    )
    for inside in (new / "out", normal):
        assert "which is not apart from" in refused(output=inside)
    own = shutil.copytree(new, tmp_path / "earlier" / "flagged")
    assert "is not apart from" in refused(data=own, output=tmp_path / "earlier")
    assert "which is among the normal images" in refused(data=normal)
    copies = tmp_path / "copies"
    shutil.copytree(new, copies)
    shutil.copy(normal / "007.png", copies / "shirts" / "copy.png")
    error = refused(data=copies)
    assert "copy.png has the same bytes as" in error and "007.png, which" in error
    loop, other = tmp_path / "loop", tmp_path / "other"
    loop.symlink_to(other)
    other.symlink_to(loop)
    assert "loop" in refused(output=loop)
    text = tmp_path / "text"
    text.write_text("no calibration")
    assert "cut short or of another kind" in refused(calibrate=text)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "0.png").write_bytes(b"no image")
    error = refused(
        data=tmp_path / "broken", calibrate=found / "calibration.safetensors"
    )
    assert "none of the 1 images in broken could be read" in error
    layout = tmp_path / "bottle"
    for name in ("test", "ground_truth"):
        (layout / name).mkdir(parents=True)
    assert "has images with defects as well" in refused(calibrate=layout)
    shutil.copytree(new / "shirts", layout / "test" / "good")
    (layout / "ground_truth").rmdir()
    capsys.readouterr()
    search(layout, found / "calibration.safetensors", tmp_path / "plain")
    warned = " ".join(capsys.readouterr().err.split())
    assert "has test/good but no ground_truth, so that all images in it are" in warned
    assert len(table(tmp_path / "plain")) == 7


def test_a_prior_with_classes_alone_needs_a_label(fails, normal, new, tmp_path):
    vqvae2 = VQVAE2(1, 32, hidden_channels=8, embedding_dim=4, num_embeddings=8)
    prior = HierarchicalPixelCNN(8, 4, 8, 1, num_classes=2)
    vqvae2.save_pretrained(tmp_path / "vqvae2")
    prior.save_pretrained(tmp_path / "prior")
    flags = ["--vqvae2_checkpoint", tmp_path / "vqvae2"]
    flags += ["--prior_checkpoint", tmp_path / "prior"]
    flags += ["--data_root", new, "--calibrate", normal]
    assert "conditional on 2 classes; give labels" in fails("find-anomalies", *flags)


def make_mvtec(root, images, side):
    """A small set in the layout of MVTec AD: `train/good`, `test`, `ground_truth`.

    Args:
        images: uint8 [N, 1, 32, 32]; each file shows several, `side` pixels wide.
    """
    random = np.random.default_rng(0)
    for split, count in (("train/good", 98), ("test/good", 6), ("test/noise", 6)):
        for number in range(count):
            tiles = images[random.integers(0, len(images), (side // 32) ** 2), 0]
            image = np.block(
                [
                    list(row)
                    for row in tiles.numpy().reshape(side // 32, side // 32, 32, 32)
                ]
            )
            name = f"{number:03d}.png"
            if split == "test/noise":
                mask = np.zeros((side, side), np.uint8)
                y, x = random.integers(side // 4, side // 2, 2)
                mask[y : y + side // 5, x : x + side // 5] = 255
                image[mask > 0] = random.integers(0, 256, (mask > 0).sum())
                write(torch.from_numpy(mask)[None], root / "ground_truth/noise" / name)
            write(torch.from_numpy(image)[None], root / split / name)


@pytest.mark.slow
def test_a_folder_in_the_layout_of_mvtec_ad_is_evaluated(shirts, tmp_path, capsys):
    make_mvtec(tmp_path / "four", shirts.images, 64)
    larger = load_model(VQVAE2, FOLDER / "fashion_mnist_vqvae2", image_size=64)
    larger.save_pretrained(tmp_path / "vqvae2")
    flags = ["--data_root", str(tmp_path / "four"), "--draws", "1", "--label", "0"]
    flags += ["--calibrate", str(tmp_path / "four" / "train"), "--rate", "0.05"]
    flags += [*MODELS, "--vqvae2_checkpoint", str(tmp_path / "vqvae2")]
    cli.main(["find-anomalies", *flags, "--output_dir", str(tmp_path / "found")])
    results = json.loads((tmp_path / "found" / "results.json").read_text())
    assert results["images"] == {"normal": 6, "defects": 6}
    # The prior has seen no such images, but noise is where the masks say.
    methods = results["methods"]
    assert methods["find"]["pixel_roc_auc_within"]["value"] > 0.9
    assert methods["reconstruction error"]["pixel_roc_auc"]["value"] > 0.95
    assert methods["reconstruction error"]["roc_auc"]["value"] > 0.95
    assert {"nats alone", "nats less complexity"} < methods.keys()
    assert {"average_precision", "dice"} < methods["find"].keys()
    assert (tmp_path / "found" / "results.md").read_text() in capsys.readouterr().out
    for name in ("good/000", "noise/005"):
        with Image.open(tmp_path / "found" / "maps" / f"{name}.tiff") as written:
            assert written.mode == "F" and written.size == (64, 64)
    assert len(table(tmp_path / "found")) == 12
    (tmp_path / "found" / "maps" / "noise" / "003.tiff").unlink()  # as if never written
    cli.main(
        ["find-anomalies", *flags, "--output_dir", str(tmp_path / "found"), "--resume"]
    )
    again = json.loads((tmp_path / "found" / "results.json").read_text())
    for name, before in methods["find"].items():
        value = again["methods"]["find"][name]["value"]
        assert value == pytest.approx(before["value"], abs=1e-3)


@pytest.mark.slow
def test_the_commands_train_on_images_of_128_pixels_and_search_them(shirts, tmp_path):
    root = tmp_path / "sixteen"
    make_mvtec(root, shirts.images, 128)
    data = ["--dataset", "imagefolder", "--data_root", root / "train"]
    data += ["--epochs", 1, "--batch_size", 16, "--hidden_channels", 8]
    models = ["--vqvae2_checkpoint", tmp_path / "vqvae2"]
    for arguments in (
        ["train-vqvae2", *data, "--image_size", 128, "--num_embeddings", 16]
        + ["--embedding_dim", 8, "--output_dir", tmp_path / "vqvae2"],
        ["train-prior", *data, "--num_layers", 1, *models]
        + ["--output_dir", tmp_path / "prior"],
        ["find-anomalies", *models, "--prior_checkpoint", tmp_path / "prior"]
        + ["--data_root", root, "--calibrate", root / "train" / "good"]
        + ["--draws", 1, "--rate", 0.05, "--output_dir", tmp_path / "found"],
    ):
        cli.main(list(map(str, arguments)))
    results = json.loads((tmp_path / "found" / "results.json").read_text())
    assert results["images"] == {"normal": 6, "defects": 6}
    assert "pixel_roc_auc" in results["methods"]["find"]
    assert len(table(tmp_path / "found")) == 12
    with Image.open(tmp_path / "found" / "maps" / "noise" / "000.tiff") as written:
        assert written.size == (128, 128)
