"""Images as files, shards or rows: those that do not fit into memory are streamed."""

import io
import os
import sys
import tarfile

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
from pixelprior.data import images as data_images
from pixelprior.data.held_out import hold_out
from pixelprior.data.images import ImageData, StreamedImages, data_signature, read_image
from pixelprior.data.sources import Rows, listed

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


def write_shards(root):
    for shard in range(4):
        numbers = range(shard * COUNT // 4, (shard + 1) * COUNT // 4)
        classes = {number: str(number % 2).encode() for number in numbers}
        samples = {f"{n:03d}": {"png": encoded(n), "cls": classes[n]} for n in numbers}
        write_shard(root / f"{shard}.tar", samples)


def load(root, split="train", name="imagefolder", image_size=16, **more):
    return load_images(name, split, data_root=root, image_size=image_size, **more)


@pytest.fixture
def no_memory(monkeypatch):
    monkeypatch.setattr(data_images, "free_memory", lambda: 0)


@pytest.fixture
def both(tmp_path, monkeypatch):
    """Training images in memory, and as a stream since they are four times as large."""
    write_folder(tmp_path)
    inside = load(tmp_path)
    monkeypatch.setattr(data_images, "free_memory", lambda: NEEDED // 4)
    outside = load(tmp_path)
    assert type(inside) is ImageData and type(outside) is StreamedImages
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
    assert torch.equal(part.labels, inside.labels[::3])


@pytest.mark.parametrize("workers", [0, 2])
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
    options["log"] = lambda line: None
    history = fit(model, *hold_out(data, 0.1), settings, folder, **options)
    times = {"seconds", "steps_per_second"}
    return [{k: v for k, v in epoch.items() if k not in times} for epoch in history]


def test_four_times_the_memory_trains_to_the_same_curve_also_after_a_stop(
    both, tmp_path
):
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


def test_what_fits_is_decided_by_the_memory_that_is_free(tmp_path, monkeypatch):
    write_folder(tmp_path)
    for processes in (1, 4):  # each of them would hold all images
        monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))
        enough = 2 * NEEDED * processes
        for free, kind in ((enough - 1, StreamedImages), (enough, ImageData)):
            monkeypatch.setattr(data_images, "free_memory", lambda free=free: free)
            assert type(load(tmp_path)) is kind
    monkeypatch.setattr(data_images, "free_memory", lambda: 0)
    with pytest.raises(ValueError, match=r"36 images of .*; give fewer with --max_im"):
        load(tmp_path, stream=False)  # where all are needed


def test_the_limit_of_a_container_counts(tmp_path, monkeypatch):
    monkeypatch.setattr(data_images, "CONTAINER", tmp_path / "memory.max")
    assert data_images.free_memory() > 1e8
    (tmp_path / "memory.max").write_text("max\n")
    assert data_images.free_memory() > 1e8
    (tmp_path / "memory.max").write_text("5000000\n")
    assert data_images.free_memory() == 5_000_000


def test_a_few_images_of_many_files_read_no_others(tmp_path, monkeypatch):
    write_folder(tmp_path)
    whole, read = load(tmp_path), []

    def counted(*arguments):
        read.append(arguments)
        return read_image(*arguments)

    monkeypatch.setattr(data_images, "read_image", counted)
    some = load(tmp_path, max_images=5)
    assert len(some) == len(read) == 5
    order = torch.randperm(36, generator=torch.Generator().manual_seed(0))[:5]
    assert torch.equal(some.images, whole.images[order])
    assert torch.equal(some.labels, whole.labels[order])
    assert torch.equal(load(tmp_path, max_images=99).images, whole.images)


def test_a_signature_follows_the_files_and_the_classes(tmp_path):
    """A new class renumbers the others, also in a split whose files are the same."""
    for split in ("train", "test"):
        for number, name in enumerate(("cat", "dog")):
            (tmp_path / split / name).mkdir(parents=True)
            (tmp_path / split / name / "0.png").write_bytes(encoded(number))

    def signature():
        return data_signature("imagefolder", "test", tmp_path)

    cat, seen = tmp_path / "test" / "cat" / "0.png", [signature()]
    assert signature() == seen[0]
    for content in (encoded(0), encoded(8) + b"longer"):
        cat.write_bytes(content)
        os.utime(cat, (1, 1))
        seen.append(signature())
    (tmp_path / "train" / "ant").mkdir()
    (tmp_path / "train" / "ant" / "0.png").write_bytes(encoded(7))
    assert len({*seen, signature()}) == 4
    assert load(tmp_path, "test").labels.tolist() == [1, 2]


