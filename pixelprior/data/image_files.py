"""Reading an image file: any format, 8 or 16 bits, EXIF orientation applied."""

import math
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps
from torch import Tensor
from torchvision.transforms.v2 import functional as TF

# Images that a small file may hold are larger than memory. Beyond this number, a
# quarter of a GiB as RGB, Pillow warns of them too.
MOST_PIXELS = 2**30 // 12


def read_image(stream: BinaryIO, sides: tuple[int, int]) -> Tensor:
    """Read an encoded image as uint8 [3, H, W], with `sides` = (H, W).

    The image is turned as its EXIF orientation says, and then as in `covering`.
    """
    # Given a path, Pillow 13 scrambles a grey TIFF that is turned by 90 degrees.
    with Image.open(stream) as file:
        if file.width * file.height > MOST_PIXELS:
            raise ValueError(
                f"{file.width}×{file.height} pixels, more than {MOST_PIXELS:,}: shrink "
                "it, or cut it into several"
            )
        # Older releases of Pillow open the 16 bits of these formats as mode I.
        has_16_bits = file.mode.startswith("I;16") or (
            file.mode == "I" and file.format in ("PNG", "PPM")
        )
        if file.mode in ("I", "F") and not has_16_bits:
            raise ValueError(f"pixels of mode {file.mode}: save it with 8 or 16 bits")
        upright = _upright(file)
        if has_16_bits:  # Pillow would clip all values above 255
            upright = Image.fromarray((np.asarray(upright) >> 8).astype(np.uint8))
        image = TF.pil_to_tensor(upright.convert("RGB"))  # [3, H, W] uint8
    return covering(image, sides)


def with_channels(images: Tensor, channels: int) -> Tensor:
    """Images [..., 3, H, W], uint8, as a model of so many channels takes them.

    For one channel they are weighted as in ITU-R BT.601, as Pillow does.
    """
    if channels == 3:
        return images
    if channels != 1:
        raise ValueError(
            f"the model takes images of {channels} channels, but files have 1 or 3; "
            "give a model that was trained on such images"
        )
    red, green, blue = images.float().unbind(-3)
    grey = 0.299 * red + 0.587 * green + 0.114 * blue
    return grey.round().byte().unsqueeze(-3)


def covering(images: Tensor, sides: tuple[int, int]) -> Tensor:
    """Images [..., h, w], scaled until they just cover (H, W), and cropped to it."""
    (height, width), (h, w) = sides, images.shape[-2:]
    if h * width < w * height:  # wider than what is wanted
        scaled = (height, int(w * height / h))
    else:
        scaled = (int(h * width / w), width)
    if math.prod(scaled) > max(MOST_PIXELS, 4 * height * width):  # next to a line
        raise ValueError(
            f"{w}×{h} pixels, which cover {width}×{height} only if they are scaled to "
            f"{scaled[1]:,}×{scaled[0]:,}, more than {MOST_PIXELS:,}: cut it"
        )
    if scaled != (h, w):
        images = TF.resize(images, list(scaled), antialias=True)
    return TF.center_crop(images, list(sides))


def _upright(image: Image.Image) -> Image.Image:
    """Turn an image upright, as its EXIF data records how the camera was held."""
    image.load()  # a damaged file raises an error here; a TIFF is turned here
    if image.format == "TIFF":
        return image
    try:
        image.getexif()
        image.info.pop("exif", None)  # else Pillow writes it again, which may fail
        return ImageOps.exif_transpose(image)
    except Exception:  # the pixels could be read, so that the EXIF data is damaged
        return image
