"""What `find-anomalies` does: score image files, and show what is odd in them.

Images are taken in the order of their paths, and each has the random streams of its
number in it. The lines of each batch are kept in a file of their own, so that a run
that was stopped goes on, and become the table at the end.
"""

import csv
import json
import math
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from torch import Tensor

from pixelprior import anomalies, files
from pixelprior.anomalies import figures
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
from pixelprior.plotting import save_picture
from pixelprior.progress import progress_bar
from pixelprior.settings import SamplingOptions, check_positive
from pixelprior.vqvae2 import VQVAE2

COLUMNS = ("path", "score", "p_value", "flagged", "flagged_share", "problem")
NOTE, CALIBRATION = "found_with.json", "calibration.safetensors"
OWN_FILES = {
    "*": r"scores\.csv|results\.(json|md)|summary\.png",
    "batches/*": r"\d{6,}\.json",
    "maps/**/*": r".*\.tiff",
    "flagged/*": r"\d{6,}_.*\.png",
}
BATCH = 64  # images that are read together
PICTURED = 8
NAME = 40  # characters of an image's name in that of its picture


class Finding:
    """The models, the images and the calibration of one run of the command."""

    def __init__(self, flags):
        check_one_process("find-anomalies")
        check_positive(draws=flags.draws)
        SamplingOptions(seed=flags.seed)
        self.flags, self.folder, root = flags, flags.output_dir, flags.data_root
        device = usable_device(flags.device)
        self.vqvae2 = load_model(VQVAE2, flags.vqvae2_checkpoint, device)
        self.prior = load_prior(flags.prior_checkpoint, self.vqvae2, device)
        self.label = self.prior.prior_top.check_labels(flags.label, 1)
        self.options = {"labels": flags.label, "draws": flags.draws, "seed": flags.seed}
        self.has_masks = mvtec.has_layout(root)
        self.source = mvtec.MVTecTest(root) if self.has_masks else AllFiles(root)
        self.names = [Path(name).as_posix() for name in self.source.files]
        self.images = Images(self.source, self.vqvae2.image_shape)
        own_folders = ("batches", "maps", "flagged")
        files.check_apart(self.folder, own_folders, [root, flags.calibrate])

    def run(self) -> None:
        self.prepare()
        self.threshold = self.calibration.map_threshold(PIXEL_RATE)
        rows, every = [], range(len(self.names))
        batches = [every[first : first + BATCH] for first in every[::BATCH]]
        for numbers in progress_bar(batches, desc="searching", unit="batch"):
            path = self.folder / "batches" / f"{numbers[0]:06d}.json"
            if batch := self.finished(path, numbers):
                rows += batch
                continue
            try:
                rows += self.search(numbers)
                lines = json.dumps(rows[-len(numbers) :])
                files.write_texts(
                    files.writable_folder(path.parent), {path.name: lines}
                )
            except OSError as error:  # such as a full disk
                raise OSError(f"{error}; go on with --resume") from error
        self.write_table(rows)
        problems = [row["problem"] for row in rows if row["problem"]]
        if len(problems) == len(rows):
            raise ValueError(
                f"none of the {len(rows):,} images in {self.source.name} could be "
                f"read, the first: {problems[0]}; give undamaged images"
            )
        self.summarize(rows)
        if problems:
            warnings.warn(
                f"{len(problems)} of {len(rows):,} images cannot be read and have no "
                f"score (repair or remove them, and search again): {listed(problems)}",
                stacklevel=2,
            )
        flagged = sum(row["flagged"] == "1" for row in rows)
        print(
            f"{flagged:,} of {len(rows) - len(problems):,} images are flagged at a "
            f"false-alarm rate of {self.flags.rate:.3g}; wrote scores.csv and pictures "
            f"to {self.folder}"
        )

    def prepare(self) -> None:
        """Note how images are scored, or go on with what is there, and calibrate.

        What can be wrong is found before the files of another run go.
        """
        flags, given = self.flags, self.flags.calibrate
        made, own_files, normal = self.folder / CALIBRATION, OWN_FILES, None
        if given.is_file():
            calibrated_on = files.sha256_of(given)
            self.calibration = self.read_calibration(given)
        else:
            source = normal_files(given, self.source)
            calibrated_on = source.signature()
            if flags.resume and made.is_file():
                self.calibration = self.read_calibration(made)
            else:
                images = Images(source, self.images.sides)
                numbers = torch.arange(len(source))
                normal, _ = read_all(images, numbers, progress=True)
                check_rate(flags.rate, len(division(len(normal))[-1]))
            # A calibration that this run does not make may be the one given.
            own_files = OWN_FILES | {made.name: ".*"}
        noted = {
            "prior_checkpoint": fingerprint(self.prior),
            "vqvae2_checkpoint": fingerprint(self.vqvae2),
            "data_root": self.source.signature(),
            "calibrate": calibrated_on,
        }
        note = files.writable_folder(self.folder) / NOTE
        begin(note, flags, ("output_dir", "resume", "device"), noted, own_files)
        if normal is not None:
            self.calibration = anomalies.calibrate(
                self.vqvae2,
                self.prior,
                self.as_floats(normal),
                **self.options,
                progress=True,
            )
            save_calibration(self.calibration, made)

    def read_calibration(self, path: Path):
        calibration = load_calibration(path, self.vqvae2, self.prior)
        check_rate(self.flags.rate, len(calibration.scores))
        calibration.check_fits(self.vqvae2.grids, self.flags.draws, self.label)
        return calibration

    def as_floats(self, images: Tensor) -> Tensor:
        """Bytes [N, 3, H, W] as the VQ-VAE-2 takes them."""
        return with_channels(images, self.vqvae2.in_channels).float() / 255

    def finished(self, path: Path, numbers: range) -> list[dict[str, str]]:
        """The lines that a run before has kept of a batch; none if they are damaged."""
        try:
            rows = json.loads(path.read_text(encoding="utf-8"))
            known = [row["path"] for row in rows] == [self.names[n] for n in numbers]
            for row in rows:
                known &= {*row} == {*COLUMNS} and {*map(type, row.values())} == {str}
                if not row["problem"]:
                    known &= math.isfinite(float(row["score"]) + float(row["p_value"]))
        except (OSError, ValueError, TypeError, LookupError, RecursionError):
            return []
        return rows if known else []

    def map_path(self, number: int) -> Path:
        """Where the map of an image is written, if there are masks."""
        return self.folder / "maps" / Path(self.names[number]).with_suffix(".tiff")

    def search(self, numbers: range) -> list[dict]:
        """Score a batch of images, write their maps and pictures, return its lines."""
        images, problems = self.read(numbers)
        found, rows = self.find(images, numbers[0]), []
        best, shares = found.best.cpu(), found.flagged_share.tolist()
        for place, number in enumerate(numbers):
            row = dict.fromkeys(COLUMNS, "") | {"path": self.names[number]}
            rows.append(row)
            row["problem"] = problems[place]
            if row["problem"]:
                continue
            p_value = found.p_values[place].item()
            row["score"] = f"{found.scores[place].item():.6g}"
            row["p_value"] = f"{p_value:.6g}"
            row["flagged"] = str(int(p_value <= self.flags.rate))
            row["flagged_share"] = f"{shares[place]:.4g}"
            if self.has_masks:
                mvtec.write_map(found.maps[place], self.map_path(number))
            if row["flagged"] == "1":
                shown = images[place], best[place], found.maps[place]
                title = f"score {row['score']}, p = {p_value:.2g}"
                figure = figures.finding_figure(*shown, self.threshold, title)
                name = f"{number:06d}_{Path(row['path']).stem[:NAME]}.png"
                save_picture(figure, self.folder / "flagged" / name)
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
        given = self.vqvae2, self.prior, images, self.calibration
        return anomalies.find(*given, **self.options, first_index=first)

    def write_table(self, rows: list[dict]) -> None:
        # All is in quotation marks, since releases of Python differ in what they quote.
        form = {"quoting": csv.QUOTE_ALL, "lineterminator": "\n"}
        text = {"encoding": "utf-8", "errors": "surrogateescape", "newline": ""}
        with files.temporary_folder(self.folder) as temporary:
            written = temporary / "scores.csv"
            with written.open("w", **text) as file:
                table = csv.DictWriter(file, COLUMNS, **form)
                table.writeheader()
                table.writerows(rows)
            written.replace(self.folder / written.name)

    def summarize(self, rows: list[dict]) -> None:
        """Write the summary picture, and the measures of a folder that has masks."""
        readable = [number for number, row in enumerate(rows) if not row["problem"]]
        scores = [float(rows[number]["score"]) for number in readable]
        scores = torch.tensor(scores).double()
        highest = scores.argsort(descending=True, stable=True)[:PICTURED].tolist()
        images, restorations, maps, captions = [], [], [], []
        for number in (readable[place] for place in highest):
            image, _ = self.read([number])
            found = self.find(image, number)
            images.append(image)
            restorations.append(found.best.cpu())
            maps.append(found.maps)
            captions.append(f"p = {float(rows[number]['p_value']):.2g}")
        figure = figures.summary_figure(
            self.calibration,
            scores,
            self.flags.rate,
            torch.cat(images),
            torch.cat(restorations),
            torch.cat(maps),
            captions,
            threshold=self.threshold,
        )
        save_picture(figure, self.folder / "summary.png")
        if self.has_masks:
            self.evaluate(readable, scores)

    def evaluate(self, readable: list[int], scores: Tensor) -> None:
        """Measure scores and maps by the masks, beside what else one would use."""
        images = torch.stack([self.images[number][0] for number in readable])
        maps = mvtec.read_maps(map(self.map_path, readable), self.images.sides)
        results = mvtec.evaluate_folder(
            self.vqvae2,
            self.prior,
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
        files.write_texts(self.folder, texts)
        print(table)


def normal_files(root: Path, searched: AllFiles) -> AllFiles:
    """The normal images, none of which is among those to search, or has a defect."""
    if mvtec.has_layout(root):
        raise ValueError(
            f"{root} has images with defects as well; give a folder of normal images "
            "alone as --calibrate, of which none was trained on"
        )
    normal = AllFiles(root)
    sizes, sizes_searched = (
        {
            path: path.stat().st_size
            for path in map(source.folder.joinpath, source.files)
        }
        for source in (normal, searched)
    )
    common = {*sizes.values()} & {*sizes_searched.values()}
    common.discard(0)  # an empty file is named when it is read as an image
    known = {files.sha256_of(path): path for path in sizes if sizes[path] in common}
    for path in sizes_searched:
        same = sizes_searched[path] in common and known.get(files.sha256_of(path))
        if same:
            raise ValueError(
                f"{path} has the same bytes as {same}, which is among the normal "
                "images, so that its p-value would say nothing; calibrate on other "
                "images"
            )
    return normal
