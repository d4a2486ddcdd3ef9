"""The command `find-anomalies`: score image files, and show what is odd in them.

Images are taken in the order of their paths, and each has the random streams of its
number in it. Scores are written batch by batch (`score_table.py`), so that a run that
was stopped goes on.
"""

import json
import math
import shutil
import sys
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from torch import Tensor

from pixelprior.anomalies import Findings, calibrate, division, find
from pixelprior.anomaly_pictures import finding_figure, summary_figure
from pixelprior.anomaly_scores import Calibration, check_rate
from pixelprior.calibration_files import load_calibration, save_calibration
from pixelprior.checkpoints import fingerprint, load_model
from pixelprior.cli.evaluate import check_one_process
from pixelprior.cli.flags import FindAnomalies
from pixelprior.cli.resuming import begin
from pixelprior.data import cache_folder
from pixelprior.devices import usable_device
from pixelprior.evaluation.detection import PIXEL_RATE, detection_table
from pixelprior.evaluation.detectors import Judged
from pixelprior.evaluation.mvtec import (
    MVTecTest,
    evaluate_folder,
    has_layout,
    read_maps,
    write_map,
)
from pixelprior.files import check_outside, sha256_of, writable_folder, write_texts
from pixelprior.image_files import with_channels
from pixelprior.image_sources import AllFiles, listed
from pixelprior.image_streams import Images, load_source
from pixelprior.memory import free_memory
from pixelprior.pictures import save_picture
from pixelprior.pixelcnn import PixelCNN
from pixelprior.progress import progress_bar
from pixelprior.ranges import check_positive
from pixelprior.runs import check_trained, load_prior
from pixelprior.sampling import uniforms
from pixelprior.score_table import ScoreTable, line
from pixelprior.vqvae2 import VQVAE2

SCORES, ABOUT, CALIBRATION = "scores.csv", "found_with.json", "calibration.safetensors"
OWN_FILES = (SCORES, f"{SCORES}.unfinished", CALIBRATION, "results.json", "results.md")
OWN_FILES += ("summary.png",)
OWN_FOLDERS = ("flagged", "maps")
CHANGE_NOTHING = ("output_dir", "resume", "device")
BATCH = 64  # images that are read together
PICTURED = 8
SHARE_OF_MEMORY = 0.5  # of what is free, for the normal images


