"""How the results of `suite.py` are shown: tables, pictures and the model card."""

from matplotlib.figure import Figure

from pixelprior.data.images import ImageData
from pixelprior.evaluation.choosing import setting_in_words
from pixelprior.evaluation.measures import nearest, reconstructions
from pixelprior.evaluation.suite import some_of_each_class
from pixelprior.plotting import captioned_images, image_rows
from pixelprior.sampling import words_for

PICTURED = 64
SETS_IN_WORDS = {
    "chosen_samples": "samples at the chosen setting",
    "heldout": "test images",
    "real": "real images",
}


def table(results: dict, by_seed: dict[int, dict] | None = None) -> str:
    """All measured values in Markdown, as in `results.md` and `docs/results.md`.

    Results of earlier versions lack some parts, and their tables those rows.

    Args:
        results: what `suite.evaluate` returned.
        by_seed: the same of priors that were trained from other seeds. Each has a
            column, with the values that differ from those of `results`.
    """
    by_seed = by_seed or {}
    columns = ["on held-out images", "measured", "95 % interval, or as said"]
    columns += [f"training seed {seed}" for seed in by_seed]
    lines = [f"| {' | '.join(columns)} |", "|---" + "|---:" * (len(columns) - 1) + "|"]
    others = [
        {name: _rounded(cell, digits) for name, cell, digits in _rows(other)}
        for other in by_seed.values()
    ]
    for name, cell, digits in _rows(results):
        cells = [name, _rounded(cell, digits), ""]
        if isinstance(cell, dict):
            cells[2] = f"{cell['low']:.{digits}f} to {cell['high']:.{digits}f}"
        values = [other.get(name, "") for other in others]
        cells += ["" if value == cells[1] else value for value in values]
        lines.append("".join(f"| {cell} " if cell else "| " for cell in cells) + "|")
    return "\n".join([*lines, "", *_below(results)])


def _below(results: dict):
    """The lines below the table: what was measured, and on what machine."""
    data, machine, sizes = results["data"], results["machine"], results["parameters"]
    heldout = f"{data['heldout_images']:,}"
    if "name" in data:
        yield (
            f"- {heldout} test images of {data['name']}, neighbours among "
            f"{data['training_images']:,} training images; {data['samples']:,} samples "
            f"of seed {data['seed']}, and as many real images and reconstructions to "
            "train the classifiers on"
        )
        yield (
            f"- parameters: VQ-VAE-2 {sizes['vqvae2']:,}, top prior {sizes['top']:,}, "
            f"bottom prior {sizes['bottom']:,}"
        )
    else:
        shapes = (
            f"{name} {height}×{width}"
            for name, (height, width) in data["grids"].items()
        )
        yield f"- codes of {heldout} images, in grids: {', '.join(shapes)}"
        counts = (f"{name} {count:,}" for name, count in sizes.items())
        yield f"- parameters: {', '.join(counts)}"
    yield (
        f"- machine: {machine['gpu'] or machine['processor']}, {machine['threads']} "
        f"threads; torch {machine['torch']}"
    )
    if results.get("setting") is not None:
        yield f"- chosen setting: {setting_in_words(results['setting'])}"


def _rounded(cell, digits: int) -> str:
    """A measured value or a plain number, as text."""
    return f"{cell['value'] if isinstance(cell, dict) else cell:.{digits}f}"


def _rows(results: dict):
    """(name, measured value or plain number, decimals) for each line of the table."""
    for level, found in results["likelihood"].items():
        which = "both levels" if level == "both" else words_for(level)
        yield f"{which}: nats per code", found["nats_per_code"], 3
        yield f"{which}: uniform", found["uniform"], 3
        yield f"{which}: unigram entropy", found["unigram"], 3
        if "without_top" in found:
            name = "bottom codes: the same network without the top"
            yield name, found["without_top"], 3
            yield "bottom codes: gain from the top", found["gain_from_top"], 3
        yield f"{which}: nats per image", found["nats_per_image"], 1
        if "bits_per_dimension" in found:
            yield f"{which}: bits per dimension", found["bits_per_dimension"], 4
    for level, use in results["codes"].items():
        which = "codebook" if level == "codes" else f"{level} codebook"
        yield f"{which}: codes in use, %", 100 * use["share_in_use"], 1
        yield f"{which}: perplexity", use["perplexity"], 1
    if "reconstruction" in results:
        yield from _rows_of_images(results)


