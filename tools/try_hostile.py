"""Give the loaders files that are damaged or made to harm, and count what happens.

Run `python tools/try_hostile.py FILE.json` on Linux. 2,000 inputs are made from a seed,
in equal shares of the kinds in `KINDS`. Each is read in a process of its own, which may
take 10 seconds of the processor, and 2 GiB of memory beyond what it starts with. It
must load something or end in one of the errors that the command line shows as one line;
no code in a file may run, and nothing may be written beside it. What was loaded is not
judged: most changes of weights or pixels leave a file that is as good as any other.
"""

import argparse
import io
import json
import multiprocessing
import os
import pickle
import random
import shutil
import signal
import tarfile
import tempfile
import warnings
import zipfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from pixelprior import VQVAE2, HierarchicalPixelCNN, PixelCNN, load_images, read_codes
from pixelprior.checkpoints import load_model
from pixelprior.codes import CodeData, load_codes, save_codes
from pixelprior.files import write_texts
from pixelprior.runs import load_prior
from pixelprior.settings import TrainingSettings
from pixelprior.training import fit

SECONDS, MEMORY = 10, 2 * 2**30
WAITS = 6  # times SECONDS by the clock, since other programs may run
CLEAR = (ValueError, OSError, FloatingPointError)  # shown as one line
CANARY = "code_was_run"


class Runs:
    """A pickle of this object runs a function when it is loaded."""

    def __init__(self, function, *arguments):
        self.called = (function, arguments)

    def __reduce__(self):
        return self.called


def flipped(rng: random.Random, content: bytes, most: int = 8) -> bytes:
    """The same bytes, with some changed, cut off, repeated or left out."""
    content = bytearray(content)
    way = rng.randrange(5)
    if way == 0:
        return bytes(content[: rng.randrange(len(content))])
    if way == 1:
        start = rng.randrange(len(content))
        return bytes(content[:start] + content[start + rng.randrange(1, 64) :])
    if way == 2:
        start = rng.randrange(len(content))
        return bytes(content[:start] + content[start : start + 64] + content[start:])
    for _ in range(rng.randrange(1, most)):
        # Headers are at the start, where a change does the most.
        end = len(content) if way == 3 else min(len(content), 512)
        content[rng.randrange(end)] = rng.randrange(256)
    return bytes(content)


ODD_NUMBERS = (0, -1, 1, 3, 2**31, 2**63, 10**6, 10**30, 1e400, 0.5, -0.0, 1e-300)
ODD_VALUES = (*ODD_NUMBERS, None, True, "", "4", "é\n\x00", [], [4], {}, {"a": []})


def odd_config(rng: random.Random, config: dict) -> str:
    """A config with an odd value, key or form, as text."""
    config = dict(config)
    way = rng.randrange(8)
    if way == 0:
        return "[" * 100_000 if rng.random() < 0.5 else '{"a":' * 50_000
    if way == 1:
        return flipped(rng, json.dumps(config).encode()).decode("utf-8", "replace")
    if way == 2:
        config.pop(rng.choice(list(config)))
    elif way == 3:
        config[rng.choice(["nothing", "self", "__class__", "device", ""])] = 1
    for _ in range(rng.randrange(1, 3)):
        config[rng.choice(list(config))] = rng.choice(ODD_VALUES)
    return json.dumps(config)


def forged_safetensors(rng: random.Random, content: bytes) -> bytes:
    """A safetensors file with a header that lies."""
    size = int.from_bytes(content[:8], "little")
    header, data = json.loads(content[8 : 8 + size]), content[8 + size :]
    names = [name for name in header if name != "__metadata__"]
    one, other = rng.choice(names), rng.choice(names)
    way = rng.randrange(9)
    if way == 0:  # tensors that overlap
        header[one]["data_offsets"] = header[other]["data_offsets"]
    elif way == 1:
        header[one]["shape"] = [rng.choice([-1, 2**40, 2**62, 10**30, 0, 1.5, "2"])]
    elif way == 2:
        header[one]["data_offsets"] = [0, rng.choice([2**40, 2**64, -8, 10**30])]
    elif way == 3:
        header[one]["dtype"] = rng.choice(["F8", "C64", "F64", "BOOL", "", 7, "I64"])
    elif way == 4:
        header[one + "x" * rng.choice([1, 10_000])] = header.pop(one)
    elif way == 5:
        header["__metadata__"] = rng.choice([{"a": 1}, [], "x", {"a": "b" * 10**6}])
    elif way == 6:
        header[one] = rng.choice(ODD_VALUES)
    text = json.dumps(header).encode()
    length = len(text)
    if way == 7:
        length = rng.choice([0, 1, 2**20, 2**40, 2**63, 2**64 - 1])
    if way == 8:
        return flipped(rng, content)
    return length.to_bytes(8, "little") + text + data


