"""Saving and loading checkpoints, and every way in which a file can be wrong."""

import copy
import json
import os
import pickle
import stat
import time

import numpy as np
import pytest
import torch
from safetensors import SafetensorError

from pixelprior import VQVAE2, HierarchicalPixelCNN
from pixelprior.assets import SHIPPED, WITH_WITHOUT_TOP, load_shipped, shipped_folder
from pixelprior.checkpoints import fingerprint, load_model, read_training_notes
from pixelprior.files import recover_folder, swap_folder

CONFIG, WEIGHTS, PTH = "config.json", "model.safetensors", "prior.pth"
FILES = [CONFIG, WEIGHTS]


@pytest.fixture
def model():
    torch.manual_seed(0)
    return HierarchicalPixelCNN(20, 6, hidden_channels=8, num_layers=2, num_classes=3)


@pytest.fixture
def folder(model, tmp_path):
    """A folder in which the model is saved."""
    model.save_pretrained(tmp_path)
    return tmp_path


def load(path, **arguments):
    return load_model(HierarchicalPixelCNN, path, **arguments)


def same(a, b):
    return fingerprint(a) == fingerprint(b)


# Saved and loaded


def test_save_and_load_give_the_same_model_and_again(model, folder):
    assert sorted(p.name for p in folder.iterdir()) == FILES
    loaded = HierarchicalPixelCNN.from_pretrained(folder)
    loaded.save_pretrained(folder / "two")
    for each in (loaded, load(folder / "two")):
        assert same(model, each) and not each.training


def test_a_model_built_from_a_librarys_numbers_comes_back(tmp_path):
    sizes = np.array([20, 30]), torch.tensor(6), 8, np.int64(2), np.int64(3)
    model = HierarchicalPixelCNN(*sizes)
    model.save_pretrained(tmp_path)
    assert same(model, load(tmp_path)) and load(tmp_path).num_classes == 3


@pytest.mark.skipif(os.name == "nt", reason="Windows has no umask")
def test_the_files_of_a_checkpoint_have_the_permissions_of_the_umask(model, tmp_path):
    before = os.umask(0o027)
    try:
        model.save_pretrained(tmp_path)
    finally:
        left = os.umask(before)
    modes = [stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()]
    assert left == 0o027 and modes == 2 * [0o640]


# Where a model is read from


def test_a_pth_has_its_config_beside_it(model, folder):
    """Under any name: the examples of torch name theirs checkpoint.pth.tar."""
    path = folder / "checkpoint.pth.tar"
    torch.save(model.state_dict(), path)
    assert same(model, load(path))
    (folder / CONFIG).unlink()
    with pytest.raises(FileNotFoundError, match=r"no config\.json"):
        load(path)


def test_a_run_stands_for_its_best_unless_it_has_weights_of_its_own(model, tmp_path):
    model.save_pretrained(tmp_path / "best")
    assert same(model, load(tmp_path))
    own = HierarchicalPixelCNN(20, 6, 8, 2, num_classes=3)
    own.save_pretrained(tmp_path)
    assert same(own, load(tmp_path))


def dropouts(model):
    return {m.p for m in model.modules() if isinstance(m, torch.nn.Dropout)}


def test_keywords_replace_the_arguments_of_the_config(model, folder):
    assert dropouts(model) == {0.1}
    by_name = HierarchicalPixelCNN.from_pretrained(str(folder), dropout=0.5)
    for loaded in (by_name, load(folder, dropout=0.5)):
        assert dropouts(loaded) == {0.5} and same(model, loaded)
    loaded.save_pretrained(folder / "again")
    assert dropouts(load(folder / "again")) == {0.5}


def test_a_model_of_the_hub_is_that_of_the_given_revision(model, folder, monkeypatch):
    """Its files are taken from a folder."""
    asked = []

    def download(repo_id, *, revision, filename="", allow_patterns=FILES, **_options):
        asked.append((repo_id, revision, sorted(allow_patterns)))
        return str(folder / filename)

    monkeypatch.setattr("huggingface_hub.hub_mixin.hf_hub_download", download)
    monkeypatch.setattr("pixelprior.checkpoints.snapshot_download", download)
    options = {"revision": "v1", "token": False, "dropout": 0.5}
    loaded = HierarchicalPixelCNN.from_pretrained("me/prior", **options)
    assert dropouts(loaded) == {0.5} and same(model, loaded)
    assert asked == 2 * [("me/prior", "v1", FILES)]


def test_keywords_that_do_not_fit_model_or_weights_are_named(folder):
    for keywords, words in (
        ({"dropuot": 0.5}, "do not fit a HierarchicalPixelCNN .*'dropuot'"),
        ({"num_layers": 3}, "do not fit"),
        ({"dropout": 2}, "dropout is 2"),
    ):
        with pytest.raises(ValueError, match=words):
            HierarchicalPixelCNN.from_pretrained(folder, **keywords)


def test_loading_leaves_the_random_numbers_as_they_were(small_vqvae2, folder):
    small_vqvae2.save_pretrained(folder / "vqvae2")
    before = torch.get_rng_state()
    load(folder)
    load_model(VQVAE2, folder / "vqvae2")
    assert torch.equal(torch.get_rng_state(), before)


# Damaged, hostile or of another model


