"""The line of docs/scale.md that starts a CIFAR-10 run can be pasted: the command line
accepts it, and the table beside it explains each of its flags and no other. Notebook 09
links to it, and what the notebook prints of the recipes agrees with it."""

import dataclasses
import re
import shlex

import pytest
import rules

from pixelprior import cli
from pixelprior.cli.recipes import RECIPES

SOURCE = rules.ROOT / "notebooks" / "09_scale_up.py"
PAGE = (rules.ROOT / "docs" / "scale.md").read_text(encoding="utf-8")
MARKDOWN = [cell.source for cell in rules.markdown(rules.read(SOURCE))]
PRINTED = "\n".join(
    rules.words(output) for _, output in rules.outputs(rules.read(SOURCE))
)


def joined(text):
    """A text in which lines that end in a backslash are joined, as by a shell."""
    return re.sub(r"\s*\\\n\s*", " ", text)


SECTION = joined(PAGE[PAGE.index("\n## A whole run, flag by flag\n") :])
(LINE,) = re.findall(r"```sh\n(pixelprior train-vqvae2 [^\n]*&&[^\n]*)\n```", SECTION)
ROWS = re.findall(r"(?m)^\| `(--\w+)` \| (.+) \| (.+) \|$", SECTION)


def parsed(command):
    program, *arguments = shlex.split(command)
    assert program == "pixelprior"
    return cli._parse(arguments)


def flat(command):
    """The values of all flags of a training command, including its settings."""
    values = vars(command).copy()
    return values | dataclasses.asdict(values.pop("settings"))


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


def test_the_line_has_the_numbers_that_the_text_recommends(commands):
    for settings in (command.settings for command in commands):
        assert 128 <= settings.batch_size <= 256 and 100 <= settings.epochs <= 200
        assert settings.lr == 3e-4 and settings.max_grad_norm == 1.0


def test_each_flag_of_the_line_has_a_row_and_each_row_a_flag():
    flags = set(re.findall(r"--\w+", LINE))
    named = [flag for flag, *_ in ROWS]
    assert sorted(named) == sorted(flags) and len(named) == len(set(named)) > 15
    assert all(len(said.split()) >= 2 for _, said, _ in ROWS)


def test_a_flag_of_one_command_has_the_value_shown_in_the_other_too(commands):
    given = [set(re.findall(r"--(\w+)", part)) for part in LINE.split(" && ")]
    for one, other in ((0, 1), (1, 0)):
        values = flat(commands[one])
        for flag, value in flat(commands[other]).items():
            if flag in given[one] - given[other]:
                assert value == values[flag], flag


def test_the_large_recipe_for_cifar10_has_the_same_settings(commands):
    for command, flags in zip(
        commands,
        (RECIPES["cifar10_large"].vqvae2, RECIPES["cifar10_large"].prior),
        strict=True,
    ):
        values = flat(command)
        assert {name: values[name] for name in flags} == flags


def test_a_flag_that_the_recipe_leaves_out_has_its_default_in_the_line(commands):
    folders = {"data_root", "output_dir", "vqvae2_checkpoint"}
    for command, recipe in zip(commands, ("vqvae2", "prior"), strict=True):
        given = getattr(RECIPES["cifar10_large"], recipe)
        needed = {"vqvae2_checkpoint": None} if recipe == "prior" else {}
        values, defaults = flat(command), flat(type(command)(**needed))
        for name in defaults.keys() - folders - given.keys():
            assert values[name] == defaults[name], name


def test_a_pasted_line_is_one_command_and_no_backslash_is_followed_by_a_blank():
    blocks = re.findall(r"(?s)```sh\n(.*?)\n```", PAGE)
    (block,) = (each for each in blocks if "train-vqvae2" in each and "&&" in each)
    *lines, last = block.splitlines()
    assert all(line.endswith(" \\") for line in lines) and "\\" not in last
    assert max(map(len, block.splitlines())) <= 72


def test_the_command_line_takes_every_other_command_of_the_texts():
    texts = joined("\n".join([*MARKDOWN, PAGE]))
    spoken = re.findall(r"`(pixelprior [^`…]+)`", texts)
    spoken += re.findall(r"(?m)^(pixelprior (?!train-vqvae2)[^…\n]+)$", texts)
    spoken = [command for command in spoken if not command.endswith("--help")]
    kinds = {type(parsed(command)).__name__ for command in spoken}
    assert kinds >= {"Sample", "Evaluate", "Reproduce", "Benchmark"}


def test_the_command_line_takes_every_command_that_the_notebook_runs():
    ran = re.findall(r"(?m)^\$ (.+)$", joined(PRINTED))
    launcher = "accelerate launch --multi_gpu --num_processes 2 -m pixelprior.cli"
    commands = [command.replace(launcher, "pixelprior") for command in ran]
    kinds = [type(parsed(command)).__name__ for command in commands]
    assert len(kinds) >= 10
    assert set(kinds) == {"TrainVQVAE2", "TrainPrior", "Sample"}


def test_the_section_on_cifar10_links_to_the_line():
    (section,) = (
        text for text in MARKDOWN if "pixelprior reproduce cifar10_large" in text
    )
    assert "(../docs/scale.md#a-whole-run-flag-by-flag)" in section


def test_resuming_and_going_on_are_flags_of_both_commands(commands):
    for command, part in zip(commands, LINE.split(" && "), strict=True):
        resumed = parsed(f"{part} --resume")
        assert resumed == dataclasses.replace(command, resume=True)


def test_the_steps_that_the_text_names_are_those_of_the_line(commands):
    _, prior = commands
    trained_on = 50_000 - round(prior.validation_share * 50_000)
    settings = prior.settings
    steps = -(-trained_on // settings.batch_size)
    section = " ".join(SECTION.split())
    assert f"{steps} per epoch, for {settings.epochs} epochs" in section
    assert f"The training of the prior has {steps * settings.epochs:,} steps" in section
    shipped = RECIPES["fashion_mnist"].prior
    images = 60_000 - round(shipped["validation_share"] * 60_000)
    count = -(-images // shipped["batch_size"]) * shipped["epochs"]
    for name, flags, taken in (
        ("cifar10_large", RECIPES["cifar10_large"].prior, steps * settings.epochs),
        ("fashion_mnist", shipped, count),
    ):
        (line,) = re.findall(rf"(?m)^{name} +(.*steps)$", PRINTED)
        assert (
            line
            == (
                f"{flags['batch_size']:3} images per step, rate {flags['lr']:g}, "
                f"{taken:,} steps"
            ).strip()
        )