@pytest.mark.parametrize("free", [0, 2**40])
def test_damaged_images_are_named_and_counted_and_left_out(tmp_path, monkeypatch, free):
    write_folder(tmp_path)
    monkeypatch.setattr(data_images, "free_memory", lambda: free)
    (tmp_path / "cat" / "002.png").write_bytes(encoded(2)[:200])
    (tmp_path / "dog" / "003.png").write_text("no image")
    words = r"2 of 36.*repair or rem.*cat/002\.png \(.*dog/003\.png \("
    with pytest.warns(UserWarning, match=words):
        data = load(tmp_path)
    assert len(data) == 34 and data.labels.tolist() == [0] * 17 + [1] * 17
    (images,) = next(data.batches([torch.tensor([0, 1])]))
    assert torch.equal(images[1], decoded(4).float() / 255)


def test_what_is_no_image_of_a_known_format_is_not_read(tmp_path, monkeypatch):
    """Pillow would give PostScript to Ghostscript, whatever its file is called."""
    write_folder(tmp_path)
    script = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n"
    (tmp_path / "cat" / "002.png").write_bytes(script)
    monkeypatch.setattr(data_images, "MOST_BYTES", 2000)
    (tmp_path / "dog" / "003.png").write_bytes(encoded(3).ljust(2001, b"\0"))
    with pytest.warns(
        UserWarning, match=r"cat/002\.png \(cannot identify.*2,001 bytes"
    ):
        assert len(load(tmp_path)) == 34


def test_twenty_problems_are_named_in_a_warning_and_the_others_counted():
    named = listed([f"{number}.png" for number in range(25)])
    assert named.startswith("0.png; 1.png; ") and named.endswith("; 19.png; and 5 more")


@pytest.mark.parametrize("workers", [0, 1])
def test_an_image_that_goes_missing_is_named(both, tmp_path, workers):
    _, outside = both
    outside.workers = workers
    (tmp_path / "dog" / "001.png").unlink()
    words = r"dog/001\.png .*put it back as it was, and g"
    with pytest.raises(ValueError, match=words) as said:
        list(outside.batches(torch.arange(36).split(6)))
    assert "\n" not in str(said.value)


@pytest.mark.skipif(sys.platform != "linux", reason="names of any bytes are Linux's")
def test_files_may_have_names_of_any_letters(tmp_path, no_memory):
    write_folder(tmp_path)
    name = "caf\u00e9 \U0001f600 \udcff.png"
    (tmp_path / "cat" / name).write_bytes(encoded(99))
    data = load(tmp_path)
    assert data.images.source.where(18) == f"cat/{name}"  # 9 and 19 are held out
    assert torch.equal(data.batch(torch.tensor([18]))[0][0] * 255, decoded(99).float())
    assert data_signature("imagefolder", "train", tmp_path)


@pytest.mark.parametrize("fits", [True, False])
def test_sides_need_not_be_equal(tmp_path, monkeypatch, fits):
    """Images of 20×24 are scaled to 24×28 to cover 24×16, and cropped in the centre."""
    write_folder(tmp_path)
    monkeypatch.setattr(data_images, "SHARE_OF_MEMORY", 0.5 if fits else 0.0)
    for size in ("24x16", (24, 16)):
        data = load(tmp_path, image_size=size)
        assert isinstance(data, StreamedImages) != fits
        (images,) = data.batch(torch.arange(3))
        assert images.shape == (3, 3, 24, 16)
    whole = TF.pil_to_tensor(Image.open(tmp_path / "cat" / "000.png"))
    scaled = TF.resize(whole, [24, 28], antialias=True)
    assert torch.equal(images[0], scaled[:, :, 6:22].float() / 255)


