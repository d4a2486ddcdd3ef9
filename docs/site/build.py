"""Build the site: `pip install -e ".[site]" && python docs/site/build.py [FOLDER]`.

First, what the front page draws with is put beside its program, once: the shipped
weights as ONNX graphs, and onnxruntime from npm. Both are left out of the repository.
"""

import base64
import hashlib
import json
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

from pixelprior.assets import load_shipped
from pixelprior.checkpoints import fingerprint
from pixelprior.data.images import FASHION_CLASSES
from pixelprior.files import swap_folder, temporary_folder
from pixelprior.onnx.export import export_onnx

HERE = Path(__file__).resolve().parent
ROOT, STATIC = HERE.parents[1], HERE / "static"
RUNTIME = "onnxruntime-web@1.30.0"
SHA512 = (
    "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3j"
    "L02Vb7QmRMDs1SigqR4CXAfKYQ=="
)
FILES = (
    "dist/ort.wasm.min.mjs",
    "dist/ort-wasm-simd-threaded.mjs",
    "dist/ort-wasm-simd-threaded.wasm",
    "package.json",
)


def fetch_runtime() -> None:
    """Take the files that the front page loads out of onnxruntime's npm package."""
    npm = shutil.which("npm")
    if npm is None:
        sys.exit("the front page needs npm to fetch onnxruntime-web; install Node.js")
    with temporary_folder(STATIC) as hidden:
        command = [npm, "pack", RUNTIME, "--loglevel=error", "--pack-destination"]
        if subprocess.run([*command, hidden], stdout=subprocess.DEVNULL).returncode:
            sys.exit(f"npm could not fetch {RUNTIME}; is there a network?")
        (archive,) = hidden.glob("*.tgz")
        found = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
        if found != SHA512:
            sys.exit(f"{RUNTIME} has SHA-512 {found}, but {SHA512} is expected")
        (hidden / "ort").mkdir()
        with tarfile.open(archive) as packed:
            for name in FILES:
                inside = packed.extractfile(f"package/{name}")
                (hidden / "ort" / Path(name).name).write_bytes(inside.read())
        swap_folder(hidden / "ort", STATIC / "ort")


def runtime_is_there() -> bool:
    """Whether the fetched files are of the version that is named here."""
    package = STATIC / "ort" / "package.json"
    if not package.is_file():
        return False
    version = json.loads(package.read_text(encoding="utf-8"))["version"]
    return version == RUNTIME.rpartition("@")[2]


def export_shipped() -> None:
    """Write the graphs of the shipped pair, unless they are there already."""
    pair, about = load_shipped(), STATIC / "onnx" / "about.json"
    made_of = dict(zip(("vqvae2", "prior"), map(fingerprint, pair), strict=True))
    there = json.loads(about.read_text(encoding="utf-8")) if about.is_file() else {}
    if there.get("made_of") != made_of:
        export_onnx(*pair, STATIC / "onnx", FASHION_CLASSES)


def main(output: str = "site") -> None:
    export_shipped()
    if not runtime_is_there():
        fetch_runtime()
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q"]
    subprocess.run([*command, "-c", str(HERE), str(ROOT), output], check=True)
    print(f"wrote {output}/index.html")


if __name__ == "__main__":
    main(*sys.argv[1:])
