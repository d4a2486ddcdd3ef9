"""Modes, gradients and random state are changed for a while and then restored."""

import pytest
import torch
from torch import nn

from pixelprior.editing import surprise
from pixelprior.modes import evaluation_mode, gradients_restored, random_state_restored


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


def test_all_is_as_it_was_after_an_error_too():
    model = nn.Sequential(nn.Linear(2, 2), nn.Dropout())
    model[1].eval()
    model[0].bias.requires_grad_(False)
    torch.manual_seed(5)
    modes_before, state = modes(model), torch.get_rng_state()
    with (
        pytest.raises(KeyboardInterrupt),
        evaluation_mode(model),
        gradients_restored(model),
        random_state_restored(),
    ):
        assert not any(modes(model))
        model.requires_grad_(True)[0].weight.requires_grad_(False)
        torch.manual_seed(6)
        raise KeyboardInterrupt
    assert modes(model) == modes_before
    assert [p.requires_grad for p in model.parameters()] == [True, False]
    assert torch.equal(torch.get_rng_state(), state)


def test_a_gpu_draws_on_as_if_nothing_had_been_seeded():
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device here: its generator is not looked at")
    torch.cuda.manual_seed(5)
    expected = torch.rand(3, device="cuda")
    torch.cuda.manual_seed(5)
    with random_state_restored():
        torch.manual_seed(6)
    assert torch.equal(torch.rand(3, device="cuda"), expected)
