"""The line of docs/scale.md that starts a CIFAR-10 run can be pasted: the command line
accepts it, and the table beside it explains each of its flags and no other."""

import dataclasses
import math
import re
import shlex

import pytest
from parts import ROOT, markdown, read
from tyro.extras import subcommand_cli_from_dict

from pixelprior import cli
from pixelprior.cli.recipes import RECIPES

PAGE = (ROOT / "docs" / "scale.md").read_text(encoding="utf-8")
NOTEBOOK = markdown(read(ROOT / "notebooks" / "09_scale_up.py"))
RECIPE = RECIPES["cifar10_large"]


def joined(text):
    """A text in which lines that end in a backslash are joined, as by a shell."""
    return re.sub(r"\s*\\\n\s*", " ", text)


SECTION = joined(PAGE[PAGE.index("\n## A whole run, flag by flag\n") :])
(LINE,) = re.findall(r"```sh\n(pixelprior train-vqvae2 [^\n]*&&[^\n]*)\n```", SECTION)
ROWS = re.findall(r"(?m)^\| `(--\w+)` \| (.+) \| (.+) \|$", SECTION)


def parsed(command):
    program, *arguments = shlex.split(command)
    assert program == "pixelprior"
    return subcommand_cli_from_dict(cli.COMMANDS, args=arguments, use_underscores=True)


def flat(command):
    """The values of all flags of a training command, including its settings."""
    values = vars(command).copy()
    for group in ("settings", "network"):
        values |= dataclasses.asdict(values.pop(group)) if group in values else {}
    return values


@pytest.fixture
def commands():
    first, second = LINE.split(" && ")
    return parsed(first), parsed(second)


def test_the_line_trains_the_vqvae2_and_then_the_prior_on_its_codes(commands):
    vqvae2, prior = commands
    assert isinstance(vqvae2, cli.TrainVQVAE2) and isinstance(prior, cli.TrainPrior)
    assert prior.vqvae2_checkpoint == vqvae2.output_dir != prior.output_dir
    assert vqvae2.dataset == prior.dataset == "cifar10"
    assert vqvae2.data_root == prior.data_root
    for command, part in zip(commands, LINE.split(" && "), strict=True):
        resumed = dataclasses.replace(command, resume=True)
        assert parsed(f"{part} --resume") == resumed


def test_each_flag_of_the_line_has_a_row_and_one_value(commands):
    """A flag that stands in one of the commands has its value in the other too."""
    named = [flag for flag, *_ in ROWS]
    assert sorted(named) == sorted(set(re.findall(r"--\w+", LINE))) and len(named) > 15
    assert all(len(said.split()) >= 2 for _, said, _ in ROWS)
    given = [set(re.findall(r"--(\w+)", part)) for part in LINE.split(" && ")]
    both = [flat(command) for command in commands]
    for flag in (given[0] ^ given[1]) & both[0].keys() & both[1].keys():
        assert both[0][flag] == both[1][flag], flag


def test_the_line_is_the_large_recipe_for_cifar10_with_its_defaults(commands):
    folders = {"data_root", "output_dir", "vqvae2_checkpoint"}
    given = RECIPE.vqvae2, RECIPE.prior
    defaults = cli.TrainVQVAE2(), cli.TrainPrior(vqvae2_checkpoint=None)
    for command, flags, default in zip(commands, given, defaults, strict=True):
        values, wanted = flat(command), flat(default) | flags
        for name in wanted.keys() - (folders - flags.keys()):
            assert values[name] == wanted[name], name


def test_the_command_line_takes_every_other_command_of_the_texts():
    texts = joined("\n".join([*(cell.source for cell in NOTEBOOK), PAGE]))
    spoken = re.findall(r"`(pixelprior [^`…]+)`", texts)
    spoken += re.findall(r"(?m)^(pixelprior (?!train-vqvae2)[^…\n]+)$", texts)
    spoken = [command for command in spoken if not command.endswith("--help")]
    kinds = {type(parsed(command)).__name__ for command in spoken}
    assert kinds >= {"Sample", "Evaluate", "Reproduce", "Benchmark"}


def test_the_steps_that_the_text_names_are_those_of_the_recipe():
    flags = flat(cli.TrainPrior(vqvae2_checkpoint=None)) | RECIPE.prior
    trained_on = 50_000 - round(flags["validation_share"] * 50_000)
    steps = math.ceil(trained_on / flags["batch_size"])
    section = " ".join(SECTION.split())
    assert f"{steps} per epoch, for {flags['epochs']} epochs" in section
    assert f"training of the prior has {steps * flags['epochs']:,} steps" in section
