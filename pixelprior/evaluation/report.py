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


def table(results: dict, others: dict[str, dict] | None = None) -> str:
    """All measured values in Markdown, as in `results.md` and `docs/results.md`.

    Args:
        results: what `suite.evaluate` returned.
        others: the same of priors that were trained otherwise, by the titles of their
            columns, which have the values that differ from those of `results`.
    """
    others = others or {}
    columns = ["on held-out images", "measured", "95 % interval, or as said"]
    columns += others
    cells = [
        {name: _rounded(cell, digits) for name, cell, digits in _rows(other)}
        for other in others.values()
    ]
    rows = []
    for name, cell, digits in _rows(results):
        value, interval = _rounded(cell, digits), ""
        if isinstance(cell, dict):
            interval = f"{cell['low']:.{digits}f} to {cell['high']:.{digits}f}"
        values = [other.get(name, "") for other in cells]
        changed = ["" if each == value else each for each in values]
        rows.append([name, value, interval, *changed])
    return "\n".join([markdown_table(columns, rows), "", *_below(results)])


def accuracy_table(results: dict) -> str:
    """The accuracies that `suite.classification_accuracy` returned, in Markdown."""
    data, scores = results["data"], results["classification_accuracy_score"]
    columns = ["trained on", "accuracy, %", "95 % interval", "÷ real images"]
    rows = []
    for name, found in scores.items():
        if name.endswith("_to_real"):
            continue
        low, high = 100 * found["low"], 100 * found["high"]
        ratio = scores.get(f"{name}_to_real")
        rows.append(
            [
                SETS_IN_WORDS.get(name, name),
                f"{100 * found['value']:.2f}",
                f"{low:.2f} to {high:.2f}",
                _rounded(ratio, 3) if ratio else "",
            ]
        )
    lines = [
        f"- residual networks of 56 layers, {results['epochs']} epochs on "
        f"{data['training_images']:,} images; {data['heldout_images']:,} test images "
        f"of {data['name']}"
    ]
    if results["setting"] is not None:
        lines.append(f"- chosen setting: {setting_in_words(results['setting'])}")
    return "\n".join([markdown_table(columns, rows), "", *lines])


def _below(results: dict):
    """The lines below the table: what was measured, and on what machine."""
    data, machine = results["data"], results["machine"]
    heldout, words = f"{data['heldout_images']:,}", {"vqvae2": "VQ-VAE-2"}
    if "name" in data:
        words |= {"top": "top prior", "bottom": "bottom prior"}
        yield (
            f"- {heldout} test images of {data['name']}, neighbours among "
            f"{data['training_images']:,} training images; {data['samples']:,} samples "
            f"of seed {data['seed']}, and as many real images and reconstructions to "
            "train the classifiers on"
        )
    else:
        grids = data["grids"].items()
        shapes = ", ".join(f"{name} {side[0]}×{side[1]}" for name, side in grids)
        yield f"- codes of {heldout} images, in grids: {shapes}"
    sizes = results["parameters"].items()
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
        which = f"{level.replace('_', ' ')} {'levels' if level == 'both' else 'codes'}"
        for key, words, digits in (
            ("nats_per_code", f"{which}: nats per code", 3),
            ("uniform", f"{which}: uniform", 3),
            ("unigram", f"{which}: unigram entropy", 3),
            ("without_top", "bottom codes: the same network without the top", 3),
            ("gain_from_top", "bottom codes: gain from the top", 3),
            ("nats_per_image", f"{which}: nats per image", 1),
            ("bits_per_dimension", f"{which}: bits per dimension", 4),
        ):
            if key in found:
                yield words, found[key], digits
    for level, use in results["codes"].items():
        which = f"{level.replace('_', ' ')} codebook"
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
        distance = "Fréchet distance in a small classifier's features ({}): {}"
        for name, value in found["distances"].items():
            which = SETS_IN_WORDS.get(name, name)
            if name == "training images":
                which += ", which it was trained on"
            yield distance.format(found["classifier"], which), value, 2
        yield from _by_set("precision in the same features", found["precision"], 3)
        yield from _by_set("recall in the same features", found["recall"], 3)
        right = found["classifier_accuracy"]
        yield "accuracy of that classifier on test images", right, 4
        for name, each in found["of_another_class"].items():
            which = SETS_IN_WORDS.get(name, name)
            other = "of another class to that classifier:"
            yield f"{other} {which}, share", each["share"], 4
            first = f"of the first {each['first']} {which}"
            yield f"{other} {first}", each["of_the_first"], 0
    yield from _by_set("saturation of the colours", results["saturation"], 3)
    for part, whose in (
        ("accuracy_score", "small classifier"),
        ("accuracy_score_resnet", "residual network"),
    ):
        for name, value in (results[part] or {}).items():
            of = name.removesuffix("_to_real")
            which = SETS_IN_WORDS.get(of, of)
            if of != name:
                yield f"accuracy of a {whose}: {which} ÷ real images", value, 3
            else:
                yield f"accuracy of a {whose} after training on {which}", value, 4
    near, speed = dict(results["neighbours"]), results["speed"]
    ratios = (
        ("samples ÷ test images", near.pop("samples_to_heldout"), 3),
        ("samples ÷ rebuilt test images", near.pop("samples_to_heldout_rebuilt"), 3),
    )
    yield from _by_set("distance to the nearest training image", near, 2)
    yield from ratios
    for key, which in (
        ("milliseconds_per_image", "samples"),
        ("milliseconds_per_chosen_image", "samples at the chosen setting"),
    ):
        if key in speed:
            words = f"milliseconds per image, batch {speed['batch_size']}: {which}"
            yield f"{words} (lowest to highest)", speed[key], 1


