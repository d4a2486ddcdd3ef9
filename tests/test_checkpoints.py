"""Saving and loading checkpoints, and every way in which a file can be wrong."""

import copy
import hashlib
import json
import os
import pickle
import stat
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from pixelprior import VQVAE2, HierarchicalPixelCNN, checkpoints, files
from pixelprior.assets import SHIPPED, WITH_WITHOUT_TOP, load_shipped, shipped_folder
from pixelprior.checkpoints import fingerprint, load_model, read_training_notes
from pixelprior.cli.priors import check_trained
from pixelprior.files import (
    recover_folder,
    swap_folder,
    temporary_folder,
    writable_folder,
)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return HierarchicalPixelCNN(20, 6, hidden_channels=8, num_layers=2, num_classes=3)


def same(a, b):
    return fingerprint(a) == fingerprint(b)


def test_save_and_load_give_the_same_model(model, tmp_path):
    model.save_pretrained(tmp_path / "here")
    assert sorted(p.name for p in (tmp_path / "here").iterdir()) == [
        "SHA256SUMS",
        "config.json",
        "model.safetensors",
    ]
    for loaded in (
        HierarchicalPixelCNN.from_pretrained(tmp_path / "here"),
        load_model(HierarchicalPixelCNN, tmp_path / "here"),
    ):
        assert same(model, loaded) and not loaded.training


@pytest.mark.parametrize("number", [np.int64, np.uint8, np.array, torch.tensor])
def test_a_model_built_from_a_librarys_numbers_comes_back(number, tmp_path):
    model = HierarchicalPixelCNN(
        number(20), number(6), 8, num_layers=number(2), num_classes=number(3)
    )
    model.save_pretrained(tmp_path)
    loaded = HierarchicalPixelCNN.from_pretrained(tmp_path)
    assert same(model, loaded) and loaded.num_classes == 3


def test_a_loaded_model_can_be_saved_again(model, tmp_path):
    model.save_pretrained(tmp_path / "one")
    loaded = HierarchicalPixelCNN.from_pretrained(tmp_path / "one")
    loaded.save_pretrained(tmp_path / "two")
    assert same(model, load_model(HierarchicalPixelCNN, tmp_path / "two"))


@pytest.fixture
def uploaded(monkeypatch):
    """A stand-in for the hub: the names of the uploaded files, by repo_id."""
    uploaded = {}

    class Hub:
        def __init__(self, **_options):
            pass

        def create_repo(self, repo_id, **_options):
            return type("Url", (), {"repo_id": repo_id})

        def upload_folder(self, repo_id, folder_path, **_options):
            uploaded[repo_id] = sorted(p.name for p in Path(folder_path).iterdir())

    monkeypatch.setattr("huggingface_hub.hub_mixin.HfApi", Hub)
    return uploaded


FILES = ["SHA256SUMS", "config.json", "model.safetensors"]


def test_push_to_hub_uploads_all_files(model, uploaded):
    model.push_to_hub("me/prior")
    assert uploaded == {"me/prior": FILES}


def test_a_model_is_pushed_under_the_name_of_its_folder_or_the_one_given(
    model, tmp_path, uploaded
):
    folder = tmp_path / "prior"
    model.save_pretrained(folder, push_to_hub=True)
    model.save_pretrained(folder, push_to_hub=True, repo_id="me/mine")
    assert uploaded == {"prior": FILES, "me/mine": FILES}
    assert sorted(path.name for path in folder.iterdir()) == FILES


@pytest.mark.skipif(os.name == "nt", reason="Windows has no umask")
@pytest.mark.parametrize("umask", [0, 0o027])
def test_the_files_of_a_checkpoint_have_the_permissions_of_the_umask(
    model, tmp_path, umask
):
    before = os.umask(umask)
    try:
        model.save_pretrained(tmp_path)
    finally:
        left = os.umask(before)
    assert left == umask
    modes = [stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()]
    assert modes == 3 * [0o666 & ~umask]


