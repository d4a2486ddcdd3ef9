"""Checks for notebook 09: a batch that fits into memory, a folder that the loader
reads, and a prior that is read back."""

import tempfile
import warnings
from pathlib import Path
from unittest import mock

import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from pixelprior.checkpoints import CONFIG_NAME, WEIGHTS_NAME, Pretrained, load_model
from pixelprior.course.checks.verdict import Wrong, call, judged, need_number
from pixelprior.course.planning import KEPT, plan
from pixelprior.data.images import load_images
from pixelprior.files import write_tensors
from pixelprior.prior import HierarchicalPixelCNN
from pixelprior.vqvae2 import VQVAE2

GIB = 2**30
SIDE = 16  # pixels; images are also loaded at this size, so none is resized
BROKEN = 5  # number of the file that is no image, in the middle of the first class


@judged
def largest_batch(
    answer, arguments: dict, gib: float, free: float = 0.25, mixed_precision="no"
) -> str:
    """The answer is the most images per step with which a prior of `arguments` trains
    in `gib` GiB, of which the share `free` is left free.

    The check counts the bytes at this batch size and at the next.
    """
    answer = need_number(answer)
    if answer < 1 or answer % 1:
        raise Wrong(f"{answer:g} is no number of images; give a whole one from 1 on")
    batch = int(answer)
    planned = plan(HierarchicalPixelCNN, mixed_precision=mixed_precision, **arguments)
    limit = (1 - free) * gib * GIB
    needed = planned.bytes_at(batch)
    if needed > limit:
        hint = ""
        if planned.parts(batch)[KEPT] <= limit:
            hint = "; what the images add would fit alone, and what lies there besides?"
        elif needed <= gib * GIB:
            hint = "; it fits only if nothing is left free"
        raise Wrong(
            f"{batch} images per step need {needed / GIB:.3f} GiB, and "
            f"{limit / GIB:.3f} GiB are to be used{hint}"
        )
    if planned.bytes_at(batch + 1) <= limit:
        raise Wrong(
            f"{batch} images per step need {needed / GIB:.3f} GiB of the "
            f"{limit / GIB:.3f} GiB; more of them would fit"
        )
    return "that batch fits into what is to be used, and one image more would not"


@judged
def sorted_folder(answer) -> str:
    """The answer is a function (source, target) that sorts a heap of images into
    target/train/CLASS and target/test/CLASS, and returns the target.

    The check tries it on two heaps, whose files are named CLASS-NUMBER.png. It reads
    the result as `--dataset imagefolder` does.
    """
    for number, names in enumerate((("disc", "ring"), ("cat", "owl", "yak"))):
        with tempfile.TemporaryDirectory() as folder:
            source, target = Path(folder, "heap"), Path(folder, "photos")
            colours = _heap(source, names, number)
            before = _listing(source)
            given = call(answer, source, target)
            if not isinstance(given, (str, Path)):
                raise Wrong(
                    f"your function gives {type(given).__name__}, but the folder for "
                    "--data_root is needed"
                )
            if _listing(source) != before:
                raise Wrong(
                    "the heap is not what it was; copy its files, so that whoever "
                    "made it still has it"
                )
            _judge_folder(Path(given), names, colours)
    return "two heaps were sorted, and the loader finds each image once, in its class"


def _heap(folder: Path, names: tuple[str, ...], seed: int) -> dict[int, str]:
    """Write images of one colour each, a grey one among them, and two files that are
    not images.

    Returns:
        The class of each image by its red value, in the order of the file names.
    """
    folder.mkdir()
    generator = torch.Generator().manual_seed(seed)
    order = iter(torch.randperm(256, generator=generator).tolist())
    classes = {}
    for name in names:
        first = name == names[0]
        for number in range(14 if first else 11):
            path = folder / f"{name}-{number:02d}.png"
            if first and number == BROKEN:
                path.write_text("not an image")
                continue
            red, grey = next(order), first and number == 2
            shade = red if grey else (red, 255 - red, 7 * len(names))
            Image.new("L" if grey else "RGB", (SIDE, SIDE), shade).save(path)
            classes[red] = name
    (folder / "notes.txt").write_text("taken in autumn")
    return classes