def _by_set(words: str, measured: dict | None, digits: int):
    """A row for each set of images, by what it is called."""
    for name, value in (measured or {}).items():
        yield f"{words}: {SETS_IN_WORDS.get(name, name)}", value, digits


def sample_picture(drawn: ImageData, seed: int, setting: str = "") -> Figure:
    """The first 64 samples of a seed, none selected, ordered by class if they have
    classes; `setting` says in the title how they were drawn."""
    images, labels = drawn[: min(PICTURED, len(drawn))]
    order = labels.argsort(stable=True)
    names = drawn.class_names or [""] * (1 + int(labels.max()))
    captions = [names[label] for label in labels[order]]
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


def model_card(results: dict, about: dict, by_seed: dict[int, dict]) -> str:
    """Data, recipe, time, figures and limits of a set of weights, in Markdown.

    `results` is that of `table`, and `by_seed` has the same of priors that were trained
    from other seeds; `about` is what `reproduce` noted.
    """
    data = results["data"]
    share = float(about["prior"].get("validation_share", 0.05))
    chosen = (
        "What was chosen was chosen by training images that were held out "
        f"({share:.0%} for the prior)."
        if share
        else "No training images were held out, and the last weights were kept."
    )
    if about["vqvae2"].get("dataset") == "imagefolder":
        chosen += (
            " All images were read from image files, which differ from the original "
            "images if they are compressed with loss, as JPEG files are."
        )
    flags = {
        name: " ".join(
            f"--{flag}" if value == "True" else f"--{flag} {value}"
            for flag, value in about.get(name, {}).items()
        )
        for name in ("vqvae2", "prior", "top")
    }
    codes = "--vqvae2_checkpoint weights/vqvae2"
    steps = [f"`pixelprior train-vqvae2 {flags['vqvae2']}`"]
    steps.append(f"`pixelprior train-prior {flags['prior']} {codes}`")
    if flags["top"]:
        steps.append(
            f"the top level before, with `--level top {flags['top']}`; with "
            "`--level bottom --init_checkpoint` the training above starts from it"
        )
    if "without_top" in about["weights"]:
        steps.append(
            "the bottom level without the top: the same as the prior, with "
            "`--level bottom --without_top`"
        )
    steps += [f"the prior of seed {seed}: `--seed {seed}`" for seed in by_seed]
    if "classifier" in about["weights"]:
        steps.append(f"the classifier: {about['classifier_epochs']} epochs")
    recipe = "\n".join(f"- {step}" for step in steps)
    took = ", ".join(f"{name} {each:.0f}" for name, each in about["minutes"].items())
    weights = "\n".join(
        f"| {name} | {each['bytes']:,} | `{each['sha256']}` |"
        for name, each in about["weights"].items()
    )
    others = {f"training seed {seed}": each for seed, each in by_seed.items()}
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

{table(results, others)}

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
