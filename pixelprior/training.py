"""One training loop for both stages, on Hugging Face accelerate.

`fit` trains any model with a `loss_function` and `training_parts`: the VQ-VAE-2 on
images, the prior on codes. It runs on a CPU, on a GPU, or on several under `accelerate
launch` or `torchrun`, and writes `best` and `last` checkpoints each epoch. A run
resumed from `last` has the same loss curve, bit for bit on one machine. `fit` does not
depend on data files or sampling; the caller passes what is to happen after an epoch.
"""

import json
import math
import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import asdict
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from pixelprior.checkpoints import load_model
from pixelprior.devices import checking_interval
from pixelprior.modes import gradients_restored, random_state_restored
from pixelprior.progress import progress_bar
from pixelprior.runs import (
    START_AGAIN,
    check_output_dir,
    last_good,
    losses_in_words,
    read_state,
    what_changes,
    write_epoch,
)
from pixelprior.schedule import average_weights, learning_rate_factor
from pixelprior.settings import TrainingSettings


class _Loss(nn.Module):
    """A model whose forward pass is its loss, so that DDP and autocast apply to it."""

    def __init__(self, model: nn.Module, options: dict):
        super().__init__()
        self.model, self.options = model, options

    def forward(self, *batch) -> dict[str, Tensor]:
        return self.model.loss_function(*batch, **self.options)


