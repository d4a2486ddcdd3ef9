"""Build the site: `pip install -e ".[site]" && python docs/site/build.py [FOLDER]`.

First, what the front page draws with is put beside its program, once: the shipped
weights as ONNX graphs, and onnxruntime from npm. Both are left out of the repository.
"""

import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from pixelprior.assets import load_shipped
from pixelprior.data import FASHION_CLASSES
from pixelprior.onnx_export import export_onnx

HERE = Path(__file__).resolve().parent
ROOT, STATIC = HERE.parents[1], HERE / "static"
RUNTIME = "onnxruntime-web@^1.20"
FILES = (
    "ort.wasm.min.mjs",
    "ort-wasm-simd-threaded.mjs",
    "ort-wasm-simd-threaded.wasm",
)


def fetch_runtime(target: Path) -> None:
    """Take the files that the front page loads out of onnxruntime's npm package."""
    with tempfile.TemporaryDirectory() as folder:
        command = ["npm", "pack", RUNTIME, "--silent", "--pack-destination", folder]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        (archive,) = Path(folder).glob("*.tgz")
        target.mkdir()
        with tarfile.open(archive) as packed:
            for name in (*(f"dist/{each}" for each in FILES), "package.json"):
                inside = packed.extractfile(f"package/{name}")
                (target / Path(name).name).write_bytes(inside.read())


def main(output: str = "site") -> None:
    if not (STATIC / "onnx").is_dir():
        export_onnx(*load_shipped(), STATIC / "onnx", FASHION_CLASSES)
    if not (STATIC / "ort").is_dir():
        fetch_runtime(STATIC / "ort")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q"]
    subprocess.run([*command, "-c", str(HERE), str(ROOT), output], check=True)
    print(f"wrote {output}/index.html")


if __name__ == "__main__":
    main(*sys.argv[1:])