def _listing(folder: Path) -> list[tuple[str, bytes]]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return [(path.relative_to(folder).as_posix(), path.read_bytes()) for path in files]


def _judge_folder(root: Path, names: tuple[str, ...], colours: dict[int, str]) -> None:
    found: dict[int, str] = {}
    for split in ("train", "test"):
        if not (root / split).is_dir():
            raise Wrong(f"there is no folder {split} in the folder that you give")
        with warnings.catch_warnings(record=True) as complaints:
            # Warnings of the reader's own code, such as for open files, are ignored.
            warnings.simplefilter("ignore")
            warnings.simplefilter("always", UserWarning)
            try:
                data = load_images(
                    "imagefolder", split, data_root=root, image_size=SIDE
                )
            except (ValueError, OSError) as error:
                words = str(error).replace(str(root), "your folder")
                raise Wrong(f"the loader refuses it: {words}") from error
        if complaints:
            words = str(complaints[0].message).replace(str(root), "your folder")
            raise Wrong(f"the loader complains of {split}: {words}")
        if set(data.class_names) != set(names):
            raise Wrong(
                f"the classes are {', '.join(data.class_names)}, and should be "
                f"{', '.join(names)}; the folders below train are the classes"
            )
        for image, label in zip(data.images, data.labels.tolist(), strict=True):
            red = int(image[0, 0, 0])
            if red in found:
                raise Wrong("an image is there twice; a test image must not be trained")
            found[red] = split
            if data.class_names[label] != colours.get(red):
                raise Wrong(
                    f"an image of {colours.get(red, 'no class')} lies under "
                    f"{data.class_names[label]} in {split}"
                )
    if missing := len(colours) - len(found):
        raise Wrong(
            f"{missing} of {len(colours)} images are missing; is it a grey one?"
        )
    for name in names:
        splits = [found[red] for red in colours if colours[red] == name]
        held = [position for position, split in enumerate(splits) if split == "test"]
        if not any(held == list(range(k, len(splits), 4)) for k in range(4)):
            raise Wrong(
                f"of the {len(splits)} whole images of {name}, {len(held)} are in "
                "test, but not every fourth in the order of the names"
            )


@judged
@torch.no_grad()
def published(answer) -> str:
    """The answer is a function (vqvae2, prior, folder) that saves both models below the
    folder and returns both as read from there.

    The check tries it with small models and compares weights and samples. It alters one
    number in each file that `save_pretrained` writes, to find out whether the models
    were read from the files or copied from memory.
    """
    torch.manual_seed(0)
    given = (
        VQVAE2(
            image_size=16, hidden_channels=8, embedding_dim=4, num_embeddings=8
        ).eval(),
        HierarchicalPixelCNN(8, 4, 8, 2, num_classes=3).eval(),
    )
    before = [
        {name: each.clone() for name, each in model.state_dict().items()}
        for model in given
    ]
    altered: set[Path] = set()
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder, "mine")
        with mock.patch.object(Pretrained, "save_pretrained", _altering(altered)):
            back = call(answer, *given, folder)
        classes = [VQVAE2, HierarchicalPixelCNN]
        if not isinstance(back, (tuple, list)) or [*map(type, back)] != classes:
            raise Wrong(
                f"your function gives {type(back).__name__}, but the VQ-VAE-2 and the "
                "prior are needed, in this order, read again from their folders"
            )
        if any(one is other for one, other in zip(back, given, strict=True)):
            raise Wrong("that is the same model, not one that was read from a folder")
        _judge_files(folder)
        for model_class, model, mine, old in zip(
            classes, given, back, before, strict=True
        ):
            what = "VQ-VAE-2" if model_class is VQVAE2 else "prior"
            _compare_weights(f"the {what} that you were given", model.state_dict(), old)
            own_folder = _folder_of(model_class, folder)
            kept = load_model(model_class, own_folder).state_dict()
            wanted = _altered(old) if own_folder.resolve() in altered else old
            _compare_weights(f"the folder {own_folder.name}", kept, wanted)
            if wanted is not old and _equal(mine.state_dict(), old):
                raise Wrong(
                    f"the {what} that you give was not read from the folder: its files "
                    "were altered after you saved it, and it does not have that"
                )
            _compare_weights(f"the {what} that you give", mine.state_dict(), kept)
            if mine.training:
                raise Wrong(
                    f"the {what} is in training mode, so that dropout spoils its use"
                )
        kept = [
            load_model(model_class, _folder_of(model_class, folder))
            for model_class in classes
        ]
        labels = torch.arange(3)
        images = [
            prior.sample_with_vqvae2(vqvae2, 3, labels=labels, seed=1)
            for vqvae2, prior in (kept, back)
        ]
        if not torch.equal(*images):
            raise Wrong("the same seed gives other images than what lies there does")
    return "the same weights and the same samples, read from files without a pickle"


