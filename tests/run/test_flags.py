from dataclasses import fields

import pytest

from jaxdl.run import FlagError, RunConfig, flag
from jaxdl.run.command.flags import flags_of, given, help_text, parse


class Config(RunConfig):
    width: int = flag(64, "hidden units", minimum=1, maximum=4096)
    shape: str = flag("round", "form of it", choices=("round", "square"))
    scale: float | None = flag(None, "factor", more_than=0)
    learning_rate: float = 0.25
    steps: int | None = 7


def test_defaults_and_types():
    config = parse(Config, [])
    assert config == Config()
    assert (config.width, config.shape, config.scale, config.learning_rate, config.steps) == (
        64,
        "round",
        None,
        0.25,
        7,
    )


def test_values_are_read():
    config = parse(Config, ["--width=5", "--scale", "3", "--shape=square", "--nooverwrite", "--tensorboard=false"])
    assert (config.width, config.scale, config.shape) == (5, 3.0, "square")
    assert config.tensorboard is False


def test_an_overridden_default_keeps_help_and_range():
    with pytest.raises(FlagError, match=r"--learning_rate=-1\.0: must be a finite number >= 0"):
        parse(Config, ["--learning_rate=-1"])
    assert "peak learning rate" in help_text(Config, "", "x")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--widht=3", "--widht: no such flag; the nearest is --width "),
        ("--nowidth", "--nowidth: no such flag; the nearest is --width "),
        ("--width=0", "--width=0: must be a finite number >= 1 and <= 4096"),
        ("--width=4097", ">= 1 and <= 4096"),
        ("--seed=2147483648", r"--seed=2147483648: must be "),
        ("--batch_size=99999999999999999999", r"--batch_size=99999999999999999999: must be below 2147483648 \(2\^31\)"),
        ("--width=3.5", "--width=3.5: must be a whole number"),
        ("--width=", "must be a whole number"),
        ("--scale=0", "--scale=0.0: must be a finite number > 0"),
        ("--scale=nan", "--scale=nan: must be a finite number > 0"),
        ("--scale=inf", "--scale=inf: must be a finite number > 0"),
        ("--scale=two", "--scale=two: must be a number"),
        ("--momentum=1", "--momentum=1.0: must be a finite number >= 0 and < 1"),
        ("--shape=squar", r"--shape=squar: must be round\|square \(did you mean square\?\)"),
        ("--overwrite=perhaps", "--overwrite=perhaps: must be true or false"),
        ("square", "square: not a flag"),
        ("--steps=3 --epochs=2", "--steps=3 --epochs=2: give one of the two"),
        ("--lr=3", "--lr: no such flag; the nearest is --learning_rate "),
        ("--bs=3", "the nearest is --batch_size "),
        ("--wd=3", "the nearest is --weight_decay "),
        ("--eval=3", "the nearest is --eval_every "),
        ("--epoch=3", "the nearest is --epochs "),
        ("--beta2=0.9 --optimizer=sgd", "--beta2=0.9: has no effect with --optimizer=sgd; leave it out"),
        ("--flagfile=/none/such", "/none/such"),
        ("--freeze=(", "freeze='\\('"),
        ("--seed=-1", "--seed=-1: must be"),
        ("--parallel=ddp", r"--parallel=ddp: must be jit\|pmap"),
        ("--seeds=0", "--seeds=0: must be a finite number >= 1"),
    ],
)
def test_a_bad_flag_is_one_line_that_says_what_is_right(words, message):
    with pytest.raises(FlagError, match=message) as caught:
        parse(Config, words.split(" "))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("bad", [{"width": 0}, {"width": 2.5}, {"width": True}, {"shape": "oval"}, {"overwrite": 1}])
def test_code_is_checked_like_the_command_line(bad):
    with pytest.raises(FlagError):
        Config(**bad)


def test_whole_numbers_are_good_floats():
    assert Config(scale=3).scale == 3


def test_flag_file(tmp_path):
    (tmp_path / "flags.txt").write_text("--width=9\n--shape=square\n")
    config = parse(Config, [f"--flagfile={tmp_path / 'flags.txt'}", "--width=11"])
    assert (config.width, config.shape) == (11, "square")


def test_given_is_what_differs_and_reads_back():
    config = Config(width=3, scale=1e-7, tensorboard=False, schedule="step", freeze="a b")
    words = given(config)
    assert "--tensorboard=false" in words
    assert not any(word.startswith("--batch_size") for word in words)
    assert parse(Config, words) == config


def test_help_has_every_flag_with_default_and_range():
    text = help_text(Config, "What it does.", "python -m experiments.x")
    for field in fields(Config):
        assert f"--{field.name}" in text or f"--[no]{field.name}" in text, field.name
    assert text.index("--width") < text.index("--steps"), "the experiment's own flags come first"
    assert "(default: 64, >= 1 and <= 4096)" in text
    assert max(map(len, text.splitlines())) <= 120


def test_every_shared_flag_has_a_group_and_a_rule():
    assert {f.rule.group for f in flags_of(RunConfig)} == {"training", "optimiser", "data", "run", "use", "devices"}


def test_schedule_errors_name_the_flag():
    with pytest.raises(FlagError, match="--warmup=8"):
        Config(warmup=8).make_optimizer()