class Finding:
    """The models, the images and the calibration of one run of the command."""

    def __init__(self, flags: FindAnomalies):
        check_one_process("find-anomalies")
        self.flags = flags
        check_positive(draws=flags.draws)
        uniforms(flags.seed, 0, 1, 1)  # which checks the seed
        self.device = usable_device(flags.device)
        self.vqvae2 = load_model(VQVAE2, flags.vqvae2_checkpoint, self.device)
        self.prior = load_prior(flags.prior_checkpoint, self.device)
        if isinstance(self.prior, PixelCNN):
            raise ValueError(
                f"the prior in {flags.prior_checkpoint} has one level, but two are "
                "needed; give a prior of two levels"
            )
        self.prior.check_matches(self.vqvae2)
        check_trained(flags.prior_checkpoint, self.vqvae2)
        self.check_label()
        self.as_floats(torch.zeros(1, 3, 1, 1).byte())  # which checks the channels
        root = flags.data_root
        self.evaluated = has_layout(root)
        self.source = MVTecTest(root) if self.evaluated else AllFiles(root)
        self.images = Images(self.source, self.vqvae2.image_shape)
        self.normal = None
        if flags.calibrate.is_file():
            self.given = self.loaded(flags.calibrate)
        else:
            self.normal = self.normal_files()
        check_outside(flags.output_dir, root, flags.calibrate)
        self.folder = writable_folder(flags.output_dir)
        names = [self.name(index) for index in range(len(self.source))]
        self.scores = ScoreTable(self.folder / SCORES, names)

    def check_label(self) -> None:
        """Raise ValueError if the prior has no such class, or needs one."""
        level, label = self.prior.prior_top, self.flags.label
        if label is None and level.num_classes and not level.label_dropout:
            raise ValueError(
                f"the prior was trained with {level.num_classes} classes; give "
                "--label, the class that all images should be of"
            )
        level.check_labels(label, 1)

    def normal_files(self) -> AllFiles:
        """The normal images, enough of them for the false-alarm rate."""
        root = self.flags.calibrate
        if has_layout(root):
            raise ValueError(
                f"{root} has images with defects as well; give a folder of normal "
                "images alone as --calibrate, of which none was trained on"
            )
        normal = AllFiles(root)
        check_rate(self.flags.rate, division(len(normal))[-1])
        return normal

    def loaded(self, path: Path) -> Calibration:
        """A calibration of an earlier run, which these images may be compared with."""
        calibration = load_calibration(path, self.vqvae2, self.prior)
        check_rate(self.flags.rate, len(calibration.scores))
        labels = self.prior.prior_top.check_labels(self.flags.label, 1)
        calibration.check_fits(self.vqvae2.grids, self.flags.draws, labels)
        return calibration

    def run(self) -> None:
        self.begin()
        calibration = self.calibration()
        started, rows = time.perf_counter(), self.scores.resume()
        rows += self.search(calibration, before := len(rows))
        seconds = time.perf_counter() - started
        self.summarize(calibration, rows)
        flagged = sum(row["flagged"] == "1" for row in rows)
        broken = [row["problem"] for row in rows if row["problem"]]
        if broken:
            warnings.warn(
                f"{len(broken)} of {len(rows):,} images cannot be read and have no "
                f"score (mend or remove them): {listed(broken)}",
                stacklevel=2,
            )
        count = len(rows) - before
        speed = f", {1000 * seconds / count:.0f} ms per image" if count else ""
        print(
            f"{flagged:,} of {len(rows) - len(broken):,} images are flagged at a "
            f"false-alarm rate of {self.flags.rate:.3g}{speed}; wrote {SCORES} and "
            f"pictures to {self.folder}"
        )

    def begin(self) -> None:
        """Note how images are scored, or go on with what is there."""
        calibrate = self.flags.calibrate
        begin(
            self.folder,
            ABOUT,
            self.flags,
            leave_out=CHANGE_NOTHING,
            fingerprints={
                "prior_checkpoint": fingerprint(self.prior),
                "vqvae2_checkpoint": fingerprint(self.vqvae2),
                "data_root": self.source.signature(),
                "calibrate": sha256_of(calibrate)
                if self.normal is None
                else self.normal.signature(),
            },
            command="find-anomalies",
            made="found",
            clear=self.clear,
        )

    def clear(self) -> None:
        """Remove what another run found, and no folder that it did not make."""
        if not (self.folder / ABOUT).is_file():
            return
        for name in OWN_FILES:
            if (self.folder / name).resolve() != self.flags.calibrate.resolve():
                (self.folder / name).unlink(missing_ok=True)
        for name in OWN_FOLDERS:
            shutil.rmtree(self.folder / name, ignore_errors=True)

    def calibration(self) -> Calibration:
        """That of an earlier run, or of the normal images."""
        own = self.folder / CALIBRATION
        if self.normal is None:
            return self.given
        if own.is_file():
            return self.loaded(own)
        normal, sides = self.normal, self.vqvae2.image_shape
        needed = 4 * len(normal) * self.vqvae2.in_channels * math.prod(sides)
        if needed > SHARE_OF_MEMORY * free_memory():
            raise ValueError(
                f"{len(normal):,} normal images take {needed / 2**30:.1f} GiB, more "
                "than half of what is free; give fewer, a few thousand are enough"
            )
        images = load_source(
            normal,
            torch.arange(len(normal)),
            sides,
            name=normal.name,
            split="normal",
            cache=cache_folder(),
            stream=False,
            progress=True,
        ).images
        print(f"calibrating on {len(images):,} normal images", file=sys.stderr)
        calibration = calibrate(
            self.vqvae2,
            self.prior,
            self.as_floats(images),
            self.flags.label,
            draws=self.flags.draws,
            seed=self.flags.seed,
            progress=True,
        )
        check_rate(self.flags.rate, len(calibration.scores))
        save_calibration(calibration, own)
        return calibration

    def as_floats(self, images: Tensor) -> Tensor:
        """Bytes [N, 3, H, W] as the VQ-VAE-2 takes them."""
        return with_channels(images, self.vqvae2.in_channels).float() / 255

    def name(self, index: int) -> str:
        """The path of an image below the folder of images, with slashes."""
        return Path(self.source.files[index]).as_posix()

    def search(self, calibration: Calibration, start: int) -> list[dict]:
        """Score the images from a number on; return their lines."""
        threshold, rows = calibration.map_threshold(PIXEL_RATE), []
        bar = progress_bar(total=len(self.source), desc="searching", unit="image")
        bar.update(start)
        with bar:
            for first in range(start, len(self.source), BATCH):
                numbers = range(first, min(first + BATCH, len(self.source)))
                images, problems = self.read(numbers)
                found = self.find(images, calibration, first)
                batch = []
                for place, index in enumerate(numbers):
                    row = self.row(found, place, index, problems[place])
                    if not problems[place] and self.evaluated:
                        write_map(found.maps[place], self.map_path(index))
                    if row["flagged"] == "1":
                        self.write_picture(images, found, place, row, threshold)
                    batch.append(row)
                self.scores.add(batch)
                rows += batch
                bar.update(len(batch))
        return rows

    def read(self, numbers) -> tuple[Tensor, list[str]]:
        """Some images [B, C, H, W] in [0, 1], and what is wrong with each, or "".

        One that cannot be read is black, so that the others keep their streams.
        """
        with ThreadPoolExecutor() as pool:
            read = list(pool.map(self.images.__getitem__, numbers))
        images, problems = zip(*read, strict=True)
        return self.as_floats(torch.stack(images)), list(problems)

    def find(self, images: Tensor, calibration: Calibration, first: int) -> Findings:
        return find(
            self.vqvae2,
            self.prior,
            images,
            calibration,
            self.flags.label,
            draws=self.flags.draws,
            seed=self.flags.seed,
            first_index=first,
        )

    def row(self, found: Findings, place: int, index: int, problem: str) -> dict:
        if problem:
            return line(self.name(index), problem=problem)
        score, p_value, share = (
            each[place].item()
            for each in (found.scores, found.p_values, found.flagged_share)
        )
        return line(
            self.name(index),
            score=f"{score:.6g}",
            p_value=f"{p_value:.6g}",
            flagged=str(int(p_value <= self.flags.rate)),
            flagged_share=f"{share:.4g}",
        )

    def write_picture(self, images, found, place: int, row: dict, threshold) -> None:
        figure = finding_figure(
            images[place],
            found.best[place].cpu(),
            found.maps[place],
            threshold,
            f"score {float(row['score']):.1f}, p = {float(row['p_value']):.2g}",
        )
        save_picture(figure, self.folder / "flagged" / f"{row['path']}.png")

    def map_path(self, index: int) -> Path:
        return self.folder / "maps" / Path(self.name(index)).with_suffix(".tiff")

    def summarize(self, calibration: Calibration, rows: list[dict]) -> None:
        """Write the summary pictures, and the measures of a folder that has masks."""
        readable = [number for number, row in enumerate(rows) if not row["problem"]]
        if not readable:
            self.scores.finish()
            raise ValueError(
                f"none of the {len(rows):,} images in {self.source.name} could be "
                f"read, the first: {rows[0]['problem']}; give undamaged images"
            )
        scores = [float(rows[number]["score"]) for number in readable]
        scores = torch.tensor(scores).double()
        highest = scores.argsort(descending=True, stable=True)[:PICTURED]
        shown = [readable[place] for place in highest.tolist()]
        images, best, maps = [], [], []
        for number in shown:
            image, _ = self.read([number])
            found = self.find(image, calibration, number)
            images.append(image)
            best.append(found.best.cpu())
            maps.append(found.maps)
        figure = summary_figure(
            calibration,
            scores,
            self.flags.rate,
            *map(torch.cat, (images, best, maps)),
            [f"p = {float(rows[number]['p_value']):.2g}" for number in shown],
            threshold=calibration.map_threshold(PIXEL_RATE),
        )
        save_picture(figure, self.folder / "summary.png")
        if self.evaluated:
            self.evaluate(calibration, scores, readable)
        self.scores.finish()

    def evaluate(self, calibration, scores: Tensor, readable: list[int]) -> None:
        """Measure scores and maps by the masks, beside what else one would use."""
        images = torch.stack([self.images[number][0] for number in readable])
        results = evaluate_folder(
            self.vqvae2,
            self.prior,
            self.source,
            readable,
            with_channels(images, self.vqvae2.in_channels),
            Judged(scores, read_maps(map(self.map_path, readable))),
            threshold=calibration.map_threshold(PIXEL_RATE),
            label=self.flags.label,
            seed=self.flags.seed,
        )
        texts = {"results.json": json.dumps(results, indent=1)}
        write_texts(self.folder, texts | {"results.md": detection_table(results)})
        print(detection_table(results))
