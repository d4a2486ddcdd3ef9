"""Checks for notebook 09: where an image of one's own lies, what two curves say to
change, in which order an epoch has its images, and how many steps it takes."""

import contextlib
import itertools
import json
import tempfile
from pathlib import Path

import torch
from PIL import Image

from pixelprior.assets import FOLDER
from pixelprior.course.checks import verdict
from pixelprior.course.checks.verdict import NotAttempted, Wrong, call, judged
from pixelprior.data.images import load_images

RESUMED = "not at all: they are the same, to the last bit"  # of 09.5
BROKEN = "it stops"  # of 09.6

LAID_OUT = {"cat": 21, "owl": 12}  # images by kind
CAUSES = ("longer", "lower rate", "larger", "regularize")  # of runs A, B, C, D


def _calls(answer, cases: dict[str, tuple]) -> dict:
    """What the answer returns in each case {its words: arguments}, if it returns
    something in all of them."""
    found = {}
    for words, given in cases.items():
        with contextlib.suppress(NotAttempted):
            found[words] = call(answer, *given)
    if not found:
        raise NotAttempted(verdict.NOTHING_RETURNED)
    for words in cases:
        if words not in found:
            raise Wrong(f"your function returns None for {words}")
    return found


def path_of(folder: Path, kind: str, number: int) -> Path:
    """Where image `number` of a kind goes: each tenth is a test image."""
    split = "test" if number % 10 == 9 else "train"
    return folder / split / kind / f"{number}.png"


@judged
def image_path(answer) -> str:
    """The answer is a function as `path_of`: images are written there, and read."""
    with tempfile.TemporaryDirectory() as folder:
        root, taken, said = Path(folder, "photos"), {}, {}
        images = {
            f"image {number} of {kind}": (root, kind, number)
            for kind, count in LAID_OUT.items()
            for number in range(count)
        }
        for image, path in _calls(answer, images).items():
            path = Path(path)  # or a TypeError, which says what is wrong
            goes = path.as_posix().replace(root.as_posix(), "photos")
            said[image] = f"{image} goes to {goes}"
            if path.suffix != ".png":
                raise Wrong(f"{said[image]}, and its name has to end with .png")
            if root not in path.parents:
                raise Wrong(f"{said[image]}, which is not in the folder that was given")
            if path in taken:
                raise Wrong(f"{said[image]}, where it overwrites {taken[path]}")
            taken[path] = image
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (16, 16), (images[image][2], 0, 0)).save(path)
        for split, image in (("test", "image 9 of cat"), ("train", "image 0 of cat")):
            if not (root / split).is_dir():
                raise Wrong(f"no image goes to photos/{split}; {said[image]}")
        _judge_split(root, "test")
        _judge_split(root, "train")
    return "each class has its folder in both splits, and every tenth image is a test"


def _judge_split(root: Path, split: str) -> None:
    data = load_images("imagefolder", split, data_root=root, image_size=16)
    if [*data.class_names] != [*LAID_OUT]:
        raise Wrong(
            f"in {split}, the loader finds the classes {', '.join(data.class_names)}, "
            f"and not {', '.join(LAID_OUT)}: a folder directly below {split} is a class"
        )
    for which, (name, count) in enumerate(LAID_OUT.items()):
        numbers = sorted(data.images[data.labels == which][:, 0, 0, 0].tolist())
        wanted = [n for n in range(count) if (n % 10 == 9) == (split == "test")]
        if numbers == sorted({*range(count)} - {*wanted}):
            raise Wrong("training images are in test, and test images in train")
        if numbers != wanted:
            raise Wrong(
                f"the {split} images of {name} are those with the numbers {numbers}; "
                "which number has the tenth image, if the first has number 0?"
            )


def kept() -> dict:
    """What assets/results/emoji/curves.json holds of runs and their flags."""
    path = FOLDER / "results" / "emoji" / "curves.json"
    return json.loads(path.read_text(encoding="utf-8"))


def runs() -> dict[str, dict[str, list[float]]]:
    """Losses by epoch of four runs, whose causes are `CAUSES`."""
    file, found = kept(), {}
    for name, cause in zip("ABCD", CAUSES, strict=True):
        curves = {k: file["runs"][cause][k] for k in ("training", "held out")}
        level = [file["unigram"]] * len(curves["training"])
        found[f"run {name}"] = curves | {"unigram entropy": level}
    return found


