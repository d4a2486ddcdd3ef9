"""VQ-VAE-2: images to two grids of codes, and back.

The bottom encoder downsamples the image by `bottom_downsampling`, and the top encoder
halves it once more. The top features are quantized first. The bottom features are
quantized given the decoded top, so that the top holds the outline and the bottom the
detail. Nothing here depends on priors. Source: Razavi, van den Oord and Vinyals 2019,
arXiv 1906.00446, section 3.1; codebooks by moving averages, van den Oord et al. 2017,
arXiv 1711.00937, appendix A.1.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from vector_quantize_pytorch import VectorQuantize

from pixelprior.checkpoints import Pretrained
from pixelprior.devices import evaluation_mode
from pixelprior.layers import ResidualStack, check_codes, check_tensor
from pixelprior.settings import (
    check_number,
    check_positive,
    check_share,
    sides_of,
    whole_number,
)


class Quantizer(nn.Module):
    """A codebook: features to the nearest code, and codes to their vectors.

    A thin wrapper of `vector_quantize_pytorch.VectorQuantize`. The codebook is learned
    by moving averages (arXiv 1711.00937, appendix A.1), starts from k-means on the
    first batch, and replaces codes that are no longer used. All of this is synchronised
    between processes.

    The codebook is in float32, whatever the type of the model: `.double()`, `.half()`
    and `.bfloat16()` do not change it, and features of any type are compared with it in
    float32. A model has therefore the same codebook in any type, and nearly the same
    codes.

    Args:
        num_embeddings: number of codes K. embedding_dim: length D of a code's vector.
        ema_decay: decay γ of the moving averages, in [0, 1).
    """

    def __init__(self, num_embeddings: int, embedding_dim: int, ema_decay: float):
        super().__init__()
        self.num_embeddings = num_embeddings
        self.vq = VectorQuantize(
            dim=embedding_dim,
            codebook_size=num_embeddings,
            decay=ema_decay,
            kmeans_init=True,
            threshold_ema_dead_code=1,
            accept_image_fmap=True,
            commitment_weight=0.0,
            rotation_trick=False,
        )
        self.register_load_state_dict_pre_hook(self._fit_to_library)

    @classmethod
    def from_codebook(cls, codebook: Tensor, ema_decay: float) -> "Quantizer":
        """A quantizer that starts from vectors [K, D] in place of k-means.

        It is on the device of the vectors, which are kept in float32. Each vector
        counts as one feature in the moving averages, so that a code which no feature
        of the first training batch chooses is replaced at once.

        Raises:
            ValueError: the codebook has another shape, or is not finite in float32.
        """
        if codebook.ndim != 2 or 0 in codebook.shape:
            raise ValueError(
                f"the codebook has shape {list(codebook.shape)}; give vectors [K, D]"
            )
        vectors = codebook.detach().float()
        if not vectors.isfinite().all():
            raise ValueError(
                "the codebook has numbers that are not finite in float32; give finite "
                "vectors [K, D]"
            )
        quantizer = cls(*codebook.shape, ema_decay).to(codebook.device)
        learned = quantizer.vq._codebook
        learned.initted.fill_(True)
        learned.cluster_size.fill_(1)
        for buffer in (learned.embed, learned.embed_avg):
            buffer.copy_(vectors[None])
        return quantizer

    @staticmethod
    def _fit_to_library(module, state_dict, prefix, *_more) -> None:
        """Fit weights to the installed library; releases differ in one flag's shape."""
        name = f"{prefix}vq._codebook.initted"
        if name in state_dict:
            flag = module.vq._codebook.initted
            state_dict[name] = state_dict[name].reshape(flag.shape).to(flag.dtype)

    def _apply(self, fn, *more):
        """Move the tensors to another device, but keep the type of each tensor."""

        def move(tensor: Tensor) -> Tensor:
            moved = fn(tensor)
            return moved if moved.dtype == tensor.dtype else tensor.to(moved.device)

        return super()._apply(move, *more)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Features [B, D, H, W] to (quantized [B, D, H, W], codes [B, H, W], loss []).

        Features may be of any floating-point type; vectors and loss are float32.
        The loss is the mean squared error between the features and their vectors, and
        its gradient reaches only the features. The gradient of the quantized features
        goes straight through to the features.
        """
        # Distances in bf16 would pick wrong codes, so that autocast is switched off.
        with torch.autocast(features.device.type, enabled=False):
            features = features.float()
            quantized, codes, _ = self.vq(features)
            return quantized, codes, F.mse_loss(features, quantized.detach())

    @property
    def codebook(self) -> Tensor:
        """The vectors of all codes, [K, D]."""
        return self.vq.codebook

    @property
    def averages(self) -> tuple[Tensor, Tensor]:
        """The moving averages behind the codebook (arXiv 1711.00937, appendix A.1).

        Copies of N_k [K], how often a code was chosen per batch, and of m_k [K, D], the
        sum of the features per batch that chose it.
        """
        learned = self.vq._codebook
        return learned.cluster_size[0].clone(), learned.embed_avg[0].clone()

    def embedding(self, codes: Tensor) -> Tensor:
        """Codes [...] of any integer type to their vectors [..., D], float32."""
        return F.embedding(codes.long(), self.codebook)


def perplexity(codes: Tensor, num_embeddings: int) -> Tensor:
    """exp(entropy) of the codes' frequencies: how many are in use, from 1 to K."""
    counts = torch.bincount(codes.reshape(-1), minlength=num_embeddings).float()
    return torch.distributions.Categorical(probs=counts).entropy().exp()