def tricks(canary: Path) -> list[bytes]:
    """Pickles that run code when they are loaded without care, in a dozen ways.

    Each leaves something at `canary`, or at its name with an ending.
    """
    touch = Path.touch, canary
    calls = [
        Runs(*touch),
        Runs(os.system, f"touch {canary}"),
        Runs(eval, f"open({str(canary)!r}, 'w')"),
        Runs(exec, f"open({str(canary)!r}, 'w')"),
        Runs(__import__("subprocess").getoutput, f"touch {canary}"),
        Runs(open, str(canary), "w"),
        Runs(os.mkdir, str(canary)),
        Runs(os.symlink, "nothing", str(canary)),
        Runs(shutil.copy, __file__, str(canary)),
        Runs(Path.write_text, canary, "written"),
        Runs(np.save, str(canary), 1),
        Runs(torch.save, 1, str(canary)),
    ]
    found = []
    for each in calls:
        for content in (each, {"state_dict": {}, "config": each}, [each], {"w": each}):
            found.append(pickle.dumps(content))
            written = io.BytesIO()
            torch.save(content, written)
            found.append(written.getvalue())
    return found


def bomb(kind: str) -> bytes:
    """A small file of many pixels."""
    written = io.BytesIO()
    size = {"wide": (100_000, 8), "tall": (8, 100_000), "line": (60_000, 1)}.get(kind)
    Image.new("L" if kind == "grey" else "RGB", size or (13_000, 13_000)).save(
        written, "PNG"
    )
    return written.getvalue()


