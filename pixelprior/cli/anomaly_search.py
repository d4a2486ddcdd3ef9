"""What `find-anomalies` does: score image files, and show what is odd in them.

Images are taken in the order of their paths, and each has the random streams of its
number in it. The lines of each batch are kept in a file of their own, so that a run
that was stopped goes on, and become the table at the end.
"""

import csv
import io
import json
import os
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from torch import Tensor

from pixelprior.anomalies import calibrate, figures, find
from pixelprior.anomalies.finding import division
from pixelprior.anomalies.scores import check_rate, load_calibration, save_calibration
from pixelprior.checkpoints import fingerprint, load_model
from pixelprior.cli.flags import check_one_process
from pixelprior.cli.priors import load_prior
from pixelprior.cli.resuming import begin
from pixelprior.data.images import Images, read_all, with_channels
from pixelprior.data.sources import AllFiles, listed
from pixelprior.devices import usable_device
from pixelprior.evaluation import mvtec
from pixelprior.evaluation.detectors import PIXEL_RATE, Judged, detection_table
from pixelprior.files import (
    check_apart,
    remove_unfinished,
    sha256_of,
    temporary_folder,
    writable_folder,
    write_texts,
)
from pixelprior.plotting import save_picture
from pixelprior.progress import progress_bar
from pixelprior.settings import SamplingOptions, check_positive
from pixelprior.vqvae2 import VQVAE2

COLUMNS = ("path", "score", "p_value", "flagged", "flagged_share", "problem")
ABOUT, CALIBRATION = "found_with.json", "calibration.safetensors"
OWN_FILES = ("scores.csv", "results.json", "results.md", "summary.png")
OWN_FOLDERS = {"batches": "*.json", "maps": "**/*.tiff"}
OWN_FOLDERS["flagged"] = f"{'[0-9]' * 6}*_*.png"
BATCH = 64  # images that are read together
PICTURED = 8
NAME = 40  # characters of an image's name in that of its picture


