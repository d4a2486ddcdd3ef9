"""What `reproduce` does: run a recipe from images to weights and model card.

A part whose results are in the output folder is kept, and a training goes on.
"""

import contextlib
import json
import shutil
import sys
import time
from functools import partial
from pathlib import Path

import torch

from pixelprior import files
from pixelprior.checkpoints import WEIGHTS_NAME, load_model
from pixelprior.cli.evaluate import Evaluate
from pixelprior.cli.flags import check_one_process
from pixelprior.cli.recipes import RECIPES, Recipe
from pixelprior.cli.train import images_of
from pixelprior.cli.train_prior import TrainPrior
from pixelprior.cli.train_vqvae2 import TrainVQVAE2
from pixelprior.data.held_out import hold_out
from pixelprior.data.images import load_images
from pixelprior.devices import usable_device
from pixelprior.evaluation import choosing
from pixelprior.evaluation.classifier import Classifier, train_classifier
from pixelprior.evaluation.report import model_card
from pixelprior.prior import HierarchicalPixelCNN
from pixelprior.training import read_history
from pixelprior.vqvae2 import VQVAE2


class Log:
    """A stream that shows what is written to it, and keeps all but progress bars."""

    def __init__(self, shown, kept):
        self.shown, self.kept = shown, kept
        self.flush, self.isatty = shown.flush, shown.isatty

    def write(self, text: str) -> int:
        if "\r" not in text:
            self.kept.write(text)
        return self.shown.write(text)


