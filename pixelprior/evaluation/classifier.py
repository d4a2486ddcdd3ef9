"""A small classifier of images, by which samples are measured.

Its features replace Inception's in a Fréchet distance, and its accuracy after
training on samples is the classification accuracy score. It is not part of the
generative model, and the core of the package does not import it.
"""

import tempfile

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pixelprior.checkpoints import Pretrained
from pixelprior.data import ImageData
from pixelprior.devices import make_accelerator
from pixelprior.ranges import check_positive
from pixelprior.settings import TrainingSettings
from pixelprior.training import fit


class Classifier(nn.Module, Pretrained):
    """Images [B, C, S, S] in [0, 1] to logits [B, num_classes].

    Three pairs of 3×3 convolutions with batch norm, with max-pooling by two between the
    pairs, and then the mean over all positions. S may be any size of at least 4.

    Args:
        in_channels: 1 for grey images, 3 for colour.
        num_classes: number of classes to tell apart.
        hidden_channels: channels of the first pair; the second pair has twice as many,
            the third four times as many.
    """

    def __init__(
        self, in_channels: int = 3, num_classes: int = 10, hidden_channels: int = 16
    ):
        super().__init__()
        check_positive(
            in_channels=in_channels,
            num_classes=num_classes,
            hidden_channels=hidden_channels,
        )
        self.in_channels, self.num_classes = in_channels, num_classes
        layers, before = [], in_channels
        for width in (hidden_channels, 2 * hidden_channels, 4 * hidden_channels):
            for channels in (before, width):
                layers += [
                    nn.Conv2d(channels, width, 3, padding=1, bias=False),
                    nn.BatchNorm2d(width),
                    nn.ReLU(),
                ]
            layers.append(nn.MaxPool2d(2))
            before = width
        self.layers = nn.Sequential(*layers[:-1])
        self.num_features = before
        self.head = nn.Linear(before, num_classes)

    def features(self, images: Tensor) -> Tensor:
        """Images [B, C, S, S] to inputs of the last layer, [B, 4 · hidden_channels]."""
        return self.layers(images).mean(dim=(2, 3))

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.features(images))

    def loss_function(self, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Cross entropy in nats per image, and the share of correct predictions."""
        logits = self(images).float()
        return {
            "total_loss": F.cross_entropy(logits, labels),
            "accuracy": (logits.detach().argmax(1) == labels).float().mean(),
        }

    def training_parts(self) -> dict[str, nn.Module]:
        """The loss that training minimises and the module that it belongs to."""
        return {"total_loss": self}


class LabelledImages(ImageData):
    """Images whose batches have labels."""

    def batch(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Arguments of `Classifier.loss_function`: images [B, C, S, S], labels [B]."""
        return self[indices]


def labelled(data: ImageData) -> LabelledImages:
    """The same images, with labels in each batch."""
    return LabelledImages(
        data.images, data.labels, data.class_names, data.name, data.split
    )


def train_classifier(
    train: ImageData,
    *,
    epochs: int = 15,
    batch_size: int = 100,
    lr: float = 3e-3,
    seed: int = 0,
    hidden_channels: int = 16,
    on_cpu: bool = False,
) -> Classifier:
    """Train a classifier on labelled images, in the same way for real and drawn images.

    The last weights are returned, not the best, so that held-out images do not affect
    them.

    Args:
        train: images of at least two classes.
        epochs, batch_size, lr, seed: as in `TrainingSettings`.
        hidden_channels: as in `Classifier`.
        on_cpu: as in `make_accelerator`.

    Returns:
        The classifier, in evaluation mode, on the CPU.

    Raises:
        ValueError: there are fewer than two classes.
    """
    if len(train.class_names) < 2:
        raise ValueError(
            f"the images have {len(train.class_names)} class; a classifier needs two "
            "or more, in one folder per class"
        )
    settings = TrainingSettings(
        epochs=epochs,
        batch_size=min(batch_size, len(train)),
        lr=lr,
        weight_decay=0.05,
        ema_decay=0.0,
        seed=seed,
    )
    data = labelled(train)
    with tempfile.TemporaryDirectory() as folder:
        accelerator = make_accelerator(settings, folder, on_cpu=on_cpu)
        torch.manual_seed(seed)
        model = Classifier(data.images.shape[1], len(data.class_names), hidden_channels)
        each = slice(accelerator.num_processes)  # held out in name only: one each
        few = LabelledImages(data.images[each], data.labels[each], data.class_names)
        fit(model, data, few, settings, folder, accelerator, log=lambda line: None)
    return model.cpu().eval()


@torch.no_grad()
def outputs(network, data: ImageData, batch_size: int = 250, device="cpu") -> Tensor:
    """The outputs of `network` for all images of `data`, in float32, on the CPU.

    Args:
        network: a function of images [B, C, S, S], such as a `Classifier` or its
            `features`.
        data: the images.
        batch_size: images per call of `network`.
        device: the device of `network`.
    """
    parts = torch.arange(len(data)).split(batch_size)
    return torch.cat([network(data[part][0].to(device)).cpu() for part in parts])
