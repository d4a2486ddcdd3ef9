"""Checks of notebook 09: counting decides whether a batch fits, a folder is right if
the loader finds each image in its class, and a published prior must be read again."""

import copy
import json
import math
import shutil
import warnings

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from pixelprior.checkpoints import load_model
from pixelprior.course.checks import scaling as check
from pixelprior.course.planning import KEPT, plan
from pixelprior.prior import HierarchicalPixelCNN
from pixelprior.vqvae2 import VQVAE2

SMALL = {"num_embeddings": 32, "embedding_dim": 8, "hidden_channels": 32}
SMALL |= {"num_layers": 3}
GIB = 0.1  # of which three quarters are to be used
LIMIT = 0.75 * GIB * 2**30
ODD = ["text", object(), [], {}, True, math.nan, math.inf, -1, torch.ones(2, 3)]
ODD += [lambda *_: 1 / 0, lambda: 3, lambda *_: object(), lambda *_: "no such folder"]


@pytest.mark.parametrize("odd", ODD)
def test_no_odd_answer_ends_in_a_traceback(odd):
    for verdict in (
        check.largest_batch(odd, SMALL, GIB),
        check.sorted_folder(odd),
        check.published(odd),
    ):
        assert verdict.passed is False
        assert verdict.words


def test_what_was_not_attempted_is_no_failure():
    assert check.largest_batch(None, SMALL, GIB).passed is None
    for judged in (check.sorted_folder, check.published):
        assert judged(None).passed is None
        assert judged(lambda *_: None).passed is None


# The largest batch.


def fits(planned, batch):
    return planned.bytes_at(batch) <= LIMIT


def largest(precision="no"):
    """The largest batch that fits, found by trying one size after the other."""
    planned, batch = plan(HierarchicalPixelCNN, mixed_precision=precision, **SMALL), 1
    while fits(planned, batch + 1):
        batch += 1
    return batch


@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_the_last_batch_that_fits_is_right(precision):
    batch = largest(precision)
    assert check.largest_batch(batch, SMALL, GIB, mixed_precision=precision)
    planned = plan(HierarchicalPixelCNN, mixed_precision=precision, **SMALL)
    by_line = (LIMIT - planned.bytes_at(1)) // planned.kept_per_image + 1
    assert check.largest_batch(by_line, SMALL, GIB, mixed_precision=precision)
    given = torch.tensor([batch])
    assert check.largest_batch(given, SMALL, GIB, mixed_precision=precision)


def test_a_batch_that_is_not_the_largest_is_told_so():
    planned, batch = plan(HierarchicalPixelCNN, **SMALL), largest()
    images_alone = int(LIMIT // planned.kept_per_image)
    all_of_it = int((GIB * 2**30 - planned.bytes_at(1)) // planned.kept_per_image)
    assert planned.parts(images_alone)[KEPT] <= LIMIT < planned.bytes_at(images_alone)
    for answer, words in (
        (batch - 1, "more of them would fit"),
        (1, "more of them would fit"),
        (batch + 1, "are to be used"),
        (images_alone, "what lies there besides"),
        (all_of_it, "only if nothing is left free"),
        (10**9, "are to be used"),
        (0, "whole"),
        (batch + 0.5, "whole"),
    ):
        verdict = check.largest_batch(answer, SMALL, GIB)
        assert verdict.passed is False
        assert words in verdict.words


def test_the_words_do_not_give_the_largest_batch_away():
    answer = str(largest())
    for wrong in (1, largest() - 1, largest() + 1, 10**6):
        words = check.largest_batch(wrong, SMALL, GIB).words
        assert answer not in words.replace(str(wrong), "")


def test_the_number_for_bf16_is_wrong_for_float32():
    assert not check.largest_batch(largest("bf16"), SMALL, GIB)


# A folder of images.


def whole(path):
    try:
        with Image.open(path) as image:
            image.verify()
    except OSError:
        return False
    return True


def by_counting(source, target):
    seen = {}
    for path in sorted(source.glob("*.png")):
        if whole(path):
            kind = path.stem.split("-")[0]
            seen[kind] = seen.get(kind, 0) + 1
            split = "test" if seen[kind] % 4 == 0 else "train"
            folder = target / split / kind
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, folder)
    return target


def by_class(source, target, *, train="train", test="test", held=slice(0, None, 4)):
    paths = sorted(filter(whole, source.glob("*.png")))
    for kind in {path.stem.split("-")[0] for path in paths}:
        own = [path for path in paths if path.stem.startswith(kind)]
        for path in own:
            folder = target / (test if path in own[held] else train) / kind
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, folder)
    return str(target)