class Reproduction:
    """One run of a recipe, from images to results."""

    def __init__(self, flags):
        check_one_process("reproduce")
        self.flags = flags
        own = flags.output_dir or Path("outputs", f"reproduce_{flags.recipe}")
        self.folder = files.writable_folder(own)
        self.weights, self.results = self.folder / "weights", self.folder / "results"

    def run(self) -> None:
        for folder in (*self.weights.glob("*"), self.results, *self.results.glob("*")):
            files.remove_unfinished(folder)
        with (
            open(self.folder / "reproduce.log", "a", 1, encoding="utf-8") as kept,
            contextlib.redirect_stdout(Log(sys.stdout, kept)),
            contextlib.redirect_stderr(Log(sys.stderr, kept)),
        ):
            self.all_parts(RECIPES[self.flags.recipe])

    def all_parts(self, recipe: Recipe) -> None:
        self.recipe, data = recipe, {"data_root": self.flags.data_root}
        if self.flags.dataset is not None:
            data["dataset"] = self.flags.dataset
        self.vqvae2_flags, self.prior_flags = recipe.vqvae2 | data, recipe.prior | data
        self.part("VQ-VAE-2", self.train_vqvae2)
        self.part("prior", self.train_prior)
        if recipe.without_top:
            self.part("bottom level without the top", self.train_without_top)
        self.part("classifier", self.train_classifier)
        self.part("setting of sampling", self.choose_setting)
        for seed in recipe.more_seeds:
            name = f"seed_{seed}"
            train = partial(self.train_prior, f"prior_{name}", seed=seed)
            self.part(f"prior, seed {seed}", train)
            if not self.kept(self.results / name / "results.json"):
                self.part(f"results, seed {seed}", self.evaluate, f"prior_{name}", name)
        self.part("results", self.evaluate_all)

    def part(self, name: str, run, *arguments) -> None:
        """Run one part, and print how long it took."""
        print(f"== {name}, {time.strftime('%Y-%m-%d %H:%M:%S')}", flush=True)
        started = time.perf_counter()
        run(*arguments)
        minutes = (time.perf_counter() - started) / 60
        print(f"== {name}: {minutes:.1f} minutes\n", flush=True)

    def kept(self, path: Path) -> bool:
        """Whether a file is there from before, which is then said."""
        if path.is_file():
            print(f"kept from before: {path.parent}")
        return path.is_file()

    def run_folder(self, name: str) -> dict:
        """The flags for a training run in its own folder, new or to be resumed."""
        folder = self.folder / "runs" / name
        # A kill between the two renames of a checkpoint leaves the one before aside.
        files.recover_folder(folder / "last")
        return {"output_dir": folder, "resume": (folder / "last").is_dir()}

    def given(self, name: str) -> bool:
        """Whether there are weights of a part that were not trained in this folder."""
        begun = self.run_folder(name)["resume"]
        return not begun and self.kept(self.weights / name / WEIGHTS_NAME)

    def train(self, name: str, command, kind, flags: dict, pick=lambda model: model):
        """Train a model of this kind, and keep of the best one what `pick` returns, in
        half precision, with its notes."""
        if self.given(name):
            return
        run, target = self.run_folder(name), self.weights / name
        command.of(**flags, **run).run()
        best = pick(load_model(kind, run["output_dir"]))
        best.save_pretrained(target, dtype=torch.float16)
        shutil.copy(run["output_dir"] / "best" / "training.json", target)

    def train_vqvae2(self) -> None:
        self.train("vqvae2", TrainVQVAE2, VQVAE2, self.vqvae2_flags)

    def train_prior(self, name: str = "prior", pick=lambda prior: prior, **changed):
        """Train on the codes of the kept VQ-VAE-2, which is in half precision."""
        flags = self.prior_flags | {"vqvae2_checkpoint": self.weights / "vqvae2"}
        flags |= changed
        if self.recipe.top and "level" not in flags:
            if self.given(name):
                return
            top = self.run_folder(f"{name}_top")
            TrainPrior.of(**flags | self.recipe.top | top, level="top").run()
            start = {"init_checkpoint": top["output_dir"] / "best"}
            flags |= {"level": "bottom"} | start
        self.train(name, TrainPrior, HierarchicalPixelCNN, flags, pick)

    def train_without_top(self) -> None:
        flags = {"level": "bottom", "without_top": True}
        self.train_prior("without_top", lambda prior: prior.prior_bottom, **flags)

    def train_classifier(self) -> None:
        target, data = self.weights / "classifier", self.vqvae2_flags["dataset"]
        if self.kept(target / WEIGHTS_NAME):
            return
        train = load_images(data, "train", data_root=self.flags.data_root, stream=False)
        if len(train.class_names) < 2:
            print("left out: the images have no classes")
            return
        classifier = train_classifier(train, epochs=self.recipe.classifier_epochs)
        classifier.save_pretrained(target, dtype=torch.float16)

    def choose_setting(self) -> None:
        """Choose how to draw, by the images that the prior's training held out."""
        if self.kept(self.results / "settings.json"):
            return
        weights, device = self.weights, usable_device(None)
        vqvae2 = load_model(VQVAE2, weights / "vqvae2", device)
        flags = TrainPrior.of(**self.prior_flags)
        images = images_of(flags, "train", vqvae2.image_size, stream=False)
        _, heldout = hold_out(images, flags.validation_share)
        if heldout is None or not (weights / "classifier").is_dir():
            print("left out: no training images are held out, or they have no classes")
            return
        compared = choosing.compare_settings(
            vqvae2,
            load_model(HierarchicalPixelCNN, weights / "prior", device),
            load_model(Classifier, weights / "classifier", device),
            heldout,
            num_samples=min(self.recipe.samples_per_setting, self.recipe.num_samples),
            say=partial(print, file=sys.stderr, flush=True),
        )
        print(choosing.settings_table(compared))
        chosen = json.dumps(compared["chosen"]) + "\n"
        files.write_texts(weights / "prior", {choosing.SETTING_NAME: chosen})
        texts = {"settings.json": json.dumps(compared, indent=1)}
        files.write_texts(files.writable_folder(self.results), texts)

    def evaluate(self, prior: str, folder: str) -> dict:
        """Measure a prior, given by its folder of weights, at the chosen setting."""
        weights = self.weights
        without_top, classifier = weights / "without_top", weights / "classifier"
        return Evaluate(
            dataset=self.vqvae2_flags["dataset"],
            data_root=self.flags.data_root,
            vqvae2_checkpoint=weights / "vqvae2",
            prior_checkpoint=weights / prior,
            without_top_checkpoint=without_top if self.recipe.without_top else None,
            classifier_checkpoint=classifier if classifier.is_dir() else None,
            num_samples=self.recipe.num_samples,
            output_dir=self.results / folder,
            **choosing.read_setting(weights / "prior") or {},
        ).run()

    def evaluate_all(self) -> None:
        """Measure the first prior, and write the model card of all that was trained."""
        results, by_seed = self.evaluate("prior", ""), {}
        trained = ["vqvae2", "prior"]
        if self.recipe.without_top:
            trained.append("without_top")
        for seed in self.recipe.more_seeds:
            found = self.results / f"seed_{seed}" / "results.json"
            by_seed[seed] = json.loads(found.read_text(encoding="utf-8"))
            trained.append(f"prior_seed_{seed}")
        about = {
            "recipe": self.flags.recipe,
            "about": self.recipe.about,
            "vqvae2": _in_words(self.vqvae2_flags),
            "prior": _in_words(self.prior_flags),
            "top": _in_words(self.recipe.top),
            "minutes": {},
            "seconds_of_the_fastest_epoch": {},
            "classifier_epochs": self.recipe.classifier_epochs,
            "weights": {},
        }
        tops = [f"{name}_top" for name in trained if self.recipe.top]
        for name in (*trained, *tops, "classifier"):
            if seconds := self.seconds(name):
                about["minutes"][name] = sum(seconds) / 60
                about["seconds_of_the_fastest_epoch"][name] = min(seconds)
            path = self.weights / name / WEIGHTS_NAME
            if path.is_file():
                size = path.stat().st_size
                about["weights"][name] = {
                    "bytes": size,
                    "sha256": files.sha256_of(path),
                }
        texts = {"recipe.json": json.dumps(about, indent=1)}
        texts["MODEL_CARD.md"] = model_card(results, about, by_seed)
        files.write_texts(self.results, texts)

    def seconds(self, name: str) -> list[float]:
        """Seconds of each epoch of a training run, however often it was stopped; none
        for weights that were given without their history."""
        history = read_history(self.folder / "runs" / name)
        return [epoch["seconds"] for epoch in history]


def _in_words(flags: dict) -> dict[str, str]:
    """Flags for the model card, without the folder of the data on this machine."""
    return {k: str(v) for k, v in flags.items() if v is not None and k != "data_root"}
