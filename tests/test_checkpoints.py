"""Saving and loading checkpoints, and every way in which a file can be wrong."""

import copy
import io
import json
import os
import pickle
import stat
import struct
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from pixelprior import VQVAE2, HierarchicalPixelCNN
from pixelprior.assets import SHIPPED, WITH_WITHOUT_TOP, load_shipped, shipped_folder
from pixelprior.checkpoints import fingerprint, load_model, read_training_notes
from pixelprior.cli.priors import load_prior
from pixelprior.files import (
    recover_folder,
    swap_folder,
    temporary_folder,
    writable_folder,
)

FILES = ["config.json", "model.safetensors"]


@pytest.fixture
def model():
    torch.manual_seed(0)
    return HierarchicalPixelCNN(20, 6, hidden_channels=8, num_layers=2, num_classes=3)


def same(a, b):
    return fingerprint(a) == fingerprint(b)


def with_config(folder, **changes):
    """Change values in a folder's config."""
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


# Saved and loaded


def test_save_and_load_give_the_same_model_and_again(model, tmp_path):
    model.save_pretrained(tmp_path / "one")
    assert sorted(p.name for p in (tmp_path / "one").iterdir()) == FILES
    loaded = HierarchicalPixelCNN.from_pretrained(tmp_path / "one")
    loaded.save_pretrained(tmp_path / "two")
    for each in (loaded, load_model(HierarchicalPixelCNN, tmp_path / "two")):
        assert same(model, each) and not each.training


@pytest.mark.parametrize("number", [np.int64, np.uint8, np.array, torch.tensor])
def test_a_model_built_from_a_librarys_numbers_comes_back(number, tmp_path):
    sizes = number(20) if number in (np.int64, np.uint8) else number([20, 30])
    model = HierarchicalPixelCNN(sizes, number(6), 8, number(2), number(3))
    model.save_pretrained(tmp_path)
    loaded = HierarchicalPixelCNN.from_pretrained(tmp_path)
    assert same(model, loaded) and loaded.num_classes == 3
    with pytest.raises(ValueError, match=r"num_embeddings is 20\.5"):
        HierarchicalPixelCNN(np.array([20.5, 30]), 6)


def test_both_files_are_pushed_under_the_name_of_the_folder_or_the_one_given(
    model, tmp_path, monkeypatch
):
    uploaded = {}

    class Hub:
        def __init__(self, **_options):
            pass

        def create_repo(self, repo_id, **_options):
            return type("Url", (), {"repo_id": repo_id})

        def upload_folder(self, repo_id, folder_path, **_options):
            uploaded[repo_id] = sorted(p.name for p in Path(folder_path).iterdir())

    monkeypatch.setattr("huggingface_hub.hub_mixin.HfApi", Hub)
    model.push_to_hub("me/prior")
    model.save_pretrained(tmp_path / "prior", push_to_hub=True)
    model.save_pretrained(tmp_path / "prior", push_to_hub=True, repo_id="me/mine")
    assert uploaded == {"me/prior": FILES, "prior": FILES, "me/mine": FILES}


@pytest.mark.skipif(os.name == "nt", reason="Windows has no umask")
def test_the_files_of_a_checkpoint_have_the_permissions_of_the_umask(model, tmp_path):
    before = os.umask(0o027)
    try:
        model.save_pretrained(tmp_path)
    finally:
        left = os.umask(before)
    modes = [stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()]
    assert left == 0o027 and modes == 2 * [0o640]


def test_half_precision_halves_the_file_and_rounds_the_weights_alone(
    small_vqvae2, tmp_path
):
    """The codebooks, which are buffers, keep their numbers."""
    small_vqvae2.save_pretrained(tmp_path / "full")
    small_vqvae2.save_pretrained(tmp_path / "half", dtype=torch.float16)
    parameters = dict(small_vqvae2.named_parameters())
    saved = load_file(tmp_path / "half" / "model.safetensors")
    for name, tensor in small_vqvae2.state_dict().items():
        kept = tensor.half() if name in parameters else tensor
        assert torch.equal(saved[name], kept) and saved[name].dtype == kept.dtype
    full, half = (load_model(VQVAE2, tmp_path / name) for name in ("full", "half"))
    assert torch.equal(half.vq_top.codebook, small_vqvae2.vq_top.codebook)
    images = torch.rand(2, 1, 32, 32)
    for key, codes in small_vqvae2.get_code_indices(images).items():
        assert torch.equal(codes, full.get_code_indices(images)[key])


# Where a model is read from


