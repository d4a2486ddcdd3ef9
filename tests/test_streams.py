"""Images as files, shards or rows: those that do not fit into memory are streamed."""

import io
import os
import sys
import tarfile
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms.v2 import functional as TF

from pixelprior import VQVAE2, TrainingSettings, fit, load_images
from pixelprior.data import images as data_images
from pixelprior.data.augmentation import augmented
from pixelprior.data.held_out import hold_out
from pixelprior.data.images import ImageData, StreamedImages, data_signature, read_image
from pixelprior.data.sources import Folder, Rows

COUNT = 40
NEEDED = 36 * 3 * 16**2  # bytes of the training images


def encoded(number: int) -> bytes:
    """An image of random pixels; each number has its own."""
    pixels = np.random.default_rng(number).integers(0, 256, (20, 24, 3), np.uint8)
    written = io.BytesIO()
    Image.fromarray(pixels).save(written, "png")
    return written.getvalue()


def decoded(number: int) -> torch.Tensor:
    return read_image(io.BytesIO(encoded(number)), (16, 16))


def load(root, split="train", name="imagefolder", image_size=16, **more):
    return load_images(name, split, data_root=root, image_size=image_size, **more)


def refused(words, error=ValueError, **how):
    with pytest.raises(error, match=words) as said:
        load(**how)
    assert "\n" not in str(said.value)


@pytest.fixture
def root(tmp_path):
    """A folder of images in two classes."""
    for number in range(COUNT):
        folder = tmp_path / ("cat", "dog")[number % 2]
        folder.mkdir(exist_ok=True)
        (folder / f"{number:03d}.png").write_bytes(encoded(number))
    return tmp_path


@pytest.fixture
def no_memory(monkeypatch):
    monkeypatch.setattr(data_images, "free_memory", lambda: 0)


@pytest.fixture
def both(root, monkeypatch):
    """Training images in memory, and as a stream since they are four times as large."""
    inside = load(root)
    monkeypatch.setattr(data_images, "free_memory", lambda: NEEDED // 4)
    outside = load(root)
    assert type(inside) is ImageData and type(outside) is StreamedImages
    return inside, outside


def test_a_stream_has_the_images_and_labels_of_memory(both):
    inside, outside = both
    assert len(inside) == len(outside) == 36 and outside.channels == 3
    assert torch.equal(inside.labels, outside.labels)
    assert inside.class_names == outside.class_names == ("cat", "dog")
    part = outside.subset(torch.arange(36) % 3 == 0)
    some = torch.tensor([7, 2])
    assert torch.equal(part.batch(some)[0], inside.batch(3 * some)[0])
    assert torch.equal(part.labels, inside.labels[::3])


def train(data, folder, **options):
    torch.manual_seed(0)
    model = VQVAE2(3, 16, 8, 4, 16)
    settings = TrainingSettings(
        epochs=2, batch_size=8, ema_decay=0.0, mixed_precision="no", save_steps=2
    )
    part, heldout = hold_out(data, 0.1)
    part.change = partial(augmented, flip=True, shift=2)
    history = fit(model, part, heldout, settings, folder, **options)
    times = {"seconds", "steps_per_second"}
    return [{k: v for k, v in epoch.items() if k not in times} for epoch in history]


def test_four_times_the_memory_trains_to_the_same_curve_also_after_a_stop(
    both, tmp_path
):
    """Also of images that are changed at random, anew in each epoch."""
    inside, outside = both
    whole = train(inside, tmp_path / "inside")

    class Stopped(StreamedImages):
        def batches(self, parts):
            for number, batch in enumerate(super().batches(parts)):
                if number == 3:  # the second checkpoint would come after the fourth
                    raise KeyboardInterrupt
                yield batch

    with pytest.raises(KeyboardInterrupt):
        train(Stopped(**vars(outside)), tmp_path / "cut")
    assert train(outside, tmp_path / "cut", resume=True) == whole


def test_what_fits_is_decided_by_the_memory_that_is_free(root, monkeypatch):
    for processes in (1, 4):  # each of them would hold all images
        monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))
        enough = 2 * NEEDED * processes
        for free, kind in ((enough - 1, StreamedImages), (enough, ImageData)):
            monkeypatch.setattr(data_images, "free_memory", lambda free=free: free)
            assert type(load(root)) is kind
    monkeypatch.setattr(data_images, "free_memory", lambda: 0)
    # Where all are needed:
    refused(r"36 images of .*; give fewer with --max_im", root=root, stream=False)