def test_models_take_sides_that_are_not_equal(tmp_path):
    torch.manual_seed(0)
    vqvae2, images = VQVAE2(3, (24, 16), 8, 4, 16), torch.rand(3, 3, 24, 16)
    vqvae2.train().loss_function(images)
    codes = vqvae2.eval().get_code_indices(images)
    assert [tuple(grid.shape[1:]) for grid in codes.values()] == [(6, 4), (12, 8)]
    assert vqvae2.decode_codes(*codes.values()).shape == images.shape
    vqvae2.save_pretrained(tmp_path)
    assert torch.equal(VQVAE2.from_pretrained(tmp_path)(images), vqvae2(images))
    known = torch.ones(24, 16, dtype=torch.bool)
    known[12:] = False
    prior = HierarchicalPixelCNN(16, 4, 8, 2)
    assert complete(vqvae2, prior, images, known, seed=0).shape == images.shape


@pytest.mark.parametrize("size", ["0", "64x", "64x64x3", "6.5", (64,), None])
def test_sizes_that_are_none_are_named(size):
    with pytest.raises(ValueError, match=r"image_size is .*; give one number of pi"):
        load_images("fashion_mnist_mini", image_size=size)


def test_without_the_library_sets_say_how_to_get_it(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "datasets", None)
    for name in ("hub:any", "shards"):
        with pytest.raises(ValueError, match=r'pip install "pixelprior\[datasets\]"'):
            load(tmp_path, name=name)


@pytest.fixture
def shards(tmp_path):
    """A folder for shards, whose name is no pattern."""
    pytest.importorskip("datasets", reason="datasets is not installed")
    (tmp_path / "set [1]*").mkdir()
    return tmp_path / "set [1]*"


def test_shards_hold_the_images_of_a_folder(shards):
    write_shards(shards)
    data, test = (load(shards, split, "shards") for split in ("train", "test"))
    assert (len(data), len(test)) == (36, 4) and data.class_names == ("0", "1")
    kept = [number for number in range(COUNT) if number % 10 != 9]
    assert data.labels.tolist() == [number % 2 for number in kept]
    assert torch.equal(data.images, torch.stack([decoded(number) for number in kept]))
    for path in shards.iterdir():
        path.rename(shards.parent / path.name)
    by_pattern = load(shards.parent / "[01].tar", name="shards")
    assert torch.equal(by_pattern.images, data.images[:18])


def test_changed_shards_are_read_again(shards):
    write_shards(shards)
    before = load(shards, name="shards").images
    signatures = [data_signature("shards", "train", shards) for _ in range(2)]
    samples = {f"{n}": {"png": encoded(n), "cls": b"0"} for n in range(100, 110)}
    write_shard(shards / "0.tar", samples)
    after = load(shards, name="shards").images
    assert torch.equal(before[9:], after[9:]) and torch.equal(after[0], decoded(100))
    signatures.append(data_signature("shards", "train", shards))
    assert signatures[0] == signatures[1] != signatures[2]


def test_shards_may_be_streamed(shards, no_memory):
    write_shards(shards)
    data = load(shards, name="shards")
    assert isinstance(data, StreamedImages) and data.class_names == ("0", "1")
    assert data.labels[:4].tolist() == [0, 1, 0, 1]
    (images,) = next(data.batches([torch.tensor([20, 3])]))
    assert torch.equal(images[0], decoded(22).float() / 255)  # 9 and 19 are held out


def test_shards_of_a_test_split_are_known_by_their_names(shards):
    sample = {f"{i}": {"png": encoded(i), "cls": b"1"} for i in range(3)}
    first = {"9": {"png": encoded(9), "cls": b"0"}}
    write_shard(shards / "images-train-0.tar", sample | first)
    write_shard(shards / "images-val-0.tar", sample)
    write_shard(shards / "latest-1.tar", {"8": {"png": encoded(8), "cls": b"0"}})
    train, test = (load(shards, split, "shards") for split in ("train", "test"))
    assert (len(train), len(test)) == (5, 3) and test.class_names == ("0", "1")
    assert test.labels.tolist() == [1, 1, 1]
    for name in ("images-train-0", "latest-1"):
        (shards / f"{name}.tar").unlink()
    with pytest.raises(ValueError, match="has test, but no images in a split train; g"):
        load(shards, name="shards")


