"""Comparing settings of sampling, and choosing one by a number.

Temperature, top_k, top_p and guidance exchange diversity for images that are more
typical of their class. `compare_settings` measures a prior's samples under each of
`SETTINGS` against held-out training images, and chooses the setting with the lowest
Fréchet distance. Test images take no part, so that the chosen setting can be measured
on them. The choice is kept beside the prior's weights in `sampling.json`.
"""

import json

from pixelprior.benchmark.report import markdown_table
from pixelprior.checkpoints import checkpoint_folder
from pixelprior.data.images import ImageData
from pixelprior.devices import machine
from pixelprior.evaluation.classifier import Classifier, correct, trained_on
from pixelprior.evaluation.measures import (
    frechet_distance,
    outputs,
    samples,
    within_manifold,
)
from pixelprior.prior import HierarchicalPixelCNN
from pixelprior.settings import SamplingOptions
from pixelprior.vqvae2 import VQVAE2

SETTING_NAME = "sampling.json"
SEED = 0  # of samples and classifiers
NAMES = ("guidance", "temperature", "top_k", "top_p")
SETTINGS = [
    {},
    *({"temperature": temperature} for temperature in (0.8, 0.9, 0.95)),
    *({"top_p": top_p} for top_p in (0.9, 0.95, 0.98)),
    *({"top_k": top_k} for top_k in (8, 16)),
    *({"guidance": [w, 0.0]} for w in (0.25, 0.5, 1.0, 2.0)),
    *({"guidance": [w, w]} for w in (0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)),
    {"guidance": [0.0, 0.5]},
    *({"guidance": [w, 0.0], "top_p": 0.95} for w in (0.25, 0.5)),
    *({"guidance": [w, w], "temperature": 0.95} for w in (0.25, 0.5, 1.0)),
]


def compare_settings(
    vqvae2: VQVAE2,
    prior: HierarchicalPixelCNN,
    classifier: Classifier,
    heldout: ImageData,
    *,
    num_samples: int = 5000,
    say=lambda line: None,
) -> dict:
    """Measure samples under each of `SETTINGS`, and choose that nearest to the images.

    Guidance is left out if the prior was trained with all labels, and so is a top_k
    that keeps the whole codebook.

    Args:
        vqvae2, prior, classifier: in evaluation mode, on the device to measure on.
        heldout: images that were trained on by none, and that are not reported on.
        num_samples: number of images to draw under each setting.
        say: called with one line when a setting has been measured.

    Returns:
        The content of `settings.json`. In each of its "rows" are the setting, the
        Fréchet distance, precision, recall, and, for a prior with classes, the share of
        samples that the classifier assigns to another class, and the accuracy on
        held-out images after training on the samples.
    """
    device = next(prior.parameters()).device
    settings = [
        each
        for each in SETTINGS
        if (prior.label_dropout or "guidance" not in each)
        and each.get("top_k", 0) < vqvae2.num_embeddings
    ]
    reference, rows = outputs(classifier.features, heldout, device), []
    options = {"class_names": heldout.class_names, "seed": SEED}
    for setting in settings:
        drawn = samples(vqvae2, prior, num_samples, **options, **setting)
        features = outputs(classifier.features, drawn, device)
        row = {
            "setting": setting,
            "frechet": frechet_distance(features, reference),
            "precision": within_manifold(features, reference).mean().item(),
            "recall": within_manifold(reference, features).mean().item(),
        }
        if prior.num_classes is not None:
            own = correct(classifier.head(features.to(device)), drawn)
            trained = trained_on(drawn, SEED, device)
            seen = correct(outputs(trained, heldout, device), heldout)
            row["of_another_class"] = (1 - own).mean().item()
            row["accuracy"] = seen.mean().item()
        rows.append(row)
        say(f"{setting_in_words(setting)}: Fréchet distance {row['frechet']:.3f}")
    return {
        "rows": rows,
        "chosen": min(rows, key=lambda row: row["frechet"])["setting"],
        "seed": SEED,
        "samples": num_samples,
        "heldout_images": len(heldout),
        "machine": machine(device),
    }


def setting_in_words(setting: dict) -> str:
    """A setting in words, such as "guidance 0.5 top, 0 bottom; top_p 0.95"."""
    parts = []
    for name in NAMES:
        value = setting.get(name)
        if name == "guidance" and value is not None:
            top, bottom = SamplingOptions(guidance=value).guidance_for(2)
            parts.append(f"guidance {top:g} top, {bottom:g} bottom")
        elif value is not None:
            parts.append(f"{name} {value:g}")
    return "; ".join(parts) or "the prior itself"


def settings_table(compared: dict) -> str:
    """What `compare_settings` returned in Markdown, lowest Fréchet distance first."""
    rows = []
    for row in sorted(compared["rows"], key=lambda row: row["frechet"]):
        words = setting_in_words(row["setting"])
        figures = [f"{row[name]:.3f}" for name in ("frechet", "precision", "recall")]
        labelled = ["", ""]
        if "accuracy" in row:
            wrong = 100 * row["of_another_class"]
            labelled = [f"{wrong:.1f}", f"{row['accuracy']:.4f}"]
        chosen = row["setting"] == compared["chosen"]
        rows.append([f"**{words}**" if chosen else words, *figures, *labelled])
    columns = ["setting", "Fréchet distance", "precision", "recall"]
    columns += ["of another class, %", "accuracy after training on samples"]
    return markdown_table(columns, rows)


def read_setting(prior_checkpoint) -> dict | None:
    """The setting that was chosen for a prior; None if none was. A damaged file is a
    ValueError."""
    path = checkpoint_folder(prior_checkpoint) / SETTING_NAME
    if not path.is_file():
        return None
    try:
        setting = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(setting, dict) or not setting.keys() <= set(NAMES):
            raise ValueError(f"it holds {setting!r}")
        SamplingOptions(**setting).guidance_for(2)
    except (ValueError, TypeError, RecursionError) as error:
        raise ValueError(
            f"{path} holds no setting of sampling ({error}); copy it again, or remove "
            "it"
        ) from error
    return setting or None
