"""Classifiers of images, by which samples are measured.

The features of a small classifier replace Inception's in a Fréchet distance, and its
accuracy after training on samples is the classification accuracy score. A residual
network, which takes longer, gives a second accuracy score. Neither is part of the
generative model, and the core of the package does not import them.
"""

import math
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock

from pixelprior.assets import WITH_WITHOUT_TOP, shipped_folder
from pixelprior.checkpoints import Pretrained, load_model
from pixelprior.data.augmentation import shifted_and_flipped
from pixelprior.data.images import ImageData
from pixelprior.devices import make_accelerator
from pixelprior.evaluation.measures import (
    bootstrap,
    frechet_distance,
    mean_with_interval,
    outputs,
    ratio_with_interval,
    within_manifold,
)
from pixelprior.pixelcnn import ConditionalPixelCNN
from pixelprior.settings import TrainingSettings, check_positive
from pixelprior.training import fit

FRECHET_ROUNDS = 100
CLASSIFIER_IMAGES = 160_000  # that each classifier trains on, over all its epochs
RESNET_EPOCHS = 10  # over augmented images, for the second accuracy score
ACCURACY_SCORES = {  # options of the classifiers, by part of the results
    "accuracy_score": {},
    "accuracy_score_resnet": {"residual_blocks": 3, "augment": True},
}
# The residual network of 56 layers of the classification accuracy score's authors. The
# real images of CIFAR-10, read from JPEG files, give 84.6 % in these epochs.
CAS = {"residual_blocks": 9, "augment": True, "epochs": 15}
JUDGED = 64  # the first samples, as many as the picture has
NEVER_FLIPPED = ("mnist",)  # the mirror image of a digit is no digit