def advice_of(training: list[float], heldout: list[float], unigram: float) -> str:
    """What to change, from two curves; differences below 0.05 nats are chance."""
    if training[-1] > unigram - 0.05:
        return "lower rate"
    if heldout[-1] > min(heldout) + 0.05:
        return "regularize"
    before = heldout[-max(2, len(heldout) // 4)]
    return "longer" if before - heldout[-1] > 0.05 else "larger"


def _made(cause: str, epochs: int, unigram: float, gap: float):
    """Curves with a known cause, which go up and down a little by chance."""
    t = torch.arange(epochs).double()
    chance = 0.008 * torch.sin(2.5 * t)

    def fall(low: float, quick: float):
        return low + (unigram - low) * torch.exp(-quick * t / epochs)

    heldout = {
        "longer": unigram - 0.1 - 0.06 * t,
        "lower rate": unigram + 0.4 * torch.exp(-t),
        "larger": fall(0.8 * unigram, 15),
        "regularize": fall(0.6 * unigram, 12) + (t / epochs - 0.3).clamp(0) * 0.8,
    }[cause]
    overfits = cause == "regularize"
    training = fall(0.3 * unigram, 4) if overfits else heldout - gap
    return (training - chance).tolist(), (heldout + chance).tolist()


def _known():
    """Runs with their causes: those of the notebook, and some that were made up."""
    for cause, run in zip(CAUSES, runs().values(), strict=True):
        training, heldout, (unigram, *_) = run.values()
        yield cause, training, heldout, unigram
        yield cause, *_made(cause, 24, 3.4, 0.03), 3.4
        yield cause, *_made(cause, 12, 2.2, 0.03), 2.2
    yield "longer", *_made("longer", 16, 2.8, 0.5), 2.8


def _seen(cause: str, training, heldout, unigram: float) -> str:
    """What shows the cause in the curves of a run."""
    ended, end = f"the training loss ends at {training[-1]:.2f}", f"{heldout[-1]:.2f}"
    seen = {
        "longer": f"the held-out loss fell from {heldout[-4]:.2f} to {end} in the last "
        f"three epochs ({ended})",
        "lower rate": f"{ended}, and the unigram entropy is {unigram:.2f}",
        "larger": f"both losses are level at the end, up to chance ({end} held out)",
        "regularize": f"the held-out loss rose from {min(heldout):.2f} to {end}",
    }
    return f"a run in which {seen[cause]}"


@judged
def advice(answer) -> str:
    """The answer is a function as `advice_of`, tried on curves with known causes."""
    known = {_seen(*run): run for run in _known()}
    answers = _calls(answer, {seen: given for seen, (_, *given) in known.items()})
    for seen, said in answers.items():
        said = "regularize" if said == "regularise" else said
        if said not in CAUSES:
            raise Wrong(f"you say {said!r}; one of {', '.join(CAUSES)} is needed")
        if said != known[seen][0]:
            raise Wrong(f"you say {said!r} of {seen}")
    return "the advice fits the cause in the four runs, and in others that were made up"


@judged
def order(answer) -> str:
    """The answer is a function (seed, epoch, count) that returns the order in which an
    epoch has its images, whatever was drawn before."""
    state, orders = torch.get_rng_state(), {}
    for seed, epoch in itertools.product(range(13), (*range(13), 50, 100, 1000)):
        z = call(answer, seed, epoch, 50)
        z = verdict.need_tensor(z, (50,), "the order").tolist()
        if sorted(z) != [*range(50)]:
            raise Wrong(
                "the order needs each of the images 0 to 49 once; yours runs from "
                f"{min(z)} to {max(z)}, with {len(set(z))} different numbers"
            )
        then = orders.setdefault(tuple(z), (seed, epoch))
        if then != (seed, epoch):
            raise Wrong(
                f"seed {seed} has in epoch {epoch} the order that seed {then[0]} had "
                f"in epoch {then[1]}"
            )
    touched = not torch.equal(state, torch.get_rng_state())
    torch.rand(7)
    if z != call(answer, seed, epoch, 50).tolist():
        raise Wrong(
            "the same seed and epoch have another order when random numbers were drawn "
            "in between, so a resumed run would see other images"
        )
    if touched:
        raise Wrong(
            "your function changes torch's own random state, from which dropout is "
            "drawn; a torch.Generator has a state of its own"
        )
    return "seed and epoch alone decide, so a resumed run has the same order"


@judged
def steps(answer) -> str:
    """The answer is a function (images, batch_size, processes): steps of an epoch."""
    for images, batch_size, processes in ((96, 16, 2), (444, 32, 1), (444, 32, 4)):
        got = verdict.need_number(call(answer, images, batch_size, processes))
        taken = len(torch.arange(images).split(batch_size * processes))
        if got != taken:
            few = "fewer" if got < taken else "more"
            raise Wrong(
                f"of {images} images, {batch_size} per batch and {processes} "
                f"process(es), you say {got:g} steps, which is {few} than it takes"
            )
    return "a step takes a batch from each process, and the last step what is left"