def by_the_number(source, target):
    """Sorts by the number in the file name, and so counts the broken file as well."""
    for path in filter(whole, source.glob("*.png")):
        kind, number = path.stem.split("-")
        folder = target / ("test" if int(number) % 4 == 3 else "train") / kind
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, folder)
    return target


def test_a_sorted_folder_is_right_however_it_was_sorted():
    assert check.sorted_folder(by_counting)
    assert check.sorted_folder(by_class)


def without_looking(source, target):
    for path in source.glob("*.png"):
        kind, number = path.stem.split("-")
        folder = target / ("train" if int(number) % 4 else "test") / kind
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, folder)
    return target


def without_grey(source, target):
    given = by_counting(source, target)
    for path in target.rglob("*.png"):
        with Image.open(path) as image:
            grey = image.mode == "L"
        if grey:
            path.unlink()
    return given


def moved(source, target):
    given = by_counting(source, target)
    next(source.glob("*.png")).unlink()
    return given


def both_splits(source, target):
    by_counting(source, target)
    for path in (target / "test").rglob("*.png"):
        shutil.copy(path, target / "train" / path.parent.name)
    return target


def one_class(source, target):
    given = by_counting(source, target)
    for split in ("train", "test"):
        (target / split / "ring").mkdir(exist_ok=True)
        for path in (target / split / "disc").glob("*.png"):
            path.rename(target / split / "ring" / path.name.replace("disc", "x"))
        (target / split / "disc").rmdir()
    return given


def mixed_up(source, target):
    given = by_counting(source, target)
    one, other = (
        next((target / "train" / kind).glob("*.png")) for kind in ("disc", "ring")
    )
    one.rename(other.with_name("one.png"))
    other.rename(one)
    return given


def flat(source, target):
    for split in ("train", "test"):
        (target / split).mkdir(parents=True)
        for path in filter(whole, source.glob("*.png")):
            shutil.copy(path, target / split)
    return target


def in_the_wrong_place(source, target):
    given = by_counting(source, target)
    path = next((target / "train").rglob("*.png"))
    path.rename(target / "train" / path.name)
    return given


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (without_looking, "images cannot be used and were left out"),
        (without_grey, "missing"),
        (moved, "copy its files"),
        (both_splits, "there twice"),
        (one_class, "the classes are ring"),
        (mixed_up, "lies under"),
        (flat, "the classes are images"),
        (in_the_wrong_place, "no class of the training images"),
        (lambda s, t: by_class(s, t, test="held_out"), "no folder test"),
        (lambda s, t: by_class(s, t, held=slice(0, None, 2)), "every fourth"),
        (lambda s, t: by_class(s, t, held=slice(3)), "3 are in test, but not every"),
        (by_the_number, "every fourth"),
        (lambda s, t: by_counting(s, t) and 36, "int"),
        (lambda s, t: by_counting(s, t) / "train", "no folder train"),
    ],
)
def test_a_folder_that_is_not_sorted_is_told_why(answer, words):
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # none may reach the reader
        verdict = check.sorted_folder(answer)
    assert verdict.passed is False
    assert words in verdict.words and "/tmp" not in verdict.words


# A published prior and its VQ-VAE-2.


def saved(vqvae2, prior, folder, **options):
    vqvae2.save_pretrained(folder / "vqvae2", **options)
    prior.save_pretrained(folder / "prior", **options)


def read(folder):
    return (
        VQVAE2.from_pretrained(folder / "vqvae2"),
        HierarchicalPixelCNN.from_pretrained(folder / "prior"),
    )


