"""The rule that a number in the text is the one that was measured."""

import json
import math
import re
from decimal import Decimal
from pathlib import Path

from parts import RESULTS, ROOT, markdown, prose, read

from pixelprior.course.showing import alt_texts

NUMBER = r"(?<![\d.,])(?:(?<![\w.)])[-−+])?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?"
MARKER = re.compile(rf"(?:(?P<number>{NUMBER})[*_]*)?<!--=(?P<source>.*?)-->", re.S)
UNITS = r"(?:%|(?:nats?|seconds?|ms|s|per ?cent)(?!\w))"
UNMARKED = re.compile(rf"(?<![\w.])\d[\d,]*\.\d+[*_]*[\s\u00a0\u202f-]*{UNITS}")


def measured(name: str, key: str, course: Path) -> int | float:
    """The number in a results file under a key such as "likelihood.top.uniform", or of
    the shipped `vqvae2` or `prior`, under a key of its config.

    Raises:
        LookupError: there is no such file, key or number; the message says which.
    """
    if name == "timings":
        paths = [course / "timings.json"]
    elif name in ("vqvae2", "prior"):
        assets = ROOT / "pixelprior" / "assets"
        paths = [assets / f"fashion_mnist_{name}" / "config.json"]
    elif name in RESULTS:
        assets = ROOT / "pixelprior" / "assets"
        paths = [assets / "results" / f"{name}.json", assets / f"{name}.json"]
    else:
        raise LookupError(f"{name} is no results file")
    path = next((path for path in paths if path.exists()), None)
    if path is None:
        raise LookupError(f"{paths[0].name} is not there")
    value = json.loads(path.read_text(encoding="utf-8"))
    for step in key.split("."):
        try:
            value = value[int(step) if isinstance(value, list) else step]
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise LookupError(f"{path.name} has no {key}: {step} is missing") from error
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise LookupError(f"{key} in {path.name} is no number")
    return value


def agrees(written: str, value: float) -> bool:
    """Whether the number as written is the value, rounded to the digits written."""
    number = Decimal(written.replace(",", "").replace("−", "-"))
    half = Decimal(1).scaleb(number.as_tuple().exponent) / 2
    return math.isfinite(value) and abs(number - Decimal(repr(value))) <= half


def _markers(where: str, text: str, course: Path) -> tuple[list[str], set, str]:
    """Problems of the measured numbers in a text, their sources, and the other text."""
    problems, sources = [], set()
    for marker in MARKER.finditer(text):
        written = marker["number"]
        name, _, key = marker["source"].strip().partition(" ")
        sources.add((name, key.strip()))
        if written is None:
            problems.append(f"{where} has no number before {marker[0]}")
            continue
        try:
            value = measured(name, key.strip(), course)
        except LookupError as error:
            problems.append(f"{where} says {marker[0]}, but {error.args[0]}")
            continue
        if not agrees(written, value):
            problems.append(f"{where} says {marker[0]}, but it is {value}")
    rest = MARKER.sub("•", text)
    if "<!--=" in rest:
        problems.append(f"{where} has a marker that does not end")
    return problems, sources, rest


def numbers_are_measured(source: Path) -> list[str]:
    """Each measured number in the text names its source and agrees with it.

    In an alt text, which says what a figure shows, a number may have a source, and
    agrees with it then.
    """
    problems, own_time = [], False
    for cell in markdown(read(source)):
        found, sources, rest = _markers(cell.id, prose(cell), source.parent)
        own_time |= ("timings", source.stem) in sources
        problems += found + [
            f"{cell.id} says {number[0]!r} and not where that was measured"
            for number in UNMARKED.finditer(rest)
        ]
    for name, text in alt_texts().get(source.stem, {}).items():
        problems += _markers(f"the alt text {name!r}", text, source.parent)[0]
    if not own_time:
        problems.append(f"it does not state its seconds (timings {source.stem})")
    return problems