class Finding:
    """The models, the images and the calibration of one run of the command."""

    def __init__(self, flags):
        check_one_process("find-anomalies")
        self.flags, root, self.folder = flags, flags.data_root, flags.output_dir
        self.pair = self.vqvae2, self.prior = _models(flags)
        self.options = {"draws": flags.draws, "seed": flags.seed}
        self.evaluated = mvtec.has_layout(root)
        if (root / "test" / mvtec.GOOD).is_dir() and not self.evaluated:
            warnings.warn(
                f"{root} has test/{mvtec.GOOD} but no ground_truth, so that all images "
                "in it are searched and nothing is measured; put masks there to "
                "measure",
                stacklevel=2,
            )
        self.source = mvtec.MVTecTest(root) if self.evaluated else AllFiles(root)
        self.names = [Path(name).as_posix() for name in self.source.files]
        self.images = Images(self.source, self.vqvae2.image_shape)
        self.normal = self.calibration = None
        if flags.calibrate.is_file():
            self.calibration = self.read_calibration(flags.calibrate)
        else:
            self.normal = _normal_files(flags.calibrate, self.source)
        self.own_files = (*OWN_FILES, CALIBRATION) if self.normal else OWN_FILES
        check_apart(self.folder, tuple(OWN_FOLDERS), [root, flags.calibrate])
        noted = (self.folder / ABOUT).is_file()
        for path in (self.folder / name for name in (*self.own_files, *OWN_FOLDERS)):
            if path.exists() and not noted:
                raise ValueError(
                    f"{path} is there, and no run of find-anomalies has noted that it "
                    "wrote it; choose another --output_dir, or move it away"
                )

    def run(self) -> None:
        own, normal = self.folder / CALIBRATION, None
        if self.normal and self.flags.resume and own.is_file():
            self.calibration = self.read_calibration(own)
        if self.calibration is None:  # what can be wrong is found before files go
            normal = self.read_normal()
        self.begin()
        if normal is not None:
            self.calibration = calibrate(
                *self.pair, normal, self.flags.label, **self.options, progress=True
            )
            save_calibration(self.calibration, own)
        self.threshold = self.calibration.map_threshold(PIXEL_RATE)
        rows, searched, started = [], 0, time.perf_counter()
        every = range(len(self.names))
        starts = range(0, len(every), BATCH)
        for first in progress_bar(starts, desc="searching", unit="batch"):
            numbers = every[first : first + BATCH]
            batch = self.finished(numbers)
            if batch is None:
                try:
                    batch = self.search(numbers)
                except OSError as error:  # such as a full disk
                    raise OSError(f"{error}; go on with --resume") from error
                searched += len(batch)
            rows += batch
        seconds = time.perf_counter() - started
        self.write_table(rows)
        self.summarize(rows)
        flagged = sum(row["flagged"] == "1" for row in rows)
        broken = [row["problem"] for row in rows if row["problem"]]
        if broken:
            warnings.warn(
                f"{len(broken)} of {len(rows):,} images cannot be read and have no "
                f"score (repair or remove them, and search again): {listed(broken)}",
                stacklevel=2,
            )
        speed = f", {1000 * seconds / searched:.0f} ms per image" if searched else ""
        print(
            f"{flagged:,} of {len(rows) - len(broken):,} images are flagged at a "
            f"false-alarm rate of {self.flags.rate:.3g}{speed}; wrote scores.csv and "
            f"pictures to {self.folder}"
        )

    def read_calibration(self, path: Path):
        calibration = load_calibration(path, *self.pair)
        check_rate(self.flags.rate, len(calibration.scores))
        labels = self.prior.prior_top.check_labels(self.flags.label, 1)
        calibration.check_fits(self.vqvae2.grids, self.flags.draws, labels)
        return calibration

    def read_normal(self) -> Tensor:
        """The normal images that can be read, float [N, C, H, W] in [0, 1]."""
        source = Images(self.normal, self.vqvae2.image_shape)
        images, _ = read_all(source, torch.arange(len(self.normal)), progress=True)
        check_rate(self.flags.rate, len(division(len(images))[-1]))
        return self.as_floats(images)

    def as_floats(self, images: Tensor) -> Tensor:
        """Bytes [N, 3, H, W] as the VQ-VAE-2 takes them."""
        return with_channels(images, self.vqvae2.in_channels).float() / 255

    def begin(self) -> None:
        """Note how images are scored, or go on with what is there."""
        given = self.flags.calibrate
        begin(
            writable_folder(self.folder),
            ABOUT,
            self.flags,
            leave_out=("output_dir", "resume", "device"),
            fingerprints={
                "prior_checkpoint": fingerprint(self.prior),
                "vqvae2_checkpoint": fingerprint(self.vqvae2),
                "data_root": self.source.signature(),
                "calibrate": self.normal.signature()
                if self.normal
                else sha256_of(given),
            },
            command="find-anomalies",
            made="found",
            clear=self.clear,
        )
        for name in OWN_FOLDERS:
            for folder in [self.folder / name, *(self.folder / name).rglob("*")]:
                remove_unfinished(folder)

    def clear(self) -> None:
        """Remove what another run found.

        Its calibration stays if this run does not make one: it may be the one given.
        """
        for name in self.own_files:
            (self.folder / name).unlink(missing_ok=True)
        for name, pattern in OWN_FOLDERS.items():
            for file in (self.folder / name).glob(pattern):
                if not file.is_dir():
                    file.unlink()

    def batch_path(self, numbers: range) -> Path:
        return self.folder / "batches" / f"{numbers[0]:06d}.json"

    def files_of(self, number: int, row: dict[str, str]) -> dict[str, Path]:
        """The map and the picture that belong to a line of the table."""
        path, files = Path(self.names[number]), {}
        if self.evaluated and not row["problem"]:
            files["map"] = self.folder / "maps" / path.with_suffix(".tiff")
        if row["flagged"] == "1":
            name = f"{number:06d}_{path.stem[:NAME]}.png"
            files["picture"] = self.folder / "flagged" / name
        return files

    def finished(self, numbers: range) -> list[dict] | None:
        """The lines of a batch, unless they or their maps and pictures are missing."""
        try:
            rows = json.loads(self.batch_path(numbers).read_text(encoding="utf-8"))
            files = (self.files_of(*each) for each in zip(numbers, rows, strict=True))
            whole = all(path.is_file() for each in files for path in each.values())
            known = [tuple(row) == COLUMNS and row["path"] for row in rows]
        except (OSError, ValueError, TypeError, KeyError):
            return None
        return rows if whole and known == [self.names[n] for n in numbers] else None

    def search(self, numbers: range) -> list[dict]:
        """Score a batch of images, write its files, and return its lines."""
        images, problems = self.read(numbers)
        found, rows = self.find(images, numbers[0]), []
        best, shares = found.best.cpu(), found.flagged_share.tolist()
        for place, number in enumerate(numbers):
            row = dict.fromkeys(COLUMNS, "") | {"path": self.names[number]}
            row["problem"] = problems[place]
            if not row["problem"]:
                p_value = found.p_values[place].item()
                row["score"] = f"{found.scores[place].item():.6g}"
                row["p_value"] = f"{p_value:.6g}"
                row["flagged"] = str(int(p_value <= self.flags.rate))
                row["flagged_share"] = f"{shares[place]:.4g}"
            files = self.files_of(number, row)
            if "map" in files:
                mvtec.write_map(found.maps[place], files["map"])
            if "picture" in files:
                shown = images[place], best[place], found.maps[place]
                title = f"score {row['score']}, p = {p_value:.2g}"
                figure = figures.finding_figure(*shown, self.threshold, title)
                save_picture(figure, files["picture"])
            rows.append(row)
        path = self.batch_path(numbers)
        write_texts(writable_folder(path.parent), {path.name: json.dumps(rows)})
        return rows

    def read(self, numbers) -> tuple[Tensor, list[str]]:
        """Some images [B, C, H, W] in [0, 1], and what is wrong with each, or "".

        One that cannot be read is black, so that the others keep their streams.
        """
        with ThreadPoolExecutor() as pool:
            read = list(pool.map(self.images.__getitem__, numbers))
        images = torch.stack([image for image, _ in read])
        return self.as_floats(images), [problem for _, problem in read]

    def find(self, images: Tensor, first: int):
        given = images, self.calibration, self.flags.label
        return find(*self.pair, *given, **self.options, first_index=first)

    def write_table(self, rows: list[dict]) -> None:
        text = io.StringIO(newline="")
        # All is in quotation marks, since releases of Python differ in what they quote.
        form = {"quoting": csv.QUOTE_ALL, "lineterminator": "\n"}
        table = csv.DictWriter(text, COLUMNS, **form)
        table.writeheader()
        table.writerows(rows)
        with temporary_folder(self.folder) as temporary:
            written = temporary / "scores.csv"
            written.write_bytes(text.getvalue().encode(errors="surrogateescape"))
            os.replace(written, self.folder / written.name)

    def summarize(self, rows: list[dict]) -> None:
        """Write the summary picture, and the measures of a folder that has masks."""
        readable = [number for number, row in enumerate(rows) if not row["problem"]]
        if not readable:
            raise ValueError(
                f"none of the {len(rows):,} images in {self.source.name} could be "
                f"read, the first: {rows[0]['problem']}; give undamaged images"
            )
        scores = [float(rows[number]["score"]) for number in readable]
        scores = torch.tensor(scores).double()
        highest = scores.argsort(descending=True, stable=True)[:PICTURED].tolist()
        shown, captions = [], []
        for number in (readable[place] for place in highest):
            image, _ = self.read([number])
            found = self.find(image, number)
            shown.append((image, found.best.cpu(), found.maps))
            captions.append(f"p = {float(rows[number]['p_value']):.2g}")
        oddest = *map(torch.cat, zip(*shown, strict=True)), captions
        drawn = self.calibration, scores, self.flags.rate, *oddest
        figure = figures.summary_figure(*drawn, threshold=self.threshold)
        save_picture(figure, self.folder / "summary.png")
        if self.evaluated:
            self.evaluate(rows, readable, scores)

    def evaluate(self, rows, readable: list[int], scores: Tensor) -> None:
        """Measure scores and maps by the masks, beside what else one would use."""
        images = torch.stack([self.images[number][0] for number in readable])
        paths = [self.files_of(number, rows[number])["map"] for number in readable]
        maps = mvtec.read_maps(paths, tuple(images.shape[2:]))
        results = mvtec.evaluate_folder(
            *self.pair,
            self.source,
            readable,
            with_channels(images, self.vqvae2.in_channels),
            Judged(scores, maps),
            threshold=self.threshold,
            label=self.flags.label,
            seed=self.flags.seed,
        )
        table = detection_table(results)
        texts = {"results.json": json.dumps(results, indent=1), "results.md": table}
        write_texts(self.folder, texts)
        print(table)