def test_a_pth_has_its_config_beside_it(model, tmp_path):
    """Under any name: the examples of torch name theirs checkpoint.pth.tar."""
    model.save_pretrained(tmp_path)
    path = tmp_path / "checkpoint.pth.tar"
    torch.save(model.state_dict(), path)
    assert same(model, load_model(HierarchicalPixelCNN, path))
    (tmp_path / "config.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"no config\.json"):
        load_model(HierarchicalPixelCNN, path)


def test_a_run_stands_for_its_best_unless_it_has_weights_of_its_own(model, tmp_path):
    model.save_pretrained(tmp_path / "best")
    assert same(model, load_model(HierarchicalPixelCNN, tmp_path))
    own = HierarchicalPixelCNN(20, 6, 8, 2, num_classes=3)
    own.save_pretrained(tmp_path)
    assert same(own, load_model(HierarchicalPixelCNN, tmp_path))


def load_from_hub(monkeypatch, folder, **keywords):
    """`from_pretrained` of a name on the hub, with the files taken from a folder."""
    asked = []

    def config(*, repo_id, filename, **options):
        asked.append((repo_id, options["revision"]))
        return str(folder / filename)

    def both(repo_id, *, allow_patterns, **options):
        assert sorted(allow_patterns) == FILES
        asked.append((repo_id, options["revision"]))
        return str(folder)

    monkeypatch.setattr("huggingface_hub.hub_mixin.hf_hub_download", config)
    monkeypatch.setattr("pixelprior.checkpoints.snapshot_download", both)
    loaded = HierarchicalPixelCNN.from_pretrained("me/prior", **keywords)
    assert asked == 2 * [("me/prior", keywords.get("revision"))]
    return loaded


def dropouts(model):
    return {m.p for m in model.modules() if isinstance(m, torch.nn.Dropout)}


def test_keywords_replace_the_arguments_of_the_config(model, tmp_path, monkeypatch):
    model.save_pretrained(tmp_path)
    assert dropouts(model) == {0.1}
    for loaded in (
        HierarchicalPixelCNN.from_pretrained(str(tmp_path), dropout=0.5, token=False),
        load_model(HierarchicalPixelCNN, tmp_path, dropout=0.5),
        load_from_hub(monkeypatch, tmp_path, dropout=0.5, revision="v1"),
    ):
        assert dropouts(loaded) == {0.5} and same(model, loaded)
    loaded.save_pretrained(tmp_path / "again")
    again = HierarchicalPixelCNN.from_pretrained(tmp_path / "again")
    assert dropouts(again) == {0.5} and not again.training
    assert dropouts(load_from_hub(monkeypatch, tmp_path)) == {0.1}


UNFIT = [({"dropuot": 0.5}, "do not fit a HierarchicalPixelCNN .*'dropuot'")]
UNFIT += [({"num_layers": 3}, "do not fit"), ({"dropout": 2}, "dropout is 2")]


@pytest.mark.parametrize("keywords, words", UNFIT)
def test_keywords_that_do_not_fit_model_or_weights_are_named(
    model, tmp_path, keywords, words
):
    model.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=words) as error:
        HierarchicalPixelCNN.from_pretrained(tmp_path, **keywords)
    assert "\n" not in str(error.value)


def test_loading_leaves_the_random_numbers_as_they_were(model, small_vqvae2, tmp_path):
    for each in (model, small_vqvae2):
        folder = tmp_path / type(each).__name__
        each.save_pretrained(folder)
        torch.save(each.state_dict(), folder / "model.pth")
        for path in (folder, folder / "model.pth"):
            torch.manual_seed(5)
            expected = torch.rand(3)
            torch.manual_seed(5)
            load_model(type(each), path)
            assert torch.equal(torch.rand(3), expected)


# Damaged, hostile or of another model


def test_a_missing_checkpoint_is_named(tmp_path):
    for path in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(FileNotFoundError, match=f"no checkpoint at {path}"):
            load_model(VQVAE2, path)


def test_the_checkpoint_of_another_model_is_named(model, small_vqvae2, tmp_path):
    for one, other in ((model, VQVAE2), (small_vqvae2, HierarchicalPixelCNN)):
        one.save_pretrained(tmp_path)
        words = f"holds a {type(one).__name__}, but a {other.__name__} is needed"
        with pytest.raises(ValueError, match=words):
            other.from_pretrained(tmp_path)


MORE = [("prior", "num_layers", 10**6), ("prior", "num_embeddings", 2**40)]
MORE += [("vqvae2", "num_residual_blocks", 10**6), ("prior", "attention_heads", 10**9)]


@pytest.mark.parametrize("kind, name, value", MORE)
def test_a_config_that_asks_for_more_than_its_weights_is_refused_at_once(
    model, small_vqvae2, tmp_path, kind, name, value
):
    one = model if kind == "prior" else small_vqvae2
    one.save_pretrained(tmp_path)
    with_config(tmp_path, **{name: value})
    started = time.perf_counter()
    with pytest.raises(ValueError, match=rf"do not fit .*{name} is {value}, but"):
        load_model(type(one), tmp_path)
    assert time.perf_counter() - started < 1


