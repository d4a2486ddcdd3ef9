"""How the results of `suite.py` are shown: tables, pictures and the model card."""

from matplotlib.figure import Figure

from pixelprior.benchmark.report import markdown_table
from pixelprior.data.images import ImageData
from pixelprior.evaluation.choosing import setting_in_words
from pixelprior.evaluation.measures import nearest, reconstructions, some_of_each_class
from pixelprior.plotting import captioned_images, image_rows

PICTURED = 64
SETS_IN_WORDS = {
    "chosen_samples": "samples at the chosen setting",
    "heldout": "test images",
    "heldout_rebuilt": "rebuilt test images",
    "real": "real images",
}


def _words(level: str) -> str:
    """The name of a level in words."""
    return level.replace("_", " ")


def table(results: dict, by_seed: dict[int, dict] | None = None) -> str:
    """All measured values in Markdown, as in `results.md` and `docs/results.md`.

    Args:
        results: what `suite.evaluate` returned.
        by_seed: the same of priors that were trained from other seeds. Each has a
            column, with the values that differ from those of `results`.
    """
    by_seed = by_seed or {}
    columns = ["on held-out images", "measured", "95 % interval, or as said"]
    columns += [f"training seed {seed}" for seed in by_seed]
    others = [
        {name: _rounded(cell, digits) for name, cell, digits in _rows(other)}
        for other in by_seed.values()
    ]
    rows = []
    for name, cell, digits in _rows(results):
        value, interval = _rounded(cell, digits), ""
        if isinstance(cell, dict):
            interval = f"{cell['low']:.{digits}f} to {cell['high']:.{digits}f}"
        values = [other.get(name, "") for other in others]
        changed = ["" if each == value else each for each in values]
        rows.append([name, value, interval, *changed])
    return "\n".join([markdown_table(columns, rows), "", *_below(results)])


def _below(results: dict):
    """The lines below the table: what was measured, and on what machine."""
    data, machine = results["data"], results["machine"]
    heldout, sizes = f"{data['heldout_images']:,}", results["parameters"].items()
    words = {"vqvae2": "VQ-VAE-2"}
    if "name" in data:
        words |= {"top": "top prior", "bottom": "bottom prior"}
        yield (
            f"- {heldout} test images of {data['name']}, neighbours among "
            f"{data['training_images']:,} training images; {data['samples']:,} samples "
            f"of seed {data['seed']}, and as many real images and reconstructions to "
            "train the classifiers on"
        )
    else:
        shapes = (
            f"{name} {height}×{width}"
            for name, (height, width) in data["grids"].items()
        )
        yield f"- codes of {heldout} images, in grids: {', '.join(shapes)}"
    counts = (f"{words.get(name, name)} {count:,}" for name, count in sizes)
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
        which = "both levels" if level == "both" else f"{_words(level)} codes"
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
        which = f"{_words(level)} codebook"
        yield f"{which}: codes in use, %", 100 * use["share_in_use"], 1
        yield f"{which}: perplexity", use["perplexity"], 1
    if "reconstruction" in results:
        yield from _rows_of_images(results)