def test_bad_shards_are_named_in_one_line(shards):
    def refused(words, error=ValueError):
        with pytest.raises(error, match=words) as said:
            load(shards, name="shards")
        assert "\n" not in str(said.value)

    refused(r"no such \.tar file; --data_root is their folder", FileNotFoundError)
    write_shards(shards)
    path = shards / "2.tar"
    whole = path.read_bytes()
    for damaged in (whole[: len(whole) // 4 + 100], whole[:4096], b"no tar file " * 60):
        path.write_bytes(damaged)
        refused(r"cannot be loaded \(ReadError.*; give whole \.tar files \(tar -tf")
    path.unlink()
    write_shard(shards / "9.tar", {"x": {"png": encoded(1), "cls": b"cat"}})
    refused(r"cannot be loaded .*'cat'.* its class as a number in \.cls")
    for path in shards.glob("*.tar"):
        path.unlink()
    write_shard(shards / "0.tar", {"x": {"txt": b"words"}})
    refused("has train, .*txt, but no images in a split train; give")
    write_shard(shards / "0.tar", {"x": {"png": encoded(1)}})
    refused(r"1 images in .* too few to hold out every .*; give at least")


def test_bad_images_in_a_shard_are_named_and_left_out(shards, no_memory):
    samples = {f"{n:03d}": {"png": encoded(n), "cls": b"1"} for n in range(20)}
    samples["004"]["png"] = encoded(4)[:60]
    del samples["006"]["cls"]
    write_shard(shards / "0.tar", samples)
    words = r"2 of 18 images .*row 4 of .*\(004\.png\).*006\.png.*no class"
    with pytest.warns(UserWarning, match=words):
        assert len(load(shards, name="shards")) == 16


@pytest.fixture
def rows(tmp_path, monkeypatch):
    """A folder for a set in the formats of the hub, and a function that writes a split
    of it, with images that its numbers name or of the bytes that are given."""
    datasets = pytest.importorskip("datasets", reason="datasets is not installed")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    (tmp_path / "set").mkdir()

    def write(labels, split="train", damaged=(), absent=()):
        images = [
            {"bytes": encoded(n)[: 60 if n in damaged else None], "path": None}
            for n in range(len(labels))
        ]
        images = [None if n in absent else each for n, each in enumerate(images)]
        made = datasets.Dataset.from_dict({"image": images, "label": labels})
        made = made.cast_column("image", datasets.Image())
        made = made.cast_column("label", datasets.ClassLabel(names=["cat", "dog"]))
        made.to_parquet(tmp_path / "set" / f"{split}.parquet")

    return tmp_path / "set", write


@pytest.mark.slow
def test_a_set_of_the_hub_is_read_row_by_row(rows, no_memory):
    folder, write = rows
    write([n % 2 for n in range(COUNT)], damaged=[12], absent=[14])
    # It is the set's row that is named: row 12 is number 11 of the training images.
    words = r"2 of 36 images .*: row 12 of train in .* row 14 of train in "
    with pytest.warns(UserWarning, match=words):
        train = load(None, name=f"hub:{folder}")
    test = load(None, "test", f"hub:{folder}")
    assert (len(train), len(test)) == (34, 4) and train.class_names == ("cat", "dog")
    assert isinstance(train, StreamedImages) and train.workers
    (images,) = next(train.batches([torch.tensor([9, 0])]))
    assert torch.equal(images[0], decoded(10).float() / 255)  # 9 is held out
    assert train.labels[:3].tolist() == [0, 1, 0]


@pytest.mark.slow
def test_a_set_of_the_hub_is_kept_under_data_root(rows, tmp_path):
    folder, write = rows
    write([n % 2 for n in range(COUNT)])
    assert len(load(tmp_path / "kept", name=f"hub:{folder}")) == 36
    assert list(tmp_path.glob("kept/**/*.arrow"))
    assert not list(tmp_path.glob("cache/**/*.arrow"))


@pytest.mark.slow
def test_the_commands_take_a_stream_of_shards_that_is_not_square(shards, no_memory):
    write_shards(shards)
    images = ["--dataset", "shards", "--data_root", str(shards)]
    small = ["--hidden_channels", "8", "--epochs", "1", "--batch_size", "8"]
    folders = (shards.parent / name for name in ("vqvae2", "prior", "new"))
    vqvae2, prior, drawn = map(str, folders)
    first = ["train-vqvae2", *images, *small, "--image_size", "24x16"]
    cli.main([*first, "--num_embeddings", "8", "--output_dir", vqvae2])
    second = ["train-prior", *images, *small, "--vqvae2_checkpoint", vqvae2]
    second += ["--num_layers", "2", "--class_conditional"]
    cli.main([*second, "--output_dir", prior])
    models = ["--vqvae2_checkpoint", vqvae2, "--prior_checkpoint", prior]
    cli.main(["sample", *models, "--num_samples", "3", "--output_dir", drawn])
    paths = list((shards.parent / "new").glob("*.png"))
    assert {Image.open(path).size for path in paths} == {(16, 24)} and len(paths) == 3


@pytest.mark.slow
def test_a_split_whose_classes_are_withheld_is_passed_over(rows):
    folder, write = rows
    write([0, 1] * 5)
    write([-1, None], "test")
    write([1, 0], "validation")
    assert load(None, "test", f"hub:{folder}").labels.tolist() == [1, 0]
    (folder / "validation.parquet").unlink()
    with pytest.raises(ValueError, match=r"classes of test in .* are withheld; give"):
        load(None, "test", f"hub:{folder}")


@pytest.mark.slow
def test_what_the_hub_does_not_have_is_named(rows):
    def refused(words, error=ValueError):
        with pytest.raises(error, match=words) as said:
            load(None, name=f"hub:{folder}")
        assert "\n" not in str(said.value)

    folder, write = rows
    refused("cannot be loaded .*; give the name of a set", FileNotFoundError)
    import datasets

    table = datasets.Dataset.from_dict({"text": ["a"] * 12})
    table.to_parquet(folder / "train.parquet")
    refused("has train, text, but no images in a split train; give")
    # One of two files is cut short.
    write([0, 1] * 5)
    content = (folder / "train.parquet").read_bytes()
    (folder / "train-1.parquet").write_bytes(content[: len(content) // 2])
    refused(r"cannot be loaded \(Arrow.*[Pp]arquet.*; give .* undamaged files")


@pytest.mark.parametrize(
    "labels, marked, names, numbers",
    [
        ([7, 0, None, 2], None, tuple("01234567"), [7, 0, -1, 2]),
        (["02", "00", None, "1"], None, ("00", "02", "1"), [1, 0, -1, 2]),
        (["cat", "ant", None, "cat"], None, ("ant", "cat"), [1, 0, -1, 1]),
        ([-1, None, -1, None], None, ("images",), [0, 0, 0, 0]),
        ([0.5, 1.5, None, 2.5], None, ("images",), [0, 0, 0, 0]),
        ([0, 1, None, 2], ("0", "007", "7"), ("0", "007", "7"), [0, 1, -1, 2]),
    ],
)
def test_a_column_called_label_has_the_classes_where_none_is_marked(
    labels, marked, names, numbers
):
    """Marked classes keep their numbers, and -1 is no class."""
    datasets = pytest.importorskip("datasets", reason="datasets is not installed")

    def rows(labels):
        images = [{"bytes": encoded(0), "path": None}] * len(labels)
        made = datasets.Dataset.from_dict({"image": images, "label": labels})
        if marked:
            made = made.cast_column("label", datasets.ClassLabel(names=list(marked)))
        return made.cast_column("image", datasets.Image())

    found = {"train": rows(labels), "test": rows(labels[:2])}
    train, test = (Rows(found, "set", split) for split in found)
    assert train.class_names == test.class_names == names
    assert (train.labels.tolist(), test.labels.tolist()) == (numbers, numbers[:2])
