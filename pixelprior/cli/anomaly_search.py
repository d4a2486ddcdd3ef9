"""What `find-anomalies` does: score image files, and show what is odd in them.

Images are taken in the order of their paths, and each has the random streams of its
number in it. Scores are written batch by batch (`score_table.py`), so that a run that
was stopped goes on.
"""

import json
import re
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from torch import Tensor

from pixelprior.anomalies.calibration_files import save_calibration
from pixelprior.anomalies.figures import finding_figure, summary_figure
from pixelprior.anomalies.finding import Findings, calibrate, find
from pixelprior.anomalies.score_table import ScoreTable, line
from pixelprior.anomalies.scores import Calibration
from pixelprior.checkpoints import fingerprint
from pixelprior.cli.anomaly_inputs import (
    as_floats,
    load_models,
    normal_files,
    read_calibration,
    read_normal,
    warn_without_masks,
)
from pixelprior.cli.flags import check_one_process
from pixelprior.cli.resuming import begin
from pixelprior.data.image_files import with_channels
from pixelprior.data.sources import AllFiles, listed
from pixelprior.data.streams import Images
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
from pixelprior.files import (
    check_apart,
    remove_unfinished,
    sha256_of,
    writable_folder,
    write_texts,
)
from pixelprior.plotting import save_picture
from pixelprior.progress import progress_bar

SCORES, ABOUT, CALIBRATION = "scores.csv", "found_with.json", "calibration.safetensors"
OWN_FILES = (SCORES, f"{SCORES}.unfinished", CALIBRATION, "results.json", "results.md")
OWN_FILES += ("summary.png",)
OWN_FOLDERS = {"flagged": r"(?s)\d{6,}_.*\.png", "maps": r"(?s).*\.tiff"}
CHANGE_NOTHING = ("output_dir", "resume", "device")
BATCH = 64  # images that are read together
PICTURED = 8
NAME = 40  # characters of an image's name in that of its picture


