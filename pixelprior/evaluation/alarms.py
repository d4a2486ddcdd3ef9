"""False alarms over many divisions of the images to calibrate on.

With a single calibration, the share of false alarms differs from its rate by chance,
since few images give the scores. Scores do not need restorations, so that many
calibrations can be compared.
"""

from dataclasses import replace

import torch
from torch import Tensor

from pixelprior.anomalies.finding import division
from pixelprior.anomalies.scores import Calibration, least_rate
from pixelprior.evaluation.measures import mean_with_interval

RATES = (0.01, 0.05)
DIVISIONS = 200


def rates_for(count: int) -> list[float]:
    """Those of `RATES` that p-values can be as small as, for so many normal scores."""
    return [rate for rate in RATES if rate >= least_rate(count)]


def alarms_over_divisions(
    calibration: Calibration,
    reference: Tensor,
    others: Tensor,
    *,
    divisions: int = DIVISIONS,
    seed: int = 0,
) -> dict:
    """How often normal images are flagged, over calibrations that divide the same
    images in different ways, as a mean.

    Args:
        calibration: any; its scale and its scores are replaced.
        reference, others: float [N, 5] and [M, 5], the parts of the scores, as
            `anomalies.score_parts_of` returns them: of the images to calibrate on, and
            of other normal images.
        divisions: how many. The first is that of `calibrate` with this seed, and the
            others have the seeds that follow.
        seed: of the first division, and of the intervals.

    Returns:
        {"divisions", "images": M, "rates"}. For each rate that the scores allow,
        "rates" has

        - "value": the share of the other images with a p-value of at most the rate, as
          a mean over divisions;
        - "low", "high": its interval of 95 % over these images;
        - "lowest", "highest": between these are the shares of 95 % of the divisions.
    """
    flagged: dict[float, list[Tensor]] = {}
    for number in range(divisions):
        _, scaling, scored = division(len(reference), seed + number)
        scaled = calibration.scaled_by(reference[scaling])
        scores = scaled.scores_of(reference[scored]).sort().values
        again = replace(scaled, scores=scores)
        p_values = again.p_values(again.scores_of(others))
        for rate in rates_for(len(scores)):
            flagged.setdefault(rate, []).append((p_values <= rate).double())
    ends = torch.tensor([0.025, 0.975], dtype=torch.float64)
    rates = {}
    for rate, each in flagged.items():
        alarms = torch.stack(each)
        lowest, highest = torch.quantile(alarms.mean(1), ends).tolist()
        rates[str(rate)] = mean_with_interval(alarms.mean(0), seed) | {
            "lowest": lowest,
            "highest": highest,
        }
    return {"divisions": divisions, "images": len(others), "rates": rates}
