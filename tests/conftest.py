"""Which tests run, and fixtures for several test files."""

import os
import socket
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import settings

from pixelprior import VQVAE2, HierarchicalPixelCNN
from pixelprior.assets import load_shipped
from pixelprior.data.codes import CodeData, extract_codes
from pixelprior.data.images import load_images
from pixelprior.devices import keep_freed_memory
from pixelprior.evaluation.classifier import load_shipped_reference_models

# Each run tries the same examples, and the time of one example is not limited.
settings.register_profile("pixelprior", derandomize=True, deadline=None)
settings.load_profile("pixelprior")


def pytest_configure(config):
    """Leave the slow tests out; `-m slow` runs them, `-m "slow or not slow"` all."""
    config.addinivalue_line("markers", "slow: left out unless -m asks for it")
    config.option.markexpr = config.option.markexpr or "not slow"


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items):
    """Tests that share a fixture of their module run in one process."""
    for item in items:
        of_names = getattr(item, "_fixtureinfo", None)
        made = of_names.name2fixturedefs.values() if of_names else ()
        if any(fixture[-1].scope == "module" for fixture in made):
            item.add_marker(pytest.mark.xdist_group(item.nodeid.partition("::")[0]))


ASKED: list[str] = []  # hosts that a test has asked for


def _no_network(event: str, arguments: tuple) -> None:
    """An audit hook of Python: refuse what is beyond this machine, and remember it."""
    if event == "socket.connect" and isinstance(arguments[1], tuple):
        host = arguments[1][0]
    elif event in ("socket.getaddrinfo", "socket.gethostbyname"):
        host = arguments[0]
    else:
        return
    host = host.decode() if isinstance(host, bytes) else host
    here = {None, "", "localhost", "::1", "0.0.0.0", "::", socket.gethostname()}
    if host not in here and not host.startswith("127."):
        ASKED.append(host)
        raise OSError(f"the tests have no network, but {host} was asked for")


sys.addaudithook(_no_network)


@pytest.fixture(autouse=True)
def no_network():
    """A test fails if it asks for a host."""
    ASKED.clear()
    yield
    assert not ASKED, f"asked for {ASKED}"


keep_freed_memory()  # as the command line does
workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
torch.set_num_threads(max(1, (os.cpu_count() or 1) // workers))


@pytest.fixture(autouse=True, scope="session")
def no_images_are_kept_in_the_home_folder(tmp_path_factory):
    """What `datasets` keeps is kept in a folder of the tests."""
    os.environ["HF_DATASETS_CACHE"] = str(tmp_path_factory.mktemp("rows"))


@pytest.fixture(scope="session")
def heldout_images():
    """1,000 test images of Fashion-MNIST, embedded in the package."""
    return load_images("fashion_mnist_mini", "test")


@pytest.fixture(scope="session")
def shipped():
    """The shipped VQ-VAE-2 and prior."""
    return load_shipped()


@pytest.fixture(scope="session")
def shipped_classifier():
    """The shipped classifier of Fashion-MNIST images."""
    return load_shipped_reference_models()[1]


@pytest.fixture(scope="session")
def heldout_codes(shipped, heldout_images):
    """Codes of the 1,000 held-out images."""
    return extract_codes(shipped[0], heldout_images)


@pytest.fixture(scope="session")
def some_heldout_codes(heldout_codes):
    """Every tenth of them, which has all classes."""
    z_top, z_bottom, labels = heldout_codes.batch(torch.arange(0, 1000, 10))
    return CodeData((z_top, z_bottom), labels, heldout_codes.num_embeddings)


@pytest.fixture(scope="session")
def small_vqvae2(heldout_images):
    """An untrained VQ-VAE-2 of 512 codes with codebooks initialized on real images."""
    torch.manual_seed(0)
    model = VQVAE2(1, 32, hidden_channels=16, embedding_dim=8, num_embeddings=512)
    model.train().loss_function(heldout_images[torch.arange(64)][0])
    return model.eval()


@pytest.fixture
def small_prior():
    """An untrained prior of 512 codes with three classes, in float64."""
    torch.manual_seed(0)
    return HierarchicalPixelCNN(512, 8, 12, 3, num_classes=3).double().eval()


@pytest.fixture(scope="session")
def real_data():
    """The folder of the full data sets; without one, a skip that says how to set it."""
    if not os.environ.get("PIXELPRIOR_DATA"):
        pytest.skip("set PIXELPRIOR_DATA to the folder with the full data sets")
    return Path(os.environ["PIXELPRIOR_DATA"])
