"""`find-anomalies` on image files: what it writes, how it goes on, and bad input."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pixelprior import VQVAE2, HierarchicalPixelCNN, anomalies, cli
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
        write(255 - shirts.images[number], folder / "negatives" / f"{number}.png")
    (folder / "shirts" / BROKEN).write_bytes(b"no image")
    return folder


@pytest.fixture(scope="module")
def found(normal, new, tmp_path_factory):
    """The folder of a run that was not stopped."""
    folder = tmp_path_factory.mktemp("runs") / "found"
    search(new, normal, folder)
    return folder


def words(new, normal, folder, *more):
    flags = ["--data_root", new, "--calibrate", normal, "--output_dir", folder]
    return [str(each) for each in ("find-anomalies", *MODELS, *SHIRTS, *flags, *more)]


def search(*given):
    cli.main(words(*given))


def table(folder):
    with (folder / "scores.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_every_image_has_a_line_and_odd_ones_have_pictures(found):
    rows = table(found)
    names = [row["path"] for row in rows]
    assert names == sorted(names) and len(names) == 11
    (broken,) = (row for row in rows if row["problem"])
    assert broken["path"] == f"shirts/{BROKEN}"
    assert broken["score"] == broken["flagged"] == ""
    assert f"shirts/{BROKEN} (cannot identify" in broken["problem"]
    flagged = {n: row for n, row in enumerate(rows) if row["flagged"] == "1"}
    negatives = [row for row in rows if row["path"].startswith("negatives")]
    assert len(negatives) == ODD and all(row in flagged.values() for row in negatives)
    assert all(float(row["flagged_share"]) > 0.1 for row in negatives)
    scored = [n for n, row in enumerate(rows) if not row["problem"]]
    assert [n for n in scored if float(rows[n]["p_value"]) <= 0.05] == [*flagged]
    pictures = sorted(path.name for path in (found / "flagged").iterdir())
    stems = {n: Path(row["path"]).stem for n, row in flagged.items()}
    assert pictures == [f"{n:06d}_{stem}.png" for n, stem in stems.items()]
    with Image.open(found / "summary.png") as summary:
        assert summary.width > 600
    assert not list(found.glob(".*")) and not (found / "maps").exists()


@pytest.mark.slow
def test_a_run_that_was_stopped_goes_on_with_the_batches_that_are_missing(
    shipped, found, normal, new, tmp_path, monkeypatch, capsys
):
    out, real, searched = tmp_path / "out", anomalies.find, []
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

    monkeypatch.setattr(anomalies, "find", counted)
    kept = load_calibration(found / "calibration.safetensors", *shipped)
    monkeypatch.setattr(anomalies, "calibrate", lambda *_, **__: kept)
    stopped = True
    with pytest.raises(SystemExit):
        search(new, normal, out)
    assert "error: the disk is full; go on with --resume" in capsys.readouterr().err
    assert searched == [0, 3, 6] and not (out / "scores.csv").exists()
    stopped = False
    monkeypatch.setattr(anomalies, "calibrate", None)  # the one from before is used
    assert resume() == [6, 9]
    whole = table(out)
    for row, other in zip(whole, table(found), strict=True):
        assert row["path"] == other["path"] and row["flagged"] == other["flagged"]
        if not row["problem"]:
            assert float(row["score"]) == pytest.approx(float(other["score"]), abs=1e-2)
    assert resume() == []
    batch = out / "batches" / "000003.json"
    rows = json.loads(batch.read_text())
    for other in ({"path": "x"}, {"p_value": None}, {"score": "nan"}, {"more": "1"}):
        batch.write_text(json.dumps([row | other for row in rows]))
        assert resume() == [3] and table(out) == whole
    for text in ("null", "[1, 2, 3]", "[" * 10**5, ""):
        batch.write_text(text)
        assert resume() == [3] and json.loads(batch.read_text()) == rows


@pytest.mark.slow
def test_what_is_resumed_must_be_the_same(found, new, tmp_path, fails):
    out, more = shutil.copytree(found, tmp_path / "out"), tmp_path / "new"
    shutil.copytree(new, more, copy_function=shutil.copy)
    kept = shutil.copy(out / "calibration.safetensors", tmp_path)
    error = fails(*words(more, kept, out, "--resume", "--seed", 1, "--rate", 0.1))
    assert "with another data_root, calibrate, rate, seed; resume" in error
    error = fails(*words(new, kept, out, "--draws", 3))
    assert "was made with draws 2, but here are 3" in error


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
    stale, own = tmp_path / "flagged" / "000009_x.png", tmp_path / "flagged" / "my.txt"
    for path in (stale, own):
        path.write_text("of another run, and of somebody")
    search(new, kept, tmp_path)
    assert not stale.exists() and own.is_file()
    assert Path(kept).read_bytes() == before
    assert len(list((tmp_path / "flagged").glob("*.png"))) == ODD


def test_a_run_that_is_refused_leaves_what_another_found(
    found, new, shirts, tmp_path, fails
):
    folder = shutil.copytree(found, tmp_path / "found")
    for number in range(100):
        write(shirts.images[number], tmp_path / "few" / f"{number:03d}.png")
    for number in range(10):
        (tmp_path / "few" / f"{number:03d}.png").write_bytes(b"no image")
    with pytest.raises(SystemExit):  # with a warning of what cannot be read before
        search(new, tmp_path / "few", folder)
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

    monkeypatch.setattr(anomalies, "calibrate", stopped)
    for more in ([], ["--resume"]):
        with pytest.raises(SystemExit):
            search(new, others, folder, *more)
        assert "error: stopped" in capsys.readouterr().err
        assert not (folder / "calibration.safetensors").exists()


@pytest.mark.parametrize("name", ["maps/own.tiff", "scores.csv"])
def test_files_of_others_are_neither_taken_over_nor_removed(
    found, new, tmp_path, name, fails
):
    own = tmp_path / name
    own.parent.mkdir(exist_ok=True)
    own.write_text("of somebody")
    error = fails(*words(new, found / "calibration.safetensors", tmp_path))
    assert f"{own} is there, and no found_with.json says that this command" in error
    assert own.read_text() == "of somebody"


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (["--rate", "0.001"], "72 normal scores allow 1 / 73 or more; give such"),
        (["--rate", "0"], "the false-alarm rate is 0.0; give one between"),
        (["--draws", "0"], "draws is 0; give a whole number"),
        (["--seed", "-1"], "seed is -1"),
        (["--label", "10"], "label 10 is out of range"),
        (["--data_root", "nowhere"], "there is no folder nowhere"),
        (["--calibrate", "nowhere"], "there is no folder nowhere"),
        (["--data_root", "empty"], "there are no images in empty"),
        (["--calibrate", "empty"], "there are no images in empty"),
        (["--device", "abacus"], "device 'abacus' is not available"),
        (["--vqvae2_checkpoint", "nowhere"], "no checkpoint at nowhere"),
    ],
)
def test_bad_flags_end_in_one_line_and_write_nothing(
    fails, normal, new, tmp_path, monkeypatch, flags, reason
):
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    assert reason in fails(*words(new, normal, tmp_path / "out", *flags))
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_folders_that_are_of_no_use_are_named(fails, found, normal, new, tmp_path):
    def refused(data=new, calibrate=normal, output=tmp_path / "out"):
        return fails(*words(data, calibrate, output))

    assert "there are 4 normal images, too few" in refused(
        data=normal, calibrate=new / "negatives"
    )
    for inside in (new / "out", normal):
        assert "which is not apart from" in refused(output=inside)
    own = shutil.copytree(new, tmp_path / "earlier" / "flagged")
    assert "is not apart from" in refused(data=own, output=tmp_path / "earlier")
    assert "which is among the normal images" in refused(data=normal)
    copies = shutil.copytree(new, tmp_path / "copies")
    shutil.copy(normal / "007.png", copies / "shirts" / "copy.png")
    error = refused(data=copies)
    assert "copy.png has the same bytes as" in error and "007.png, which" in error
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


def test_a_prior_with_classes_alone_needs_a_label(fails, normal, new, tmp_path):
    HierarchicalPixelCNN(30, 4, 8, 1, num_classes=2).save_pretrained(tmp_path)
    flags = ["find-anomalies", *MODELS[:2], "--prior_checkpoint", tmp_path]
    error = fails(*flags, "--data_root", new, "--calibrate", normal)
    assert "conditional on 2 classes; give labels" in error


def make_mvtec(root, images, side):
    """A small set in the layout of MVTec AD: `train/good`, `test`, `ground_truth`.

    Args:
        images: uint8 [N, 1, 32, 32]; each file shows several, `side` pixels wide.
    """
    random = np.random.default_rng(0)
    for split, count in (("train/good", 98), ("test/good", 6), ("test/noise", 6)):
        for number in range(count):
            chosen = random.integers(0, len(images), (side // 32) ** 2)
            tiles = images[chosen, 0].numpy().reshape(side // 32, side // 32, 32, 32)
            image = np.block([list(row) for row in tiles])
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
    given = tmp_path / "four", tmp_path / "four" / "train", tmp_path / "found"
    own = ["--vqvae2_checkpoint", tmp_path / "vqvae2", "--draws", 1]
    arguments = words(*given, *own)
    cli.main(arguments)
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
    (tmp_path / "found" / "batches" / "000000.json").unlink()
    cli.main([*arguments, "--resume"])
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
