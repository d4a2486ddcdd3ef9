"""Where computations run: modes, memory, trackers and what a launcher asked for."""

import psutil
import pytest

from pixelprior import TrainingSettings
from pixelprior.cli import doctor
from pixelprior.devices import make_accelerator
from pixelprior.editing import surprise


def test_each_part_of_a_model_keeps_its_own_mode(small_vqvae2, small_prior):
    """A frozen part that was in evaluation mode is still in it after sampling."""
    prior, vqvae2 = small_prior.float(), small_vqvae2
    prior.train().prior_top.eval()
    vqvae2.train().encoder_bottom.eval()

    def modes():
        return [each.training for each in (*prior.modules(), *vqvae2.modules())]

    before = modes()
    images = prior.sample_with_vqvae2(vqvae2, 2, labels=[0, 1], seed=0)
    codes = vqvae2.get_code_indices(images)
    surprise(prior, codes["indices_top"], codes["indices_bottom"], [0, 1])
    after = modes()
    vqvae2.eval()  # other tests use it
    assert after == before


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
    """`accelerate launch --cpu --num_processes 3` does not say so. Other programs may
    have a number of processes."""
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    asked = ["pytest", "--num_processes=3"]
    monkeypatch.setattr(psutil.Process, "cmdline", lambda self: asked)
    assert doctor.processes().startswith("1; ")
    asked[:] = ["python", "accelerate", "launch", "--cpu", "--num-processes=3"]
    fix = "torchrun --standalone --nproc_per_node 3"
    with pytest.raises(ValueError, match=f"asked for 3 processes and started.*{fix}"):
        doctor.processes()
    monkeypatch.setenv("WORLD_SIZE", "3")
    assert doctor.processes() == "3, by a launcher"