def _models(flags) -> tuple:
    """The VQ-VAE-2 and its prior, once both fit the flags."""
    check_positive(draws=flags.draws)
    SamplingOptions(seed=flags.seed)
    device = usable_device(flags.device)
    vqvae2 = load_model(VQVAE2, flags.vqvae2_checkpoint, device)
    prior = load_prior(flags.prior_checkpoint, vqvae2, device)
    with_channels(torch.zeros(3, 1, 1).byte(), vqvae2.in_channels)  # which checks them
    prior.prior_top.check_labels(flags.label, 1)
    return vqvae2, prior


def _normal_files(root: Path, searched: AllFiles) -> AllFiles:
    """The normal images, none of which is among those to search, or has a defect."""
    if mvtec.has_layout(root):
        raise ValueError(
            f"{root} has images with defects as well; give a folder of normal images "
            "alone as --calibrate, of which none was trained on"
        )
    normal, sizes = AllFiles(root), []
    for source in (normal, searched):
        paths = (source.folder / name for name in source.files)
        # An empty file is named when it is read as an image.
        sizes.append({path: size for path in paths if (size := path.stat().st_size)})
    common, known = {*sizes[0].values()} & {*sizes[1].values()}, {}
    for of_source in sizes:
        for path in (path for path, size in of_source.items() if size in common):
            same = known.setdefault(sha256_of(path), path)
            if of_source is sizes[1] and same in sizes[0]:
                raise ValueError(
                    f"{path} has the same bytes as {same}, which is among the normal "
                    "images, so that its p-value would say nothing; calibrate on other "
                    "images"
                )
    return normal
