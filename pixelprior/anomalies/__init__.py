"""Finding images that are not like the normal ones: `calibrate`, then `find`."""

from pixelprior.anomalies.finding import Findings, calibrate, find
from pixelprior.anomalies.scores import Calibration

__all__ = ["Calibration", "Findings", "calibrate", "find"]