def _halve(in_channels: int, out_channels: int) -> nn.Module:
    return nn.Conv2d(in_channels, out_channels, 4, stride=2, padding=1)


def _double(in_channels: int, out_channels: int) -> nn.Module:
    return nn.ConvTranspose2d(in_channels, out_channels, 4, stride=2, padding=1)


class VQVAE2(nn.Module, Pretrained):
    """Images [B, C, H, W] in [0, 1] to two grids of codes, and back.

    Args:
        in_channels: 1 for grey images, 3 for colour.
        image_size: height and width in pixels, one number S for both or (height,
            width), each a multiple of `2 * bottom_downsampling`.
        hidden_channels: channels of the convolutions, an even number.
        embedding_dim: length D of a code's vector.
        num_embeddings: number of codes K in each of the two codebooks.
        num_residual_blocks: number of residual blocks in each encoder and decoder.
        bottom_downsampling: pixels along each side of the square that a bottom code
            covers; a power of two. The top grid is half as wide and high as the bottom
            grid.
        commitment_weight: β of arXiv 1711.00937, equation 3.
        ema_decay: decay γ of the moving averages of the codebooks.
        bottom_dropout: share of images for which the decoder is not given the bottom
            codes during training, in [0, 1). Without it the decoder learns to use the
            bottom codes alone, and the top codes are of no use. (SoundStream also drops
            its finer quantizers, arXiv 2107.03312, section III-C.)

    Attributes:
        averages_weights: False: averaged weights do not fit the newest codebooks.
        image_shape: height and width of the images in pixels.
        grids: (height, width) of the top and of the bottom grid of codes.
        latent_spatial_dim_top, latent_spatial_dim_bottom: the sides of these grids if
            they are square, else None.

    Raises:
        ValueError: an argument is out of its range.
    """

    averages_weights = False

    def __init__(
        self,
        in_channels: int = 3,
        image_size: int | tuple[int, int] = 32,
        hidden_channels: int = 128,
        embedding_dim: int = 64,
        num_embeddings: int = 512,
        num_residual_blocks: int = 2,
        bottom_downsampling: int = 2,
        commitment_weight: float = 0.25,
        ema_decay: float = 0.8,
        bottom_dropout: float = 0.1,
    ):
        super().__init__()
        check_positive(
            in_channels=in_channels,
            hidden_channels=hidden_channels,
            embedding_dim=embedding_dim,
            num_embeddings=num_embeddings,
            num_residual_blocks=num_residual_blocks,
            bottom_downsampling=bottom_downsampling,
        )
        check_share(ema_decay=ema_decay, bottom_dropout=bottom_dropout)
        check_number(commitment_weight=commitment_weight)
        bottom_downsampling = whole_number(bottom_downsampling)
        halvings = bottom_downsampling.bit_length() - 1
        if halvings < 1 or bottom_downsampling != 2**halvings:
            raise ValueError(
                f"bottom_downsampling is {bottom_downsampling}; give a power of two "
                "of at least 2"
            )
        sides = sides_of(image_size)
        square = sides[0] == sides[1]
        image_size = sides[0] if square else sides
        if any(side % (2 * bottom_downsampling) for side in sides):
            raise ValueError(
                f"image_size is {image_size}, but it must be a multiple of "
                f"{2 * bottom_downsampling} (twice bottom_downsampling); resize the "
                "images"
            )
        if hidden_channels % 2:
            raise ValueError(f"hidden_channels is {hidden_channels}; make it even")
        self.in_channels, self.image_size = in_channels, image_size
        self.image_shape = sides
        self.embedding_dim, self.num_embeddings = embedding_dim, num_embeddings
        self.commitment_weight = commitment_weight
        self.bottom_dropout = bottom_dropout
        bottom = tuple(side // bottom_downsampling for side in sides)
        self.grids = (tuple(side // 2 for side in bottom), bottom)
        # The sides of square grids; others are in `grids` alone.
        self.latent_spatial_dim_bottom = bottom[0] if square else None
        self.latent_spatial_dim_top = bottom[0] // 2 if square else None

        width, depth = hidden_channels, num_residual_blocks
        narrow = width // 2
        # Only the step next to the image has half the channels: it has the most pixels.
        encoder = [_halve(in_channels, narrow), nn.ReLU()]
        decoder = [nn.Conv2d(narrow, in_channels, 3, padding=1)]
        for step in range(1, halvings):
            outside = narrow if step == 1 else width
            encoder = [*encoder, _halve(outside, width), nn.ReLU()]
            decoder = [_double(width, outside), nn.ReLU(), *decoder]
        last = narrow if halvings == 1 else width
        self.encoder_bottom = nn.Sequential(
            *encoder, nn.Conv2d(last, width, 3, padding=1), ResidualStack(width, depth)
        )
        self.encoder_top = nn.Sequential(
            _halve(width, width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1),
            ResidualStack(width, depth),
            nn.Conv2d(width, embedding_dim, 1),
        )
        self.vq_top = Quantizer(num_embeddings, embedding_dim, ema_decay)
        self.decoder_top = nn.Sequential(
            nn.Conv2d(embedding_dim, width, 3, padding=1),
            ResidualStack(width, depth),
            _double(width, embedding_dim),
        )
        self.to_bottom = nn.Conv2d(width + embedding_dim, embedding_dim, 1)
        self.vq_bottom = Quantizer(num_embeddings, embedding_dim, ema_decay)
        self.upsample_top = _double(embedding_dim, embedding_dim)
        self.decoder = nn.Sequential(
            nn.Conv2d(2 * embedding_dim, width, 3, padding=1),
            ResidualStack(width, depth),
            _double(width, last),
            nn.ReLU(),
            *decoder,
        )

    def codebooks(self) -> dict[str, Tensor]:
        """The vectors of both codebooks, [K, D] each, by their names in the model."""
        return {
            "vq_top.codebook": self.vq_top.codebook,
            "vq_bottom.codebook": self.vq_bottom.codebook,
        }

    @property
    def dtype(self) -> torch.dtype:
        """The type of the images that the model takes and gives."""
        return self.to_bottom.weight.dtype

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Images [B, C, H, W] to both quantized grids, both code grids and the loss.

        Returns:
            (quant_t [B, D, Ht, Wt], quant_b [B, D, Hb, Wb], codes_t [B, Ht, Wt],
            codes_b [B, Hb, Wb], commitment loss []); vectors and loss are float32.
        """
        self.check_images(images)
        features_b = self.encoder_bottom(images)  # [B, hidden, Hb, Wb]
        features_t = self.encoder_top(features_b)  # [B, D, Ht, Wt]
        quant_t, codes_t, loss_t = self.vq_top(features_t)
        decoded_t = self.decoder_top(quant_t.to(self.dtype))  # [B, D, Hb, Wb]
        both = torch.cat([features_b, decoded_t], dim=1)  # [B, hidden + D, Hb, Wb]
        quant_b, codes_b, loss_b = self.vq_bottom(self.to_bottom(both))
        return quant_t, quant_b, codes_t, codes_b, loss_t + loss_b

    def decode(self, quant_t: Tensor, quant_b: Tensor) -> Tensor:
        """Both quantized grids, [B, D, Ht, Wt] and [B, D, Hb, Wb], to images in [0, 1].

        The images have the type of the model, whatever the type of the grids.

        Raises:
            ValueError: a grid has the wrong shape.
        """
        count = len(quant_t)
        given = {"quant_t": quant_t, "quant_b": quant_b}
        for (name, quant), grid in zip(given.items(), self.grids, strict=True):
            wanted = [count, self.embedding_dim, *grid]
            if list(quant.shape) != wanted:
                raise ValueError(
                    f"{name} has shape {list(quant.shape)}, but {wanted} is needed for "
                    f"{count} images: the vectors of codes of this VQ-VAE-2's grids, "
                    "with the vector in dimension 1; give these"
                )
        return self._reconstruct(quant_t, quant_b).clamp(0, 1)

    def _reconstruct(self, quant_t: Tensor, quant_b: Tensor) -> Tensor:
        quant_t, quant_b = quant_t.to(self.dtype), quant_b.to(self.dtype)
        top = self.upsample_top(quant_t)  # [B, D, Hb, Wb]
        return self.decoder(torch.cat([top, quant_b], dim=1))  # [B, C, H, W]

    def decode_codes(self, z_top: Tensor, z_bottom: Tensor) -> Tensor:
        """Codes [B, Ht, Wt] and [B, Hb, Wb] to images [B, C, H, W] in [0, 1]."""
        check_codes(z_top, self.num_embeddings, "z_top")
        check_codes(z_bottom, self.num_embeddings, "z_bottom")
        quant_t = self.vq_top.embedding(z_top).permute(0, 3, 1, 2)  # [B, D, Ht, Wt]
        quant_b = self.vq_bottom.embedding(z_bottom).permute(0, 3, 1, 2)
        return self.decode(quant_t, quant_b)

    @torch.no_grad()
    def get_code_indices(self, images: Tensor) -> dict[str, Tensor]:
        """The codes of images [B, C, H, W], in evaluation mode whatever the mode is.

        A model that was neither trained nor loaded starts its codebooks from these
        images.

        Returns:
            {"indices_top": [B, Ht, Wt] long, "indices_bottom": [B, Hb, Wb] long}.
        """
        with evaluation_mode(self):
            _, _, codes_t, codes_b, _ = self.encode(images)
        return {"indices_top": codes_t, "indices_bottom": codes_b}

    def forward(self, images: Tensor) -> Tensor:
        """Images [B, C, H, W] to their reconstructions, the same shape, in [0, 1]."""
        quant_t, quant_b, *_ = self.encode(images)
        return self.decode(quant_t, quant_b)

    def loss_function(self, images: Tensor) -> dict[str, Tensor]:
        """The training loss, arXiv 1711.00937 equation 3 with moving-average codebooks.

        Args:
            images: float [B, C, H, W] in [0, 1].

        Returns:
            {"total_loss": reconstruction + β · commitment, "reconstruction_loss": mean
            squared error over pixels, "commitment_loss", "perplexity_top",
            "perplexity_bottom": exp of the entropy of this batch's codes}, scalars. In
            training mode, some images are reconstructed from their top codes alone.
        """
        quant_t, quant_b, codes_t, codes_b, commitment = self.encode(images)
        if self.training and self.bottom_dropout:
            numbers = torch.rand(len(images), 1, 1, 1, device=images.device)
            quant_b = quant_b * (numbers >= self.bottom_dropout)
        rebuilt = self._reconstruct(quant_t, quant_b)
        precise = torch.promote_types(images.dtype, torch.float32)
        reconstruction = F.mse_loss(rebuilt.to(precise), images.to(precise))
        return {
            "total_loss": reconstruction + self.commitment_weight * commitment,
            "reconstruction_loss": reconstruction.detach(),
            "commitment_loss": commitment.detach(),
            "perplexity_top": perplexity(codes_t, self.num_embeddings),
            "perplexity_bottom": perplexity(codes_b, self.num_embeddings),
        }

    def training_parts(self) -> dict[str, nn.Module]:
        """The loss that training minimises and the module that it belongs to."""
        return {"total_loss": self}

    def check_images(self, images: Tensor) -> None:
        """Raise ValueError unless images have this model's type, channels and size."""
        check_tensor(images, "images")
        if images.dtype != self.dtype:
            raise ValueError(
                f"images are {images.dtype}, but this model takes {self.dtype} in "
                f"[0, 1]; convert with images.to({self.dtype}), and bytes with / 255"
            )
        channels, (height, width) = self.in_channels, self.image_shape
        if images.ndim != 4 or images.shape[1:] != (channels, height, width):
            raise ValueError(
                f"images have shape {list(images.shape)}, but this VQ-VAE-2 takes "
                f"[B, {channels}, {height}, {width}]; resize or convert them, or build "
                "the model with their in_channels and image_size"
            )