def saved_and_read(vqvae2, prior, folder):
    saved(vqvae2, prior, folder)
    return read(folder)


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
    return load_model(VQVAE2, folder / "a"), load_model(
        HierarchicalPixelCNN, folder / "b"
    )


def test_what_was_saved_and_read_is_right():
    assert check.published(saved_and_read)
    assert check.published(one_in_the_other)
    assert check.published(by_its_own_hands)


def pickled(vqvae2, prior, folder):
    again = saved_and_read(vqvae2, prior, folder)
    torch.save(prior.state_dict(), folder / "weights.bin")
    return again


def old_pickle(vqvae2, prior, folder):
    folder.mkdir()
    torch.save(prior, folder / "prior", _use_new_zipfile_serialization=False)
    return copy.deepcopy((vqvae2, prior))


def in_half(vqvae2, prior, folder):
    saved(vqvae2, prior, folder, dtype=torch.float16)
    return read(folder)


def in_training(vqvae2, prior, folder):
    one, other = saved_and_read(vqvae2, prior, folder)
    return one, other.train()


def without_config(vqvae2, prior, folder):
    again = saved_and_read(vqvae2, prior, folder)
    (folder / "prior" / "config.json").unlink()
    return again


def untrained(vqvae2, prior, folder):
    one, _ = saved_and_read(vqvae2, prior, folder)
    return one, HierarchicalPixelCNN(8, 4, 8, 2, num_classes=3).eval()


def spoiled(vqvae2, prior, folder):
    with torch.no_grad():
        prior.prior_top.embedding.weight.zero_()
    return saved_and_read(vqvae2, prior, folder)


def never_saved(vqvae2, prior, folder):
    return copy.deepcopy((vqvae2, prior))


def the_same(vqvae2, prior, folder):
    saved(vqvae2, prior, folder)
    return vqvae2, prior


def never_read(vqvae2, prior, folder):
    saved(vqvae2, prior, folder)
    return copy.deepcopy((vqvae2, prior))


def copied_before(vqvae2, prior, folder):
    again = copy.deepcopy((vqvae2, prior))
    saved(vqvae2, prior, folder)
    return again


def half_read(vqvae2, prior, folder):
    one, _ = saved_and_read(vqvae2, prior, folder)
    return one, copy.deepcopy(prior)


def one_over_the_other(vqvae2, prior, folder):
    vqvae2.save_pretrained(folder)
    again = VQVAE2.from_pretrained(folder)
    prior.save_pretrained(folder)
    return again, HierarchicalPixelCNN.from_pretrained(folder)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (pickled, "weights.bin is a pickle"),
        (old_pickle, "is a pickle"),
        (in_half, "differs"),
        (in_training, "training mode"),
        (without_config, "1 files config.json"),
        (untrained, "differs"),
        (spoiled, "differs"),
        (never_saved, "0 files config.json"),
        (the_same, "the same model"),
        (never_read, "VQ-VAE-2 that you give was not read"),
        (copied_before, "VQ-VAE-2 that you give was not read"),
        (half_read, "prior that you give was not read"),
        (one_over_the_other, "a folder of its own"),
        (lambda *given: saved_and_read(*given)[1], "HierarchicalPixelCNN"),
        (lambda *given: saved_and_read(*given)[::-1], "in this order"),
    ],
)
def test_models_that_do_not_come_back_are_told_why(answer, words):
    verdict = check.published(answer)
    assert verdict.passed is False
    assert words in verdict.words and "/tmp" not in verdict.words


def test_saving_is_as_before_when_the_check_is_done(tmp_path):
    check.published(saved_and_read)
    prior = HierarchicalPixelCNN(8, 4, 8, 2)
    prior.save_pretrained(tmp_path)
    again = HierarchicalPixelCNN.from_pretrained(tmp_path)
    for one, other in zip(prior.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other)


def test_publishing_leaves_the_readers_random_numbers_alone():
    torch.manual_seed(3)
    wanted = torch.rand(3)
    torch.manual_seed(3)
    check.published(saved_and_read)
    check.largest_batch(5, SMALL, GIB)
    assert torch.equal(torch.rand(3), wanted)
