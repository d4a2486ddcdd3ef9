"""Make `emoji.npz` from a colour emoji font.

Run `python tools/make_emoji.py` where Debian's packages fonts-noto-color-emoji and
unicode-data are installed: the font (its licence is in assets/OFL.txt) and the list of
its glyphs. Of the variants of a glyph, such as skin tones, men and women, and flags or
clocks that look nearly alike, the first is kept, so that none is among the test images
while another is trained on. Every tenth glyph of a class is a test image.
"""

import re
from pathlib import Path

import numpy as np
from make_fashion_mnist_mini import write_arrays
from PIL import Image, ImageDraw, ImageFont

from pixelprior.assets import FOLDER

FONT = Path("/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf")
LIST = Path("/usr/share/unicode/emoji/emoji-test.txt")
SIDE, BITMAP = 32, 109  # pixels of an image; the one size of the font's bitmaps
SHEET = 136  # pixels around a bitmap
COLOURS = 64  # of an image; more make the file larger and look the same
CLASSES = ("smileys", "people", "animals", "food", "travel", "activities", "objects")
CLASSES += ("symbols", "flags")
ENTRY = re.compile(r"[0-9A-F ]+; fully-qualified\s+# (\S+) E[\d.]+ (.*)")
VARIANT = re.compile(  # what is left out of a name, but the names of flags and keys
    r"(?<!flag)(?<!keycap):.*|\b(wo)?m[ae]n\b"
    r"|\b(person|people|boy|girl|child|adult|mrs?|mx|prince(ss)?)\b"
)
ALIKE = 0.006  # least mean squared difference of two images


def glyphs():
    """Number of the class, text and name without variant of each glyph, in order."""
    number = -1
    for line in LIST.read_text(encoding="utf-8").splitlines():
        number += line.startswith("# group:") and "Component" not in line
        if found := ENTRY.match(line):
            text, name = found.groups()
            yield number, text, " ".join(VARIANT.sub("", name).split())


def drawn(text: str, font) -> np.ndarray:
    """The image of a glyph on white, uint8 [SIDE, SIDE, 3]."""
    sheet = Image.new("RGB", (SHEET, SHEET), "white")
    place = {"embedded_color": True, "anchor": "mm", "font": font}
    ImageDraw.Draw(sheet).text((SHEET / 2, SHEET / 2), text, **place)
    small = sheet.resize((SIDE, SIDE), Image.Resampling.BOX)
    few = small.quantize(COLOURS, dither=Image.Dither.NONE)
    return np.asarray(few.convert("RGB"))


def main() -> None:
    font = ImageFont.truetype(str(FONT), BITMAP, layout_engine=ImageFont.Layout.RAQM)
    names, images, labels = set(), np.empty((0, SIDE, SIDE, 3), np.uint8), []
    for label, text, name in glyphs():
        if (label, name) in names:
            continue
        names.add((label, name))
        image = drawn(text, font)
        apart = (images / 255 - image / 255) ** 2
        if not (apart.mean((1, 2, 3)) < ALIKE).any():
            images = np.concatenate([images, image[None]])
            labels.append(label)
    labels = np.array(labels, np.uint8)
    number = np.array([(labels[:i] == label).sum() for i, label in enumerate(labels)])
    is_test, arrays = number % 10 == 5, {"class_names": np.array(CLASSES)}
    for split, part in (("train", ~is_test), ("test", is_test)):
        arrays |= {f"{split}_images": images[part], f"{split}_labels": labels[part]}
    write_arrays(FOLDER / "emoji.npz", arrays)


if __name__ == "__main__":
    main()
