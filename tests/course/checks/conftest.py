"""The small models and data that the checks of the exercises are given."""

import pytest
import torch
import torch.nn.functional as F
from answers import EVERY_CHECK, K, suspects

from pixelprior import VQVAE2, HierarchicalPixelCNN
from pixelprior.course import steps
from pixelprior.data.codes import CodeData
from pixelprior.data.images import load_images
from pixelprior.pixelcnn import ConditionalPixelCNN, PixelCNN
from pixelprior.sampling import uniforms


@pytest.fixture
def judge(request):
    """What a check, given by name, says of an answer."""
    return lambda check, answer: EVERY_CHECK[check](answer, request.getfixturevalue)


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def sharpened(level: PixelCNN, by: float = 20.0) -> None:
    """Make the predictions of an untrained level far from uniform."""
    level.head[-1].weight.data *= by


@pytest.fixture(scope="session")
def vqvae2():
    """Untrained, with codebooks that have seen images."""
    torch.manual_seed(0)
    model = VQVAE2(1, 16, hidden_channels=8, embedding_dim=4, num_embeddings=K)
    model.train().loss_function(torch.rand(16, 1, 16, 16))
    return model.eval()


@pytest.fixture(scope="session")
def prior():
    """Untrained, with confident predictions, so that draws differ in their cost."""
    torch.manual_seed(1)
    prior = HierarchicalPixelCNN(K, 4, 8, 2, num_classes=3).eval()
    sharpened(prior.prior_top)
    sharpened(prior.prior_bottom)
    return prior


@pytest.fixture(scope="session")
def pictures():
    """Four coarse images of 16 × 16 pixels and their labels."""
    images = torch.rand(4, 1, 4, 4, generator=generator(0))
    return F.interpolate(images, size=(16, 16)), torch.tensor([0, 1, 2, 0])


@pytest.fixture(scope="session")
def codes():
    """Random codes of six images of three classes."""
    z_top, z_bottom = (
        torch.randint(K, (6, side, side), generator=generator(side)) for side in (4, 8)
    )
    return CodeData((z_top, z_bottom), torch.arange(6) % 3, K)


# Notebook 00.


@pytest.fixture(scope="session")
def four_photographs(heldout_images):
    return heldout_images[torch.arange(4)][0]


@pytest.fixture(scope="session")
def swapped_photographs(heldout_codes):
    """Codes of eight images; the sixth has the top codes of another of its class."""
    eight = heldout_codes.subset(torch.arange(8))
    of_class = (heldout_codes.labels == eight.labels[5]).nonzero().flatten()
    eight.z_top[5] = heldout_codes.z_top[of_class[of_class > 8][0]]
    return eight


# Notebook 02.


@pytest.fixture
def suspect():
    return suspects(2)


# Notebooks 04 and 05.


@pytest.fixture(scope="session")
def repeating():
    """Codes that mostly repeat the one to the left, so that there is much to learn."""
    random = generator(0)
    z = torch.randint(16, (400, 6, 6), generator=random)
    stays = torch.rand(z.shape, generator=random) < 0.9
    for x in range(1, 6):
        z[:, :, x] = torch.where(stays[:, :, x], z[:, :, x - 1], z[:, :, x])
    return CodeData((z, z), torch.arange(400) % 10, 16)


@pytest.fixture(scope="session")
def twins():
    """Networks with the top and without it, whose predictions are far from uniform."""
    torch.manual_seed(1)
    networks = [ConditionalPixelCNN(K, 4, 4, 1, num_classes=3).eval() for _ in range(2)]
    for network in networks:
        sharpened(network)
    return networks


# Notebook 06.


@pytest.fixture(scope="session")
def draw():
    """What six images are drawn from: a level, uniform numbers, the condition."""
    torch.manual_seed(0)
    level = PixelCNN(8, 4, 6, 4, num_classes=2).double().eval()
    for parameter in level.parameters():
        parameter.data *= 3
    condition = level.label_condition(torch.arange(6) % 2, 6).detach()
    u = uniforms(0, 0, 6, 20).view(6, 4, 5)
    return level, u, condition.expand(-1, -1, 4, -1)


@pytest.fixture(scope="session")
def stuck(draw):
    """Codes from a cache whose rows do not roll in block 2."""
    with torch.no_grad():
        return steps.with_stuck(*draw, 2)


# Notebooks 07, 08 and 10.


@pytest.fixture(scope="session")
def training_images():
    return load_images("fashion_mnist_mini", "train")


@pytest.fixture(scope="session")
def camera_scores():
    """Scores of normal images by an old camera, and by a new one."""
    random = generator(0)
    return torch.randn(500, generator=random), 2 + torch.randn(200, generator=random)
