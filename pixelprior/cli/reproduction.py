"""What `reproduce` does: run a recipe from images to weights and model card."""

import contextlib
import json
import shutil
import sys
import time
from functools import partial
from pathlib import Path

import torch

from pixelprior.checkpoints import WEIGHTS_NAME, load_model
from pixelprior.cli.evaluate import Evaluate
from pixelprior.cli.flags import check_one_process
from pixelprior.cli.priors import load_without_top
from pixelprior.cli.recipes import RECIPES, Recipe
from pixelprior.cli.train import images_of
from pixelprior.cli.train_prior import TrainPrior
from pixelprior.cli.train_vqvae2 import TrainVQVAE2
from pixelprior.data.held_out import hold_out
from pixelprior.data.images import load_images
from pixelprior.devices import usable_device
from pixelprior.evaluation.choosing import (
    SETTING_NAME,
    compare_settings,
    read_setting,
    settings_table,
)
from pixelprior.evaluation.classifier import Classifier, train_classifier
from pixelprior.evaluation.report import model_card
from pixelprior.files import (
    recover_folder,
    remove_unfinished,
    sha256_of,
    writable_folder,
    write_texts,
)
from pixelprior.prior import HierarchicalPixelCNN
from pixelprior.vqvae2 import VQVAE2


class Log:
    """A stream that shows what is written to it, and also keeps it in a file.

    Progress bars are shown but not kept.
    """

    def __init__(self, shown, kept):
        self.shown, self.kept = shown, kept

    def write(self, text: str) -> int:
        if "\r" not in text:
            self.kept.write(text)
        return self.shown.write(text)

    def flush(self) -> None:
        self.kept.flush()
        self.shown.flush()

    def isatty(self) -> bool:
        return self.shown.isatty()