class Kinds:
    """The right files, and the kinds of wrong ones made from them."""

    def __init__(self, folder: Path):
        torch.manual_seed(0)
        self.vqvae2 = VQVAE2(1, 16, 4, 4, 8)
        self.vqvae2.get_code_indices(torch.rand(8, 1, 16, 16))
        self.prior = HierarchicalPixelCNN(8, 4, 4, 2, 2)
        codes = CodeData(
            torch.randint(8, (12, 4, 4), dtype=torch.uint8),
            torch.randint(8, (12, 8, 8), dtype=torch.uint8),
            torch.arange(12) % 2,
            8,
            ("a", "b"),
        )
        self.codes = codes
        save_codes(codes, folder / "codes.safetensors", "here")
        arrays = {"z_top": codes.z_top.numpy(), "z_bottom": codes.z_bottom.numpy()}
        np.savez(folder / "codes.npz", **arrays, labels=codes.labels.numpy())
        np.save(folder / "codes.npy", codes.z_top.numpy())
        self.settings = TrainingSettings(epochs=2, batch_size=6, mixed_precision="no")
        single = CodeData(codes.z_top, None, None, 8)
        self.single = single
        fit(
            PixelCNN(8, 4, 4, 2),
            single,
            None,
            TrainingSettings(epochs=1, batch_size=6, mixed_precision="no"),
            folder / "run",
            log=lambda line: None,
        )
        self.right = {
            path.relative_to(folder).as_posix(): path.read_bytes()
            for path in folder.rglob("*")
            if path.is_file()
        }
        self.bombs = {kind: bomb(kind) for kind in ("wide", "tall", "line", "square")}
        self.bombs["grey"] = bomb("grey")

    def weights(self, rng, folder):
        """model.safetensors with a forged header or changed bytes"""
        self.vqvae2.save_pretrained(folder)
        (folder / "SHA256SUMS").unlink(missing_ok=True)
        path = folder / "model.safetensors"
        path.write_bytes(forged_safetensors(rng, path.read_bytes()))
        return lambda: load_model(VQVAE2, folder)

    def config(self, rng, folder):
        """config.json with odd values, keys and forms"""
        model = rng.choice([self.vqvae2, self.prior])
        model.save_pretrained(folder)
        path = folder / "config.json"
        path.write_text(odd_config(rng, json.loads(path.read_text())))
        if model is self.prior and rng.random() < 0.5:
            return lambda: load_prior(folder)
        return lambda: load_model(type(model), folder)

    def pickles(self, rng, folder):
        """.pth files: pickles that run code, and changed bytes"""
        path, model = folder / "model.pth", self.prior
        if rng.random() < 0.5:
            path.write_bytes(rng.choice(tricks(folder.parent / CANARY)))
        else:
            written = io.BytesIO()
            config = model._hub_mixin_config
            torch.save({"config": config, "state_dict": model.state_dict()}, written)
            path.write_bytes(flipped(rng, written.getvalue(), 64))
        return lambda: load_model(HierarchicalPixelCNN, path)

    def code_files(self, rng, folder):
        """files of codes: .safetensors, .npz and .npy"""
        name = rng.choice(["codes.safetensors", "codes.npz", "codes.npy"])
        path, content = folder / name, self.right[name]
        if path.suffix == ".safetensors":
            content = forged_safetensors(rng, content)
        elif rng.random() < 0.3:  # an array of 2^50 bytes, by its header
            lie = io.BytesIO()
            np.lib.format.write_array_header_1_0(
                lie,
                {
                    "descr": "|u1",
                    "fortran_order": False,
                    "shape": (2**30, 2**10, 2**10),
                },
            )
            content = lie.getvalue()
            if path.suffix == ".npz":
                packed = io.BytesIO()
                with zipfile.ZipFile(packed, "w") as archive:
                    archive.writestr("codes.npy", content)
                content = packed.getvalue()
        else:
            content = flipped(rng, content, 32)
        path.write_bytes(content)
        return lambda: read_codes(path)

    def code_caches(self, rng, folder):
        """the codes that a training run keeps"""
        path = folder / "train.safetensors"
        path.write_bytes(forged_safetensors(rng, self.right["codes.safetensors"]))
        return lambda: load_codes(path, "here")

    def training_states(self, rng, folder):
        """the state of a training run that is resumed"""
        for name, content in self.right.items():
            if name.startswith("run/"):
                path = folder / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
        path = folder / "run" / "last" / "training_state.pt"
        way = rng.randrange(3)
        if way == 0:
            path.write_bytes(rng.choice(tricks(folder.parent / CANARY)))
        elif way == 1:
            path.write_bytes(flipped(rng, path.read_bytes(), 64))
        else:
            state = torch.load(path, weights_only=True)
            key = rng.choice(list(state))
            state[key] = rng.choice([*ODD_VALUES, torch.zeros(3)])
            torch.save(state, path)

        def resume():
            model = PixelCNN(8, 4, 4, 2)
            quiet = {"log": lambda line: None}
            fit(
                model, self.single, None, self.settings, folder / "run", resume=True,
                **quiet,
            )  # fmt: skip

        return resume

    def images(self, rng, folder):
        """folders of images: damaged, enormous, animated, odd names, links"""
        root = folder / "images" / "train" / "a"
        for split in ("train", "test"):
            (folder / "images" / split / "a").mkdir(parents=True)
            for number in range(2):
                image = Image.new("RGB", (20, 20), (number, 0, 0))
                image.save(folder / "images" / split / "a" / f"{number}.png")
        way = rng.randrange(8)
        written = io.BytesIO()
        kind = rng.choice(["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"])
        pixels = np.random.default_rng(rng.randrange(2**32)).integers(
            0, 256, (9, 11, 3)
        )
        picture = Image.fromarray(pixels.astype(np.uint8))
        if way == 0:
            (root / "bomb.png").write_bytes(rng.choice(list(self.bombs.values())))
        elif way == 1:
            (root / "2.jpg").symlink_to(
                rng.choice(["/etc/passwd", "2.jpg", "/dev/zero"])
            )
            (root / "again").symlink_to(root, target_is_directory=True)
        elif way == 2:
            frames = [picture.rotate(90 * i) for i in range(4)]
            frames[0].save(root / "2.gif", save_all=True, append_images=frames[1:])
        elif way == 3:
            picture.convert(rng.choice(["CMYK", "L", "1"])).save(root / "2.tiff")
        elif way == 4:
            name = rng.choice(["a\nb.png", "\x1b[31m.png", "é" * 60 + ".png", " .png"])
            picture.save(root / name)
        else:
            picture.save(written, kind)
            content = flipped(rng, written.getvalue(), 32)
            (root / f"2.{kind.lower()}").write_bytes(content)
        return lambda: load_images(
            "imagefolder", "train", data_root=folder / "images", image_size=16
        )

    def shards(self, rng, folder):
        """tar files of images"""
        written = io.BytesIO()
        with tarfile.open(fileobj=written, mode="w") as tar:
            for number in range(12):
                picture = io.BytesIO()
                Image.new("RGB", (9, 9), (number, 0, 0)).save(picture, "PNG")
                for ending, content in (
                    ("png", picture.getvalue()),
                    ("cls", str(number % 2).encode()),
                ):
                    about = tarfile.TarInfo(f"{number:03d}.{ending}")
                    about.size = len(content)
                    if rng.random() < 0.03:
                        about.type = rng.choice(
                            [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE]
                        )
                        about.linkname = "/etc/passwd"
                    if rng.random() < 0.03:
                        about.name = rng.choice(["../up.png", "/abs.png", "a\nb.png"])
                    tar.addfile(about, io.BytesIO(content))
        content = written.getvalue()
        if rng.random() < 0.6:
            content = flipped(rng, content, 64)
        (folder / "shard.tar").write_bytes(content)
        return lambda: load_images("shards", "train", data_root=folder, image_size=16)


