"""Images that do not fit into memory: the same batches, from files, shards or rows."""

import io
import json
import os
import re
import tarfile
import time
import warnings
from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms.v2 import functional as TF

from pixelprior import (
    VQVAE2,
    HierarchicalPixelCNN,
    TrainingSettings,
    cli,
    complete,
    fit,
    load_images,
)
from pixelprior.data import streams
from pixelprior.data.held_out import hold_out
from pixelprior.data.image_files import read_image
from pixelprior.data.images import ImageData, data_signature
from pixelprior.data.sources import Texts
from pixelprior.data.streams import StreamedImages
from pixelprior.devices import make_accelerator

COUNT = 40


def encoded(number: int, kind="png", shape=(20, 24, 3)) -> bytes:
    """An image of random pixels; each number has its own."""
    pixels = np.random.default_rng(number).integers(0, 256, shape, np.uint8)
    written = io.BytesIO()
    Image.fromarray(pixels).save(written, kind)
    return written.getvalue()


def write_folder(root):
    for number in range(COUNT):
        folder = root / ("cat", "dog")[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number:03d}.png").write_bytes(encoded(number))


def write_shard(path, samples):
    """A tar file; each sample is a dict of files by their ending."""
    with tarfile.open(path, "w") as tar:
        for name, files in samples.items():
            for ending, content in files.items():
                about = tarfile.TarInfo(f"{name}.{ending}")
                about.size = len(content)
                tar.addfile(about, io.BytesIO(content))