def test_codebooks_are_saved_with_the_vqvae2(small_vqvae2, tmp_path):
    small_vqvae2.save_pretrained(tmp_path)
    loaded = load_model(VQVAE2, tmp_path)
    images = torch.rand(2, 1, 32, 32)
    for key, codes in small_vqvae2.get_code_indices(images).items():
        assert torch.equal(codes, loaded.get_code_indices(images)[key])


def test_half_precision_halves_the_file_and_rounds_the_weights(model, tmp_path):
    model.save_pretrained(tmp_path / "full")
    model.save_pretrained(tmp_path / "half", dtype=torch.float16)
    full, half = (
        (tmp_path / name / "model.safetensors").stat().st_size
        for name in ("full", "half")
    )
    assert half < 0.65 * full
    loaded = load_model(HierarchicalPixelCNN, tmp_path / "half")
    for a, b in zip(model.parameters(), loaded.parameters(), strict=True):
        assert torch.equal(a.half().float(), b)


def test_codebooks_are_not_rounded_in_a_file_of_half_precision(small_vqvae2, tmp_path):
    small_vqvae2.save_pretrained(tmp_path, dtype=torch.float16)
    parameters = dict(small_vqvae2.named_parameters())
    saved = load_file(tmp_path / "model.safetensors")
    for name, tensor in small_vqvae2.state_dict().items():
        kept = torch.float16 if name in parameters else tensor.dtype
        assert saved[name].dtype == kept, name
    loaded = load_model(VQVAE2, tmp_path)
    assert torch.equal(loaded.vq_top.codebook, small_vqvae2.vq_top.codebook)
    assert torch.equal(loaded.vq_bottom.codebook, small_vqvae2.vq_bottom.codebook)


def test_a_pth_of_config_and_state_is_read(model, tmp_path):
    path = tmp_path / "prior.pth"
    config = {"num_embeddings": 20, "embedding_dim": 6, "hidden_channels": 8}
    config |= {"num_layers": 2, "num_classes": 3}
    config |= {"vertical_residual": True, "bounded_condition": True}
    torch.save({"config": config, "state_dict": model.state_dict()}, path)
    assert same(model, load_model(HierarchicalPixelCNN, path))


