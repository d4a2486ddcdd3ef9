"""Checks of notebook 09: counting decides whether a batch fits, a folder is right if
the loader finds each image in its class, and a published prior must be read again."""

import copy
import functools
import json
import shutil
import warnings

import pytest
import torch
from answers import SMALL, refused, right, wrong
from PIL import Image
from safetensors.torch import save_file

from pixelprior.checkpoints import load_model
from pixelprior.course.checks import scaling as check
from pixelprior.course.planning import KEPT, plan
from pixelprior.prior import HierarchicalPixelCNN
from pixelprior.vqvae2 import VQVAE2

GIB = 0.1  # of which three quarters are to be used
LIMIT = 0.75 * GIB * 2**30

# The largest batch.


@functools.cache
def planned(precision="no"):
    return plan(HierarchicalPixelCNN, mixed_precision=precision, **SMALL)


@functools.cache
def largest(precision="no"):
    """The largest batch that fits, found by trying one size after the other."""
    batch = 1
    while planned(precision).bytes_at(batch + 1) <= LIMIT:
        batch += 1
    return batch


@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_the_last_batch_that_fits_is_right(precision):
    of, batch = planned(precision), largest(precision)
    by_line = (LIMIT - of.bytes_at(1)) // of.kept_per_image + 1
    for answer in (batch, by_line, torch.tensor([batch])):
        assert check.largest_batch(answer, SMALL, GIB, mixed_precision=precision)


