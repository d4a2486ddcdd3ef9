"""One training loop for both stages, on Hugging Face accelerate.

`fit` trains any model with a `loss_function` and `training_parts`: the VQ-VAE-2 on
images, the prior on codes. It runs on a CPU, on a GPU, or on several under `accelerate
launch` or `torchrun`, and writes `best` and `last` checkpoints each epoch, and `last`
within an epoch too if asked to. A run resumed from `last` has the same loss curve, bit
for bit on one machine. `fit` does not depend on data files or sampling; the caller
passes what is to happen after an epoch.
"""

import time
from collections.abc import Callable
from pathlib import Path

from accelerate import Accelerator
from torch import nn

from pixelprior.devices import make_accelerator
from pixelprior.modes import gradients_restored, random_state_restored
from pixelprior.runs import check_output_dir, losses_in_words, write_history
from pixelprior.settings import TrainingSettings
from pixelprior.training_run import AT_THE_START, TrainingRun


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
            `averages_weights`, which is False if its weights are not to be averaged
            unless the settings ask for it.
        train_data: has `len`, `batch(indices)` and `to(device)`. If it has
            `batches(parts)` too, which gives the batch of each tensor of indices one
            after the other, it can prepare them ahead of time.
        heldout_data: data that is not trained on, by which `best` is chosen. Do not use
            test images, which are for the end. With None, the last epoch is the best.
        settings: settings of the training.
        output_dir: folder for `best`, `last` and `history.json`.
        accelerator: from `make_accelerator`, made before the model if the training runs
            in several processes; None makes one.
        parts: names of the losses to train, None for all; other weights do not change.
        loss_options: keywords for `loss_function`.
        resume: continue from `last`; if False, a folder that holds a run is refused.
            Only the numbers of epochs, of processes and of steps from one checkpoint to
            the next may differ from before.
        notes: written to each checkpoint's `training.json` beside its held-out losses.
        after_epoch: called with the number of epochs done and the averaged model, in
            evaluation mode. A resumed run calls it again for the last epoch, since it
            may have been stopped there.
        log: called with one line per epoch, and one per change in a resumed run.

    Returns:
        The history: one dict per epoch, with the mean training losses (`train_…`), the
        mean held-out losses (`heldout_…`), steps per second, the learning rate of the
        last step, and the seconds that the epoch took. The model ends with the last
        weights, not averaged; `best` and `last` hold averaged weights.

    Raises:
        ValueError: the folder already holds a run, or one with other settings; or there
            are no images.
        FileNotFoundError: there is nothing to resume.
        FloatingPointError: a gradient or a held-out loss is not finite; `last` is the
            last good checkpoint.
    """
    if not len(train_data):
        raise ValueError("there are 0 training images; give some")
    if heldout_data is not None and not len(heldout_data):
        raise ValueError(
            "there are 0 held-out images; give some, or None for the last epoch to be "
            "the best"
        )
    check_output_dir(output_dir, resume)
    if accelerator is None:
        accelerator = make_accelerator(settings, output_dir)
    run = TrainingRun(model, settings, Path(output_dir), accelerator)
    with gradients_restored(model), random_state_restored():
        run.set_parts(parts, loss_options or {}, notes or {})
        for line in run.start(train_data, resume):
            log(line)
        if resume:
            _finish_last_epoch(run, after_epoch)
        _train(run, train_data, heldout_data, after_epoch, log)
    return run.history


def _finish_last_epoch(run: TrainingRun, after_epoch) -> None:
    """What follows an epoch's checkpoints; the run may have been stopped there."""
    if run.accelerator.is_main_process and run.history:
        write_history(run.output_dir, run.history)
        if run.within_epoch == AT_THE_START and after_epoch is not None:
            after_epoch(len(run.history), run.average.module.eval())
    run.accelerator.wait_for_everyone()


def _train(run: TrainingRun, train_data, heldout_data, after_epoch, log) -> None:
    settings, accelerator = run.settings, run.accelerator
    train_data = train_data.to(accelerator.device)
    if heldout_data is not None:
        heldout_data = heldout_data.to(accelerator.device)
    for epoch in range(len(run.history), settings.epochs):
        started = time.perf_counter() - run.within_epoch["seconds"]
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
                after_epoch(epoch + 1, run.average.module.eval())
        accelerator.wait_for_everyone()