def test_a_pth_of_a_state_dict_takes_the_config_beside_it(model, tmp_path):
    model.save_pretrained(tmp_path)
    torch.save(model.state_dict(), tmp_path / "prior.pth")
    assert same(model, load_model(HierarchicalPixelCNN, tmp_path / "prior.pth"))
    (tmp_path / "config.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"no config\.json"):
        load_model(HierarchicalPixelCNN, tmp_path / "prior.pth")


def test_a_state_dict_is_read_under_any_name(model, tmp_path):
    """The examples of torch name theirs checkpoint.pth.tar."""
    model.save_pretrained(tmp_path)
    torch.save(model.state_dict(), tmp_path / "checkpoint.pth.tar")
    loaded = load_model(HierarchicalPixelCNN, tmp_path / "checkpoint.pth.tar")
    assert same(model, loaded)


def test_a_training_folder_stands_for_its_best(model, tmp_path):
    model.save_pretrained(tmp_path / "best")
    assert same(model, load_model(HierarchicalPixelCNN, tmp_path))


def test_a_folders_own_weights_come_before_those_of_its_best(model, tmp_path):
    model.save_pretrained(tmp_path)
    HierarchicalPixelCNN(20, 6, 8, 2, num_classes=3).save_pretrained(tmp_path / "best")
    assert same(model, load_model(HierarchicalPixelCNN, tmp_path))


@pytest.mark.parametrize(
    ("text", "notes"),
    [
        (None, {}),
        ("{", {}),
        pytest.param("[" * 10**5, {}, id="too many brackets"),
        ("[1]", {}),
        ('{"a": 3, "trained_parts": "top_loss"}', {"a": 3}),
        ('{"a": 3, "trained_parts": ["top_loss"]}', None),  # as they are
    ],
)
def test_notes_of_another_form_count_as_absent(tmp_path, text, notes):
    if text is not None:
        (tmp_path / "training.json").write_text(text)
    expected = json.loads(text) if notes is None else notes
    assert read_training_notes(tmp_path) == expected


def test_a_missing_checkpoint_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no checkpoint at .*nowhere"):
        load_model(VQVAE2, tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="no checkpoint at"):
        load_model(VQVAE2, tmp_path)


@pytest.mark.parametrize("share", [0.0, 0.2, 0.9])
def test_weights_cut_short_are_named(model, tmp_path, share):
    model.save_pretrained(tmp_path)
    torch.save(model.state_dict(), tmp_path / "prior.pth")
    for name in ("model.safetensors", "prior.pth"):
        path = tmp_path / name
        path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
        with pytest.raises(ValueError, match=f"{name} cannot be read.*cut short"):
            load_model(HierarchicalPixelCNN, path)


def test_a_config_cut_short_is_named(model, tmp_path):
    model.save_pretrained(tmp_path)
    text = (tmp_path / "config.json").read_text()
    (tmp_path / "config.json").write_text(text[: len(text) // 2])
    with pytest.raises(ValueError, match=r"config\.json is not valid JSON"):
        load_model(HierarchicalPixelCNN, tmp_path)


def test_the_checkpoint_of_another_model_is_named(model, small_vqvae2, tmp_path):
    for one, other in ((model, VQVAE2), (small_vqvae2, HierarchicalPixelCNN)):
        one.save_pretrained(tmp_path)
        words = f"holds a {type(one).__name__}, but a {other.__name__} is needed"
        for load in (other.from_pretrained, partial(load_model, other)):
            with pytest.raises(ValueError, match=words):
                load(tmp_path)


def test_weights_that_do_not_fit_the_config_are_named(model, tmp_path):
    model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"num_layers": 3}))
    with pytest.raises(ValueError, match="do not fit"):
        load_model(HierarchicalPixelCNN, tmp_path)


def load_from_hub(monkeypatch, folder, **keywords):
    """`from_pretrained` of a name on the hub, with the files taken from a folder."""
    asked = []

    def download(*, repo_id, filename, **options):
        asked.append((repo_id, filename, options.get("revision")))
        if not (folder / filename).is_file():
            raise checkpoints.EntryNotFoundError(f"no {filename} there")
        return str(folder / filename)

    for place in ("huggingface_hub.hub_mixin", "pixelprior.checkpoints"):
        monkeypatch.setattr(f"{place}.hf_hub_download", download)
    loaded = HierarchicalPixelCNN.from_pretrained("me/prior", **keywords)
    assert set(asked) == {
        ("me/prior", name, keywords.get("revision"))
        for name in ("config.json", "model.safetensors", "SHA256SUMS")
    }
    return loaded


def dropouts(model):
    return {m.p for m in model.modules() if isinstance(m, torch.nn.Dropout)}


@pytest.mark.parametrize(
    "name, value",
    [
        ("num_layers", 10**6),
        ("hidden_channels", 10**6),
        ("hidden_channels", 10**18),
        ("num_embeddings", 2**40),
        ("num_classes", 10**9),
        ("kernel_size", 10**5 + 1),
        ("attention_layers", 10**6),
        ("attention_heads", 10**9),
    ],
)
def test_a_config_that_asks_for_more_than_its_weights_is_refused_at_once(
    model, tmp_path, name, value
):
    model.save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    config = json.loads(path.read_text()) | {name: value}
    path.write_text(json.dumps(config))
    started = time.perf_counter()
    with pytest.raises(ValueError, match=rf"do not fit .*{name} is {value}, but there"):
        load_model(HierarchicalPixelCNN, tmp_path)
    assert time.perf_counter() - started < 1