def test_a_missing_checkpoint_or_that_of_another_model_is_named(folder):
    for path in (folder / "nowhere", folder / "nowhere.pth"):
        with pytest.raises(FileNotFoundError, match=f"no checkpoint at {path}"):
            load(path)
    words = "holds a HierarchicalPixelCNN, but a VQVAE2 is needed"
    with pytest.raises(ValueError, match=words):
        VQVAE2.from_pretrained(folder)


def test_a_config_that_asks_for_more_than_its_weights_is_refused_at_once(
    folder, small_vqvae2
):
    small_vqvae2.save_pretrained(folder / "vqvae2")
    started = time.perf_counter()
    for kind, path, name, value in (
        (HierarchicalPixelCNN, folder, "num_layers", 10**6),
        (VQVAE2, folder / "vqvae2", "image_size", [16, 10**7]),
    ):
        config = json.loads((path / CONFIG).read_text()) | {name: value}
        (path / CONFIG).write_text(json.dumps(config))
        with pytest.raises(ValueError, match=f"do not fit .*{name} is .*, but the wei"):
            load_model(kind, path)
    assert time.perf_counter() - started < 3


def test_no_memory_is_taken_for_weights_that_do_not_fit(folder, monkeypatch):
    """Sizes within those of the weights may still ask for far more than there is."""
    config = json.loads((folder / CONFIG).read_text()) | {"hidden_channels": 20}
    (folder / CONFIG).write_text(json.dumps(config))
    devices, build = [], HierarchicalPixelCNN.__init__

    def watched(self, *arguments, **options):
        build(self, *arguments, **options)
        devices.append(next(self.parameters()).device.type)

    monkeypatch.setattr(HierarchicalPixelCNN, "__init__", watched)
    with pytest.raises(ValueError, match="do not fit"):
        load(folder)
    assert devices == ["meta"]


@pytest.mark.parametrize("write", [torch.save, pickle.dump])
def test_a_pickle_that_wants_to_run_code_never_does(tmp_path, write):
    mark, path = tmp_path / "it ran", tmp_path / "evil.pth"

    class RunsCode:
        def __reduce__(self):
            return open, (str(mark), "w")

    with path.open("wb") as file:
        write({"state_dict": RunsCode()}, file)
    with pytest.raises(ValueError, match=r"evil\.pth.*refused, nothing was run"):
        load_model(VQVAE2, path)
    assert not mark.exists()


def harmed(path):
    """The contents of a file cut short, with a changed bit, and of another kind."""
    content = path.read_bytes()
    yield from (content[: len(content) * quarter // 4] for quarter in range(4))
    for place in (*range(8), *range(8, min(len(content), 400), 20)):
        bit = bytes([content[place] ^ 64])
        yield content[:place] + bit + content[place + 1 :]
    yield b"[1]"
    if path.name == CONFIG:
        for value in (-1, 1.5, 10**30, "x", None, [], [2, 2], {"a": 1}):
            yield json.dumps(json.loads(content) | {"num_layers": value}).encode()
    if path.name == PTH:
        torch.save([1], path)
        yield path.read_bytes()


@pytest.mark.parametrize("name", [WEIGHTS, CONFIG, PTH])
def test_a_damaged_or_hostile_file_loads_or_ends_in_one_line(model, folder, name):
    """A changed bit may be in what does not matter."""
    torch.save(model.state_dict(), folder / PTH)
    path = folder / name
    for content in harmed(path):
        path.write_bytes(content)
        try:
            load(path if name == PTH else folder)
        except ValueError as error:
            assert "\n" not in str(error)


# Whole or not at all


def test_a_failed_save_leaves_the_old_checkpoint_whole(folder, monkeypatch):
    before = {p.name: p.read_bytes() for p in folder.iterdir()}

    def fails(*_arguments, **_more):
        raise SafetensorError("disk full")

    monkeypatch.setattr("safetensors.torch.save_file", fails)
    with pytest.raises(OSError, match=r"disk full.*make room on the disk"):
        HierarchicalPixelCNN(20, 6, 8, 2).save_pretrained(folder)
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before


def test_a_folder_is_swapped_whole_and_a_swap_cut_off_is_undone(tmp_path):
    new, target = tmp_path / "new", tmp_path / "last"
    for text in ("one", "two"):
        new.mkdir()
        (new / "file").write_text(text)
        swap_folder(new, target)
        assert (target / "file").read_text() == text
    target.rename(tmp_path / ".last.previous")
    recover_folder(target)
    assert (target / "file").read_text() == "two"
    assert [p.name for p in tmp_path.iterdir()] == ["last"]


# Fingerprints


def test_a_fingerprint_does_not_depend_on_the_release_of_the_codebook_library(
    small_vqvae2,
):
    """Flags and moving averages differ between releases; the codebooks do not."""
    model = copy.deepcopy(small_vqvae2)
    library = model.get_submodule("vq_top.vq._codebook")
    library.initted = torch.tensor([1, 1])
    library.cluster_size.mul_(3)
    library.embed_avg.add_(1)
    library.register_buffer("one_more", torch.zeros(2))
    assert same(model, small_vqvae2)


def test_a_fingerprint_depends_on_each_parameter_and_each_code():
    model = VQVAE2(1, 8, 2, 2, 4)
    tensors = list(model.parameters())
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
    for kind in ("prior", "without_top")[: 1 + (name in WITH_WITHOUT_TOP)]:
        notes = read_training_notes(shipped_folder(name, kind))
        assert notes["vqvae2"] == fingerprint(vqvae2)
