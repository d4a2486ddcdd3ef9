"""The rule that a number in the text is the one that was measured."""

import json
import re
from decimal import Decimal
from pathlib import Path

from nbformat import NotebookNode
from parts import ROOT, markdown, prose

from pixelprior.course.showing import alt_texts

NUMBER = r"(?<![\d.,])(?:(?<![\w.)])[-−+])?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?"
MARKER = re.compile(rf"(?:(?P<number>{NUMBER})[*_]*)?<!--=(?P<source>.*?)-->", re.S)
UNITS = r"(?:%|(?:nats?|seconds?|ms|s|per ?cent)(?!\w))"
UNMARKED = re.compile(rf"(?<![\w.])\d[\d,]*\.\d+[*_]*[\s\u00a0\u202f-]*{UNITS}")


def measured(name: str, key: str) -> int | float:
    """The number in a results file under a key such as "likelihood.top.uniform", in
    the timings of the notebooks, or in the config of the shipped `vqvae2` or `prior`; a
    LookupError says which file or key is not there."""
    assets = ROOT / "pixelprior" / "assets"
    paths = (
        ROOT / "notebooks" / f"{name}.json",
        assets / f"fashion_mnist_{name}" / "config.json",
        assets / "results" / f"{name}.json",
        assets / f"{name}.json",
    )
    if not (there := [path for path in paths if path.exists()]):
        raise LookupError(f"{name} is no results file")
    value = json.loads(there[0].read_text(encoding="utf-8"))
    for step in key.split("."):
        value = value[int(step) if isinstance(value, list) else step]
    return value


def agrees(written: str, value: float) -> bool:
    """Whether the number as written is the value, rounded to the digits written."""
    number = Decimal(written.replace(",", "").replace("−", "-"))
    half = Decimal(1).scaleb(number.as_tuple().exponent) / 2
    return abs(number - Decimal(repr(value))) <= half


def marked(where: str, text: str) -> tuple[list[str], set[tuple[str, str]], str]:
    """Problems of the measured numbers in a text, their sources, and the other text."""
    problems, sources = [], set()
    for marker in MARKER.finditer(text):
        name, _, key = marker["source"].strip().partition(" ")
        sources.add((name, key.strip()))
        if marker["number"] is None:
            problems.append(f"{where} has no number before {marker[0]}")
            continue
        try:
            value = measured(name, key.strip())
        except LookupError as error:
            problems.append(f"{where} says {marker[0]}, but {error}")
            continue
        if not agrees(marker["number"], value):
            problems.append(f"{where} says {marker[0]}, but it is {value}")
    rest = MARKER.sub("•", text)
    if "<!--=" in rest:
        problems.append(f"{where} has a marker that does not end")
    return problems, sources, rest


def numbers_are_measured(notebook: NotebookNode, source: Path) -> list[str]:
    """Each measured number in the text names its source and agrees with it; one in an
    alt text, which says what a figure shows, may have a source."""
    problems, all_sources = [], set()
    for cell in markdown(notebook):
        found, sources, rest = marked(cell.id, prose(cell))
        all_sources |= sources
        problems += found + [
            f"{cell.id} says {number[0]!r} and not where that was measured"
            for number in UNMARKED.finditer(rest)
        ]
    for name, text in alt_texts().get(source.stem, {}).items():
        problems += marked(f"the alt text {name!r}", text)[0]
    if ("timings", source.stem) not in all_sources:
        problems.append(f"it does not state its seconds (timings {source.stem})")
    return problems