def test_the_limit_of_a_container_counts(tmp_path, monkeypatch):
    monkeypatch.setattr(data_images, "CONTAINER", tmp_path / "memory.max")
    for words in (None, "max\n"):
        assert data_images.free_memory() > 1e8, words
        (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.max").write_text("5000000\n")
    assert data_images.free_memory() == 5_000_000


def test_a_few_images_of_many_files_read_no_others(root):
    whole = load(root)
    order = torch.randperm(36, generator=torch.Generator().manual_seed(0))
    files = Folder(root, "train").files
    for number in order[5:]:  # or damaged images would be named in a warning
        (root / files[number]).write_text("no image")
    some = load(root, max_images=5)
    assert torch.equal(some.images, whole.images[order[:5]])
    assert torch.equal(some.labels, whole.labels[order[:5]])


def test_a_signature_follows_the_files_and_the_classes(tmp_path):
    """A new class renumbers the others, also in a split whose files are the same."""

    def signature(*changed, content=b"an image", time=1):
        for place in changed:
            path = tmp_path / place / "0.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            os.utime(path, (time, time))
        return data_signature("imagefolder", "test", tmp_path)

    first = signature("train/cat", "test/cat")
    longer = signature("test/cat", content=b"a longer image")
    newer = signature("test/cat", time=2)
    assert signature("test/cat") == first
    assert len({first, longer, newer, signature("train/ant")}) == 4


@pytest.mark.parametrize("free", [0, 2**40])
def test_damaged_images_are_named_and_counted_and_left_out(root, monkeypatch, free):
    monkeypatch.setattr(data_images, "free_memory", lambda: free)
    (root / "cat" / "002.png").write_bytes(encoded(2)[:200])
    (root / "dog" / "003.png").write_text("no image")
    words = r"2 of 36.*repair or rem.*cat/002\.png \(.*dog/003\.png \("
    with pytest.warns(UserWarning, match=words):
        data = load(root)
    assert len(data) == 34 and data.labels.tolist() == [0] * 17 + [1] * 17
    (images,) = next(data.batches([torch.tensor([0, 1])]))
    assert torch.equal(images[1], decoded(4).float() / 255)


def test_what_is_no_image_of_a_known_format_is_not_read(root):
    """Pillow would give PostScript to Ghostscript, whatever its file is called."""
    script = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n"
    (root / "cat" / "002.png").write_bytes(script)
    with pytest.warns(UserWarning, match=r"cat/002\.png \(cannot identify"):
        assert len(load(root)) == 35


def test_an_image_that_goes_missing_is_named(both, root):
    (root / "dog" / "001.png").unlink()
    words = r"dog/001\.png .*put it back as it was, and g"
    with pytest.raises(ValueError, match=words):
        list(both[1].batches(torch.arange(36).split(6)))


def test_sides_need_not_be_equal(root):
    """Images of 20×24 are scaled to 24×28 to cover 24×16, and cropped in the centre."""
    images = load(root, image_size="24x16").images
    whole = TF.pil_to_tensor(Image.open(root / "cat" / "000.png"))
    scaled = TF.resize(whole, [24, 28], antialias=True)
    assert torch.equal(images[0], scaled[:, :, 6:22])


def test_without_the_library_sets_say_how_to_get_it(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "datasets", None)
    refused(r'pip install "pixelprior\[datasets\]"', root=tmp_path, name="shards")


# Shards


def write_shard(path, numbers, **changed):
    """A tar file of images and their classes; `changed` are files by their ending."""
    with tarfile.open(path, "w") as tar:
        for number in numbers:
            files = {"png": encoded(number), "cls": str(number % 2).encode()} | changed
            for ending, content in files.items():
                about = tarfile.TarInfo(f"{number:03d}.{ending}")
                about.size = len(content)
                tar.addfile(about, io.BytesIO(content))


@pytest.fixture
def shards(tmp_path):
    """A folder for shards, whose name is no pattern."""
    pytest.importorskip("datasets", reason="datasets is not installed")
    (tmp_path / "set [1]*").mkdir()
    return tmp_path / "set [1]*"


@pytest.fixture
def four(shards):
    """The images of a folder in four shards."""
    for shard in range(4):
        write_shard(shards / f"{shard}.tar", range(10 * shard, 10 * shard + 10))
    return shards


def test_shards_hold_the_images_of_a_folder(four):
    data, test = (load(four, split, "shards") for split in ("train", "test"))
    assert (len(data), len(test)) == (36, 4) and data.class_names == ("0", "1")
    kept = [number for number in range(COUNT) if number % 10 != 9]
    assert data.labels.tolist() == [number % 2 for number in kept]
    assert torch.equal(data.images, torch.stack([decoded(number) for number in kept]))
    for path in four.iterdir():
        path.rename(four.parent / path.name)
    by_pattern = load(four.parent / "[01].tar", name="shards")
    assert torch.equal(by_pattern.images, data.images[:18])


def test_the_signature_of_shards_follows_their_images(four):
    first, again = (data_signature("shards", "train", four) for _ in range(2))
    write_shard(four / "0.tar", range(100, 110))
    assert first == again != data_signature("shards", "train", four)
    assert torch.equal(load(four, name="shards").images[0], decoded(100))


def test_shards_of_a_test_split_are_known_by_their_names(shards):
    names = [shards / f"{name}.tar" for name in ("images-train-0", "latest-1")]
    for path in names:
        write_shard(path, range(3))
    write_shard(shards / "images-val-0.tar", [1, 3])
    train, test = (load(shards, split, "shards") for split in ("train", "test"))
    assert (len(train), len(test)) == (6, 2) and test.class_names == ("0", "1")
    assert test.labels.tolist() == [1, 1]
    for path in names:
        path.unlink()
    words = "has test, but no images in a split train; g"
    refused(words, root=shards, name="shards")


def test_bad_shards_are_named_in_one_line(shards):
    how, path = {"root": shards, "name": "shards"}, shards / "0.tar"
    words = r"no such \.tar file; --data_root is their folder"
    refused(words, FileNotFoundError, **how)
    write_shard(path, range(10))
    path.write_bytes(path.read_bytes()[:4096])
    refused(r"cannot be loaded \(ReadError.*; give whole \.tar files", **how)
    write_shard(path, [1], cls=b"cat")
    refused(r"cannot be loaded .*'cat'.* its class as a number in \.cls", **how)


# Sets of the hub


def rows_of(labels, names=("cat", "dog"), absent=()):
    """Rows as the library has them: images by their numbers, and labels."""
    datasets = pytest.importorskip("datasets", reason="datasets is not installed")
    images = [{"bytes": encoded(n), "path": None} for n in range(len(labels))]
    images = [None if n in absent else each for n, each in enumerate(images)]
    made = datasets.Dataset.from_dict({"image": images, "label": labels})
    if names:
        made = made.cast_column("label", datasets.ClassLabel(names=list(names)))
    return made.cast_column("image", datasets.Image())


@pytest.mark.slow
def test_a_set_of_the_hub_is_read_row_by_row_and_kept_under_data_root(
    no_memory, tmp_path
):
    (tmp_path / "set").mkdir()
    made = rows_of([n % 2 for n in range(COUNT)], absent=[14])
    made.to_parquet(tmp_path / "set" / "train.parquet")
    # It is the set's row that is named: row 14 is number 13 of the training images.
    with pytest.warns(UserWarning, match="1 of 36 images .*: row 14 of train in "):
        train = load(tmp_path / "kept", name=f"hub:{tmp_path / 'set'}")
    assert len(train) == 35 and train.class_names == ("cat", "dog")
    assert isinstance(train, StreamedImages) and train.workers
    (images,) = next(train.batches([torch.tensor([9, 0])]))
    assert torch.equal(images[0], decoded(10).float() / 255)  # 9 is held out
    assert train.labels[:3].tolist() == [0, 1, 0]
    assert list(tmp_path.glob("kept/**/*.arrow"))


def test_a_split_whose_classes_are_withheld_is_passed_over():
    found = {"train": rows_of([0, 1] * 5), "test": rows_of([-1, None])}
    with pytest.raises(ValueError, match="classes of test in 'set' are withheld; give"):
        Rows(found, "set", "test")
    found["validation"] = rows_of([1, 0])
    assert Rows(found, "set", "test").labels.tolist() == [1, 0]


@pytest.mark.parametrize(
    "labels, names, numbers",
    [
        ([7, 0, None, 2], tuple("01234567"), [7, 0, -1, 2]),
        (["02", "00", None, "1"], ("00", "02", "1"), [1, 0, -1, 2]),
        ([-1, None, -1, None], ("images",), [0, 0, 0, 0]),
    ],
)
def test_a_column_called_label_has_the_classes_where_none_is_marked(
    labels, names, numbers
):
    """-1 is no class."""
    made = rows_of(labels, None)
    train = Rows({"train": made, "test": made}, "set", "train")
    assert train.class_names == names and train.labels.tolist() == numbers
