"""The command `evaluate`: measure a VQ-VAE-2 and its prior, and write the results."""

import shutil
import sys
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Literal

from pixelprior.cli.flags import Shipped, check_one_process
from pixelprior.files import writable_folder

MOST_SAMPLES = 10_000
OF_CODES = ("codes", "prior_checkpoint", "seed", "device", "output_dir")
CHANGE_NO_SCORE = ("device", "output_dir", "resume", "data_root", "weights")
CHANGE_NO_SCORE += ("temperature", "top_k", "top_p", "guidance")  # noted as the setting
OF_CLASSIFIERS = {"classifiers/*/*": r"model\.safetensors|config\.json"}


@dataclass(kw_only=True)
class Evaluate:
    """Measure a trained prior: likelihoods, codes in use, reconstructions, distances
    and accuracy scores of samples. Without checkpoints, the shipped weights are
    measured."""

    dataset: str | None = None
    """Data set whose test images are measured on, and whose training images the samples
    are compared with; see train-prior. If it is left out, it is the one that --weights
    names, else fashion_mnist."""
    data_root: Path | None = None
    """Folder of the data. If it is left out, $PIXELPRIOR_DATA is used, else a cache
    folder."""
    weights: Shipped | None = None
    """Name of the shipped weights to measure. If it is left out, those for the data set
    are measured, unless there are checkpoints."""
    vqvae2_checkpoint: Path | None = None
    """Checkpoint of the VQ-VAE-2. If it is left out, the shipped VQ-VAE-2 is used."""
    prior_checkpoint: Path | None = None
    """Checkpoint of the prior. If it is left out, the shipped prior is used."""
    without_top_checkpoint: Path | None = None
    """Checkpoint of the bottom level trained with --without_top, for the gain from the
    top codes."""
    classifier_checkpoint: Path | None = None
    """Checkpoint of the classifier whose features the Fréchet distance is measured in.
    If it is left out, the shipped classifier for the data set is used, or if there is
    none, a classifier is trained first."""
    max_images: int | None = None
    """Number of images of each split to measure with, as in train-prior."""
    codes: Path | None = None
    """File of codes to measure the likelihood of a prior on, in place of images; see
    --codes of train-prior. It needs --prior_checkpoint."""
    protocol: Literal["all", "cas"] = "all"
    """What to measure. cas is the classification accuracy score alone, as its authors
    measure it: residual networks of 56 layers, trained on as many samples as there are
    training images. It takes hours, and goes on with --resume."""
    num_samples: int | None = None
    """Number of images to draw, at most the number of training images. If it is left
    out, it is 10,000, and for --protocol cas the number of training images."""
    temperature: float | None = None
    """Temperature of the second set of samples. With any of --temperature, --top_k,
    --top_p and --guidance, as in sample, such a set is measured beside samples of the
    prior itself. If all are left out, it is drawn at the setting in the prior's
    sampling.json, if there is one."""
    top_k: int | None = None
    """top_k of the second set of samples."""
    top_p: float | None = None
    """top_p of the second set of samples."""
    guidance: tuple[float, ...] | None = None
    """Guidance of the second set of samples: one number, or two for the levels."""
    seed: int = 0
    """Seed of samples, classifiers and intervals."""
    device: str | None = None
    """Device to draw and measure on, such as cuda. If it is left out, the GPU is used
    if there is one."""
    output_dir: Path = Path("./pixelprior_results")
    """Folder for results.json, results.md and pictures; for --protocol cas it is for
    cas.json, cas.md and the classifiers."""
    resume: bool = False
    """Go on with --protocol cas where it was stopped, in the same --output_dir."""

    def run(self) -> dict:
        from pixelprior.benchmark.report import write_results
        from pixelprior.data.images import load_images
        from pixelprior.devices import usable_device
        from pixelprior.evaluation import report, suite
        from pixelprior.evaluation.choosing import NAMES, read_setting, setting_in_words
        from pixelprior.evaluation.measures import samples
        from pixelprior.plotting import save_picture
        from pixelprior.settings import SamplingOptions, check_positive

        check_one_process("evaluate")
        if self.num_samples is not None:
            check_positive(num_samples=self.num_samples)
        if self.resume and self.protocol != "cas":
            raise ValueError(
                "--resume is for --protocol cas; give it too, or leave --resume out"
            )
        device = usable_device(self.device)
        if self.codes is not None:
            return self.run_on_codes(device)
        folder = writable_folder(self.output_dir)
        vqvae2, prior, without_top, classifier = self.models(device)
        train, heldout = (
            load_images(
                self.dataset_name,
                split,
                data_root=self.data_root,
                image_size=vqvae2.image_size,
                max_images=self.max_images,
                stream=False,
                progress=True,
            )
            for split in ("train", "test")
        )
        self.check_classes(prior, heldout.class_names, self.dataset_name)
        given = {name: getattr(self, name) for name in NAMES}
        setting = {name: value for name, value in given.items() if value is not None}
        if self.guidance is not None:
            options = SamplingOptions(guidance=self.guidance)
            setting["guidance"] = options.guidance_for(2)
        setting = setting or read_setting(self.prior_folder)
        say = partial(print, file=sys.stderr, flush=True)
        if self.protocol == "cas":
            self.begin_scores(folder, vqvae2, prior, setting, train)
            results = suite.classification_accuracy(
                vqvae2,
                prior,
                train,
                heldout,
                folder,
                setting=setting,
                num_samples=self.num_samples,
                seed=self.seed,
                say=say,
            )
            write_results(folder, "cas", results, report.accuracy_table(results))
            return results
        most = MOST_SAMPLES if self.num_samples is None else self.num_samples
        results = suite.evaluate(
            vqvae2,
            prior,
            train,
            heldout,
            without_top=without_top,
            classifier=classifier,
            setting=setting,
            num_samples=most,
            seed=self.seed,
            say=say,
        )
        options = {"class_names": heldout.class_names, "seed": self.seed}
        first = samples(vqvae2, prior, report.PICTURED, **options)
        pictures = {
            "samples": report.sample_picture(first, self.seed),
            "reconstructions": report.reconstruction_picture(vqvae2, heldout),
            "neighbours": report.neighbour_picture(first, train),
        }
        if setting is not None:
            chosen = samples(vqvae2, prior, report.PICTURED, **options, **setting)
            words = setting_in_words(setting)
            picture = report.sample_picture(chosen, self.seed, words)
            pictures["chosen_samples"] = picture
        for name, picture in pictures.items():
            save_picture(picture, folder / f"{name}.png")
        write_results(folder, "results", results, report.table(results))
        print(f"wrote results.json, results.md and pictures to {folder}")
        return results

    def begin_scores(self, folder: Path, vqvae2, prior, setting, train) -> None:
        """Note what the classifiers in a folder are trained on, or compare it."""
        from pixelprior.checkpoints import fingerprint
        from pixelprior.cli.resuming import begin
        from pixelprior.evaluation.suite import IN_TRAINING

        noted = {
            "dataset": [train.name, len(train)],
            "setting": setting,
            "vqvae2_checkpoint": fingerprint(vqvae2),
            "prior_checkpoint": fingerprint(prior),
        }
        note = folder / "measured_with.json"
        begin(note, self, CHANGE_NO_SCORE, noted, OF_CLASSIFIERS)
        if not self.resume:  # what another run has begun
            shutil.rmtree(folder / IN_TRAINING, ignore_errors=True)

    def run_on_codes(self, device) -> dict:
        from pixelprior.benchmark.report import write_results
        from pixelprior.checkpoints import read_training_notes
        from pixelprior.cli.priors import load_prior
        from pixelprior.data.codes import read_codes
        from pixelprior.evaluation.report import table
        from pixelprior.evaluation.suite import evaluate_codes

        if self.prior_checkpoint is None:
            raise ValueError(
                "--codes needs the prior to measure; give --prior_checkpoint"
            )
        for flag in fields(self):
            changed = getattr(self, flag.name) != flag.default
            if changed and flag.name not in OF_CODES:
                raise ValueError(
                    f"--{flag.name} is for images, and on codes the likelihood alone "
                    f"is measured; leave --{flag.name} out"
                )
        prior = load_prior(self.prior_checkpoint, None, device)
        codes = read_codes(self.codes, prior.num_embeddings)
        trained_on = read_training_notes(self.prior_checkpoint).get("grids")
        found = [list(grid.shape[1:]) for grid in codes.grids]
        # Another number of levels is found later, and a `.pth` file has no notes.
        known = isinstance(trained_on, list) and len(trained_on) == len(found)
        if known and found != trained_on:
            raise ValueError(
                f"the prior in {self.prior_checkpoint} was trained on grids of "
                f"{trained_on}, but {self.codes} has {found}; give codes of the same "
                "tokenizer"
            )
        if prior.levels[0].takes_labels and codes.labels is None:
            raise ValueError(
                f"the prior was trained with labels, but {self.codes} has none; write "
                "labels into it, the class or the vector of each image"
            )
        self.check_classes(prior, codes.class_names, str(self.codes))
        folder = writable_folder(self.output_dir)
        results = evaluate_codes(prior, codes, seed=self.seed)
        write_results(folder, "results", results, table(results))
        print(f"wrote results.json and results.md to {folder}")
        return results

    @property
    def dataset_name(self) -> str:
        return self.dataset or self.weights or "fashion_mnist"

    @property
    def weights_name(self) -> str:
        """The name of the shipped weights that go with the flags."""
        return self.weights or self.dataset_name.removesuffix("_mini")

    @property
    def prior_folder(self) -> Path:
        from pixelprior.assets import shipped_folder

        return self.prior_checkpoint or shipped_folder(self.weights_name, "prior")

    def models(self, device):
        """VQ-VAE-2, prior and the two reference models; a missing one is None."""
        from pixelprior.assets import SHIPPED, load_shipped
        from pixelprior.checkpoints import load_model
        from pixelprior.cli.priors import load_prior, load_without_top
        from pixelprior.evaluation import classifier as judging
        from pixelprior.vqvae2 import VQVAE2

        name = self.weights_name
        checkpoints = (self.vqvae2_checkpoint, self.prior_checkpoint)
        given = any(checkpoints)
        if given and not all(checkpoints):
            raise ValueError(
                "a VQ-VAE-2 and a prior go together; give both --vqvae2_checkpoint and "
                "--prior_checkpoint, or neither for the shipped weights"
            )
        if given and self.weights is not None:
            raise ValueError(
                f"--weights {name} names shipped weights, but there are checkpoints "
                "too; leave one of them out"
            )
        without_top = classifier = None
        if name in SHIPPED:
            without_top, classifier = judging.load_shipped_reference_models(name)
        if given:
            vqvae2 = load_model(VQVAE2, self.vqvae2_checkpoint)
            prior = load_prior(self.prior_checkpoint, vqvae2)
            without_top = None  # the shipped one is of other codes
        else:
            vqvae2, prior = load_shipped(name)
        if self.without_top_checkpoint is not None:
            without_top = load_without_top(self.without_top_checkpoint, vqvae2)
        if self.classifier_checkpoint is not None:
            classifier = load_model(judging.Classifier, self.classifier_checkpoint)
        models = vqvae2, prior, without_top, classifier
        return tuple(each if each is None else each.to(device) for each in models)

    def check_classes(self, prior, class_names, where: str) -> None:
        """Raise ValueError if the classes of what is measured, which is from `where`,
        are not those of the prior."""
        from pixelprior.checkpoints import read_training_notes

        known = read_training_notes(self.prior_folder).get("class_names")
        found = list(class_names)
        if prior.num_classes is None or known in (None, found):
            return
        if self.codes is not None:  # a file without names has numbers in their place
            for names in (known, found):
                if names == [str(number) for number in range(len(names))]:
                    return
        raise ValueError(
            f"the prior was trained on the classes {', '.join(map(str, known))}, but "
            f"{where} has {', '.join(found)}; measure it on the data set that it was "
            "trained on"
        )
