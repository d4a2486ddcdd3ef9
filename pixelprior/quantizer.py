"""A codebook: features to the nearest code, and codes to their vectors."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from vector_quantize_pytorch import VectorQuantize


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
