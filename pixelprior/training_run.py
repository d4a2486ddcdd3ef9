"""The state of a training run, and its steps: `training.fit` is the loop around it."""

import contextlib
import json
import math
import time
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import asdict, replace
from pathlib import Path

import torch
from accelerate.utils import gather_object
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from pixelprior.checkpoints import load_model
from pixelprior.devices import batches_on, checking_interval
from pixelprior.modes import random_state, restore_random_state
from pixelprior.progress import progress_bar
from pixelprior.runs import (
    START_AGAIN,
    last_good,
    read_state,
    what_changes,
    write_epoch,
    write_last,
)
from pixelprior.schedule import average_weights, learning_rate_factor

# What is done of the present epoch: images, seconds, and what each process needs.
AT_THE_START = {"images": 0, "seconds": 0.0, "processes": []}


class _Loss(nn.Module):
    """A model whose forward pass is its loss, so that DDP and autocast apply to it."""

    def __init__(self, model: nn.Module, options: dict):
        super().__init__()
        self.model, self.options = model, options

    def forward(self, *batch) -> dict[str, Tensor]:
        return self.model.loss_function(*batch, **self.options)


def decaying_parameters(model: nn.Module) -> tuple[list, list]:
    """The parameters that are trained: weights that decay, and those that do not.

    Weight decay is for the weights of convolutions and linear layers. Biases and scales
    do not decay (Radford et al. 2018, section 4.1), nor do embeddings, whose rows would
    shrink in each step that does not use them.
    """
    embeddings = {
        id(module.weight) for module in model.modules() if type(module) is nn.Embedding
    }
    decaying, others = [], []
    for parameter in model.parameters():
        if parameter.requires_grad:
            of_a_product = parameter.ndim > 1 and id(parameter) not in embeddings
            (decaying if of_a_product else others).append(parameter)
    return decaying, others


class TrainingRun:
    """The state of one training run: everything that a resumed run needs again."""

    def __init__(self, model, settings, output_dir, accelerator):
        if settings.ema_decay is None:
            averaged = getattr(model, "averages_weights", True)
            settings = replace(settings, ema_decay=0.999 if averaged else 0.0)
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
        self.within_epoch = AT_THE_START

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
        self.images_per_step = (
            settings.batch_size
            * settings.gradient_accumulation_steps
            * accelerator.num_processes
        )
        self.steps_per_epoch = math.ceil(len(train_data) / self.images_per_step)
        decaying, others = decaying_parameters(self.model)
        optimizer = torch.optim.AdamW(
            [
                {"params": decaying, "weight_decay": settings.weight_decay},
                {"params": others, "weight_decay": 0.0},
            ],
            lr=settings.lr,
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
        images = self.within_epoch["images"]
        totals, count = self._take_within_epoch(rank, world)
        left = order[images:]
        # Every process gets the same number: the first few fill what is missing.
        left = torch.cat([left, order[: -len(left) % world]])[rank::world]
        left = left.to(accelerator.device)
        self.loss.train()
        started = time.perf_counter() - self.within_epoch["seconds"]
        device, finite = left.device, dict.fromkeys(self.parts, True)
        parts = left.split(settings.batch_size * settings.gradient_accumulation_steps)
        steps = progress_bar(
            parts,
            desc=f"epoch {epoch + 1}/{settings.epochs}",
            unit="step",
            enabled=accelerator.is_main_process,
        )
        size = settings.batch_size
        stream = batches_on(
            device, data, [b for some in parts for b in some.split(size)]
        )
        for indices in steps:
            losses = self._gradients(stream, indices)
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
            images += self.images_per_step
            count += len(indices)
            for name, value in losses.items():
                totals[name] = totals.get(name, 0) + value * len(indices)
            save = settings.save_steps and self.step % settings.save_steps == 0
            if save and images < len(order):
                self._check(finite, losses)
                self._save_within_epoch(images, time.perf_counter() - started, totals)
        self.within_epoch = AT_THE_START
        return self._mean(totals, count)

    def _take_within_epoch(self, rank: int, world: int) -> tuple[dict, int]:
        """Take up what was done of the epoch: sums of losses and a count of images. If
        as many processes go on, each takes up its own sums and random state."""
        done, device = self.within_epoch, self.accelerator.device
        if len(done["processes"]) == world:
            mine = [done["processes"][rank]]
            restore_random_state(mine[0]["random_state"])
        else:  # one process takes what all had
            mine = done["processes"] if rank == 0 else []
        # Which process counts the images does not matter for the mean over all.
        count = done["images"] if rank == 0 else 0
        totals: dict[str, Tensor] = {}
        for process in mine:
            for name, value in process["totals"].items():
                totals[name] = totals.get(name, 0) + value.to(device)
        return totals, count

    def _save_within_epoch(self, images: int, seconds: float, totals: dict) -> None:
        """Write `last` within an epoch, with what each process needs to go on."""
        own = {
            "totals": {name: value.cpu() for name, value in totals.items()},
            "random_state": random_state(),
        }
        processes = gather_object([own])
        if self.accelerator.is_main_process:
            done = {"images": images, "seconds": seconds, "processes": processes}
            state = self._state() | {"within_epoch": done}
            write_last(self.output_dir, state, self.average.module, self._about({}))
        self.accelerator.wait_for_everyone()

    def _gradients(self, stream: Iterator, indices: Tensor) -> dict[str, Tensor]:
        """Add up the gradients of one step's batches; return the mean losses."""
        batches, means = indices.split(self.settings.batch_size), {}
        for number, batch in enumerate(batches, start=1):
            # Processes exchange their gradients once, after the last batch.
            no_sync = self.accelerator.no_sync(self.loss)
            with no_sync if number < len(batches) else contextlib.nullcontext():
                losses = self.loss(*next(stream))
                share = len(batch) / len(indices)
                loss = sum(losses[name] for name in self.parts) * share
                self.accelerator.backward(loss)
            for name, value in losses.items():
                means[name] = means.get(name, 0) + value.detach().float() * share
        return means

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
        mine = range(accelerator.process_index, len(data), accelerator.num_processes)
        model, totals = self.average.module.eval(), {}
        # A process without an image computes the losses of the first, with weight 0.
        indices = torch.tensor(mine or [0], device=accelerator.device)
        parts = indices.split(self.settings.batch_size)
        for some, batch in progress_bar(
            zip(parts, batches_on(accelerator.device, data, parts), strict=True),
            total=len(parts),
            desc="held out",
            unit="batch",
            enabled=accelerator.is_main_process,
        ):
            for name, value in model.loss_function(*batch, **self.loss_options).items():
                counted = min(len(some), len(mine))
                totals[name] = totals.get(name, 0) + value.float() * counted
        return self._mean(totals, len(mine))

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
            "within_epoch": AT_THE_START,
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
        self.model.load_state_dict(state["model"])
        self.average.module.load_state_dict(averaged.state_dict())
        if state["history"]:  # before the first epoch's end there is no best
            best = load_model(model_class, last.parent / "best")
            self.best.load_state_dict(best.state_dict())
        self.average.n_averaged.copy_(state["averaged_steps"])
        self.bare_optimizer.load_state_dict(state["optimizer"])
        self.best_figures, self.history = state["best_figures"], state["history"]
        self.within_epoch = state["within_epoch"]
        # The schedule goes by epochs, and steps per epoch depend on the processes: what
        # is left of this epoch ends with its last step.
        left = self.identity["training images"] - self.within_epoch["images"]
        self.step = (len(self.history) + 1) * self.steps_per_epoch
        self.step -= math.ceil(left / self.images_per_step)
