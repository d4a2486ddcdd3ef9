"""Finding what is odd in an image, with a VQ-VAE-2 and a prior of normal images.

A code that costs many nats, given the codes before it, is odd, and drawn anew it shows
what a normal image would have there (Marimont and Tarroni 2020, arXiv 2012.06765,
section 3). `calibrate` learns from normal images how many nats are many, and `find`
scores and restores others.

A code costs many nats as well if it is normal and those before it are odd. Therefore
the top grid is restored in several looks: flagged codes are drawn anew, and each code
is judged again given the restored codes before it. Codes are drawn in raster order, so
that only earlier ones guide a draw; of several drafts, those count for which the later
known codes cost fewest nats (importance weights).
"""

from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pixelprior.anomaly_scores import SHARES, Calibration, odd_map, score_parts
from pixelprior.drawing import CHUNK_SIZE
from pixelprior.editing import surprise
from pixelprior.modes import evaluation_mode
from pixelprior.pixelcnn import negative_log_likelihood
from pixelprior.prior import LEVELS, HierarchicalPixelCNN
from pixelprior.progress import progress_bar
from pixelprior.ranges import check_positive
from pixelprior.vqvae2 import VQVAE2

FLAG_RATES = {"top": 0.05, "bottom": 0.02}  # of the codes of normal images
LOOKS = 3  # at the top grid, before all of it is restored
LEAST_NORMAL = 20  # images to calibrate on
PIXEL_QUANTILES = 10_001


@dataclass(frozen=True)
class Findings:
    """What is odd in B images, each with D restorations.

    Attributes:
        scores: float64 [B]; higher is odder. p_values: float64 [B], as in
            `Calibration.p_values`.
        maps: float [B, H, W], how far each pixel is from the restorations, from 0.
        restorations: float [B, D, C, H, W] in [0, 1].
        weights: float [B, D], the share of each restoration in the map; each row sums
            to 1.
        flagged: by level, bool [B, h, w]: the codes that were drawn anew.
        nats: by level, float [B, h, w]: nats of each code given those before it.
    """

    scores: Tensor
    p_values: Tensor
    maps: Tensor
    restorations: Tensor
    weights: Tensor
    flagged: dict[str, Tensor]
    nats: dict[str, Tensor] = field(repr=False)

    @property
    def best(self) -> Tensor:
        """The restoration of each image with the largest weight, [B, C, H, W]."""
        return self.restorations[
            torch.arange(len(self.weights)), self.weights.argmax(1).cpu()
        ]

    @property
    def flagged_share(self) -> Tensor:
        """The share of each image's codes that were drawn anew, float [B]."""
        both = torch.cat([self.flagged[level].flatten(1) for level in LEVELS], dim=1)
        return both.float().mean(1)