def fit(
    model: nn.Module,
    train_data,
    heldout_data,
    settings: TrainingSettings,
    output_dir,
    accelerator: Accelerator,
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
        model: has `loss_function(*batch)` and `training_parts()`.
        train_data: has `len`, `batch(indices)` and `to(device)`.
        heldout_data: data that is not trained on, by which `best` is chosen. Do not use
            test images, which are for the end. With None, the last epoch is the best.
        settings: settings of the training.
        output_dir: folder for `best`, `last` and `history.json`.
        accelerator: from `make_accelerator`, made before the model.
        parts: names of the losses to train, None for all; other weights do not change.
        loss_options: keywords for `loss_function`.
        resume: continue from `last`; if False, a folder that holds a run is refused.
            Only the numbers of epochs and of processes may differ from before.
        notes: written to each checkpoint's `training.json` beside its held-out losses.
        after_epoch: called with the number of epochs done and the averaged model.
        log: called with one line per epoch, and one per change in a resumed run.

    Returns:
        The history: one dict per epoch, with the mean training losses (`train_…`), the
        mean held-out losses (`heldout_…`), steps per second, the learning rate of the
        last step, and the seconds that the epoch took. The model ends with the last
        weights, not averaged; `best` and `last` hold averaged weights.

    Raises:
        ValueError: the folder already holds a run, or one with other settings.
        FileNotFoundError: there is nothing to resume.
        FloatingPointError: a gradient or a held-out loss is not finite; `last` is the
            last good checkpoint.
    """
    check_output_dir(output_dir, resume)
    run = _Run(model, settings, Path(output_dir), accelerator)
    with gradients_restored(model), random_state_restored():
        run.set_parts(parts, loss_options or {}, notes or {})
        for line in run.start(train_data, resume):
            log(line)
        _train(run, train_data, heldout_data, after_epoch, log)
    return run.history


def _train(run: "_Run", train_data, heldout_data, after_epoch, log) -> None:
    settings, accelerator = run.settings, run.accelerator
    train_data = train_data.to(accelerator.device)
    if heldout_data is not None:
        heldout_data = heldout_data.to(accelerator.device)
    for epoch in range(len(run.history), settings.epochs):
        started = time.perf_counter()
        trained = run.train_epoch(train_data, epoch)
        speed = run.steps_per_epoch / (time.perf_counter() - started)
        heldout = {} if heldout_data is None else run.evaluate(heldout_data)
        figures = {f"train_{name}": value for name, value in trained.items()}
        figures |= {f"heldout_{name}": value for name, value in heldout.items()}
        figures["steps_per_second"] = speed
        figures["lr"] = run.rate(run.step - 1)
        figures["seconds"] = time.perf_counter() - started
        run.finish_epoch(figures, heldout)
        accelerator.log(figures, step=run.step)
        if accelerator.is_main_process:
            count = f"{epoch + 1:{len(str(settings.epochs))}d}/{settings.epochs}"
            losses = losses_in_words(trained, heldout)
            log(f"epoch {count}: {losses}, {figures['seconds']:.0f} s")
            if after_epoch is not None:
                after_epoch(epoch + 1, run.average.module)
        accelerator.wait_for_everyone()


class _Run:
    """The state of one training run: everything that a resumed run needs again."""

    def __init__(self, model, settings, output_dir, accelerator):
        self.settings, self.output_dir = settings, output_dir
        self.accelerator = accelerator
        self.model = model.to(accelerator.device, memory_format=torch.channels_last)
        # `self.step` is an int; torch's own count is a tensor, slow to read from a GPU.
        self.average = AveragedModel(
            self.model,
            multi_avg_fn=lambda averages, currents, _: average_weights(
                averages, currents, self.step, settings.ema_decay
            ),
        )
        self.best = deepcopy(self.model)
        self.history: list[dict] = []
        self.step = 0

    def set_parts(self, parts, loss_options: dict, notes: dict) -> None:
        """Set which losses to train, how to compute them, and what to note of them."""
        self.loss_options, self.notes = loss_options, notes
        self.parts = {
            name: part
            for name, part in self.model.training_parts().items()
            if parts is None or name in parts
        }
        self.model.requires_grad_(False)
        for part in self.parts.values():
            part.requires_grad_(True)
        self.best_figures: dict[str, float] = {}

    def start(self, train_data, resume: bool) -> list[str]:
        """Start or resume; return one line per setting that a resumed run changes."""
        settings, accelerator = self.settings, self.accelerator
        about = {
            **asdict(settings),
            "parts": list(self.parts),
            "training images": len(train_data),
            "processes": accelerator.num_processes,
            "model": getattr(self.model, "_hub_mixin_config", None),
            **self.notes,
        }
        self.identity = json.loads(json.dumps(about))
        share = settings.batch_size * accelerator.num_processes
        self.steps_per_epoch = math.ceil(len(train_data) / share)
        optimizer = torch.optim.AdamW(
            [p for p in self.model.parameters() if p.requires_grad],
            lr=settings.lr,
            weight_decay=settings.weight_decay,
        )
        total_steps = settings.epochs * self.steps_per_epoch
        self.factor = learning_rate_factor(settings, total_steps)
        self.bare_optimizer = optimizer
        changes = self._restore(self.output_dir / "last") if resume else []
        loss = _Loss(self.model, self.loss_options)
        self.loss, self.optimizer = accelerator.prepare(loss, optimizer)
        accelerator.init_trackers("pixelprior", config=asdict(settings))
        return changes if accelerator.is_main_process else []

    def rate(self, step: int) -> float:
        """The learning rate of a step, counted from 0."""
        return self.settings.lr * self.factor(step)

    def train_epoch(self, data, epoch: int) -> dict[str, float]:
        """Train for one pass over the data; return the mean of each loss."""
        settings, accelerator = self.settings, self.accelerator
        rank, world = accelerator.process_index, accelerator.num_processes
        # The seeds depend on no earlier epoch, so that a resumed epoch is the same.
        torch.manual_seed(settings.seed * 1_000_003 + epoch * 1009 + rank)
        shuffle = torch.Generator().manual_seed(settings.seed * 1_000_003 + epoch)
        order = torch.randperm(len(data), generator=shuffle)
        # Every process gets the same number: the first few fill what is missing.
        order = torch.cat([order, order[: -len(order) % world]])[rank::world]
        order = order.to(accelerator.device)
        self.loss.train()
        totals: dict[str, Tensor] = {}
        device, finite = order.device, dict.fromkeys(self.parts, True)
        batches = progress_bar(
            order.split(settings.batch_size),
            desc=f"epoch {epoch + 1}/{settings.epochs}",
            unit="step",
            enabled=accelerator.is_main_process,
        )
        for indices in batches:
            losses = self.loss(*data.batch(indices))
            accelerator.backward(sum(losses[name] for name in self.parts))
            for name, part in self.parts.items():
                # Each part by itself: if one diverges, the other is not scaled down.
                norm = accelerator.clip_grad_norm_(
                    part.parameters(), settings.max_grad_norm
                )
                finite[name] = torch.isfinite(norm) & finite[name]
            done = self.step + 1
            if not (done % checking_interval(device) and done % self.steps_per_epoch):
                self._check(finite, losses)
            for group in self.bare_optimizer.param_groups:
                group["lr"] = self.rate(self.step)
            self.optimizer.step()
            self.optimizer.zero_grad()
            self.average.update_parameters(self.model)
            self.step += 1
            for name, value in losses.items():
                total = totals.get(name, 0)
                totals[name] = total + value.detach().float() * len(indices)
        return self._mean(totals, len(order))

    def _check(self, finite: dict, losses: dict[str, Tensor]) -> None:
        for name, so_far in finite.items():
            if not so_far:
                loss, step = losses[name].item(), self.step + 1
                raise FloatingPointError(
                    f"training stopped at step {step}: the gradient of {name} is not "
                    f"finite (loss {loss:.4g}); "
                    f"{last_good(self.output_dir, self.settings)}"
                )

    @torch.no_grad()
    def evaluate(self, data) -> dict[str, float]:
        """Mean losses of the averaged weights, in float32, over all of `data`."""
        accelerator = self.accelerator
        rank, world = accelerator.process_index, accelerator.num_processes
        model = self.average.module.eval()
        indices = torch.arange(rank, len(data), world, device=accelerator.device)
        totals: dict[str, Tensor] = {}
        for some in progress_bar(
            indices.split(self.settings.batch_size),
            desc="held out",
            unit="batch",
            enabled=accelerator.is_main_process,
        ):
            for name, value in model.loss_function(
                *data.batch(some), **self.loss_options
            ).items():
                totals[name] = totals.get(name, 0) + value.float() * len(some)
        return self._mean(totals, len(indices))

    def _mean(self, totals: dict[str, Tensor], count: int) -> dict[str, float]:
        device = self.accelerator.device
        values = torch.stack([*totals.values(), torch.tensor(count, device=device)])
        values = self.accelerator.reduce(values.float(), "sum")
        return dict(zip(totals, (values[:-1] / values[-1]).tolist(), strict=True))

    def finish_epoch(self, figures: dict, heldout: dict) -> None:
        """Keep the best weights, part by part, and write both checkpoints."""
        for name in self.parts:
            if not math.isfinite(heldout.get(name, 0.0)):
                raise FloatingPointError(
                    f"training stopped after step {self.step}: the held-out {name} is "
                    f"not finite; {last_good(self.output_dir, self.settings)}"
                )
        self.history.append(figures)
        improved = False
        averaged = self.average.module.training_parts()
        for name, part in self.best.training_parts().items():
            # Without held-out data, the last epoch is the best.
            lowest = self.best_figures.get(name, math.inf)
            if name in self.parts and heldout.get(name, -math.inf) < lowest:
                part.load_state_dict(averaged[name].state_dict())
                if heldout:
                    self.best_figures[name] = heldout[name]
                improved = True
        if not self.accelerator.is_main_process:
            return
        write_epoch(
            self.output_dir,
            self._state(),
            last=(self.average.module, self._about(heldout)),
            best=(self.best, self._about(self.best_figures)) if improved else None,
        )

    def _about(self, heldout: dict) -> dict:
        """The notes that are written beside a checkpoint."""
        return {
            "epochs_done": len(self.history),
            "heldout": heldout,
            "trained_parts": list(self.parts),
            "settings": asdict(self.settings),
            **self.notes,
        }

    def _state(self) -> dict:
        return {
            "model": self.model.state_dict(),
            "averaged_steps": self.average.n_averaged,
            "optimizer": self.bare_optimizer.state_dict(),
            "best_figures": self.best_figures,
            "history": self.history,
            "step": self.step,
            "identity": self.identity,
        }

    def _restore(self, last: Path) -> list[str]:
        state = read_state(last, self.identity)
        try:
            self._take(state, last)
            return what_changes(state["identity"], self.identity)
        except (KeyError, TypeError, AttributeError, RuntimeError) as error:
            raise ValueError(
                f"the state of the run in {last.parent} is damaged "
                f"({type(error).__name__}); {START_AGAIN}"
            ) from error

    def _take(self, state: dict, last: Path) -> None:
        model_class = type(self.model)
        averaged = load_model(model_class, last)
        best = load_model(model_class, last.parent / "best")
        self.model.load_state_dict(state["model"])
        self.average.module.load_state_dict(averaged.state_dict())
        self.best.load_state_dict(best.state_dict())
        self.average.n_averaged.copy_(state["averaged_steps"])
        self.bare_optimizer.load_state_dict(state["optimizer"])
        self.best_figures, self.history = state["best_figures"], state["history"]
        # The schedule goes by epochs; steps per epoch depend on the processes.
        self.step = len(self.history) * self.steps_per_epoch