class Reproduction:
    """One run of a recipe, from images to results.

    Args:
        flags: a `cli.reproduce.Reproduce`.
    """

    def __init__(self, flags):
        self.flags = flags

    def run(self) -> None:
        check_one_process("reproduce")
        self.folder = writable_folder(
            self.flags.output_dir or Path("outputs", f"reproduce_{self.flags.recipe}")
        )
        for inside in ("weights/*", "results", "results/*"):
            for place in self.folder.glob(inside):
                remove_unfinished(place)
        with (
            open(self.folder / "reproduce.log", "a", 1, encoding="utf-8") as kept,
            contextlib.redirect_stdout(Log(sys.stdout, kept)),
            contextlib.redirect_stderr(Log(sys.stderr, kept)),
        ):
            self.all_parts(RECIPES[self.flags.recipe])

    def all_parts(self, recipe: Recipe) -> None:
        data = {"data_root": self.flags.data_root}
        if self.flags.dataset is not None:
            data["dataset"] = self.flags.dataset
        self.vqvae2_flags = recipe.vqvae2 | data
        self.prior_flags = recipe.prior | data
        self.part("VQ-VAE-2", self.train_vqvae2)
        self.part("prior", self.train_prior)
        if recipe.without_top:
            self.part("bottom level without the top", self.train_without_top)
        self.part("classifier", partial(self.train_classifier, recipe))
        self.part("setting of sampling", partial(self.choose_setting, recipe))
        for seed in recipe.more_seeds:
            train = partial(self.train_prior, f"prior_seed_{seed}", seed=seed)
            self.part(f"prior, seed {seed}", train)
            evaluate = partial(self.evaluate_seed, recipe, seed)
            self.part(f"results, seed {seed}", evaluate)
        self.part("results", partial(self.evaluate_all, recipe))

    def part(self, name: str, run) -> None:
        """Run one part, and print how long it took."""
        print(f"== {name}, {time.strftime('%Y-%m-%d %H:%M:%S')}", flush=True)
        started = time.perf_counter()
        run()
        minutes = (time.perf_counter() - started) / 60
        print(f"== {name}: {minutes:.1f} minutes\n", flush=True)

    def run_folder(self, name: str) -> dict:
        """The flags for a training run in its own folder, new or to be resumed."""
        folder = self.folder / "runs" / name
        return {"output_dir": folder, "resume": self.begun(name)}

    def begun(self, name: str) -> bool:
        """Whether a training run has a checkpoint. If it was killed between the two
        renames that put a new one in its place, the old one is put back first."""
        last = self.folder / "runs" / name / "last"
        recover_folder(last)
        return last.is_dir()

    def given(self, name: str) -> bool:
        """Whether there are weights of a part that were not trained in this folder."""
        weights = self.folder / "weights" / name
        if self.begun(name) or not (weights / WEIGHTS_NAME).is_file():
            return False
        print(f"kept from before: {weights}")
        return True

    def train_vqvae2(self) -> None:
        if self.given("vqvae2"):
            return
        TrainVQVAE2.of(**self.vqvae2_flags, **self.run_folder("vqvae2")).run()
        best = load_model(VQVAE2, self.folder / "runs" / "vqvae2")
        self.halve(best, "vqvae2")

    def train_prior(self, name: str = "prior", **changed) -> None:
        """Train on the codes of the kept VQ-VAE-2, which is in half precision.

        Args:
            name: folder of the run and of its weights.
            changed: flags of `train-prior` in place of the recipe's.
        """
        if self.given(name):
            return
        TrainPrior.of(
            **self.prior_flags | changed,
            **self.run_folder(name),
            vqvae2_checkpoint=self.folder / "weights" / "vqvae2",
        ).run()
        best = load_model(HierarchicalPixelCNN, self.folder / "runs" / name)
        self.halve(best, name)

    def train_without_top(self) -> None:
        if self.given("without_top"):
            return
        TrainPrior.of(
            **self.prior_flags,
            **self.run_folder("without_top"),
            vqvae2_checkpoint=self.folder / "weights" / "vqvae2",
            level="bottom",
            without_top=True,
        ).run()
        vqvae2 = load_model(VQVAE2, self.folder / "weights" / "vqvae2")
        bottom = load_without_top(self.folder / "runs" / "without_top", vqvae2)
        self.halve(bottom, "without_top")

    def train_classifier(self, recipe: Recipe) -> None:
        target = self.folder / "weights" / "classifier"
        if (target / "config.json").is_file():
            print("kept from before")
            return
        train = load_images(
            self.vqvae2_flags["dataset"],
            "train",
            data_root=self.flags.data_root,
            stream=False,
        )
        if len(train.class_names) < 2:
            print("left out: the images have no classes")
            return
        classifier = train_classifier(train, epochs=recipe.classifier_epochs)
        classifier.save_pretrained(target, dtype=torch.float16)

    def choose_setting(self, recipe: Recipe) -> None:
        """Choose how to draw, by the images that the prior's training held out."""
        weights, name = self.folder / "weights", "settings.json"
        if (self.folder / "results" / name).is_file():
            print("kept from before")
            return
        flags = TrainPrior.of(**self.prior_flags, vqvae2_checkpoint=weights / "vqvae2")
        vqvae2 = load_model(VQVAE2, weights / "vqvae2")
        images = images_of(flags, "train", vqvae2.image_size, stream=False)
        _, heldout = hold_out(images, flags.validation_share)
        if heldout is None or not (weights / "classifier").is_dir():
            print("left out: no training images are held out, or they have no classes")
            return
        device = usable_device(None)
        compared = compare_settings(
            vqvae2.to(device),
            load_model(HierarchicalPixelCNN, weights / "prior", device),
            load_model(Classifier, weights / "classifier", device),
            heldout,
            num_samples=min(recipe.samples_per_setting, recipe.num_samples),
            say=partial(print, file=sys.stderr, flush=True),
        )
        print(settings_table(compared))
        write_texts(
            weights / "prior", {SETTING_NAME: json.dumps(compared["chosen"]) + "\n"}
        )
        folder = writable_folder(self.folder / "results")
        write_texts(folder, {name: json.dumps(compared, indent=1)})

    def halve(self, best, name: str) -> None:
        """Keep the best weights of a run in half precision, together with its notes."""
        target = self.folder / "weights" / name
        best.save_pretrained(target, dtype=torch.float16)
        shutil.copy(self.folder / "runs" / name / "best" / "training.json", target)

    def evaluate(self, recipe: Recipe, prior: str, folder: str) -> dict:
        """Measure a prior, given by its folder of weights, at the chosen setting."""
        weights = self.folder / "weights"
        classifier = weights / "classifier"
        return Evaluate(
            dataset=self.vqvae2_flags["dataset"],
            data_root=self.flags.data_root,
            vqvae2_checkpoint=weights / "vqvae2",
            prior_checkpoint=weights / prior,
            without_top_checkpoint=weights / "without_top"
            if recipe.without_top
            else None,
            classifier_checkpoint=classifier if classifier.is_dir() else None,
            num_samples=recipe.num_samples,
            output_dir=self.folder / "results" / folder,
            **read_setting(weights / "prior") or {},
        ).run()

    def evaluate_seed(self, recipe: Recipe, seed: int) -> None:
        """Measure a prior of another seed, which takes as long as the first."""
        folder = f"seed_{seed}"
        if (self.folder / "results" / folder / "results.json").is_file():
            print("kept from before")
            return
        self.evaluate(recipe, f"prior_{folder}", folder)

    def evaluate_all(self, recipe: Recipe) -> None:
        weights = self.folder / "weights"
        results = self.evaluate(recipe, "prior", "")
        trained = ["vqvae2", "prior", *(["without_top"] if recipe.without_top else [])]
        by_seed = {}
        for seed in recipe.more_seeds:
            trained.append(f"prior_seed_{seed}")
            path = self.folder / "results" / f"seed_{seed}" / "results.json"
            by_seed[seed] = json.loads(path.read_text(encoding="utf-8"))
        seconds = {
            name: each for name in trained if (each := self.seconds(name)) is not None
        }
        sizes = {
            name: {
                "bytes": path.stat().st_size,
                "sha256": sha256_of(path),
            }
            for name in (*trained, "classifier")
            if (path := weights / name / WEIGHTS_NAME).is_file()
        }
        about = {
            "recipe": self.flags.recipe,
            "about": recipe.about,
            "vqvae2": {
                k: str(v) for k, v in self.vqvae2_flags.items() if v is not None
            },
            "prior": {k: str(v) for k, v in self.prior_flags.items() if v is not None},
            "minutes": {name: sum(each) / 60 for name, each in seconds.items()},
            "seconds_of_the_fastest_epoch": {
                name: min(each) for name, each in seconds.items()
            },
            "classifier_epochs": recipe.classifier_epochs,
            "weights": sizes,
        }
        about["vqvae2"].pop("data_root", None)
        about["prior"].pop("data_root", None)
        texts = {"recipe.json": json.dumps(about, indent=1)}
        texts["MODEL_CARD.md"] = model_card(results, about, by_seed)
        write_texts(self.folder / "results", texts)

    def seconds(self, name: str) -> list[float] | None:
        """Seconds of each epoch of a training run, however often it was stopped; None
        for weights that were given without their history."""
        history = self.folder / "runs" / name / "history.json"
        if not history.is_file():
            return None
        epochs = json.loads(history.read_text(encoding="utf-8"))
        return [epoch["seconds"] for epoch in epochs]