def _rows_of_images(results: dict):
    """The rows that need images, for `_rows`."""
    rebuilt = results["reconstruction"]
    yield "reconstruction: mean squared error", rebuilt["mean_squared_error"], 5
    yield "reconstruction: PSNR of that error, dB", rebuilt["psnr"], 2
    wrong = rebuilt["mean_squared_error_with_wrong_top"]
    yield "the same with another image's top codes: mean squared error", wrong, 5
    if results["frechet"] is not None:
        yield from _frechet_rows(results["frechet"])
    if results["inception"] is not None:
        for name, value in results["inception"].items():
            which = _in_words(name)
            yield f"Fréchet distance in Inception's features, FID: {which}", value, 2
    if results.get("saturation") is not None:
        for name, value in results["saturation"].items():
            yield (
                f"saturation of the colours: {_in_words(name)}",
                value,
                3,
            )
    for part, whose in (
        ("accuracy_score", "small classifier"),
        ("accuracy_score_resnet", "residual network"),
    ):
        for name, value in (results.get(part) or {}).items():
            of, ratio = name.removesuffix("_to_real"), name.endswith("_to_real")
            which = _in_words(of)
            if ratio:
                yield f"accuracy of a {whose}: {which} ÷ real images", value, 3
            else:
                yield f"accuracy of a {whose} after training on {which}", value, 4
    near = results["neighbours"]
    for name, words in (
        ("samples", "samples"),
        ("heldout", "test images"),
        ("heldout_rebuilt", "rebuilt test images"),
    ):
        yield f"distance to the nearest training image: {words}", near[name], 2
    yield "samples ÷ test images", near["samples_to_heldout"], 3
    yield "samples ÷ rebuilt test images", near["samples_to_heldout_rebuilt"], 3
    speed = results["speed"]
    for name, which in (
        ("milliseconds_per_image", "samples"),
        ("milliseconds_per_chosen_image", "samples at the chosen setting"),
    ):
        if name in speed:
            words = f"milliseconds per image, batch {speed['batch_size']}: {which}"
            yield f"{words} (lowest to highest)", speed[name], 1


def _in_words(name: str) -> str:
    """A set of images in words, by its name in the results."""
    return SETS_IN_WORDS.get(name, name)


def _frechet_rows(found: dict):
    whose = f"a small classifier's features ({found['classifier']})"
    for name, value in found["distances"].items():
        which = _in_words(name)
        more = ", which it was trained on" if name == "training images" else ""
        yield f"Fréchet distance in {whose}: {which}{more}", value, 2
    for measure in ("precision", "recall"):
        for name, value in found.get(measure, {}).items():
            which = _in_words(name)
            yield f"{measure} in the same features: {which}", value, 3
    yield "accuracy of that classifier on test images", found["classifier_accuracy"], 4
    for name, each in found.get("of_another_class", {}).items():
        which = _in_words(name)
        yield f"of another class to that classifier: {which}, share", each["share"], 4
        first = f"of another class to that classifier: of the first {each['first']}"
        yield f"{first} {which}", each["of_the_first"], 0


def sample_picture(drawn: ImageData, seed: int, setting: str = "") -> Figure:
    """The first 64 samples, none selected, ordered by class if they have classes.

    Args:
        drawn: the samples, in the order in which they were drawn.
        seed: their seed. setting: how they were drawn, in words, for the title.
    """
    images, labels = drawn[: min(PICTURED, len(drawn))]
    order = labels.argsort(stable=True)
    captions = [""] * len(order)
    if drawn.class_names:
        captions = [drawn.class_names[label] for label in labels[order]]
    title = f"The first {len(order)} new images of seed {seed}, none chosen"
    title += f"; {setting}" if setting else ""
    return captioned_images(images[order], captions, title=title)