def test_no_memory_is_taken_for_weights_that_do_not_fit(model, tmp_path, monkeypatch):
    """Sizes within those of the weights may still ask for far more than there is."""
    model.save_pretrained(tmp_path)
    with_config(tmp_path, hidden_channels=20)
    devices, build = [], HierarchicalPixelCNN.__init__

    def watched(self, *arguments, **options):
        build(self, *arguments, **options)
        devices.append(next(self.parameters()).device.type)

    monkeypatch.setattr(HierarchicalPixelCNN, "__init__", watched)
    with pytest.raises(ValueError, match="do not fit"):
        load_model(HierarchicalPixelCNN, tmp_path)
    assert devices == ["meta"]


@pytest.mark.parametrize("size", [10**18, [16, 10**7]])
def test_an_image_size_that_takes_the_memory_is_refused(small_vqvae2, tmp_path, size):
    small_vqvae2.save_pretrained(tmp_path)
    with_config(tmp_path, image_size=size)
    with pytest.raises(ValueError, match=r"image_size is .* and allow 8192 at most"):
        load_model(VQVAE2, tmp_path)


def test_an_empty_tensor_does_not_let_a_config_ask_for_more(model, tmp_path):
    model.save_pretrained(tmp_path)
    weights = tmp_path / WEIGHTS
    save_file(load_file(weights) | {"none": torch.empty(10**9, 0)}, weights)
    for name in ("num_layers", "hidden_channels"):
        with_config(tmp_path, **{name: 10**6})
        with pytest.raises(ValueError, match=f"{name} is 1000000, but the weights"):
            load_model(HierarchicalPixelCNN, tmp_path)
        with_config(tmp_path, **{name: 4})


@pytest.mark.parametrize("value", [5, [1], [{}], {"a": 1}, None])
def test_notes_of_another_type_count_as_absent(model, tmp_path, value):
    model.save_pretrained(tmp_path)
    names = ("class_names", "trained_parts")
    notes = dict.fromkeys(names, value) | {"validation_share": [value], "kept": 1}
    (tmp_path / "training.json").write_text(json.dumps(notes))
    assert read_training_notes(tmp_path) == {"kept": 1}


