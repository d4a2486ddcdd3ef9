"""One training loop for both stages, on Hugging Face accelerate.

`fit` trains any model with a `loss_function` and `training_parts`: the VQ-VAE-2 on
images, the prior on codes; on a CPU, a GPU, or several under `accelerate launch` or
`torchrun`. It writes `best` and `last` checkpoints each epoch. A run resumed from
`last` has the same loss curve, bit for bit on one machine. `fit` does not depend on
data files or sampling; the caller passes what is to happen after an epoch.
"""

import contextlib
import json
import math
import os
import shutil
import time
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import asdict, replace
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import AveragedModel

from pixelprior.checkpoints import WEIGHTS_NAME
from pixelprior.devices import make_accelerator
from pixelprior.files import (
    UNFINISHED,
    recover_folder,
    remove_unfinished,
    swap_folder,
    writable_folder,
    write_texts,
)
from pixelprior.progress import progress_bar
from pixelprior.settings import TrainingSettings

# "grids" are those of the codes, which another setting stands for.
MAY_CHANGE = ("epochs", "processes", "save_steps", "grids")
STATE = Path("last", "state")  # what a resumed run needs besides the averaged weights
CHECK_EVERY = {"cpu": 1}  # steps between two looks whether the gradients are finite
START_AGAIN = "start again in another --output_dir"


def fit(
    model: nn.Module,
    train_data,
    heldout_data,
    settings: TrainingSettings,
    output_dir,
    accelerator: Accelerator | None = None,
    *,
    parts: tuple[str, ...] | None = None,
    loss_options: dict | None = None,
    resume: bool = False,
    notes: dict | None = None,
    after_epoch: Callable[[int, nn.Module], None] | None = None,
    log: Callable[[str], None] = print,
) -> list[dict]:
    """Train a model, keeping `best` and `last` in `output_dir`.

    At the end, also after an interruption, torch's global random state and each
    parameter's `requires_grad` are restored.

    Args:
        model: has `loss_function(*batch)` and `training_parts()`, and may have
            `averages_weights`, False if its weights are averaged only on request.
        train_data: has `len`, `batch(indices)` and `to(device)`, and may have
            `batches(parts)`, which prepares the batches of several tensors of indices.
        heldout_data: chooses `best`; with None, the last epoch is the best. Do not use
            test images, which are for the end.
        output_dir: folder for `best`, `last` and `history.json`.
        accelerator: from `make_accelerator`, made before the model if the training runs
            in several processes; None makes one.
        parts: names of the losses to train, None for all; other weights do not change.
        loss_options: keywords for `loss_function`.
        resume: continue from `last`. Only the numbers of epochs, of processes and of
            steps from one checkpoint to the next may differ from before.
        notes: written to each checkpoint's `training.json` beside its held-out losses.
        after_epoch: called with the number of epochs done and the averaged model, in
            evaluation mode.
        log: called with one line per epoch, and one per change in a resumed run.

    Returns:
        The history: one dict per epoch, with the mean training losses (`train_…`), the
        mean held-out losses (`heldout_…`), steps per second, the learning rate of the
        last step, and the seconds that the epoch took. The model ends with the last
        weights; `best` and `last` hold averaged weights.

    Raises:
        ValueError: there are no images.
        FloatingPointError: a gradient or a held-out loss is not finite.
    """
    for kind, data in (("training", train_data), ("held-out", heldout_data)):
        if data is not None and not len(data):
            raise ValueError(f"there are 0 {kind} images; give some")
    check_output_dir(output_dir, resume)
    if accelerator is None:
        accelerator = make_accelerator(settings, output_dir)
    with _left_as_it_was(model, accelerator):
        run = TrainingRun(
            model,
            parts,
            loss_options or {},
            notes or {},
            len(train_data),
            settings,
            output_dir,
            accelerator,
        )
        if not accelerator.is_main_process:
            after_epoch, log = None, lambda line: None
        if resume:
            run.resume(log)
        accelerator.init_trackers("pixelprior", config=asdict(run.settings))
        train_data = train_data.to(accelerator.device)
        if heldout_data is not None:
            heldout_data = heldout_data.to(accelerator.device)
        bar = progress_bar(
            total=settings.epochs * run.steps_per_epoch,
            initial=run.step,
            desc="training",
            unit="step",
            enabled=accelerator.is_main_process,
        )
        with bar:
            for epoch in range(len(run.history), settings.epochs):
                run.started = time.perf_counter() - run.seconds
                trained = run.train_epoch(train_data, bar)
                speed = run.steps_per_epoch / (time.perf_counter() - run.started)
                heldout = {} if heldout_data is None else run.evaluate(heldout_data)
                figures = {f"train_{name}": value for name, value in trained.items()}
                figures |= {f"heldout_{name}": value for name, value in heldout.items()}
                figures["steps_per_second"] = speed
                figures["lr"] = settings.lr * run.factor(run.step - 1)
                figures["seconds"] = time.perf_counter() - run.started
                run.finish_epoch(figures, heldout)
                accelerator.log(figures, step=run.step)
                losses = ", ".join(
                    f"{name.removesuffix('_loss')} {value:.4f}"
                    + (f" / {heldout[name]:.4f}" if name in heldout else "")
                    for name, value in trained.items()
                )
                count = f"{epoch + 1:{len(str(settings.epochs))}d}/{settings.epochs}"
                kinds = "training / held out" if heldout else "training"
                bar.clear()  # the line takes its place on the screen
                log(f"epoch {count}: {losses} ({kinds}), {figures['seconds']:.0f} s")
                if after_epoch is not None:
                    after_epoch(epoch + 1, run.average.module.eval())
                accelerator.wait_for_everyone()
    return run.history