def reconstruction_picture(vqvae2, heldout: ImageData) -> Figure:
    """The first held-out image of each of ten classes, with its reconstruction."""
    some = some_of_each_class(heldout, 10)
    rows = {"held out": some[:][0], "rebuilt": reconstructions(vqvae2, some)[:][0]}
    return image_rows(rows, title="Held-out images, and what their codes hold")


def neighbour_picture(drawn: ImageData, train: ImageData) -> Figure:
    """The first ten samples, with the nearest training image under each."""
    first = ImageData(drawn.images[:10], drawn.labels[:10], drawn.class_names)
    indices, _ = nearest(first, train)
    rows = {"new": first[:][0], "nearest": train[indices][0]}
    return image_rows(rows, title="New images, and the nearest training image of each")


def model_card(
    results: dict, about: dict, by_seed: dict[int, dict] | None = None
) -> str:
    """Data, recipe, time, figures and limits of a set of weights, in Markdown.

    Args:
        results, by_seed: as for `table`.
        about: what `reproduce` noted of the recipe.
    """
    data = results["data"]
    share = float(about["prior"].get("validation_share", 0.05))
    chosen = (
        "What was chosen was chosen by training images that were held out "
        f"({share:.0%} for the prior)."
        if share
        else "No training images were held out, and the last weights were kept."
    )
    lines = [
        f"# {about['recipe']}: a VQ-VAE-2 and its prior",
        "",
        f"Made by `pixelprior reproduce {about['recipe']}`: {about['about']}.",
        "",
        "## Data",
        "",
        f"{data['training_images']:,} training images of {data['name']}, "
        f"{data['pixels']:,} pixels each with all channels. The "
        f"{data['heldout_images']:,} test images were measured when training was over: "
        "no weights, no epoch and no setting of sampling were chosen by them. "
        f"{chosen}"
        + (
            " All images were read from image files, which differ from the original "
            "images if they are compressed with loss, as JPEG files are."
            if about["vqvae2"].get("dataset") == "imagefolder"
            else ""
        ),
        "",
        "## Recipe",
        "",
    ]
    for name in ("vqvae2", "prior"):
        flags = (
            f"--{flag}" if value == "True" else f"--{flag} {value}"
            for flag, value in about[name].items()
        )
        more = " --vqvae2_checkpoint weights/vqvae2" if name == "prior" else ""
        lines.append(f"- `pixelprior train-{name} {' '.join(flags)}{more}`")
    if "without_top" in about["weights"]:
        lines.append(
            "- the bottom level without the top: the same as the prior, with "
            "`--level bottom --without_top`"
        )
    lines += [f"- the prior of seed {seed}: `--seed {seed}`" for seed in by_seed or ()]
    if "classifier" in about["weights"]:
        lines.append(f"- the classifier: {about['classifier_epochs']} epochs")
    took = ", ".join(f"{name} {each:.0f}" for name, each in about["minutes"].items())
    lines += [
        "",
        f"Minutes of training: {took}.",
        "",
        "## Figures",
        "",
        table(results, by_seed),
    ]
    lines += ["", "## Weights", "", "| folder | bytes | SHA-256 |", "|---|---:|---|"]
    lines += [
        f"| {name} | {each['bytes']:,} | `{each['sha256']}` |"
        for name, each in about["weights"].items()
    ]
    lines += [
        "",
        "The parameters are stored in half precision; the figures are those of the "
        "stored weights.",
        "",
        "## Limits",
        "",
        "- Nothing but the classes and the size of the training images was seen; other "
        "images are rebuilt and drawn badly.",
        "- Errors, PSNR and bits per dimension are over the images as the model has "
        "them, with the border that brings them to its size.",
        "- Intervals are over images: they do not hold what another seed of the "
        "training would change"
        + (", which the columns of other seeds show." if by_seed else "."),
        "- Fréchet distances are in the features of a small classifier and cannot be "
        "compared with Inception's.",
    ]
    return "\n".join(lines)