class Finding:
    """The models, the images and the calibration of one run of the command."""

    def __init__(self, flags):
        check_one_process("find-anomalies")
        self.flags, root = flags, flags.data_root
        device = usable_device(flags.device)
        self.vqvae2, self.prior = load_models(flags, device)
        self.evaluated = has_layout(root)
        self.source = MVTecTest(root) if self.evaluated else AllFiles(root)
        warn_without_masks(root)
        self.images = Images(self.source, self.vqvae2.image_shape)
        self.normal = self.given = None
        if flags.calibrate.is_file():
            self.given = self.read_calibration(flags.calibrate)
        else:
            self.normal = normal_files(flags, self.source)
        self.folder = flags.output_dir
        check_apart(self.folder, tuple(OWN_FOLDERS), [root, flags.calibrate])
        self.check_own_files()
        writable_folder(self.folder)
        names = [self.name(number) for number in range(len(self.source))]
        self.scores = ScoreTable(self.folder / SCORES, names)

    def check_own_files(self) -> None:
        """Raise ValueError if files that are written here are there from elsewhere."""
        if (self.folder / ABOUT).is_file():
            return
        for name in (*OWN_FILES, *OWN_FOLDERS):
            path = self.folder / name
            if path.exists() and path.resolve() != self.flags.calibrate.resolve():
                raise ValueError(
                    f"{path} is there, and no run of find-anomalies has noted that it "
                    "wrote it; choose another --output_dir, or move it away"
                )

    def read_calibration(self, path: Path) -> Calibration:
        return read_calibration(path, self.flags, self.vqvae2, self.prior)

    def run(self) -> None:
        own = self.folder / CALIBRATION
        calibration, images = self.given, None
        if calibration is None and self.flags.resume and own.is_file():
            calibration = self.read_calibration(own)
        if calibration is None:  # all that can be wrong is found before files go
            images = read_normal(self.normal, self.flags, self.vqvae2)
        self.begin()
        if calibration is None:
            calibration = calibrate(
                self.vqvae2,
                self.prior,
                images,
                self.flags.label,
                draws=self.flags.draws,
                seed=self.flags.seed,
                progress=True,
            )
            save_calibration(calibration, own)
        rows = self.scores.resume() if self.flags.resume else self.scores.start()
        self.restore_files(calibration, rows)
        started = time.perf_counter()
        rows += self.search(calibration, before := len(rows))
        seconds = time.perf_counter() - started
        self.scores.finish()
        self.summarize(calibration, rows)
        flagged = sum(row["flagged"] == "1" for row in rows)
        broken = [row["problem"] for row in rows if row["problem"]]
        if broken:
            warnings.warn(
                f"{len(broken)} of {len(rows):,} images cannot be read and have no "
                f"score (repair or remove them, and search again): {listed(broken)}",
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
        begin(
            self.folder,
            ABOUT,
            self.flags,
            leave_out=CHANGE_NOTHING,
            fingerprints={
                "prior_checkpoint": fingerprint(self.prior),
                "vqvae2_checkpoint": fingerprint(self.vqvae2),
                "data_root": self.source.signature(),
                "calibrate": self.normal.signature()
                if self.normal
                else sha256_of(self.flags.calibrate),
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
        for name in OWN_FILES:
            if name != CALIBRATION or self.normal:
                (self.folder / name).unlink(missing_ok=True)
        for name, pattern in OWN_FOLDERS.items():
            below = "**/*" if name == "maps" else "*"  # pictures lie in no folder
            for file in (self.folder / name).glob(below):
                if re.fullmatch(pattern, file.name) and not file.is_dir():
                    file.unlink()

    def name(self, number: int) -> str:
        """The path of an image below the folder of images, with slashes."""
        return Path(self.source.files[number]).as_posix()

    def search(self, calibration: Calibration, start: int) -> list[dict]:
        """Score the images from a number on; return their lines."""
        rows = []
        bar = progress_bar(total=len(self.source), desc="searching", unit="image")
        bar.update(start)
        with bar:
            for first in range(start, len(self.source), BATCH):
                numbers = range(first, min(first + BATCH, len(self.source)))
                images, problems = self.read(numbers)
                found = self.find(images, calibration, first)
                batch = self.rows_of(found, numbers, problems)
                try:
                    self.write_pictures(images, found, numbers, batch, calibration)
                except OSError as error:
                    raise OSError(f"{error}; go on with --resume") from error
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
        return as_floats(torch.stack(images), self.vqvae2), list(problems)

    def read_again(self, numbers) -> Tensor:
        """Images that were read before."""
        images, problems = self.read(numbers)
        for problem in filter(None, problems):
            raise ValueError(
                f"the image {problem} cannot be read any more; put it back as it was, "
                "and go on with --resume"
            )
        return images

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

    def rows_of(self, found: Findings, numbers, problems: list[str]) -> list[dict]:
        """The lines of some images in the table."""
        measured = zip(
            numbers,
            problems,
            found.scores.tolist(),
            found.p_values.tolist(),
            found.flagged_share.tolist(),
            strict=True,
        )
        return [
            line(self.name(number), problem=problem)
            if problem
            else line(
                self.name(number),
                score=f"{score:.6g}",
                p_value=f"{p_value:.6g}",
                flagged=str(int(p_value <= self.flags.rate)),
                flagged_share=f"{share:.4g}",
            )
            for number, problem, score, p_value, share in measured
        ]

    def write_pictures(self, images, found, numbers, rows, calibration) -> None:
        """Write a picture of each flagged image, and the maps if there are masks."""
        threshold, best = calibration.map_threshold(PIXEL_RATE), found.best.cpu()
        for place, (number, row) in enumerate(zip(numbers, rows, strict=True)):
            if self.evaluated and not row["problem"]:
                write_map(found.maps[place], self.map_path(number))
            if row["flagged"] == "1":
                title = f"score {row['score']}, p = {float(row['p_value']):.2g}"
                figure = finding_figure(
                    images[place], best[place], found.maps[place], threshold, title
                )
                save_picture(figure, self.picture_path(number))

    def restore_files(self, calibration: Calibration, rows: list[dict]) -> None:
        """Write the pictures and maps again that belong to lines and are missing."""
        for number, row in enumerate(rows):
            has_map = self.evaluated and not row["problem"]
            if (has_map and not self.map_path(number).is_file()) or (
                row["flagged"] == "1" and not self.picture_path(number).is_file()
            ):
                images = self.read_again([number])
                found = self.find(images, calibration, number)
                self.write_pictures(images, found, [number], [row], calibration)

    def picture_path(self, number: int) -> Path:
        """The picture of a flagged image, named by its number and its name."""
        stem = Path(self.name(number)).stem[:NAME]
        return self.folder / "flagged" / f"{number:06d}_{stem}.png"

    def map_path(self, number: int) -> Path:
        return self.folder / "maps" / Path(self.name(number)).with_suffix(".tiff")

    def summarize(self, calibration: Calibration, rows: list[dict]) -> None:
        """Write the summary pictures, and the measures of a folder that has masks."""
        readable = [number for number, row in enumerate(rows) if not row["problem"]]
        if not readable:
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
            images.append(self.read_again([number]))
            found = self.find(images[-1], calibration, number)
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

    def evaluate(self, calibration, scores: Tensor, readable: list[int]) -> None:
        """Measure scores and maps by the masks, beside what else one would use."""
        images = torch.stack([self.images[number][0] for number in readable])
        maps = read_maps(map(self.map_path, readable), tuple(images.shape[2:]))
        results = evaluate_folder(
            self.vqvae2,
            self.prior,
            self.source,
            readable,
            with_channels(images, self.vqvae2.in_channels),
            Judged(scores, maps),
            threshold=calibration.map_threshold(PIXEL_RATE),
            label=self.flags.label,
            seed=self.flags.seed,
        )
        texts = {"results.json": json.dumps(results, indent=1)}
        write_texts(self.folder, texts | {"results.md": detection_table(results)})
        print(detection_table(results))
