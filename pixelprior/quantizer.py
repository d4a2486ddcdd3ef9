"""A codebook: features to the nearest code, and codes to their vectors."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from vector_quantize_pytorch import VectorQuantize


class Quantizer(nn.Module):
    """A codebook: features to the nearest code, and codes to their vectors.

    A thin cover over `vector_quantize_pytorch.VectorQuantize`: codebooks by moving
    averages, started by k-means on the first batch, codes that fall out of use renewed,
    all synchronised between processes (arXiv 1711.00937, appendix A.1).

    It works in float32 whatever the type of the model around it: `.double()`, `.half()`
    and `.bfloat16()` leave the codebook as it is, and features of any type are compared
    with it in float32, so that a model has the same codes in any type.

    Args:
        num_embeddings: codes K. embedding_dim: length D of each code's vector.
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

    @staticmethod
    def _fit_to_library(module, state_dict, prefix, *_more) -> None:
        """Releases of the library differ in the shape of one flag alone."""
        name = f"{prefix}vq._codebook.initted"
        if name in state_dict:
            flag = module.vq._codebook.initted
            state_dict[name] = state_dict[name].reshape(flag.shape).to(flag.dtype)

    def _apply(self, fn, *more):
        """Moves to another device, but keeps each tensor's type."""

        def move(tensor: Tensor) -> Tensor:
            moved = fn(tensor)
            return moved if moved.dtype == tensor.dtype else tensor.to(moved.device)

        return super()._apply(move, *more)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Features [B, D, H, W] to (quantized [B, D, H, W], codes [B, H, W], loss []).

        Features may be of any floating-point type; vectors and loss are float32.
        The loss is the squared distance of features to their codes, and pulls the
        features alone; gradients of `quantized` go straight through to the features.
        """
        # Distances in bf16 would pick wrong codes, so autocast ends here.
        with torch.autocast(features.device.type, enabled=False):
            features = features.float()
            quantized, codes, _ = self.vq(features)
            return quantized, codes, F.mse_loss(features, quantized.detach())

    @property
    def codebook(self) -> Tensor:
        """The vectors of all codes, [K, D]."""
        return self.vq.codebook

    def embedding(self, codes: Tensor) -> Tensor:
        """Codes [...] of any integer type to their vectors [..., D], float32."""
        return F.embedding(codes.long(), self.codebook)


def perplexity(codes: Tensor, num_embeddings: int) -> Tensor:
    """exp(entropy) of the codes' frequencies: the codes in use, from 1 to K."""
    counts = torch.bincount(codes.reshape(-1), minlength=num_embeddings).float()
    return torch.distributions.Categorical(probs=counts).entropy().exp()