class TrainingRun:
    """The state of one training run, and its steps; `fit` is the loop around it."""

    def __init__(
        self, model, parts, options, notes, images, settings, output_dir, accelerator
    ):
        if settings.ema_decay is None:
            averaged = getattr(model, "averages_weights", True)
            settings = replace(settings, ema_decay=0.999 if averaged else 0.0)
        self.settings, self.output_dir = settings, Path(output_dir)
        self.options, self.notes, self.accelerator = options, notes, accelerator
        self.model = model.to(accelerator.device, memory_format=torch.channels_last)
        # `self.step` is an int; torch's own count is a tensor.
        self.average = AveragedModel(
            self.model,
            multi_avg_fn=lambda averages, currents, _: average_weights(
                averages, currents, self.step, settings.ema_decay
            ),
        )
        self.best, self.best_losses = deepcopy(self.model), {}
        every = self.model.training_parts()
        self.parts = {n: p for n, p in every.items() if parts is None or n in parts}
        self.model.requires_grad_(False)
        for part in self.parts.values():
            part.requires_grad_(True)
        about = asdict(settings) | {
            "parts": list(self.parts),
            "training images": images,
            "processes": accelerator.num_processes,
            "model": getattr(self.model, "_hub_mixin_config", None),
        }
        self.about = json.loads(json.dumps(about | notes))
        size = settings.batch_size * settings.gradient_accumulation_steps
        self.images_per_step = accelerator.num_processes * size
        self.steps_per_epoch = math.ceil(images / self.images_per_step)
        total_steps = settings.epochs * self.steps_per_epoch
        self.factor = learning_rate_factor(settings, total_steps)
        decaying, others = decaying_parameters(self.model)
        optimizer = torch.optim.AdamW(
            [{"params": decaying}, {"params": others, "weight_decay": 0.0}],
            lr=settings.lr,
            weight_decay=settings.weight_decay,
        )
        self.loss, self.optimizer = accelerator.prepare(
            _Loss(self.model, options), optimizer
        )
        self.schedule = LambdaLR(self.optimizer.optimizer, self.factor)
        self.history: list[dict] = []
        self.step = 0
        self.images, self.seconds = 0, 0.0  # what is done of the present epoch
        self.sums: dict[str, Tensor] = {}  # of the losses of this process's images

    def train_epoch(self, data, bar) -> dict[str, float]:
        """Train for one pass over the data; return the mean of each loss."""
        settings, accelerator = self.settings, self.accelerator
        rank, world = accelerator.process_index, accelerator.num_processes
        epoch, device = len(self.history), accelerator.device
        # The seeds depend on no earlier epoch, so that a resumed epoch is the same.
        if not self.images:
            torch.manual_seed(settings.seed * 1_000_003 + epoch * 1009 + rank)
        shuffle = torch.Generator().manual_seed(settings.seed * 1_000_003 + epoch)
        order = torch.randperm(len(data), generator=shuffle)
        left, count = order[self.images :], self.images // world
        # Every process gets the same number: the first few fill what is missing.
        left = torch.cat([left, order[: -len(left) % world]])[rank::world].to(device)
        steps = left.split(self.images_per_step // world)
        parts = [b for step in steps for b in step.split(settings.batch_size)]
        batches = _batches(device, data, parts)
        finite = dict.fromkeys(self.parts, True)
        self.loss.train()
        for indices in steps:
            losses = self._gradients(batches, indices)
            for name, part in self.parts.items():
                # Each part by itself: if one diverges, the other is not scaled down.
                norm = accelerator.clip_grad_norm_(
                    part.parameters(), settings.max_grad_norm
                )
                finite[name] = torch.isfinite(norm) & finite[name]
            self.images += self.images_per_step
            done, ends = self.step + 1, self.images >= len(order)
            save = settings.save_steps and done % settings.save_steps == 0 and not ends
            # Seldom on a GPU, where the host has to wait until it can read a number.
            if ends or save or done % CHECK_EVERY.get(device.type, 50) == 0:
                for name, so_far in finite.items():
                    if not so_far:
                        self._stop(
                            f"at step {done}: the gradient of {name} is not finite "
                            f"(loss {losses[name].item():.4g})"
                        )
            self.optimizer.step()
            self.optimizer.zero_grad()
            self.average.update_parameters(self.model)
            self.schedule.step()
            self.step = done
            count += len(indices)
            for name, value in losses.items():
                self.sums[name] = self.sums.get(name, 0) + value * len(indices)
            if save:
                self.seconds = time.perf_counter() - self.started
                self.save({}, improved=False)
            bar.update()
        return self._mean(self.sums, count)

    def _gradients(self, batches: Iterator, indices: Tensor) -> dict[str, Tensor]:
        """Add up the gradients of one step's batches; return the mean losses."""
        sizes, means = [len(b) for b in indices.split(self.settings.batch_size)], {}
        for number, size in enumerate(sizes, start=1):
            # Processes exchange their gradients once, after the last batch.
            no_sync = self.accelerator.no_sync(self.loss)
            with no_sync if number < len(sizes) else contextlib.nullcontext():
                losses = self.loss(*next(batches))
                share = size / len(indices)
                loss = sum(losses[name] for name in self.parts) * share
                self.accelerator.backward(loss)
            for name, value in losses.items():
                means[name] = means.get(name, 0) + value.detach().float() * share
        return means

    def _stop(self, why: str) -> None:
        last, settings = self.output_dir / "last", self.settings
        kept = "no epoch was finished, so there is no checkpoint"
        if last.exists():
            kept = f"the last good checkpoint is {last}"
        raise FloatingPointError(
            f"training stopped {why}; {kept}; {START_AGAIN} with a lower --lr (now "
            f"{settings.lr:g}), a longer --warmup (now {settings.warmup:g}) or "
            "--mixed_precision no"
        )

    @torch.no_grad()
    def evaluate(self, data) -> dict[str, float]:
        """Mean losses of the averaged weights, in float32, over all of `data`."""
        accelerator, model, sums = self.accelerator, self.average.module.eval(), {}
        mine = range(accelerator.process_index, len(data), accelerator.num_processes)
        count = len(mine)
        # A process without an image computes the losses of the first, with weight 0.
        indices = torch.tensor(mine or [0], device=accelerator.device)
        parts = indices.split(self.settings.batch_size)
        batches = _batches(accelerator.device, data, parts)
        for part, batch in zip(parts, batches, strict=True):
            losses = model.loss_function(*batch, **self.options)
            for name, value in losses.items():
                sums[name] = sums.get(name, 0) + value.float() * min(len(part), count)
        return self._mean(sums, count)

    def _mean(self, sums: dict[str, Tensor], count: int) -> dict[str, float]:
        device = self.accelerator.device
        values = torch.stack([*sums.values(), torch.tensor(count, device=device)])
        values = self.accelerator.reduce(values.float(), "sum")
        return dict(zip(sums, (values[:-1] / values[-1]).tolist(), strict=True))

    def finish_epoch(self, figures: dict, heldout: dict) -> None:
        """Keep the best weights, part by part, and write both checkpoints."""
        improved = []
        for name in self.parts:
            loss = heldout.get(name, -math.inf)  # without any, the last epoch is best
            if heldout and not math.isfinite(loss):
                self._stop(f"after step {self.step}: the held-out {name} is not finite")
            if loss < self.best_losses.get(name, math.inf):
                improved.append(name)
                averaged = self.average.module.training_parts()[name].state_dict()
                self.best.training_parts()[name].load_state_dict(averaged)
        self.best_losses |= {name: heldout[name] for name in improved if heldout}
        self.history.append(figures)
        self.images, self.seconds, self.sums = 0, 0.0, {}
        self.save(heldout, improved=bool(improved))

    def save(self, heldout: dict, improved: bool) -> None:
        """Write `last`, and `best` if it improved; each is put in place when complete.

        Every process writes its random state, and the main process all else.
        """
        folder, new = self.output_dir, self.output_dir / f"{UNFINISHED}run"
        sums = {name: value.item() for name, value in self.sums.items()}
        state = {
            "about": self.about,
            "history": self.history,
            "best_losses": self.best_losses,
            "step": self.step,
            "images": self.images,
            "seconds": self.seconds,
            "sums": gather_object([sums]),
        }
        with _writing(folder):
            self.accelerator.save_state(str(new / STATE))
        self.accelerator.wait_for_everyone()
        if self.accelerator.is_main_process:
            with _writing(folder):
                (new / STATE / "run.json").write_text(json.dumps(state), "utf-8")
                self._write_model(new / "last", self.average.module, heldout)
                # `last` at the end: a run stopped before it repeats this epoch.
                history = json.dumps(self.history, indent=1)
                write_texts(folder, {"history.json": history})
                if improved:
                    self._write_model(new / "best", self.best, self.best_losses)
                    swap_folder(new / "best", folder / "best")
                swap_folder(new / "last", folder / "last")
                shutil.rmtree(new, ignore_errors=True)
        self.accelerator.wait_for_everyone()

    def _write_model(self, folder: Path, model: nn.Module, heldout: dict) -> None:
        about = {
            "epochs_done": len(self.history),
            "heldout": heldout,
            "trained_parts": list(self.parts),
            "settings": asdict(self.settings),
            **self.notes,
        }
        model.save_pretrained(folder)
        write_texts(folder, {"training.json": json.dumps(about, indent=1)})

    def resume(self, log) -> None:
        """Go on from `last`; log one line per change of epochs or processes."""
        folder, now, device = self.output_dir, self.about, self.accelerator.device
        with _reading(folder):
            state = json.loads((folder / STATE / "run.json").read_text("utf-8"))
            then = dict(state["about"])
            self.history = [dict(epoch) for epoch in state["history"]]
        differ = [key for key in then | now if then.get(key) != now.get(key)]
        changed = [
            f"{key} {then.get(key)!r} and not {now.get(key)!r}"
            for key in differ
            if key not in MAY_CHANGE
        ]
        if changed:
            raise ValueError(
                f"the run in {folder} was started with {'; '.join(changed)}; resume it "
                "with the same flags, or choose another --output_dir"
            )
        optimizer = self.optimizer.optimizer
        fixed = _fixed(optimizer)
        with _reading(folder):
            self.accelerator.load_state(str(folder / STATE))
            for parameter, moments in optimizer.state.items():
                for name in ("exp_avg", "exp_avg_sq"):
                    if moments[name].shape != parameter.shape:
                        raise ValueError(f"{name} has another shape")
                if moments["step"] < 1:
                    raise ValueError("no step was done")
            if _fixed(optimizer) != fixed:
                raise ValueError("the options of the optimizer differ")
            averaged = load_file(folder / "last" / WEIGHTS_NAME)
            self.average.module.load_state_dict(averaged)
            if self.history:  # before the first epoch's end there is no best
                best = load_file(folder / "best" / WEIGHTS_NAME)
                self.best.load_state_dict(best)
            best = state["best_losses"]
            self.best_losses = {name: float(loss) for name, loss in best.items()}
            if "processes" in differ:
                # The epoch is divided in another way, and begins again.
                self.step = len(self.history) * self.steps_per_epoch
            else:
                self.step, self.images = int(state["step"]), int(state["images"])
                self.seconds = float(state["seconds"])
                sums = state["sums"][self.accelerator.process_index]
                self.sums = {
                    name: torch.tensor(float(value), device=device)
                    for name, value in sums.items()
                }
            self.average.n_averaged.fill_(self.step)
            self.schedule = LambdaLR(optimizer, self.factor, self.step - 1)
        for key in ("epochs", "processes"):
            if key in differ:
                log(
                    f"resumed with {key} {now[key]} instead of {then.get(key)}: an "
                    f"epoch has {self.steps_per_epoch} steps of {self.images_per_step} "
                    "images, and the learning rate follows the schedule of "
                    f"{now['epochs']} epochs"
                )


def _fixed(optimizer) -> list[dict]:
    """The options of an optimizer that a run does not change."""
    changing = ("params", "lr", "initial_lr")
    return [
        {name: value for name, value in group.items() if name not in changing}
        for group in optimizer.param_groups
    ]


class _Loss(nn.Module):
    """A model whose forward pass is its loss, so that DDP and autocast apply to it."""

    def __init__(self, model: nn.Module, options: dict):
        super().__init__()
        self.model, self.options = model, options

    def forward(self, *batch) -> dict[str, Tensor]:
        return self.model.loss_function(*batch, **self.options)


def decaying_parameters(model: nn.Module) -> tuple[list, list]:
    """The parameters that are trained: weights that decay, and those that do not.

    Biases and scales do not decay (Radford et al. 2018, section 4.1), nor do
    embeddings, whose rows would shrink in each step that does not use them.
    """
    embeddings = {id(m.weight) for m in model.modules() if type(m) is nn.Embedding}
    decaying, others = [], []
    for parameter in model.parameters():
        if not parameter.requires_grad:
            continue
        if parameter.ndim > 1 and id(parameter) not in embeddings:
            decaying.append(parameter)
        else:
            others.append(parameter)
    return decaying, others


@torch.no_grad()
def average_weights(averages, currents, steps: int, decay: float) -> None:
    """Move the averaged weights towards the current weights, after `steps` such moves.
    The decay starts low and rises to `decay`, so that short runs gain from it too."""
    share = 1 - min(decay, (1 + steps) / (10 + steps))
    torch._foreach_lerp_(averages, currents, share)


def learning_rate_factor(settings: TrainingSettings, total_steps: int):
    """The learning rate's factor at each step: a linear rise, then a cosine to zero."""
    warmup_steps = max(1, round(settings.warmup * total_steps))

    def factor(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / warmup_steps
        done = (step - warmup_steps) / max(1, total_steps - warmup_steps)
        return 0.5 * (1 + math.cos(math.pi * min(1.0, done)))

    return factor


def _batches(device, data, parts) -> Iterator[tuple]:
    """The batch of `data` for each tensor of indices in `parts`, on a device."""
    many = data.batches(parts) if hasattr(data, "batches") else map(data.batch, parts)
    for batch in many:
        yield tuple(each if each is None else each.to(device) for each in batch)


def check_output_dir(output_dir, resume: bool) -> None:
    """Check that a run can start in a folder, or be resumed there."""
    folder = writable_folder(output_dir)
    if os.environ.get("LOCAL_RANK", "0") == "0":
        for name in ("best", "last"):
            recover_folder(folder / name)
        for inside in (folder, folder / "samples", folder / "codes"):
            remove_unfinished(inside)
    if resume and not (folder / STATE).is_dir():
        raise FileNotFoundError(
            f"there is no training run to resume in {folder}; leave --resume out to "
            "start one"
        )
    if not resume and (folder / "last").exists():
        raise ValueError(
            f"{folder} already holds a training run; continue it with --resume, or "
            "choose another --output_dir"
        )


def read_history(output_dir) -> list[dict]:
    """The losses of all epochs that a run has finished; none before the first."""
    path = Path(output_dir) / "history.json"
    return json.loads(path.read_text("utf-8")) if path.is_file() else []


@contextlib.contextmanager
def _left_as_it_was(model: nn.Module, accelerator: Accelerator) -> Iterator[None]:
    """Restore gradients, random numbers and the accelerator, also after Ctrl-C."""
    before = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    # DDP puts "module." before each name; the model's own fit any number of processes.
    hooks = [
        accelerator.register_save_state_pre_hook(
            lambda _, weights, folder: weights.__setitem__(0, model.state_dict())
        ),
        accelerator.register_load_state_pre_hook(
            lambda models, folder: models.__setitem__(0, model)
        ),
    ]
    try:
        gpus = torch.cuda.device_count() if accelerator.device.type == "cuda" else 0
        with torch.random.fork_rng(range(gpus)):
            yield
    finally:
        for parameter, required in before:
            parameter.requires_grad_(required)
        for hook in hooks:
            hook.remove()
        accelerator.free_memory()  # else it saves this model with that of the next run


@contextlib.contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    # A full disk is a RuntimeError of torch.save, and a SafetensorError.
    except (OSError, RuntimeError, SafetensorError) as error:
        remove_unfinished(folder)
        raise OSError(
            f"cannot write a checkpoint in {folder} ({str(error).splitlines()[0]}); "
            "the one before it, if any, is whole; make room on the disk, or ask for "
            "permission to write there, and go on with --resume"
        ) from error


@contextlib.contextmanager
def _reading(folder: Path) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # damaged files raise errors of many types
        raise ValueError(
            f"the state of the run in {folder} cannot be read ({type(error).__name__}):"
            f" it is cut short or damaged; {START_AGAIN}"
        ) from error