def calibrate(
    vqvae2: VQVAE2,
    prior: HierarchicalPixelCNN,
    normal_images: Tensor,
    labels=None,
    *,
    draws: int = 8,
    seed: int = 0,
    progress: bool = False,
) -> Calibration:
    """Learn from normal images which nats and which scores are normal.

    Every second image gives the nats of each position and the scale of the score; the
    others are scored. The images should be held out: those that the prior was trained
    on cost fewer nats than new ones.

    Args:
        vqvae2, prior: trained on normal images; the images are processed on the device
            of the prior, and the VQ-VAE-2 is moved there.
        normal_images: float [N, C, H, W] in [0, 1].
        labels: as in `find`.
        draws, seed: as in `find`, which has to be given the same draws.
        progress: show a progress bar.

    Raises:
        ValueError: there are fewer than `LEAST_NORMAL` images, or as in `find`.
    """
    vqvae2.check_images(normal_images)
    if len(normal_images) < LEAST_NORMAL:
        raise ValueError(
            f"there are {len(normal_images)} normal images, too few to say what is "
            f"odd; give at least {LEAST_NORMAL}, and for a false-alarm rate of 1 % at "
            "least 198"
        )
    labels = prior.prior_top.check_labels(labels, len(normal_images))
    every = torch.arange(len(normal_images))
    first, second = every[::2], every[1::2]
    nats: dict[str, list[Tensor]] = {level: [] for level in LEVELS}
    for part in first.split(CHUNK_SIZE):
        z = _codes(vqvae2, prior, normal_images[part])
        for level, each in surprise(prior, *z, _of(labels, part)).items():
            nats[level].append(each)
    sorted_nats = {
        level: torch.cat(each).permute(1, 2, 0).sort(-1).values.contiguous()
        for level, each in nats.items()
    }
    unscaled = Calibration(
        sorted_nats,
        torch.zeros(len(SHARES)),
        torch.ones(len(SHARES)),
        torch.zeros(0).double(),
        torch.zeros(1),
        draws,
        seed,
    )
    parts, maps = [], []
    for part in progress_bar(
        every.split(max(1, CHUNK_SIZE // draws)),
        desc="calibrating",
        unit="batch",
        enabled=progress,
    ):
        found = find(
            vqvae2,
            prior,
            normal_images[part],
            unscaled,
            _of(labels, part),
            draws=draws,
            seed=seed,
            first_index=int(part[0]),
        )
        parts.append(score_parts(found.nats, found.maps))
        maps.append(found.maps[part % 2 == 1].flatten().cpu())
    both = torch.cat(parts)
    centres, scales = both[first].mean(0), both[first].std(0).clamp(min=1e-6)
    scores = ((both[second] - centres) / scales).sum(1).double()
    quantiles = np.quantile(torch.cat(maps).numpy(), np.linspace(0, 1, PIXEL_QUANTILES))
    return Calibration(
        sorted_nats,
        centres,
        scales,
        scores.sort().values,
        torch.from_numpy(quantiles).float(),
        draws,
        seed,
    )


@torch.no_grad()
def find(
    vqvae2: VQVAE2,
    prior: HierarchicalPixelCNN,
    images: Tensor,
    calibration: Calibration,
    labels=None,
    *,
    draws: int = 8,
    seed: int = 0,
    first_index: int = 0,
) -> Findings:
    """Score images, restore what is odd in them, and map it.

    Args:
        vqvae2, prior: as in `calibrate`.
        images: float [B, C, H, W] in [0, 1].
        calibration: what `calibrate` returned.
        labels: for a prior with classes, as in `HierarchicalPixelCNN.sample`: the class
            that each image should be of. With `label_dropout`, None asks whether an
            image is of any class.
        draws: number of restorations per image, as in `calibrate`.
        seed: the same seed restores an image in the same way in any batch, up to
            rounding.
        first_index: index of the first image, by which its random stream is chosen.

    Raises:
        ValueError: the images do not fit the VQ-VAE-2, the labels or the calibration do
            not fit the prior, or an argument is out of its range.
    """
    check_positive(draws=draws)
    vqvae2.check_images(images)
    prior.check_matches(vqvae2)
    if draws != calibration.draws:
        raise ValueError(
            f"draws is {draws}, but the calibration was made with {calibration.draws}; "
            "give the same number, or calibrate again"
        )
    labels = prior.prior_top.check_labels(labels, len(images))
    grids = dict(zip(LEVELS, _codes(vqvae2, prior, images), strict=True))
    for level, z in grids.items():
        if calibration.nats[level].shape[:2] != z.shape[1:]:
            raise ValueError(
                f"the calibration is for {level} grids of "
                f"{list(calibration.nats[level].shape[:2])}, but those of this "
                f"VQ-VAE-2 are {list(z.shape[1:])}; calibrate with the same VQ-VAE-2"
            )
    nats = surprise(prior, *grids.values(), labels)
    with evaluation_mode(prior), evaluation_mode(vqvae2):
        flagged = _flags(
            prior, grids, nats, calibration, labels, draws, seed, first_index
        )
        known = {
            f"known_{level}": z.masked_fill(flagged[level], -1).repeat_interleave(
                draws, 0
            )
            for level, z in grids.items()
        }
        each_label = None if labels is None else labels.repeat_interleave(draws)
        drawn = prior.sample(
            len(images) * draws,
            *vqvae2.grids,
            labels=each_label,
            seed=seed,
            first_index=first_index * draws,
            **known,
        )
        cost = _cost_of_known(prior.prior_top, drawn[0], known["known_top"], each_label)
        weights = (-cost.view(-1, draws)).softmax(1)
        decoded = torch.cat(
            [
                vqvae2.decode_codes(*part)
                for part in zip(*(z.split(CHUNK_SIZE) for z in drawn), strict=True)
            ]
        )
    restorations = decoded.view(len(images), draws, *decoded.shape[1:])
    maps = odd_map(images.to(decoded.device), restorations, weights)
    parts = score_parts(nats, maps)
    scores = ((parts - calibration.centres) / calibration.scales).sum(1).double()
    return Findings(
        scores,
        calibration.p_values(scores),
        maps,
        restorations,
        weights,
        flagged,
        nats,
    )


def _flags(prior, grids, nats, calibration, labels, draws, seed, first_index):
    """The codes of both levels to draw anew, by level, bool [B, h, w]."""
    z_top, z_bottom = grids.values()
    size, restored, of_top = len(z_top), z_top, nats["top"]
    each_label = None if labels is None else labels.repeat_interleave(draws)
    for look in range(LOOKS):
        # Codes beside an odd one hold a part of it, since the encoder sees around each.
        odd = _spread(calibration.code_p_values("top", of_top) <= FLAG_RATES["top"])
        known = z_top.masked_fill(odd, -1).repeat_interleave(draws, 0)
        drafts = prior.prior_top.sample(
            size * draws,
            z_top.shape[1:],
            labels=each_label,
            known=known,
            seed=_seed_of(seed, look),
            first_index=first_index * draws,
        )
        cost = _cost_of_known(prior.prior_top, drafts, known, each_label)
        best = cost.view(size, draws).argmin(1)
        restored = drafts.view(size, draws, *z_top.shape[1:])[
            torch.arange(size, device=best.device), best
        ]
        of_top = negative_log_likelihood(prior.prior_top(restored, labels), z_top)
    top = calibration.code_p_values("top", of_top) <= FLAG_RATES["top"]
    under = F.interpolate(top[:, None].float(), z_bottom.shape[1:])[:, 0] > 0
    odd = calibration.code_p_values("bottom", nats["bottom"]) <= FLAG_RATES["bottom"]
    draft = prior.prior_bottom.sample(
        size,
        z_bottom.shape[1:],
        labels=labels,
        z_top=restored,
        known=z_bottom.masked_fill(odd | under, -1),
        seed=_seed_of(seed, LOOKS),
        first_index=first_index,
    )
    logits = prior.prior_bottom(draft, restored, labels)
    of_bottom = negative_log_likelihood(logits, z_bottom)
    odd = calibration.code_p_values("bottom", of_bottom) <= FLAG_RATES["bottom"]
    return {"top": top, "bottom": odd | under}


def _cost_of_known(level, drafts: Tensor, known: Tensor, labels) -> Tensor:
    """The nats of the known codes of each draft [B, H, W], summed, [B]."""
    nats = negative_log_likelihood(level(drafts, labels), drafts)
    return (nats * (known >= 0)).sum((1, 2))


def _spread(flags: Tensor) -> Tensor:
    """Flags [B, H, W], and the positions above, below, left and right of them."""
    cross = torch.tensor([[0.0, 1, 0], [1, 1, 1], [0, 1, 0]], device=flags.device)
    return F.conv2d(flags[:, None].float(), cross[None, None], padding=1)[:, 0] > 0


def _seed_of(seed: int, look: int) -> int:
    """A seed of its own for each look."""
    return int(np.random.SeedSequence([seed, 1 + look]).generate_state(1, np.uint64)[0])


def _codes(vqvae2, prior, images: Tensor) -> tuple[Tensor, Tensor]:
    """Both grids of codes, on the prior's device."""
    device = next(prior.parameters()).device
    codes = vqvae2.to(device).get_code_indices(images.to(device))
    return codes["indices_top"], codes["indices_bottom"]


def _of(labels: Tensor | None, part: Tensor) -> Tensor | None:
    """The labels of some images; None without labels."""
    return None if labels is None else labels[part]
