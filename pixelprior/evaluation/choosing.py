"""Comparing settings of sampling, and choosing one by a number.

Temperature, top_k, top_p and guidance exchange diversity for images that are more
typical of their class. `compare_settings` measures a prior's samples under each of
`SETTINGS` against held-out training images, and chooses the setting with the lowest
Fréchet distance. Test images take no part, so that the chosen setting can be measured
on them. The choice is kept beside the prior's weights in `sampling.json`.
"""

import json

from pixelprior.checkpoints import checkpoint_folder
from pixelprior.data.images import ImageData
from pixelprior.devices import machine
from pixelprior.evaluation.classifier import Classifier, outputs
from pixelprior.evaluation.judging import trained_on
from pixelprior.evaluation.measures import frechet_distance, samples, within_manifold
from pixelprior.prior import HierarchicalPixelCNN
from pixelprior.validation import check_filters, check_weights
from pixelprior.vqvae2 import VQVAE2

SETTING_NAME = "sampling.json"
NAMES = ("guidance", "temperature", "top_k", "top_p")
GUIDED = [
    *({"guidance": [w, 0.0]} for w in (0.25, 0.5, 1.0, 2.0)),
    *({"guidance": [w, w]} for w in (0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)),
    {"guidance": [0.0, 0.5]},
    *({"guidance": [w, 0.0], "top_p": 0.95} for w in (0.25, 0.5)),
    *({"guidance": [w, w], "temperature": 0.95} for w in (0.25, 0.5, 1.0)),
]
SETTINGS = [
    {},
    *({"temperature": temperature} for temperature in (0.8, 0.9, 0.95)),
    *({"top_p": top_p} for top_p in (0.9, 0.95, 0.98)),
    *({"top_k": top_k} for top_k in (8, 16)),
    *GUIDED,
]


def compare_settings(
    vqvae2: VQVAE2,
    prior: HierarchicalPixelCNN,
    classifier: Classifier,
    heldout: ImageData,
    *,
    settings: list[dict] | None = None,
    num_samples: int = 5000,
    seed: int = 0,
    say=lambda line: None,
) -> dict:
    """Measure samples under several settings, and choose the one nearest to the images.

    Args:
        vqvae2, prior: in evaluation mode, on the device to measure on.
        classifier: gives the features, on the same device.
        heldout: images that were trained on by neither, and that are not reported on.
        settings: settings to compare, each with some of the keywords in `NAMES`. None
            takes `SETTINGS`, without guidance if the prior was trained with all labels,
            and without a top_k that keeps the whole codebook.
        num_samples: number of images to draw under each setting.
        seed: seed of the samples and classifiers.
        say: called with one line when a setting has been measured.

    Returns:
        {"rows": one dict per setting, with the setting, the Fréchet distance,
        precision, recall, and, for a prior with classes, the share of samples that the
        classifier assigns to another class and the accuracy on held-out images after
        training on the samples; "chosen": the setting with the lowest Fréchet distance;
        "seed", "samples", "heldout_images", "machine"}.
    """
    device = next(prior.parameters()).device
    if settings is None:
        settings = [
            each
            for each in SETTINGS
            if (prior.label_dropout or "guidance" not in each)
            and each.get("top_k", 0) < vqvae2.num_embeddings
        ]
    reference, rows = outputs(classifier.features, heldout, device=device), []
    for setting in settings:
        drawn = samples(
            vqvae2,
            prior,
            num_samples,
            class_names=heldout.class_names,
            seed=seed,
            **setting,
        )
        features = outputs(classifier.features, drawn, device=device)
        row = {
            "setting": setting,
            "frechet": frechet_distance(features, reference),
            "precision": within_manifold(features, reference).mean().item(),
            "recall": within_manifold(reference, features).mean().item(),
        }
        if prior.num_classes is not None:
            guesses = classifier.head(features.to(device)).argmax(1).cpu()
            trained = trained_on(drawn, seed, device)
            seen = outputs(trained, heldout, device=device).argmax(1)
            row |= {
                "of_another_class": guesses.ne(drawn.labels).double().mean().item(),
                "accuracy": seen.eq(heldout.labels).double().mean().item(),
            }
        rows.append(row)
        say(f"{setting_in_words(setting)}: Fréchet distance {row['frechet']:.3f}")
    return {
        "rows": rows,
        "chosen": min(rows, key=lambda row: row["frechet"])["setting"],
        "seed": seed,
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
            top, bottom = check_weights(value)
            parts.append(f"guidance {top:g} top, {bottom:g} bottom")
        elif value is not None:
            parts.append(f"{name} {value:g}")
    return "; ".join(parts) or "the prior itself"


def settings_table(compared: dict) -> str:
    """The settings, lowest Fréchet distance first, in Markdown.

    Args:
        compared: what `compare_settings` returned.
    """
    lines = [
        "| setting | Fréchet distance | precision | recall | of another class, % | "
        "accuracy after training on samples |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for row in sorted(compared["rows"], key=lambda row: row["frechet"]):
        words = setting_in_words(row["setting"])
        if row["setting"] == compared["chosen"]:
            words = f"**{words}**"
        labelled = ["", ""]
        if "accuracy" in row:
            labelled = [
                f"{100 * row['of_another_class']:.1f}",
                f"{row['accuracy']:.4f}",
            ]
        lines.append(
            f"| {words} | {row['frechet']:.3f} | {row['precision']:.3f} | "
            f"{row['recall']:.3f} | {' | '.join(labelled)} |"
        )
    return "\n".join(lines)


def read_setting(prior_checkpoint) -> dict | None:
    """The setting that was chosen for a prior; None if none was.

    Raises:
        ValueError: the file that holds it is damaged.
    """
    path = checkpoint_folder(prior_checkpoint) / SETTING_NAME
    if not path.is_file():
        return None
    try:
        setting = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(setting, dict) or not setting.keys() <= set(NAMES):
            raise ValueError(f"it holds {setting!r}")
        check_filters(
            setting.get("temperature", 1.0), setting.get("top_k"), setting.get("top_p")
        )
        check_weights(setting.get("guidance", 0.0))
    except (ValueError, TypeError, RecursionError) as error:
        raise ValueError(
            f"{path} holds no setting of sampling ({error}); copy it again, or remove "
            "it"
        ) from error
    return setting or None
