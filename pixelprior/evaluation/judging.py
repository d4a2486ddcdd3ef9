"""Samples judged by classifiers: distances in features, and accuracy scores.

`compare_in_features` compares sets of images with held-out images in the features of
one classifier. `accuracy_scores` trains a classifier on each set, and measures it on
held-out images.
"""

import torch

from pixelprior.data.images import ImageData
from pixelprior.evaluation.classifier import Classifier, outputs, train_classifier
from pixelprior.evaluation.measures import (
    bootstrap,
    frechet_distance,
    mean_with_interval,
    within_manifold,
)

FRECHET_ROUNDS = 100
CLASSIFIER_IMAGES = 160_000  # that each classifier trains on, over all its epochs
RESNET_EPOCHS = 10  # over augmented images, for the second accuracy score
ACCURACY_SCORES = {  # options of the classifiers, by part of the results
    "accuracy_score": {},
    "accuracy_score_resnet": {"residual_blocks": 3, "augment": True},
}
JUDGED = 64  # the first samples, as many as the picture has


def compare_in_features(
    classifier, train, sets: dict, judged: dict, heldout: ImageData, seed: int, device
) -> dict:
    """Each set compared with the held-out images in a classifier's features.

    These are the Fréchet distance, precision and recall. Beside them are the accuracy
    of the classifier and, for each set of `judged`, how many of the images it assigns
    to another class than the one that they were drawn for.
    """
    shipped = classifier is not None
    if not shipped:
        classifier = trained_on(train, seed, device)
    reference = outputs(classifier.features, heldout, device=device)
    features = {
        name: outputs(classifier.features, data, device=device)
        for name, data in sets.items()
    }

    def wrong(of: torch.Tensor, data: ImageData) -> torch.Tensor:
        guesses = classifier.head(of.to(device)).argmax(1).cpu()
        return guesses.ne(data.labels).double()

    return {
        "classifier": "shipped" if shipped else "trained for this",
        "classifier_accuracy": 1 - wrong(reference, heldout).mean().item(),
        "distances": {
            name: bootstrap(
                frechet_distance,
                of,
                reference,
                paired=name == "reconstructions",  # of the same images
                rounds=FRECHET_ROUNDS,
                seed=seed,
            )
            for name, of in features.items()
        },
        "precision": {
            name: mean_with_interval(within_manifold(of, reference), seed)
            for name, of in features.items()
        },
        "recall": {
            name: mean_with_interval(within_manifold(reference, of), seed)
            for name, of in features.items()
        },
        "of_another_class": {
            name: {
                "of_the_first": int(wrong(features[name], data)[:JUDGED].sum()),
                "first": min(JUDGED, len(data)),
                "share": mean_with_interval(wrong(features[name], data), seed),
            }
            for name, data in judged.items()
        },
    }


def trained_on(
    data: ImageData, seed: int, device, options: dict | None = None
) -> Classifier:
    """A classifier that is trained on `data`, on the device."""
    epochs = RESNET_EPOCHS if options else -(-CLASSIFIER_IMAGES // len(data))
    on_cpu = device.type == "cpu"
    trained = train_classifier(
        data, epochs=epochs, seed=seed, on_cpu=on_cpu, **(options or {})
    )
    return trained.to(device)


def accuracy_scores(
    sets: dict, heldout: ImageData, seed: int, device, options: dict
) -> dict:
    """Accuracy on held-out images of one classifier per set, trained on that set.

    Beside it is the ratio to the accuracy after training on real images (Ravuri and
    Vinyals 2019, arXiv 1905.10887, as in arXiv 1906.00446).
    """
    right = {}
    for name, data in sets.items():
        trained = trained_on(data, seed, device, options)
        guesses = outputs(trained, heldout, device=device).argmax(1)
        right[name] = guesses.eq(heldout.labels).double()
    scores = {name: mean_with_interval(each, seed) for name, each in right.items()}
    for name in sets:
        if name == "real":
            continue
        scores[f"{name}_to_real"] = bootstrap(
            lambda one, other: one.mean() / other.mean(),
            right[name],
            right["real"],
            seed=seed,
        )
    return scores
