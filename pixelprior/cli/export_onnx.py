"""The command `export-onnx`: trained models as ONNX graphs."""

from pixelprior.assets import load_shipped
from pixelprior.checkpoints import load_model, read_training_notes
from pixelprior.cli.flags import ExportOnnx
from pixelprior.data import FASHION_CLASSES
from pixelprior.onnx_export import COMPARED, export_onnx
from pixelprior.runs import check_trained, load_prior
from pixelprior.vqvae2 import VQVAE2


def export(flags: ExportOnnx) -> None:
    given = flags.vqvae2_checkpoint, flags.prior_checkpoint
    if given == (None, None):
        pair, names = load_shipped(), FASHION_CLASSES
    elif None in given:
        raise ValueError(
            "--vqvae2_checkpoint and --prior_checkpoint go together; give both, or "
            "leave both out for the shipped weights of Fashion-MNIST"
        )
    else:
        pair = load_model(VQVAE2, given[0]), load_prior(given[1])
        check_trained(given[1], pair[0])
        names = read_training_notes(given[1]).get("class_names")
    about = export_onnx(*pair, flags.output_dir, names)
    sizes = sum(path.stat().st_size for path in flags.output_dir.iterdir())
    print(
        f"wrote {flags.output_dir}: {len(about['graphs'])} graphs, {sizes / 1e6:.1f} MB"
    )
    print(
        f"{COMPARED} images compared with PyTorch: logits differ by up to "
        f"{about['logits_apart']:.1g}, pixels by up to {about['pixels_apart']:.1g}; "
        f"{about['codes_that_agree']:.2%} of the codes drawn are the same"
    )
