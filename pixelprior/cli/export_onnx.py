"""The command `export-onnx`: trained models as ONNX graphs."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(kw_only=True)
class ExportOnnx:
    """Write a VQ-VAE-2 and its prior as ONNX graphs, and compare their logits and
    images with PyTorch's. This needs onnx and onnxruntime."""

    vqvae2_checkpoint: Path | None = None
    """Checkpoint of the VQ-VAE-2. If both checkpoints are left out, the shipped weights
    are written."""
    prior_checkpoint: Path | None = None
    """Checkpoint of the prior, which needs classes."""
    output_dir: Path = Path("./pixelprior_onnx")
    """Folder for the graphs and about.json. An earlier export is replaced."""

    def run(self) -> None:
        from pixelprior.assets import load_shipped
        from pixelprior.checkpoints import load_model, read_training_notes
        from pixelprior.cli.priors import load_prior
        from pixelprior.data.images import FASHION_CLASSES
        from pixelprior.onnx.export import COMPARED, export_onnx
        from pixelprior.vqvae2 import VQVAE2

        given = self.vqvae2_checkpoint, self.prior_checkpoint
        if given == (None, None):
            pair, names = load_shipped(), FASHION_CLASSES
        elif None in given:
            raise ValueError(
                "--vqvae2_checkpoint and --prior_checkpoint go together; give both, or "
                "leave both out for the shipped weights of Fashion-MNIST"
            )
        else:
            vqvae2 = load_model(VQVAE2, given[0])
            pair = vqvae2, load_prior(given[1], vqvae2)
            names = read_training_notes(given[1]).get("class_names")
        about = export_onnx(*pair, self.output_dir, names)
        sizes = sum(path.stat().st_size for path in self.output_dir.iterdir())
        print(
            f"wrote {self.output_dir}: {len(about['graphs'])} graphs, "
            f"{sizes / 1e6:.1f} MB\n"
            f"{COMPARED} images compared with PyTorch: logits differ by up to "
            f"{about['logits_apart']:.1g}, pixels by up to "
            f"{about['pixels_apart']:.1g}; {about['codes_that_agree']:.2%} of the "
            "codes drawn are the same"
        )