@pytest.mark.parametrize("name", ["num_residual_blocks", "hidden_channels"])
def test_a_vqvae2_of_a_million_blocks_is_refused_at_once(small_vqvae2, tmp_path, name):
    small_vqvae2.save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {name: 10**6}))
    with pytest.raises(ValueError, match=rf"do not fit .*{name} is 1000000, but there"):
        load_model(VQVAE2, tmp_path)


def test_no_memory_is_taken_for_weights_that_do_not_fit(model, tmp_path, monkeypatch):
    """Sizes within those of the weights may still ask for far more than there is."""
    model.save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"hidden_channels": 20}))
    devices, build = [], HierarchicalPixelCNN.__init__

    def watched(self, *arguments, **options):
        build(self, *arguments, **options)
        devices.append(next(self.parameters()).device.type)

    monkeypatch.setattr(HierarchicalPixelCNN, "__init__", watched)
    with pytest.raises(ValueError, match="do not fit"):
        load_model(HierarchicalPixelCNN, tmp_path)
    assert devices == ["meta"]


def test_keywords_replace_the_arguments_of_the_config(model, tmp_path, monkeypatch):
    model.save_pretrained(tmp_path)
    assert dropouts(model) == {0.1}
    for loaded in (
        HierarchicalPixelCNN.from_pretrained(tmp_path, dropout=0.5),
        HierarchicalPixelCNN.from_pretrained(str(tmp_path), dropout=0.5, token=False),
        load_model(HierarchicalPixelCNN, tmp_path, dropout=0.5),
        load_from_hub(monkeypatch, tmp_path, dropout=0.5, revision="v1"),
    ):
        assert dropouts(loaded) == {0.5} and same(model, loaded)
    loaded.save_pretrained(tmp_path / "again")
    again = HierarchicalPixelCNN.from_pretrained(tmp_path / "again")
    assert dropouts(again) == {0.5} and not again.training
    assert dropouts(load_from_hub(monkeypatch, tmp_path)) == {0.1}


@pytest.mark.parametrize(
    "keywords", [{"dropuot": 0.5}, {"config": {"dropout": 0.5}}, {"strict": False}]
)
def test_a_keyword_that_the_model_does_not_take_is_named(
    model, tmp_path, monkeypatch, keywords
):
    model.save_pretrained(tmp_path)
    (name,) = keywords
    words = f"^a HierarchicalPixelCNN takes no argument '{name}'; .* dropout, .*$"
    for load in (
        lambda: HierarchicalPixelCNN.from_pretrained(tmp_path, **keywords),
        lambda: load_model(HierarchicalPixelCNN, tmp_path, **keywords),
        lambda: load_from_hub(monkeypatch, tmp_path, **keywords),
    ):
        with pytest.raises(ValueError, match=words) as error:
            load()
        assert "\n" not in str(error.value)


def test_the_arguments_of_a_model_are_named_from_the_first(model, tmp_path):
    model.save_pretrained(tmp_path)
    words = "no argument 'model_kwargs'; leave it out, or give one of num_embeddings, "
    with pytest.raises(ValueError, match=words):
        HierarchicalPixelCNN.from_pretrained(tmp_path, model_kwargs={"dropout": 0.5})


@pytest.mark.parametrize("numbers", [np.array, torch.tensor])
def test_several_numbers_in_place_of_one_are_named(numbers):
    with pytest.raises(ValueError, match=r"num_embeddings is .*20, 30"):
        HierarchicalPixelCNN(numbers([20, 30]), 6)


def test_keywords_that_do_not_fit_the_weights_are_named(model, tmp_path):
    model.save_pretrained(tmp_path)
    for keywords, words in (
        ({"num_layers": 3}, "do not fit"),
        ({"hidden_channels": 10}, "do not fit"),
        ({"dropout": 2}, "dropout is 2"),
    ):
        with pytest.raises(ValueError, match=words):
            HierarchicalPixelCNN.from_pretrained(tmp_path, **keywords)