def _rows_of_images(results: dict):
    """The rows that need images, for `_rows`; a part that was not measured is None."""
    rebuilt = results["reconstruction"]
    yield "reconstruction: mean squared error", rebuilt["mean_squared_error"], 5
    yield "reconstruction: PSNR of that error, dB", rebuilt["psnr"], 2
    wrong = rebuilt["mean_squared_error_with_wrong_top"]
    yield "the same with another image's top codes: mean squared error", wrong, 5
    if found := results["frechet"]:
        whose = f"a small classifier's features ({found['classifier']})"
        for name, which, value in _named(found["distances"]):
            more = ", which it was trained on" if name == "training images" else ""
            yield f"Fréchet distance in {whose}: {which}{more}", value, 2
        for measure in ("precision", "recall"):
            for _, which, value in _named(found[measure]):
                yield f"{measure} in the same features: {which}", value, 3
        right = found["classifier_accuracy"]
        yield "accuracy of that classifier on test images", right, 4
        other = "of another class to that classifier:"
        for _, which, each in _named(found["of_another_class"]):
            yield f"{other} {which}, share", each["share"], 4
            first = f"{other} of the first {each['first']}"
            yield f"{first} {which}", each["of_the_first"], 0
    for _, which, value in _named(results["inception"]):
        yield f"Fréchet distance in Inception's features, FID: {which}", value, 2
    for _, which, value in _named(results["saturation"]):
        yield f"saturation of the colours: {which}", value, 3
    for part, whose in (
        ("accuracy_score", "small classifier"),
        ("accuracy_score_resnet", "residual network"),
    ):
        for name, _, value in _named(results[part]):
            of = name.removesuffix("_to_real")
            which = SETS_IN_WORDS.get(of, of)
            if of != name:
                yield f"accuracy of a {whose}: {which} ÷ real images", value, 3
            else:
                yield f"accuracy of a {whose} after training on {which}", value, 4
    near = results["neighbours"]
    for name in ("samples", "heldout", "heldout_rebuilt"):
        words = SETS_IN_WORDS.get(name, name)
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


def _named(measured: dict | None):
    """(name, name in words, value) of each set of images."""
    for name, value in (measured or {}).items():
        yield name, SETS_IN_WORDS.get(name, name), value


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
    chosen = "No training images were held out, and the last weights were kept."
    if share:
        chosen = (
            "What was chosen was chosen by training images that were held out "
            f"({share:.0%} for the prior)."
        )
    if about["vqvae2"].get("dataset") == "imagefolder":
        chosen += (
            " All images were read from image files, which differ from the original "
            "images if they are compressed with loss, as JPEG files are."
        )
    steps = []
    for name, more in (
        ("vqvae2", ""),
        ("prior", " --vqvae2_checkpoint weights/vqvae2"),
    ):
        flags = " ".join(
            f"--{flag}" if value == "True" else f"--{flag} {value}"
            for flag, value in about[name].items()
        )
        steps.append(f"`pixelprior train-{name} {flags}{more}`")
    if "without_top" in about["weights"]:
        steps.append(
            "the bottom level without the top: the same as the prior, with "
            "`--level bottom --without_top`"
        )
    steps += [f"the prior of seed {seed}: `--seed {seed}`" for seed in by_seed or ()]
    if "classifier" in about["weights"]:
        steps.append(f"the classifier: {about['classifier_epochs']} epochs")
    recipe = "\n".join(f"- {step}" for step in steps)
    took = ", ".join(f"{name} {each:.0f}" for name, each in about["minutes"].items())
    weights = "\n".join(
        f"| {name} | {each['bytes']:,} | `{each['sha256']}` |"
        for name, each in about["weights"].items()
    )
    seeds = ", which the columns of other seeds show" if by_seed else ""
    return f"""# {about["recipe"]}: a VQ-VAE-2 and its prior

Made by `pixelprior reproduce {about["recipe"]}`: {about["about"]}.

## Data

{data["training_images"]:,} training images of {data["name"]}, \
{data["pixels"]:,} pixels each with all channels. The \
{data["heldout_images"]:,} test images were measured when training was over: \
no weights, no epoch and no setting of sampling were chosen by them. \
{chosen}

## Recipe

{recipe}

Minutes of training: {took}.

## Figures

{table(results, by_seed)}

## Weights

| folder | bytes | SHA-256 |
|---|---:|---|
{weights}

The parameters are stored in half precision; the figures are those of the stored \
weights.

## Limits

- Nothing but the classes and the size of the training images was seen; other images \
are rebuilt and drawn badly.
- Errors, PSNR and bits per dimension are over the images as the model has them, with \
the border that brings them to its size.
- Intervals are over images: they do not hold what another seed of the training would \
change{seeds}.
- Fréchet distances are in the features of a small classifier and cannot be compared \
with Inception's."""