class Classifier(nn.Module, Pretrained):
    """Images [B, C, S, S] in [0, 1] to logits [B, num_classes].

    Three pairs of 3×3 convolutions with batch norm, of 1, 2 and 4 times
    `hidden_channels`, with max-pooling by two between the pairs, and then the mean over
    all positions. S may be any size of at least 4. With `residual_blocks` per stage, it
    is the residual network of He et al. 2015 (arXiv 1512.03385, section 4.2), which has
    20 layers with 3 blocks per stage.
    """

    def __init__(
        self,
        in_channels: int = 3,
        num_classes: int = 10,
        hidden_channels: int = 16,
        residual_blocks: int = 0,
    ):
        super().__init__()
        sizes = {"in_channels": in_channels, "num_classes": num_classes}
        check_positive(**sizes, hidden_channels=hidden_channels)
        self.in_channels, self.num_classes = in_channels, num_classes
        widths = [hidden_channels, 2 * hidden_channels, 4 * hidden_channels]
        if residual_blocks:
            layers = _convolution(in_channels, hidden_channels)
            for before, width in zip([hidden_channels, *widths], widths, strict=False):
                inputs = [before, *[width] * (residual_blocks - 1)]
                layers += [_residual_block(each, width) for each in inputs]
        else:
            layers = []
            for before, width in zip([in_channels, *widths], widths, strict=False):
                layers += _convolution(before, width) + _convolution(width, width)
                layers.append(nn.MaxPool2d(2))
            layers.pop()
        self.layers = nn.Sequential(*layers)
        self.head = nn.Linear(widths[-1], num_classes)

    def features(self, images: Tensor) -> Tensor:
        """Images [B, C, S, S] to inputs of the last layer, [B, 4 · hidden_channels]."""
        return self.layers(images).mean(dim=(2, 3))

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.features(images))

    def loss_function(self, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Cross entropy in nats per image."""
        return {"total_loss": F.cross_entropy(self(images).float(), labels)}

    def training_parts(self) -> dict[str, nn.Module]:
        return {"total_loss": self}


def _convolution(channels: int, width: int) -> list[nn.Module]:
    convolution = nn.Conv2d(channels, width, 3, padding=1, bias=False)
    return [convolution, nn.BatchNorm2d(width), nn.ReLU()]


def _residual_block(channels: int, width: int) -> BasicBlock:
    """A block that halves the size if it changes the channels."""
    if channels == width:
        return BasicBlock(channels, width)
    shortcut = nn.Conv2d(channels, width, 1, stride=2, bias=False)
    shortcut = nn.Sequential(shortcut, nn.BatchNorm2d(width))
    return BasicBlock(channels, width, 2, shortcut)


@dataclass
class LabelledImages(ImageData):
    """Images whose batches have labels, and are shifted and flipped if `augmented`."""

    augmented: bool = False

    def batch(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Arguments of `Classifier.loss_function`: images [B, C, S, S], labels [B]."""
        images, labels = self[indices]
        if self.augmented:
            images = shifted_and_flipped(images, flip=self.name not in NEVER_FLIPPED)
        return images, labels


def train_classifier(
    train: ImageData,
    *,
    epochs: int = 15,
    batch_size: int = 100,
    seed: int = 0,
    hidden_channels: int = 16,
    residual_blocks: int = 0,
    augment: bool = False,
    on_cpu: bool = False,
    folder: Path | None = None,
) -> Classifier:
    """Train a classifier on images of at least two classes, real or drawn.

    The last weights are returned, not the best, so that held-out images do not affect
    them; the classifier is in evaluation mode, on the CPU. Options are those of
    `TrainingSettings`, `Classifier` and `make_accelerator`; `augment` shifts and flips
    the images at random. A training in a `folder` goes on where it was stopped.
    """
    if len(train.class_names) < 2:
        raise ValueError(
            f"the images have {len(train.class_names)} class; a classifier needs two "
            "or more, in one folder per class"
        )
    batch_size = min(batch_size, len(train))
    fixed = {"lr": 3e-3, "weight_decay": 0.05, "ema_decay": 0.0}
    settings = TrainingSettings(
        epochs=epochs, batch_size=batch_size, seed=seed, **fixed
    )
    data = LabelledImages(**vars(train), augmented=augment)
    with tempfile.TemporaryDirectory() as temporary:
        folder = folder or Path(temporary)
        resume = {"resume": (folder / "last").is_dir()}
        accelerator = make_accelerator(settings, folder, on_cpu=on_cpu)
        torch.manual_seed(seed)
        classes = len(data.class_names)
        model = Classifier(data.channels, classes, hidden_channels, residual_blocks)
        quiet = {"log": lambda line: None}
        fit(model, data, None, settings, folder, accelerator, **resume, **quiet)
    return model.cpu().eval()


def correct(logits: Tensor, data: ImageData) -> Tensor:
    """Which images the logits [N, num_classes] assign to their own class, as numbers 0
    or 1, float64 [N]."""
    return logits.argmax(1).cpu().eq(data.labels).double()


def load_shipped_reference_models(name: str = "fashion_mnist"):
    """The models by which the shipped prior for one of `SHIPPED` is measured.

    They are the bottom level trained without the top codes, a `ConditionalPixelCNN`, or
    None where the recipe does not train it; and a `Classifier` of the data
    set's images. Both are in evaluation mode.
    """
    without_top = None
    if name in WITH_WITHOUT_TOP:
        folder = shipped_folder(name, "without_top")
        without_top = load_model(ConditionalPixelCNN, folder)
    return without_top, load_model(Classifier, shipped_folder(name, "classifier"))


def trained_on(data: ImageData, seed: int, device, **options) -> Classifier:
    """A classifier that is trained on `data`, on the device."""
    epochs = RESNET_EPOCHS if options else math.ceil(CLASSIFIER_IMAGES / len(data))
    options |= {"epochs": epochs, "seed": seed, "on_cpu": device.type == "cpu"}
    return train_classifier(data, **options).to(device)


def compare_in_features(
    classifier, train, sets: dict, judged: dict, heldout: ImageData, seed: int, device
) -> dict:
    """Each set compared with the held-out images in a classifier's features: Fréchet
    distance, precision and recall, the accuracy of the classifier, and for each set of
    `judged` how many images it assigns to another class than they were drawn for.
    """
    shipped = classifier is not None
    if not shipped:
        classifier = trained_on(train, seed, device)
    head, see = classifier.head, classifier.features
    reference = outputs(see, heldout, device)
    features = {name: outputs(see, data, device) for name, data in sets.items()}
    right = correct(head(reference.to(device)), heldout)
    found = {
        "classifier": "shipped" if shipped else "trained for this",
        "classifier_accuracy": right.mean().item(),
        "distances": {},
        "precision": {},
        "recall": {},
        "of_another_class": {},
    }
    for name, of in features.items():
        found["distances"][name] = bootstrap(
            frechet_distance,
            of,
            reference,
            paired=name == "reconstructions",  # of the same images
            rounds=FRECHET_ROUNDS,
            seed=seed,
        )
        inside, covered = within_manifold(of, reference), within_manifold(reference, of)
        found["precision"][name] = mean_with_interval(inside, seed)
        found["recall"][name] = mean_with_interval(covered, seed)
    for name, data in judged.items():
        wrong = 1 - correct(head(features[name].to(device)), data)
        found["of_another_class"][name] = {
            "of_the_first": int(wrong[:JUDGED].sum()),
            "first": min(JUDGED, len(data)),
            "share": mean_with_interval(wrong, seed),
        }
    return found


def accuracy_scores(
    sets: dict, heldout: ImageData, seed: int, device, options: dict
) -> dict:
    """Accuracy on held-out images of one classifier per set, trained on that set, and
    its ratio to the accuracy after training on real images, as `scores_of` has them."""
    right = {}
    for name, data in sets.items():
        trained = trained_on(data, seed, device, **options)
        right[name] = correct(outputs(trained, heldout, device), heldout)
    return scores_of(right, seed)


def scores_of(right: dict[str, Tensor], seed: int) -> dict:
    """The accuracy by the set that a classifier was trained on, and its ratio to that
    of real images (Ravuri and Vinyals 2019, arXiv 1905.10887, as in arXiv 1906.00446).

    `right` says which held-out images each classifier assigned to their class.
    """
    right = dict(right)
    scores = {name: mean_with_interval(each, seed) for name, each in right.items()}
    real = right.pop("real")
    for name, each in right.items():
        scores[f"{name}_to_real"] = ratio_with_interval(each, real, seed)
    return scores