def _altered(state: dict) -> dict:
    """The same state, except that one number is changed."""
    name = min(name for name, each in state.items() if each.is_floating_point())
    changed = state[name].clone()
    changed.view(-1)[0] += 1
    return state | {name: changed}


def _altering(folders: set[Path]):
    """A `save_pretrained` that alters what it wrote, and adds its folder to the set."""
    save = Pretrained.save_pretrained

    def altering(self, save_directory, **options):
        done = save(self, save_directory, **options)
        path = Path(save_directory, WEIGHTS_NAME)
        write_tensors(_altered(load_file(path)), path, {"format": "pt"})
        folders.add(path.parent.resolve())
        return done

    return altering


def _judge_files(folder: Path) -> None:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    if pickles := [path.name for path in files if _is_pickle(path)]:
        raise Wrong(
            f"{', '.join(pickles)} is a pickle, which may run code on whoever loads it"
        )
    for name in (CONFIG_NAME, WEIGHTS_NAME):
        count = sum(path.name == name for path in files)
        if count != 2:
            raise Wrong(
                f"there are {count} files {name} below the folder; each of the two "
                "models needs its own, so give each a folder of its own"
            )


def _folder_of(model_class, folder: Path) -> Path:
    """The folder below `folder` that holds a model of that class."""
    for path in sorted(folder.rglob(CONFIG_NAME)):
        try:
            load_model(model_class, path.parent)
        except (ValueError, OSError):
            continue
        return path.parent
    raise Wrong(f"no folder holds a {model_class.__name__} that can be read")


def _is_pickle(path: Path) -> bool:
    """Whether a file is a pickle, or an archive with one, as torch.save writes it."""
    start = path.read_bytes()[:2]
    return start[:1] == b"\x80" or start == b"PK" or path.suffix in (".pkl", ".pickle")


def _equal(one: dict, other: dict) -> bool:
    return one.keys() == other.keys() and all(
        torch.equal(one[name], other[name]) for name in one
    )


def _compare_weights(what: str, found: dict, wanted: dict[str, Tensor]) -> None:
    if found.keys() != wanted.keys():
        raise Wrong(f"{what} has other weights by name than there were")
    for name, value in wanted.items():
        if found[name].shape != value.shape:
            raise Wrong(f"{name} of {what} has another shape than it had")
        if found[name].dtype != value.dtype or not torch.equal(found[name], value):
            apart = (found[name].float() - value.float()).abs().max().item()
            raise Wrong(
                f"{name} of {what} differs from what it was, by up to {apart:.1g}; the "
                "weights should be the same to the last bit"
            )