KINDS = ("weights", "config", "pickles", "code_files", "code_caches")
KINDS += ("training_states", "images", "shards")
MAY_WRITE = ("training_states",)  # a resumed run goes on


def listed(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def read_in_a_process(read, sender) -> None:
    """Run `read` within the limits, and send what came of it."""
    import resource  # which Windows lacks

    used = int(Path("/proc/self/statm").read_text().split()[5]) * os.sysconf(
        "SC_PAGE_SIZE"
    )
    resource.setrlimit(resource.RLIMIT_DATA, (used + MEMORY,) * 2)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)  # of the processor
    signal.alarm(WAITS * SECONDS)
    warnings.simplefilter("ignore")
    try:
        read()
        said = ["loaded", ""]
    except CLEAR as error:
        said = ["clear error", f"{type(error).__name__}: {error}"]
    except BaseException as error:
        said = ["FAILED", f"{type(error).__name__}: {error}"]
    sender.send(said)


def tried(kinds: Kinds, kind: str, number: int, work: Path) -> tuple[str, str]:
    """Make input `number` of a kind, read it, and say what came of it."""
    rng = random.Random(f"{kind} {number}")
    folder = work / f"{kind}_{number}" / "in"
    folder.mkdir(parents=True)
    read = getattr(kinds, kind)(rng, folder)
    before = listed(folder)
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=read_in_a_process, args=(read, sender))
    process.start()
    sender.close()
    try:
        outcome, said = receiver.recv()
    except EOFError:
        outcome, said = "FAILED", ""
    process.join()
    if process.exitcode:
        late = -process.exitcode in (signal.SIGALRM, signal.SIGPROF)
        outcome = "FAILED"
        said = f"more than {SECONDS} s" if late else f"status {process.exitcode}"
    if any(folder.parent.glob(f"{CANARY}*")):
        outcome, said = "FAILED", "code in the file was run"
    elif kind not in MAY_WRITE and listed(folder) != before:
        outcome, said = "FAILED", "something was written beside the file"
    return outcome, said


def measure(count: int, say=print) -> dict:
    """Try `count` inputs of all kinds together; each kind has the same share."""
    torch.set_num_threads(1)
    os.environ["CUDA_VISIBLE_DEVICES"] = ""  # no GPU can be used in a forked process
    results: dict = {"inputs": 0, "kinds": {}, "failures": []}
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        os.environ["PIXELPRIOR_CACHE"] = str(work / "cache")
        right = work / "right"
        right.mkdir()
        kinds = Kinds(right)
        for kind in KINDS:
            outcomes = {"what": getattr(Kinds, kind).__doc__}
            outcomes |= {"loaded": 0, "clear error": 0, "FAILED": 0}
            for number in range(count // len(KINDS)):
                outcome, said = tried(kinds, kind, number, work)
                outcomes[outcome] += 1
                results["inputs"] += 1
                if outcome == "FAILED":
                    results["failures"].append([kind, number, said[:300]])
                    say(f"{kind} {number}: {said[:300]}")
            results["kinds"][kind] = outcomes
            say(f"{kind}: {outcomes}")
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("--inputs", type=int, default=2000, help="number of inputs")
    arguments = parser.parse_args()
    results = measure(arguments.inputs)
    write_texts(
        arguments.file.parent, {arguments.file.name: json.dumps(results, indent=1)}
    )
    if results["failures"]:
        raise SystemExit(f"{len(results['failures'])} inputs failed")


if __name__ == "__main__":
    main()
