"""Where computations run: modes, memory, trackers and what a launcher asked for."""

import os
import platform
import subprocess
import sys

import psutil
import pytest
from torch import nn

from pixelprior import TrainingSettings, cli, devices
from pixelprior.cli import doctor
from pixelprior.devices import check_launch, evaluation_mode, make_accelerator
from pixelprior.editing import surprise


def modes(*models):
    return [module.training for model in models for module in model.modules()]


def test_each_part_of_a_model_keeps_its_own_mode(small_vqvae2, small_prior):
    """A frozen part that was in evaluation mode is still in it after sampling."""
    prior, vqvae2 = small_prior.float(), small_vqvae2
    prior.train().prior_top.eval()
    vqvae2.train().encoder_bottom.eval()
    before = modes(prior, vqvae2)
    assert True in before and False in before
    images = prior.sample_with_vqvae2(vqvae2, 2, labels=[0, 1], seed=0)
    codes = vqvae2.get_code_indices(images)
    surprise(prior, codes["indices_top"], codes["indices_bottom"], [0, 1])
    after = modes(prior, vqvae2)
    vqvae2.eval()  # other tests use it
    assert after == before


def test_the_modes_are_restored_after_an_error_too():
    model = nn.Sequential(nn.Linear(2, 2), nn.Dropout())
    model[1].eval()
    before = modes(model)
    with pytest.raises(KeyboardInterrupt), evaluation_mode(model):
        assert not any(modes(model))
        raise KeyboardInterrupt
    assert modes(model) == before


def test_a_missing_tracker_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    words = r"wandb is not installed.*pixelprior\[wandb\]"
    with pytest.raises(ValueError, match=words):
        make_accelerator(TrainingSettings(), tmp_path, ["wandb"])


@pytest.mark.parametrize("name", ["FSDP", "DEEPSPEED"])
def test_a_launch_that_divides_the_weights_is_refused(tmp_path, monkeypatch, name):
    monkeypatch.setenv(f"ACCELERATE_USE_{name}", "true")
    with pytest.raises(ValueError, match=f"given {name}, .* MULTI_GPU"):
        make_accelerator(TrainingSettings(), tmp_path)


def test_the_doctor_knows_the_launcher_that_starts_one_process(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert doctor.processes().startswith("1; ")
    asked = ["python", "accelerate", "launch", "--cpu", "--num-processes=3"]
    monkeypatch.setattr(psutil.Process, "cmdline", lambda self: asked)
    fix = "torchrun --standalone --nproc_per_node 3"
    with pytest.raises(ValueError, match=f"asked for 3 processes and started.*{fix}"):
        doctor.processes()
    monkeypatch.setenv("WORLD_SIZE", "3")
    assert doctor.processes() == "3, by a launcher"


def test_other_programs_may_have_a_number_of_processes(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    words = ["pytest", "--num_processes", "4"]
    monkeypatch.setattr(psutil.Process, "cmdline", lambda self: words)
    check_launch()


def test_the_command_line_keeps_freed_memory_but_for_the_benchmark(monkeypatch):
    called = []
    monkeypatch.setattr(devices, "keep_freed_memory", lambda: called.append(True))
    for name, calls in (("Benchmark", []), ("Doctor", [True])):
        monkeypatch.setattr(getattr(cli, name), "run", lambda self: None)
        cli.main([name.lower()])
        assert called == calls


PROGRAM = """
import resource, torch
from pixelprior.devices import keep_freed_memory
def new_pages():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        torch.ones(2**24)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
given_back = new_pages()
keep_freed_memory()
torch.ones(2**24)
print(given_back, new_pages())
"""


def printed(program, **options) -> str:
    command = [sys.executable, "-c", program]
    return subprocess.check_output(command, text=True, **options)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only with glibc")
def test_memory_that_was_freed_is_used_again():
    """Large blocks are reused without new pages from the system."""
    # notebooks/conftest.py sets variables that glibc reads.
    env = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_")}
    given_back, kept = map(int, printed(PROGRAM, env=env).split())
    assert kept < 100 < given_back


def test_importing_what_samples_does_not_load_accelerate():
    program = "import sys, pixelprior.editing, pixelprior.vqvae2; print(*sys.modules)"
    modules = printed(program)
    assert "pixelprior.devices" in modules and "accelerate" not in modules
