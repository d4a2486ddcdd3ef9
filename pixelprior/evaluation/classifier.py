"""Classifiers of images, by which samples are measured.

The features of a small classifier replace Inception's in a Fréchet distance, and its
accuracy after training on samples is the classification accuracy score. A residual
network, which takes longer, gives a second accuracy score. Neither is part of the
generative model, and the core of the package does not import them.
"""

import tempfile
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock

from pixelprior.assets import WITH_WITHOUT_TOP, shipped_folder
from pixelprior.checkpoints import Pretrained, load_model
from pixelprior.data.augmentation import shifted_and_flipped
from pixelprior.data.images import ImageData
from pixelprior.devices import make_accelerator
from pixelprior.pixelcnn import ConditionalPixelCNN
from pixelprior.ranges import check_positive
from pixelprior.settings import TrainingSettings
from pixelprior.training import fit


def _convolution(channels: int, width: int) -> list[nn.Module]:
    return [
        nn.Conv2d(channels, width, 3, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
    ]


def _residual_stage(channels: int, width: int, blocks: int) -> list[nn.Module]:
    """Residual blocks; the first halves the size if it changes the channels."""
    stage = []
    for number in range(blocks):
        stride, shortcut = 1, None
        if number == 0 and channels != width:
            stride = 2
            shortcut = nn.Sequential(
                nn.Conv2d(channels, width, 1, stride=2, bias=False),
                nn.BatchNorm2d(width),
            )
        before = channels if number == 0 else width
        stage.append(BasicBlock(before, width, stride, shortcut))
    return stage


class Classifier(nn.Module, Pretrained):
    """Images [B, C, S, S] in [0, 1] to logits [B, num_classes].

    Three pairs of 3×3 convolutions with batch norm, with max-pooling by two between the
    pairs, and then the mean over all positions. S may be any size of at least 4. With
    `residual_blocks`, it is the residual network of He et al. 2015 (arXiv 1512.03385,
    section 4.2), which has 20 layers with 3 blocks per stage.

    Args:
        in_channels: 1 for grey images, 3 for colour.
        num_classes: number of classes to tell apart.
        hidden_channels: channels of the first pair or stage; the second has twice as
            many, the third four times as many.
        residual_blocks: residual blocks per stage; 0 takes pairs of convolutions.
    """

    def __init__(
        self,
        in_channels: int = 3,
        num_classes: int = 10,
        hidden_channels: int = 16,
        residual_blocks: int = 0,
    ):
        super().__init__()
        check_positive(
            in_channels=in_channels,
            num_classes=num_classes,
            hidden_channels=hidden_channels,
        )
        self.in_channels, self.num_classes = in_channels, num_classes
        widths = (hidden_channels, 2 * hidden_channels, 4 * hidden_channels)
        if residual_blocks:
            before = hidden_channels
            layers = _convolution(in_channels, before)
            for width in widths:
                layers += _residual_stage(before, width, residual_blocks)
                before = width
            self.layers = nn.Sequential(*layers)
        else:
            layers, before = [], in_channels
            for width in widths:
                layers += _convolution(before, width) + _convolution(width, width)
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


@dataclass
class LabelledImages(ImageData):
    """Images whose batches have labels, and may be augmented.

    Attributes:
        augmented: whether the images of each batch are shifted and flipped at random.
    """

    augmented: bool = False

    def batch(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Arguments of `Classifier.loss_function`: images [B, C, S, S], labels [B]."""
        images, labels = self[indices]
        if self.augmented:
            images = shifted_and_flipped(images, flip=self.name not in NEVER_FLIPPED)
        return images, labels


NEVER_FLIPPED = ("mnist",)  # the mirror image of a digit is no digit


def labelled(data: ImageData, augmented: bool = False) -> LabelledImages:
    """The same images, with labels in each batch."""
    return LabelledImages(
        data.images, data.labels, data.class_names, data.name, data.split, augmented
    )


def train_classifier(
    train: ImageData,
    *,
    epochs: int = 15,
    batch_size: int = 100,
    lr: float = 3e-3,
    seed: int = 0,
    hidden_channels: int = 16,
    residual_blocks: int = 0,
    augment: bool = False,
    on_cpu: bool = False,
) -> Classifier:
    """Train a classifier on labelled images, in the same way for real and drawn images.

    The last weights are returned, not the best, so that held-out images do not affect
    them.

    Args:
        train: images of at least two classes.
        epochs, batch_size, lr, seed: as in `TrainingSettings`.
        hidden_channels, residual_blocks: as in `Classifier`.
        augment: whether to shift and flip the training images at random.
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
    data = labelled(train, augment)
    with tempfile.TemporaryDirectory() as folder:
        accelerator = make_accelerator(settings, folder, on_cpu=on_cpu)
        torch.manual_seed(seed)
        model = Classifier(
            data.images.shape[1],
            len(data.class_names),
            hidden_channels,
            residual_blocks,
        )
        fit(model, data, None, settings, folder, accelerator, log=lambda line: None)
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


def load_shipped_reference_models(name: str = "fashion_mnist"):
    """The models by which the shipped prior for a data set is measured.

    Args:
        name: the data set, one of `SHIPPED`.

    Returns:
        (ConditionalPixelCNN, Classifier), in evaluation mode: the bottom level trained
        without the top codes, and a classifier of the data set's images. The first is
        None for "cifar10", whose recipe does not train it.
    """

    without_top = None
    if name in WITH_WITHOUT_TOP:
        without_top = load_model(
            ConditionalPixelCNN, shipped_folder(name, "without_top")
        )
    return (
        without_top,
        load_model(Classifier, shipped_folder(name, "classifier")),
    )
