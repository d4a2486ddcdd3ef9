"""Folders in the layout of MVTec AD (Bergmann et al. 2019, "MVTec AD", section 3).

`test/good` has normal images, each other folder of `test` has images with one kind of
defect, and `ground_truth` has the mask of each, in a folder of the same name:
`test/scratch/007.png` has the mask `ground_truth/scratch/007_mask.png`. Sets that name
it `007.png` are read as well.
"""

import os
import warnings
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from pixelprior.data.images import FORMATS, ImageData, covering
from pixelprior.data.sources import AllFiles, listed
from pixelprior.evaluation.detectors import OURS, measured, others
from pixelprior.plotting import save_picture

GOOD = "good"
ORIENTATION = 0x0112  # the number of the EXIF tag


def has_layout(root: Path) -> bool:
    """Whether a folder has the folders `test` and `ground_truth`."""
    return (root / "test").is_dir() and (root / "ground_truth").is_dir()


class MVTecTest(AllFiles):
    """The test images of such a folder, and the mask file of each in `masks`, None for
    a normal one."""

    def __init__(self, root: Path):
        super().__init__(root / "test")
        self.root, self.name = root, root.resolve().name
        self.masks, stems = [], set()
        paths = [Path(self.files[index]) for index in range(len(self))]
        kinds = {path.parts[0] for path in paths if len(path.parts) > 1}
        for path in paths:
            if len(path.parts) < 2:
                raise ValueError(
                    f"{self.folder / path} is in none of the folders of {self.folder}; "
                    "put normal images into good, and others into a folder that is "
                    "named after their defect"
                )
            if (stem := path.with_suffix("")) in stems:
                raise ValueError(
                    f"two images are named {self.folder / stem}, and would have the "
                    "same mask; rename one"
                )
            stems.add(stem)
            self.masks.append(None if path.parts[0] == GOOD else self._mask(path))
        if GOOD not in kinds or kinds == {GOOD}:
            raise ValueError(
                f"{self.folder} has {' and '.join(sorted(kinds))} alone; give normal "
                "images in good, and images with defects in other folders"
            )

    def _mask(self, path: Path) -> Path:
        """The mask of an image with a defect: of its size, and upright as it is."""
        folder, image = self.root / "ground_truth" / path.parent, self.folder / path
        names = (f"{path.stem}_mask.png", f"{path.stem}.png")
        mask = next((folder / n for n in names if os.path.isfile(folder / n)), None)
        if mask is None:
            raise FileNotFoundError(
                f"there is no mask {folder / names[0]} for the image {image}; put one "
                "there, or take the image away"
            )
        try:
            with Image.open(mask, formats=FORMATS) as file:
                of_mask = file.size
                file.load()
        except Exception as error:  # decoders raise errors of many types
            raise ValueError(
                f"the mask {mask} cannot be read ({error}); put a whole one there"
            ) from error
        try:
            with Image.open(image, formats=FORMATS) as file:
                of_image, turned = file.size, file.getexif().get(ORIENTATION, 1)
        except Exception:  # the image is named when it is read
            return mask
        if turned in range(2, 9):
            raise ValueError(
                f"the image {image} is to be turned (its EXIF orientation is "
                f"{turned}), which its mask is not; save it upright"
            )
        if of_mask != of_image:
            raise ValueError(
                f"the mask {mask} has {of_mask[0]}×{of_mask[1]} pixels, but the image "
                f"{image} {of_image[0]}×{of_image[1]}; give a mask of the same size"
            )
        return mask

    def read_masks(self, which: list[int], sides: tuple[int, int]) -> Tensor:
        """The masks of some images, scaled and cropped as these, bool [N, H, W].

        A pixel counts if the mask covers half of it, or, of a defect that covers half
        of none, as much as of any. Defects outside of the crop are named in a warning.
        """
        masks, outside = [], []
        for index in which:
            if self.masks[index] is None:
                masks.append(torch.zeros(*sides, dtype=torch.bool))
                continue
            with Image.open(self.masks[index], formats=FORMATS) as file:
                given = np.asarray(file.convert("L")) > 0
            covered = covering(torch.from_numpy(given)[None].float(), sides)[0]
            most = covered.max()
            masks.append((covered > 0) & (covered >= most.clamp(max=0.5)))
            if not most:
                outside.append(self.where(index))
        if outside:
            warnings.warn(
                f"{len(outside)} images have no odd pixel in what is looked at, and "
                "count as odd images only (give masks with pixels above 0, or images "
                f"with the defect in the middle): {listed(outside)}",
                stacklevel=2,
            )
        return torch.stack(masks)


def write_map(values: Tensor, path: Path) -> None:
    """Write a map [H, W] as a TIFF of 32-bit floats, as MVTec AD's scripts read it."""
    save_picture(Image.fromarray(values.numpy()), path)


def read_maps(paths: Iterable[Path], sides: tuple[int, int]) -> Tensor:
    """Maps of these sides that `write_map` has written, float [N, H, W]."""
    maps = []
    for path in paths:
        try:
            with Image.open(path, formats=FORMATS) as file:
                values = np.array(file, np.float32).reshape(sides)
        except Exception as error:  # decoders raise errors of many types
            raise ValueError(
                f"the map {path} cannot be read ({error}); search again without "
                "--resume"
            ) from error
        maps.append(torch.from_numpy(values))
    return torch.stack(maps)


def evaluate_folder(
    vqvae2, prior, test: MVTecTest, which, images, found, *, threshold, label, seed
) -> dict:
    """How well `find` and other methods tell images with defects from normal ones.

    `which` are the numbers of the images that could be read, `images` these, uint8
    [N, C, H, W], and `found` is what `find` says, `Judged`. The threshold is of the
    maps, for the Dice coefficient. `label` is the class of all images, or None.

    Returns:
        {"methods": as `measured` returns them, "images": how many of each}; without
        "methods" if all images that could be read are normal, or none is.
    """
    odd = torch.tensor([test.masks[number] is not None for number in which])
    counts = {"normal": int((~odd).sum()), "defects": int(odd.sum())}
    if not all(counts.values()):
        return {"images": counts}
    masks = test.read_masks(which, tuple(images.shape[2:]))[odd]
    labels = None if label is None else torch.full((len(images),), label)
    data = ImageData(images, torch.zeros(len(images)), test.class_names)
    judged = {OURS: found} | others(vqvae2, prior, data, labels)
    methods = {
        name: (each.subset(~odd), each.subset(odd)) for name, each in judged.items()
    }
    found = measured(methods, masks, thresholds={OURS: threshold}, seed=seed)
    return {"methods": found, "images": counts}