def test_a_batch_that_is_not_the_largest_is_told_so(judge):
    an_image, batch = planned().kept_per_image, largest()
    images_alone = int(LIMIT // an_image)
    all_of_it = int((GIB * 2**30 - planned().bytes_at(1)) // an_image)
    assert planned().parts(images_alone)[KEPT] <= LIMIT
    for answer, words in (
        (batch - 1, "more of them would fit"),
        (1, "more of them would fit"),
        (batch + 1, "are to be used"),
        (images_alone, "what lies there besides"),
        (all_of_it, "only if nothing is left free"),
        (10**9, "are to be used"),
        (largest("bf16"), "are to be used"),
        (0, "whole"),
        (batch + 0.5, "whole"),
    ):
        verdict = judge("largest_batch", answer)
        refused(verdict, words)
        given_away = str(batch) in verdict.words.replace(f"{answer:g}", "")
        assert not given_away, verdict


# A folder of images.


def sort_into(target, paths, split_of, train="train", test="test"):
    """Copy each image, those for the test being told by (class, number, count so far
    of its class)."""
    seen = {}
    for path in sorted(paths):
        kind, number = path.stem.split("-")
        held = split_of(int(number), seen.get(kind, 0))
        seen[kind] = seen.get(kind, 0) + 1
        folder = target / (test if held else train) / kind
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, folder)
    return target


def whole(source):
    for path in source.glob("*.png"):
        try:
            with Image.open(path) as image:
                image.verify()
        except OSError:
            continue
        yield path


def sorting(split_of, **names):
    return lambda source, target: sort_into(target, whole(source), split_of, **names)


by_counting = sorting(lambda number, count: count % 4 == 3)


def without_looking(source, target):
    return sort_into(target, source.glob("*.png"), lambda number, count: not number % 4)


def after(change):
    """An answer that sorts and then does something more with (source, target)."""

    def answer(source, target):
        given = by_counting(source, target)
        change(source, target)
        return given

    return answer


def grey_left_out(source, target):
    for path in target.rglob("*.png"):
        with Image.open(path) as image:
            grey = image.mode == "L"
        if grey:
            path.unlink()


def both_splits(source, target):
    for path in (target / "test").rglob("*.png"):
        shutil.copy(path, target / "train" / path.parent.name)


def one_class(source, target):
    for split in ("train", "test"):
        (target / split / "ring").mkdir(exist_ok=True)
        for path in (target / split / "disc").glob("*.png"):
            path.rename(target / split / "ring" / path.name.replace("disc", "x"))
        (target / split / "disc").rmdir()


def mixed_up(source, target):
    one, other = (
        next((target / "train" / kind).glob("*.png")) for kind in ("disc", "ring")
    )
    one.rename(other.with_name("one.png"))
    other.rename(one)


def in_the_wrong_place(source, target):
    path = next((target / "train").rglob("*.png"))
    path.rename(target / "train" / path.name)


def flat(source, target):
    for split in ("train", "test"):
        (target / split).mkdir(parents=True)
        for path in whole(source):
            shutil.copy(path, target / split)
    return target


# A published prior and its VQ-VAE-2.


def saved(vqvae2, prior, folder, **options):
    vqvae2.save_pretrained(folder / "vqvae2", **options)
    prior.save_pretrained(folder / "prior", **options)
    return (
        VQVAE2.from_pretrained(folder / "vqvae2"),
        HierarchicalPixelCNN.from_pretrained(folder / "prior"),
    )


def one_in_the_other(vqvae2, prior, folder):
    prior.save_pretrained(str(folder))
    vqvae2.save_pretrained(str(folder / "images"))
    return [
        load_model(VQVAE2, folder / "images"),
        load_model(HierarchicalPixelCNN, folder),
    ]


def by_its_own_hands(vqvae2, prior, folder):
    """Saves without `save_pretrained`, so that nothing is altered."""
    for name, model in (("a", vqvae2), ("b", prior)):
        (folder / name).mkdir(parents=True)
        save_file(model.state_dict(), folder / name / "model.safetensors")
        config = model._hub_mixin_config | {"model_class": type(model).__name__}
        (folder / name / "config.json").write_text(json.dumps(config))
    classes = {"a": VQVAE2, "b": HierarchicalPixelCNN}
    return [load_model(of, folder / name) for name, of in classes.items()]


def but(change):
    """An answer that saves and reads as it should, and gives what `change` makes of
    (the models that were given, those that were read, the folder)."""
    return lambda *given: change(given[:2], saved(*given), given[2])


def pickled(given, again, folder):
    torch.save(given[1].state_dict(), folder / "weights.bin")
    return again


def old_pickle(vqvae2, prior, folder):
    folder.mkdir()
    torch.save(prior, folder / "prior", _use_new_zipfile_serialization=False)
    return copy.deepcopy((vqvae2, prior))


def without_config(given, again, folder):
    (folder / "prior" / "config.json").unlink()
    return again


def untrained(given, again, folder):
    return again[0], HierarchicalPixelCNN(8, 4, 8, 2, num_classes=3).eval()


def spoiled(vqvae2, prior, folder):
    with torch.no_grad():
        prior.prior_top.embedding.weight.zero_()
    return saved(vqvae2, prior, folder)


def copied_before(vqvae2, prior, folder):
    again = copy.deepcopy((vqvae2, prior))
    saved(vqvae2, prior, folder)
    return again


def one_over_the_other(vqvae2, prior, folder):
    vqvae2.save_pretrained(folder)
    again = VQVAE2.from_pretrained(folder)
    prior.save_pretrained(folder)
    return again, HierarchicalPixelCNN.from_pretrained(folder)


@right(
    {
        "sorted_folder": [by_counting, lambda *given: str(by_counting(*given))]
        + [sorting(lambda number, count: count % 4 == 0)],
        "published": [saved, one_in_the_other, by_its_own_hands],
    }
)
def test_a_right_answer_passes_however_it_is_written(check, answer, judge):
    verdict = judge(check, answer)
    assert verdict.passed, verdict


@wrong(
    {
        "sorted_folder": [
            (without_looking, "images cannot be used and were left out"),
            (after(grey_left_out), "missing"),
            (after(lambda s, t: next(s.glob("*.png")).unlink()), "copy its files"),
            (after(both_splits), "there twice"),
            (after(one_class), "the classes are ring"),
            (after(mixed_up), "lies under"),
            (flat, "the classes are images"),
            (after(in_the_wrong_place), "no class of the training images"),
            (sorting(lambda n, count: count % 4 == 0, test="held"), "no folder test"),
            (sorting(lambda number, count: count % 2 == 0), "every fourth"),
            (sorting(lambda number, count: count < 3), "3 are in test, but not every"),
            # By the number in the file name, which counts the broken file as well.
            (sorting(lambda number, count: number % 4 == 3), "every fourth"),
            (lambda source, target: 36, "int"),
            (lambda *given: by_counting(*given) / "train", "no folder train"),
        ],
        "published": [
            (but(pickled), "weights.bin is a pickle"),
            (old_pickle, "is a pickle"),
            (lambda *given: saved(*given, dtype=torch.float16), "differs"),
            (but(lambda _, again, __: (again[0], again[1].train())), "training mode"),
            (but(without_config), "1 files config.json"),
            (but(untrained), "differs"),
            (spoiled, "differs"),
            (lambda *given: copy.deepcopy(given[:2]), "0 files config.json"),
            (but(lambda given, *_: given), "the same model"),
            (but(lambda given, *_: copy.deepcopy(given)), "VQ-VAE-2 that you give was"),
            (copied_before, "VQ-VAE-2 that you give was not read"),
            (
                but(lambda given, again, _: (again[0], copy.deepcopy(given[1]))),
                "prior that you give was not read",
            ),
            (one_over_the_other, "a folder of its own"),
            (but(lambda _, again, __: again[1]), "HierarchicalPixelCNN"),
            (but(lambda _, again, __: again[::-1]), "in this order"),
        ],
    }
)
def test_another_answer_hears_what_is_wrong_with_it(check, answer, words, judge):
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # none may reach the reader
        verdict = judge(check, answer)
    refused(verdict, *words)
    assert "/tmp" not in verdict.words


def test_saving_is_as_before_when_the_check_is_done(tmp_path):
    check.published(saved)
    prior = HierarchicalPixelCNN(8, 4, 8, 2)
    prior.save_pretrained(tmp_path)
    again = HierarchicalPixelCNN.from_pretrained(tmp_path)
    for one, other in zip(prior.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other)