def write_shards(root, of_class=lambda number: {"cls": str(number % 2).encode()}):
    for shard in range(4):
        numbers = range(shard * COUNT // 4, (shard + 1) * COUNT // 4)
        samples = {
            f"{number:03d}": {"png": encoded(number), **of_class(number)}
            for number in numbers
        }
        write_shard(root / f"{shard}.tar", samples)


@pytest.fixture
def no_memory(monkeypatch):
    """Nothing fits into memory."""
    monkeypatch.setattr(streams, "SHARE_OF_MEMORY", 0.0)


@pytest.fixture
def both(tmp_path, monkeypatch):
    """The training images of a folder in memory, and as a stream."""
    write_folder(tmp_path)
    inside = load_images("imagefolder", "train", data_root=tmp_path, image_size=16)
    monkeypatch.setattr(streams, "SHARE_OF_MEMORY", 0.0)
    outside = load_images("imagefolder", "train", data_root=tmp_path, image_size=16)
    assert isinstance(inside, ImageData) and isinstance(outside, StreamedImages)
    return inside, outside


def test_a_stream_has_the_images_and_labels_of_memory(both):
    inside, outside = both
    assert len(inside) == len(outside) == 36 and outside.channels == 3
    assert torch.equal(inside.labels, outside.labels)
    assert inside.class_names == outside.class_names == ("cat", "dog")
    some = torch.tensor([30, 2, 17])
    assert torch.equal(inside.batch(some)[0], outside.batch(some)[0])
    part = outside.subset(torch.arange(36) % 3 == 0)
    assert torch.equal(part.batch(some[1:2])[0], inside.batch(torch.tensor([6]))[0])


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_batches_come_in_the_order_that_is_asked_for(both, workers):
    inside, outside = both
    outside.workers = workers
    parts = torch.randperm(36).split(5)
    state = torch.get_rng_state()
    for one, other in zip(inside.batches(parts), outside.batches(parts), strict=True):
        assert torch.equal(one[0], other[0])
    assert torch.equal(torch.get_rng_state(), state)  # a training's is not touched


def train(data, folder, **options):
    torch.manual_seed(0)
    model = VQVAE2(3, 16, 8, 4, 16)
    settings = TrainingSettings(
        epochs=2, batch_size=8, ema_decay=0.0, mixed_precision="no", save_steps=2
    )
    history = fit(
        model,
        *hold_out(data, 0.1),
        settings,
        folder,
        make_accelerator(settings, folder),
        log=lambda line: None,
        **options,
    )
    times = {"seconds", "steps_per_second"}
    return [{k: v for k, v in epoch.items() if k not in times} for epoch in history]


def test_a_stream_trains_to_the_same_curve_also_after_a_stop(both, tmp_path):
    inside, outside = both
    whole = train(inside, tmp_path / "inside")
    assert train(outside, tmp_path / "outside") == whole

    class Stopped(StreamedImages):
        def batches(self, parts):
            for number, batch in enumerate(super().batches(parts)):
                if number == 3:  # the second checkpoint would come after the fourth
                    raise KeyboardInterrupt
                yield batch

    cut = Stopped(**vars(outside))
    with pytest.raises(KeyboardInterrupt):
        train(cut, tmp_path / "cut")
    assert train(outside, tmp_path / "cut", resume=True) == whole


def test_a_second_command_decodes_nothing_again(both, tmp_path, monkeypatch):
    inside, _ = both
    monkeypatch.setattr(streams, "SHARE_OF_MEMORY", 0.5)

    def never(*_arguments):
        raise AssertionError("an image was decoded again")

    monkeypatch.setattr(streams, "read_image", never)
    again = load_images("imagefolder", "train", data_root=tmp_path, image_size=16)
    assert torch.equal(again.images, inside.images)
    monkeypatch.setattr(streams, "SHARE_OF_MEMORY", 0.0)
    load_images(
        "imagefolder", "train", data_root=tmp_path, image_size=16
    )  # not checked


def test_a_changed_file_is_decoded_again(tmp_path):
    write_folder(tmp_path)
    load = {"data_root": tmp_path, "image_size": 16}
    before = load_images("imagefolder", "train", **load)
    path = tmp_path / "cat" / "000.png"
    path.write_bytes(encoded(999))
    os.utime(path, (time.time() + 5,) * 2)
    after = load_images("imagefolder", "train", **load)
    changed = (before.images != after.images).flatten(1).any(dim=1)
    assert changed.sum() == 1


def test_a_few_images_of_many_files_read_no_others(tmp_path, monkeypatch):
    write_folder(tmp_path)
    read, calls = streams.read_image, Counter()

    def counted(*arguments):
        calls["read"] += 1
        return read(*arguments)

    monkeypatch.setattr(streams, "read_image", counted)
    load = {"data_root": tmp_path, "image_size": 16}
    some = load_images("imagefolder", "train", max_images=5, **load)
    assert len(some) == 5 and calls["read"] == 5
    whole = load_images("imagefolder", "train", **load)
    order = torch.randperm(36, generator=torch.Generator().manual_seed(0))[:5]
    assert torch.equal(some.images, whole.images[order])
    assert torch.equal(some.labels, whole.labels[order])


def test_what_is_kept_follows_the_classes_and_the_images_that_were_picked(tmp_path):
    """A new class renumbers the others, also in a split whose files are the same."""
    for split in ("train", "test"):
        for number, name in enumerate(("cat", "dog")):
            (tmp_path / split / name).mkdir(parents=True)
            (tmp_path / split / name / "0.png").write_bytes(encoded(number))
    load = {"data_root": tmp_path, "image_size": 16}
    before = load_images("imagefolder", "test", **load)
    assert before.labels.tolist() == [0, 1]
    signature = data_signature("imagefolder", "test", tmp_path)
    (tmp_path / "train" / "ant").mkdir()
    (tmp_path / "train" / "ant" / "0.png").write_bytes(encoded(7))
    assert load_images("imagefolder", "test", **load).labels.tolist() == [1, 2]
    # The codes of the split are extracted anew, with their labels.
    assert data_signature("imagefolder", "test", tmp_path) != signature
    some = load_images("imagefolder", "train", max_images=1, **load)
    more = load_images("imagefolder", "train", max_images=99, **load)
    whole = load_images("imagefolder", "train", **load)
    assert len(some) == 1 and torch.equal(more.images, whole.images)


def test_damaged_images_of_a_stream_are_named_before_the_work(tmp_path, no_memory):
    write_folder(tmp_path)
    (tmp_path / "cat" / "002.png").write_bytes(encoded(2)[:200])
    (tmp_path / "dog" / "003.png").write_text("no image")
    for _ in range(2):  # the second time from what was kept of the first
        with pytest.warns(
            UserWarning, match=r"2 of 36.*mend or rem.*cat/002\.png.*dog/003\.png"
        ):
            data = load_images("imagefolder", "train", data_root=tmp_path)
        assert len(data) == len(data.labels) == 34
    next(data.batches([torch.arange(34)]))


def test_of_many_damaged_images_some_are_named_and_all_are_counted(tmp_path):
    write_folder(tmp_path)
    for path in sorted(tmp_path.rglob("*.png"))[:25]:
        path.write_text("no image")
    with pytest.warns(UserWarning, match=r"\d+ of 36 .*; and \d+ more") as said:
        data = load_images("imagefolder", "train", data_root=tmp_path)
    (warned,) = [str(each.message) for each in said if "36" in str(each.message)]
    broken = 36 - len(data)
    assert (
        warned.startswith(f"{broken} of 36") and f"; and {broken - 20} more" in warned
    )
    assert warned.count("cannot identify") == 20


def test_a_check_that_was_stopped_goes_on(tmp_path, no_memory, monkeypatch):
    write_folder(tmp_path / "in")
    (tmp_path / "in" / "cat" / "002.png").write_bytes(b"no image")
    monkeypatch.setattr(streams, "CHECKED", 10)
    monkeypatch.setattr(streams, "SECONDS_TO_KEEP", 0)
    decoded, read = streams.decoded, []

    def stop_at_25(source, number, sides):
        read.append(number)
        if len(read) == 25:
            raise MemoryError  # any image may be damaged, but this is no image's fault
        return decoded(source, number, sides)

    monkeypatch.setattr(streams, "decoded", stop_at_25)
    where = {"data_root": tmp_path / "in", "workers": 0}
    with pytest.raises(MemoryError):
        load_images("imagefolder", "train", **where)
    with pytest.warns(UserWarning, match=r"1 of 36 images.*002\.png"):
        data = load_images("imagefolder", "train", **where)
    assert len(data) == 35
    assert read[25:30] == read[20:25] and len(set(read)) == 36
    monkeypatch.setattr(streams, "write_texts", None)  # nothing is written again
    with pytest.warns(UserWarning, match=r"002\.png"):
        load_images("imagefolder", "train", **where)
    assert len(read) == 25 + 16  # the whole check is kept


def test_an_image_that_goes_missing_is_named(both, tmp_path):
    _, outside = both
    (tmp_path / "dog" / "001.png").unlink()
    with pytest.raises(
        ValueError, match=r"dog/001\.png .*put it back as it was, and g"
    ):
        list(outside.batches(torch.arange(36).split(6)))


def test_a_cache_that_cannot_be_written_is_named_and_the_images_are_read(
    tmp_path, monkeypatch
):
    write_folder(tmp_path / "images")
    (tmp_path / "cache").write_text("a file in the way")
    monkeypatch.setenv("PIXELPRIOR_CACHE", str(tmp_path / "cache"))
    with pytest.warns(UserWarning, match="could not be kept for the next command"):
        data = load_images("imagefolder", "train", data_root=tmp_path / "images")
    assert len(data) == 36


@pytest.mark.parametrize("where", ["folder", "pattern"])
def test_shards_hold_the_images_of_a_folder(tmp_path, where):
    (tmp_path / "shards").mkdir()
    write_shards(tmp_path / "shards")
    root = tmp_path / "shards" / ("" if where == "folder" else "*.tar")
    data = load_images("shards", "train", data_root=root, image_size=16)
    test = load_images("shards", "test", data_root=root, image_size=16)
    assert (len(data), len(test)) == (36, 4) and data.class_names == ("0", "1")
    kept = [number for number in range(COUNT) if number % 10 != 9]
    assert data.labels.tolist() == [number % 2 for number in kept]
    for index, number in ((0, 0), (35, kept[35])):
        expected = read_image(io.BytesIO(encoded(number)), (16, 16))
        assert torch.equal(data.images[index], expected)


def test_shards_may_be_streamed_and_name_their_classes(tmp_path, no_memory):
    def of_class(number):
        if number % 3:
            return {"cls": b"cat\n"}
        return {"json": json.dumps({"label": "dog", "text": "x"}).encode()}

    write_shards(tmp_path, of_class)
    data = load_images("shards", "train", data_root=tmp_path, image_size=16)
    assert isinstance(data, StreamedImages) and data.class_names == ("cat", "dog")
    assert data.labels[:4].tolist() == [1, 0, 0, 1]
    (images,) = next(data.batches([torch.tensor([20, 3])]))
    expected = read_image(io.BytesIO(encoded(22)), (16, 16))  # 9 and 19 are held out
    assert torch.equal(images[0], expected.float() / 255)


def test_shards_of_a_test_split_are_known_by_their_names(tmp_path):
    sample = {f"{i}": {"png": encoded(i), "cls": b"b"} for i in range(3)}
    write_shard(
        tmp_path / "images-train-0.tar",
        sample | {"9": {"png": encoded(9), "cls": b"a"}},
    )
    write_shard(tmp_path / "images-val-0.tar", sample)
    write_shard(tmp_path / "latest-1.tar", {"8": {"png": encoded(8), "cls": b"a"}})
    train, test = (
        load_images("shards", split, data_root=tmp_path) for split in ("train", "test")
    )
    assert (len(train), len(test)) == (5, 3) and test.class_names == ("a", "b")
    assert test.labels.tolist() == [1, 1, 1]


def test_numbers_of_classes_may_have_zeros_in_front(tmp_path):
    write_shards(tmp_path, lambda number: {"cls": f"{number % 3:03d}".encode()})
    data = load_images("shards", "train", data_root=tmp_path)
    assert data.class_names == ("0", "1", "2")
    assert data.labels[:4].tolist() == [0, 1, 2, 0]


def test_a_split_without_the_classes_of_the_other_is_named_or_needs_none(tmp_path):
    with_classes = {f"{i}": {"png": encoded(i), "cls": b"a"} for i in range(3)}
    without = {f"{i}": {"png": encoded(i)} for i in range(3)}
    write_shard(tmp_path / "train.tar", with_classes)
    write_shard(tmp_path / "test.tar", without)
    with pytest.raises(ValueError, match=r"0\.png in .*/test\.tar has no \.cls or"):
        load_images("shards", "test", data_root=tmp_path)
    write_shard(tmp_path / "train.tar", without)
    write_shard(tmp_path / "test.tar", with_classes)
    test = load_images("shards", "test", data_root=tmp_path)
    assert test.labels.tolist() == [0, 0, 0] and test.class_names == ("images",)


def test_a_folder_of_any_name_may_hold_the_shards(tmp_path):
    (tmp_path / "set [1]*").mkdir()
    write_shards(tmp_path / "set [1]*")
    assert len(load_images("shards", "train", data_root=tmp_path / "set [1]*")) == 36


def test_bad_shards_are_named(tmp_path):
    def load(split="train"):
        return load_images("shards", split, data_root=tmp_path)

    with pytest.raises(FileNotFoundError, match=r"no file .*\*\.tar; give the folder"):
        load()
    write_shards(tmp_path)
    path = tmp_path / "2.tar"
    whole = path.read_bytes()
    # Within an image, between two files, and before the zeros at the end.
    for size in (len(whole) // 2 + 100, 4096, whole.rindex(b"1") + 512 & -512):
        path.write_bytes(whole[:size])
        with pytest.raises(
            ValueError, match=r"2\.tar cannot be read .* cut short.*; copy it again"
        ):
            load()
    path.write_bytes(b"no tar file at all" * 60)
    with pytest.raises(
        ValueError, match=r"2\.tar cannot be read .* no tar file.*; copy it again"
    ):
        load()
    path.unlink()
    write_shard(tmp_path / "9.tar", {"x": {"png": encoded(1)}})
    with pytest.raises(
        ValueError,
        match=r"x\.png in .*/9\.tar has no \.cls or \.json with its .*; give",
    ):
        load()
    write_shard(tmp_path / "9.tar", {"x": {"png": encoded(1), "json": b"{"}})
    with pytest.raises(
        ValueError, match=r"class of x\.png in .*9\.tar cannot be read .*; write it as"
    ):
        load()
    for path in tmp_path.glob("*.tar"):
        path.unlink()
    write_shard(tmp_path / "0.tar", {"x": {"txt": b"words"}})
    with pytest.raises(ValueError, match=r"no images in the shards .*; give tar"):
        load()
    write_shard(tmp_path / "0.tar", {"x": {"png": encoded(1)}})
    with pytest.raises(
        ValueError, match=r"1 images in .* too few to hold out every .*; give at least"
    ):
        load()


@pytest.mark.parametrize("streamed", [False, True])
def test_a_damaged_image_in_a_shard_is_named_and_left_out(
    tmp_path, monkeypatch, streamed
):
    samples = {f"{n:03d}": {"png": encoded(n), "cls": b"1"} for n in range(20)}
    samples["004"]["png"] = encoded(4)[:60]
    write_shard(tmp_path / "0.tar", samples)
    if streamed:
        monkeypatch.setattr(streams, "free_memory", lambda: 0)
    with pytest.warns(UserWarning, match=r"1 of 18 images .*: 004\.png in .*0\.tar"):
        data = load_images("shards", data_root=tmp_path, image_size=16)
    assert len(data) == 17 and isinstance(data, StreamedImages) == streamed


@pytest.fixture
def rows(tmp_path, monkeypatch):
    """A folder with a parquet file of images and classes, as the hub has them."""
    datasets = pytest.importorskip("datasets", reason="datasets is not installed")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    features = datasets.Features(
        {"label": datasets.ClassLabel(names=["cat", "dog"]), "image": datasets.Image()}
    )
    table = {
        "image": [{"bytes": encoded(n), "path": None} for n in range(COUNT)],
        "label": [n % 2 for n in range(COUNT)],
    }
    for name, damaged in (("set", []), ("damaged", [12])):
        for number in damaged:
            table["image"][number]["bytes"] = encoded(number)[:60]
        (tmp_path / name).mkdir()
        made = datasets.Dataset.from_dict(table, features=features)
        made.to_parquet(tmp_path / name / "train.parquet")
    return tmp_path / "set"


@pytest.mark.slow
def test_a_set_of_the_hub_is_read_row_by_row(rows, no_memory):
    train, test = (
        load_images(f"hub:{rows}", split, image_size=16) for split in ("train", "test")
    )
    assert (len(train), len(test)) == (36, 4) and train.class_names == ("cat", "dog")
    assert isinstance(train, StreamedImages)
    (images,) = next(train.batches([torch.tensor([9, 0])]))
    expected = read_image(io.BytesIO(encoded(10)), (16, 16))  # 9 is held out
    assert torch.equal(images[0], expected.float() / 255)
    assert train.labels[:3].tolist() == [0, 1, 0]
    # It is the set's row that is named: row 12 is number 11 of the training images.
    with pytest.warns(UserWarning, match=r"1 of 36 images .*: row 12 of train in "):
        assert len(load_images(f"hub:{rows.parent / 'damaged'}", image_size=16)) == 35


@pytest.mark.slow
def test_a_set_of_the_hub_is_trained_on_and_kept_under_data_root(rows, tmp_path):
    kept = tmp_path / "kept"
    command = ["train-vqvae2", "--dataset", f"hub:{rows}", "--data_root", str(kept)]
    command += ["--hidden_channels", "8", "--num_embeddings", "8", "--epochs", "1"]
    cli.main([*command, "--output_dir", str(tmp_path / "run")])
    assert (tmp_path / "run" / "best" / "model.safetensors").is_file()
    assert list(kept.rglob("*.arrow")) and not list(tmp_path.glob("cache/**/*.arrow"))
    train = load_images(f"hub:{rows}", data_root=kept, image_size=16)
    assert train.labels[:3].tolist() == [0, 1, 0]


@pytest.mark.slow
def test_the_commands_take_a_stream_of_shards_that_is_not_square(tmp_path, no_memory):
    (tmp_path / "in").mkdir()
    write_shards(tmp_path / "in")
    images = ["--dataset", "shards", "--data_root", str(tmp_path / "in" / "*.tar")]
    small = ["--hidden_channels", "8", "--epochs", "1", "--batch_size", "8"]
    vqvae2, prior, drawn = (str(tmp_path / name) for name in ("vqvae2", "prior", "new"))
    first = ["train-vqvae2", *images, *small, "--image_size", "24x16"]
    cli.main([*first, "--num_embeddings", "8", "--output_dir", vqvae2])
    second = ["train-prior", *images, *small, "--vqvae2_checkpoint", vqvae2]
    second += ["--num_layers", "2", "--class_conditional"]
    cli.main([*second, "--output_dir", prior])
    models = ["--vqvae2_checkpoint", vqvae2, "--prior_checkpoint", prior]
    cli.main(["sample", *models, "--num_samples", "3", "--output_dir", drawn])
    sizes = {Image.open(path).size for path in (tmp_path / "new").glob("*.png")}
    assert sizes == {(16, 24)} and len(list((tmp_path / "new").glob("*.png"))) == 3


@pytest.mark.slow
def test_a_split_whose_classes_are_withheld_is_passed_over(rows):
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        {"label": datasets.ClassLabel(names=["cat", "dog"]), "image": datasets.Image()}
    )
    for split, labels in (("test", [-1, None]), ("validation", [1, 0])):
        images = [{"bytes": encoded(n), "path": None} for n in (50, 51)]
        table = {"image": images, "label": labels}
        made = datasets.Dataset.from_dict(table, features=features)
        made.to_parquet(rows / f"{split}.parquet")
    assert load_images(f"hub:{rows}", "test").labels.tolist() == [1, 0]
    (rows / "validation.parquet").unlink()
    with pytest.raises(ValueError, match=r"classes of test in .* are withheld; give"):
        load_images(f"hub:{rows}", "test")


@pytest.mark.slow
def test_what_the_hub_does_not_have_is_named(tmp_path, rows, monkeypatch):
    with pytest.raises(FileNotFoundError, match=r"cannot be loaded .*; give the na"):
        load_images(f"hub:{tmp_path / 'nowhere'}")
    datasets = pytest.importorskip("datasets")
    (tmp_path / "words").mkdir()
    made = datasets.Dataset.from_dict({"text": ["a"] * 12})
    made.to_parquet(tmp_path / "words" / "train.parquet")
    with pytest.raises(ValueError, match="has columns text but no images; give"):
        load_images(f"hub:{tmp_path / 'words'}")
    with pytest.raises(ValueError, match="dataset is 'hub:'; give one of"):
        load_images("hub:")
    # One of two files is cut short.
    content = (rows / "train.parquet").read_bytes()
    for number, size in ((0, len(content)), (1, len(content) // 2)):
        (rows / f"train-{number}.parquet").write_bytes(content[:size])
    (rows / "train.parquet").unlink()
    with pytest.raises(ValueError, match=r"train-1\.parquet cannot .*; copy it again"):
        load_images(f"hub:{rows}")


@pytest.mark.slow
@pytest.mark.parametrize(
    "labels, names, numbers",
    [
        ([7, 0, None, 2], tuple("01234567"), [7, 0, 2]),
        (["cat", "ant", None, "cat"], ("ant", "cat"), [1, 0, 1]),
        ([-1, None, -1, None], ("images",), [0, 0, 0, 0]),
        ([0.5, 1.5, None, 2.5], ("images",), [0, 0, 0, 0]),
    ],
)
def test_a_column_called_label_has_the_classes_where_none_is_marked(
    rows, labels, names, numbers
):
    """Images without a class are left out where others have one."""
    datasets = pytest.importorskip("datasets")
    for split, some in (("train", labels), ("test", labels[:2])):
        images = [{"bytes": encoded(n), "path": None} for n in range(len(some))]
        made = datasets.Dataset.from_dict({"image": images, "label": some})
        made = made.cast_column("image", datasets.Image())
        made.to_parquet(rows / f"{split}.parquet")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        train = load_images(f"hub:{rows}", "train", image_size=16)
    warned = [str(each.message) for each in said if each.category is UserWarning]
    assert train.class_names == names and train.labels.tolist() == numbers
    words = [r"row 2 of train in .*no class"] if len(numbers) == 3 else []
    assert len(warned) == len(words) and all(map(re.search, words, warned))
    test = load_images(f"hub:{rows}", "test", image_size=16)
    assert test.labels.tolist() == numbers[:2] and test.class_names == names


@pytest.mark.slow
def test_marked_classes_keep_their_numbers(rows):
    datasets = pytest.importorskip("datasets")
    kind = datasets.ClassLabel(names=["0", "007", "7"])
    features = datasets.Features({"image": datasets.Image(), "label": kind})
    images = [{"bytes": encoded(n), "path": None} for n in range(12)]
    table = {"image": images, "label": [n % 3 for n in range(12)]}
    made = datasets.Dataset.from_dict(table, features=features)
    made.to_parquet(rows / "train.parquet")
    train = load_images(f"hub:{rows}", "train", image_size=16)
    assert train.labels[:4].tolist() == [0, 1, 2, 0]
    assert train.class_names == ("0", "007", "7")


def test_without_the_library_the_hub_says_how_to_get_it(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ValueError, match=r'pip install "pixelprior\[datasets\]"'):
        load_images("hub:any")


def test_names_of_any_letters_are_kept_in_two_arrays():
    names = ["a", "", "caf\u00e9/\U0001f600", "\udcff"]
    texts = Texts(names)
    assert len(texts) == 4 and [texts[i] for i in range(4)] == names


def test_what_fits_is_decided_by_the_memory_that_is_free(tmp_path, monkeypatch):
    write_folder(tmp_path)
    needed = 36 * 3 * 16**2

    load = {"data_root": tmp_path, "image_size": 16}
    for processes in (1, 4):  # each of them would hold all images
        monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))
        enough = 2 * needed * processes
        for free, kind in ((enough - 1, StreamedImages), (enough, ImageData)):
            monkeypatch.setattr(streams, "free_memory", lambda free=free: free)
            assert isinstance(load_images("imagefolder", **load), kind)


@pytest.mark.parametrize("fits", [True, False])
def test_sides_need_not_be_equal(tmp_path, monkeypatch, fits):
    """Images of 20×24 are scaled to 24×28 to cover 24×16, and cropped in the centre."""
    write_folder(tmp_path)
    monkeypatch.setattr(streams, "SHARE_OF_MEMORY", 0.5 if fits else 0.0)
    for size in ("24x16", (24, 16)):
        data = load_images("imagefolder", data_root=tmp_path, image_size=size)
        assert isinstance(data, ImageData) == fits
        (images,) = data.batch(torch.arange(3))
        assert images.shape == (3, 3, 24, 16)
    whole = TF.pil_to_tensor(Image.open(tmp_path / "cat" / "000.png"))
    scaled = TF.resize(whole, [24, 28], antialias=True)
    assert torch.equal(images[0], scaled[:, :, 6:22].float() / 255)
    torch.manual_seed(0)
    vqvae2 = VQVAE2(3, (24, 16), 8, 4, 16)
    vqvae2.train().loss_function(images)
    codes = vqvae2.get_code_indices(images)
    assert vqvae2.grids == ((6, 4), (12, 8))
    assert codes["indices_bottom"].shape == (3, 12, 8)
    assert vqvae2.decode_codes(*codes.values()).shape == images.shape
    vqvae2.save_pretrained(tmp_path / "saved")
    again = VQVAE2.from_pretrained(tmp_path / "saved")
    assert torch.equal(again(images), vqvae2.eval()(images))
    prior = HierarchicalPixelCNN(16, 4, 8, 2)
    drawn = prior.sample_with_vqvae2(vqvae2, 2, seed=0)
    assert drawn.shape == (2, 3, 24, 16)
    known = torch.ones(24, 16, dtype=torch.bool)
    known[12:] = False
    assert complete(vqvae2, prior, images, known, seed=0).shape == images.shape


@pytest.mark.parametrize("size", ["0", "64x", "x64", "64x64x3", "6.5", (64,), 0, None])
def test_sizes_that_are_none_are_named(size):
    with pytest.raises(ValueError, match=r"image_size is .*; give one number of pi"):
        load_images("fashion_mnist_mini", image_size=size)


def test_where_all_images_are_needed_a_stream_is_refused(tmp_path, no_memory):
    write_folder(tmp_path)
    with pytest.raises(ValueError, match=r"36 images of .*; give fewer with --max_im"):
        load_images("imagefolder", data_root=tmp_path, stream=False)