class RunsCode:
    """An object whose pickle creates a file when it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.mark.parametrize("write", [torch.save, pickle.dump])
def test_a_pickle_that_wants_to_run_code_never_does(tmp_path, write):
    mark, path = tmp_path / "it ran", tmp_path / "evil.pth"
    with path.open("wb") as file:
        write({"state_dict": RunsCode(mark)}, file)
    with pytest.raises(ValueError, match=r"evil\.pth.*refused, nothing was run"):
        load_model(VQVAE2, path)
    assert not mark.exists()


def of_header(change):
    """A safetensors file whose header, a dict by tensor, is changed."""

    def harm(content):
        size = struct.unpack("<Q", content[:8])[0]
        header = json.loads(content[8 : 8 + size])
        name = min(name for name in header if name != "__metadata__")
        header[name] |= change
        text = json.dumps(header).encode()
        return struct.pack("<Q", len(text)) + text + content[8 + size :]

    return harm


def cut(share):
    return lambda content: content[: int(len(content) * share)]


def flipped(place, bit):
    flip = 1 << bit
    return lambda content: (
        content[:place] + bytes([content[place] ^ flip]) + content[place + 1 :]
    )


def configured(**changes):
    return lambda content: json.dumps(json.loads(content) | changes).encode()


def saved(value):
    file = io.BytesIO()
    torch.save(value, file)
    return lambda content: file.getvalue()


WEIGHTS, CONFIG, PTH = "model.safetensors", "config.json", "prior.pth"
VALUES = (-1, 0, 1.5, 1e308, 10**30, "x", "12", True, [], [2, 2], {"a": 1})
ARGUMENTS = ["num_embeddings", "hidden_channels", "num_layers", "kernel_size", "none"]
HARMS = [
    *((name, cut(n / 10)) for name in (WEIGHTS, CONFIG, PTH) for n in range(10)),
    *((WEIGHTS, flipped(n, b)) for n in range(8) for b in (0, 7)),
    *((WEIGHTS, flipped(n, b)) for n in range(8, 400, 14) for b in (0, 6)),
    *((WEIGHTS, of_header({"shape": s})) for s in ([2**62], [-1], "x", None, [1.5])),
    *((WEIGHTS, of_header({"data_offsets": o})) for o in ([0, 2**62], [9, 1], [], 3)),
    *((WEIGHTS, of_header({"dtype": d})) for d in ("F8", "I64", 3, None)),
    *((CONFIG, configured(**{n: v})) for n in ARGUMENTS for v in VALUES),
    *((CONFIG, lambda _, text=t: text) for t in (b"[1]", b"3", b"\xff\xfe", b"null")),
    (CONFIG, lambda _: b"[" * 10**5),
    *((PTH, lambda _, text=t: text) for t in (b"junk", b"a", b"\0" * 99, b"\x80\2.")),
    *((PTH, saved(v)) for v in ([1], {"state_dict": 3}, {1: 2}, {"weight": 3}, {})),
    *((PTH, saved(v)) for v in ({1: torch.ones(2)}, {"state_dict": {}, "config": 3})),
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(HARMS)))
def test_a_damaged_or_hostile_file_loads_or_ends_in_one_line(model, tmp_path, number):
    """Some hundred and eighty files; a flipped bit may be in what does not matter."""
    name, harm = HARMS[number]
    model.save_pretrained(tmp_path)
    torch.save(model.state_dict(), tmp_path / PTH)
    path, content = tmp_path / name, (tmp_path / name).read_bytes()
    path.write_bytes(harm(content))
    started = time.perf_counter()
    try:
        load_model(HierarchicalPixelCNN, path if name == PTH else tmp_path)
    except ValueError as error:
        assert "\n" not in str(error)
    assert time.perf_counter() - started < 5


@pytest.mark.parametrize(
    ("text", "notes"),
    [
        pytest.param("[" * 10**5, {}, id="too many brackets"),
        ("[1]", {}),
        ('{"a": 3, "trained_parts": "top_loss"}', {"a": 3}),
        ('{"a": 3, "trained_parts": ["b"]}', {"a": 3, "trained_parts": ["b"]}),
    ],
)
def test_notes_of_another_form_count_as_absent(tmp_path, text, notes):
    assert read_training_notes(tmp_path) == {}
    (tmp_path / "training.json").write_text(text)
    assert read_training_notes(tmp_path) == notes


# Whole or not at all


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"cannot write to the folder .*file.below"):
        writable_folder(tmp_path / "file" / "below")


def test_a_failed_save_leaves_the_old_checkpoint_whole(model, tmp_path, monkeypatch):
    model.save_pretrained(tmp_path)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}

    def fails(*_arguments, **_more):
        raise OSError("disk full")

    monkeypatch.setattr("safetensors.torch.save_file", fails)
    with pytest.raises(OSError, match="disk full"):
        model.save_pretrained(tmp_path)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_a_folder_is_swapped_whole_and_a_swap_cut_off_is_undone(tmp_path):
    target = tmp_path / "last"
    for text in ("one", "two"):
        with temporary_folder(tmp_path) as temporary:
            (temporary / "last").mkdir()
            (temporary / "last" / "file").write_text(text)
            swap_folder(temporary / "last", target)
        assert (target / "file").read_text() == text
        assert [p.name for p in tmp_path.iterdir()] == ["last"]
    target.rename(tmp_path / ".last.previous")
    recover_folder(target)
    assert (target / "file").read_text() == "two"
    assert [p.name for p in tmp_path.iterdir()] == ["last"]


# Fingerprints


def test_a_fingerprint_does_not_depend_on_the_release_of_the_codebook_library(shipped):
    """Flags and moving averages differ between releases; the codebooks do not."""
    model = copy.deepcopy(shipped[0])
    before = fingerprint(model)
    library = model.get_submodule("vq_top.vq._codebook")
    for flag in (torch.ones(1), torch.tensor(True), torch.tensor([1, 1])):
        library.initted = flag
        assert fingerprint(model) == before
    library.cluster_size.mul_(3)
    library.embed_avg.add_(1)
    library.register_buffer("one_more", torch.zeros(2))
    assert fingerprint(model) == before


def test_a_fingerprint_depends_on_each_parameter_and_each_code(shipped):
    model = copy.deepcopy(shipped[0])
    tensors = list(model.parameters())
    assert len(tensors) > 30
    for quantizer in (model.vq_top, model.vq_bottom):
        tensors += quantizer.codebook.unbind()
    seen = {fingerprint(model)}
    with torch.no_grad():
        for tensor in tensors:
            tensor.view(-1)[-1] += 1
            seen.add(fingerprint(model))
    assert len(seen) == 1 + len(tensors)


@pytest.mark.parametrize("name", SHIPPED)
def test_the_shipped_priors_were_trained_on_the_shipped_codes(name):
    vqvae2 = load_shipped(name)[0]
    folders = [shipped_folder(name, "prior")]
    if name in WITH_WITHOUT_TOP:
        folders.append(shipped_folder(name, "without_top"))
    for folder in folders:
        assert read_training_notes(folder)["vqvae2"] == fingerprint(vqvae2)
    load_prior(folders[0], vqvae2)