def test_loading_leaves_the_random_numbers_as_they_were(model, small_vqvae2, tmp_path):
    for each in (model, small_vqvae2):
        folder = tmp_path / type(each).__name__
        each.save_pretrained(folder)
        torch.save(each.state_dict(), folder / "model.pth")
        torch.manual_seed(5)
        expected = torch.rand(3)
        for load in (
            lambda: type(each).from_pretrained(folder),  # noqa: B023
            lambda: load_model(type(each), folder),  # noqa: B023
            lambda: load_model(type(each), folder / "model.pth"),  # noqa: B023
        ):
            torch.manual_seed(5)
            load()
            assert torch.equal(torch.rand(3), expected)


class RunsCode:
    """An object whose pickle creates a file when it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.mark.parametrize(
    "content",
    [b"junk", b"a line of text", b"\0" * 99, [1], {"state_dict": 3}, {1: 2}]
    + [{"weight": 3}, {1: torch.ones(2)}],
)
def test_a_pth_that_is_no_state_dict_is_named(tmp_path, content):
    path = tmp_path / "odd.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    with pytest.raises(ValueError, match=r"odd\.pth (cannot be read|holds)"):
        load_model(VQVAE2, path)


def test_a_state_dict_without_tensors_is_named(tmp_path):
    config = {"num_embeddings": 20, "embedding_dim": 6}
    path = tmp_path / "empty.pth"
    torch.save({"config": config, "state_dict": {}}, path)
    words = "num_embeddings is 20, but there are 0 tensors with sides of at most 0"
    with pytest.raises(ValueError, match=words):
        load_model(HierarchicalPixelCNN, path)


@pytest.mark.parametrize("write", [torch.save, pickle.dump])
def test_a_pickle_that_wants_to_run_code_never_does(tmp_path, write):
    mark, path = tmp_path / "it ran", tmp_path / "evil.pth"
    with path.open("wb") as file:
        write({"state_dict": RunsCode(mark)}, file)
    with pytest.raises(ValueError, match=r"evil\.pth.*refused, nothing was run"):
        load_model(VQVAE2, path)
    assert not mark.exists()


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


def flip_a_bit(path):
    """Change the lowest bit of the last weight, so that the file can still be read."""
    content = bytearray(path.read_bytes())
    content[-4] ^= 1
    path.write_bytes(content)


def test_weights_with_a_flipped_bit_are_refused(model, tmp_path, monkeypatch):
    model.save_pretrained(tmp_path)
    flip_a_bit(tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=r"safetensors is not the file that was"):
        load_model(HierarchicalPixelCNN, tmp_path)
    with pytest.raises(ValueError, match="remove SHA256SUMS if you replaced"):
        HierarchicalPixelCNN.from_pretrained(tmp_path)
    with monkeypatch.context() as patch, pytest.raises(ValueError, match="is not the"):
        load_from_hub(patch, tmp_path)
    (tmp_path / "SHA256SUMS").unlink()  # as in weights of another program
    assert not same(model, load_from_hub(monkeypatch, tmp_path))
    loaded = load_model(HierarchicalPixelCNN, tmp_path)
    assert not same(model, loaded)  # nothing else would have told


def test_checksums_are_those_of_the_usual_program(model, tmp_path):
    model.save_pretrained(tmp_path)
    content = (tmp_path / "model.safetensors").read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    sums = tmp_path / "SHA256SUMS"
    assert sums.read_bytes() == f"{digest}  model.safetensors\n".encode()
    sums.write_text(f"{'0' * 64}  other\n{digest.upper()} *model.safetensors\n")
    load_model(HierarchicalPixelCNN, tmp_path)
    for damaged in (digest, f"{digest}  model.safetensor\n", "\x00", ""):
        sums.write_text(damaged)
        with pytest.raises(ValueError, match="SHA-256 is not in SHA256SUMS"):
            load_model(HierarchicalPixelCNN, tmp_path)


def test_files_that_are_replaced_while_they_are_read_are_no_damage(
    model, tmp_path, monkeypatch
):
    model.save_pretrained(tmp_path)
    hashed, real = [], files.sha256_of

    def another_file_first(path):
        hashed.append(path)
        return "0" * 64 if len(hashed) == 1 else real(path)

    monkeypatch.setattr(files, "sha256_of", another_file_first)
    load_model(HierarchicalPixelCNN, tmp_path)
    assert len(hashed) == 2


@pytest.mark.parametrize("renames", [0, 1, 2])
def test_a_save_cut_off_between_its_renames_leaves_no_old_checksum(
    renames, model, tmp_path, monkeypatch
):
    model.save_pretrained(tmp_path)
    torch.manual_seed(1)
    other = HierarchicalPixelCNN(20, 6, hidden_channels=8, num_layers=2, num_classes=3)
    replace, count = os.replace, [0]

    def cut_off(*paths):
        if count[0] == renames:
            raise KeyboardInterrupt
        count[0] += 1
        replace(*paths)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(os, "replace", cut_off)
        other.save_pretrained(tmp_path)
    loaded = load_model(HierarchicalPixelCNN, tmp_path)
    assert same(loaded, other if renames else model)


def test_a_folder_is_swapped_whole(tmp_path):
    target = tmp_path / "last"
    for text in ("one", "two"):
        with temporary_folder(tmp_path) as temporary:
            (temporary / "last").mkdir()
            (temporary / "last" / "file").write_text(text)
            swap_folder(temporary / "last", target)
        assert (target / "file").read_text() == text
    assert [p.name for p in tmp_path.iterdir()] == ["last"]


def test_a_swap_cut_off_between_its_renames_is_undone(tmp_path):
    (tmp_path / ".last.previous").mkdir()
    (tmp_path / ".last.previous" / "file").write_text("old")
    recover_folder(tmp_path / "last")
    assert (tmp_path / "last" / "file").read_text() == "old"
    assert not (tmp_path / ".last.previous").exists()


LIBRARY = "vq_top.vq._codebook"


def test_a_fingerprint_does_not_depend_on_the_release_of_the_codebook_library(shipped):
    """Flags and moving averages differ between releases; the codebooks do not."""
    model = copy.deepcopy(shipped[0])
    before = fingerprint(model)
    library = model.get_submodule(LIBRARY)
    for flag in (torch.ones(1), torch.tensor(True), torch.tensor([1, 1])):
        library.initted = flag
        assert fingerprint(model) == before
    library.cluster_size.mul_(3)
    library.embed_avg.add_(1)
    library.register_buffer("one_more", torch.zeros(2))
    assert fingerprint(model) == before


def test_a_fingerprint_depends_on_each_parameter_and_each_codebook(shipped):
    model = copy.deepcopy(shipped[0])
    tensors = dict(model.named_parameters())
    assert len(tensors) > 30
    for level in ("top", "bottom"):
        tensors[level] = getattr(model, f"vq_{level}").codebook
    seen = {fingerprint(model)}
    with torch.no_grad():
        for tensor in tensors.values():
            tensor.view(-1)[-1] += 1
            seen.add(fingerprint(model))
    assert len(seen) == 1 + len(tensors)


def test_a_fingerprint_tells_one_code_from_another(shipped):
    vqvae2 = copy.deepcopy(shipped[0])
    seen = {fingerprint(vqvae2)}
    for quantizer in (vqvae2.vq_top, vqvae2.vq_bottom):
        for code in range(quantizer.num_embeddings):
            quantizer.codebook[code, 0] += 1
            seen.add(fingerprint(vqvae2))
    assert len(seen) == 1 + 2 * vqvae2.num_embeddings


@pytest.mark.parametrize("name", SHIPPED)
def test_the_shipped_priors_were_trained_on_the_shipped_codes(name):
    vqvae2 = load_shipped(name)[0]
    folders = [shipped_folder(name, "prior")]
    if name in WITH_WITHOUT_TOP:
        folders.append(shipped_folder(name, "without_top"))
    for folder in folders:
        assert read_training_notes(folder)["vqvae2"] == fingerprint(vqvae2)
    check_trained(folders[0], vqvae2)
