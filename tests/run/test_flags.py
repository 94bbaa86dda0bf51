import re
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
    with pytest.raises(FlagError, match=r"--learning_rate=-1\.0: .*>= 0"):
        parse(Config, ["--learning_rate=-1"])
    inherited = [next(f.rule.help for f in flags_of(cls) if f.name == "learning_rate") for cls in (Config, RunConfig)]
    assert inherited[0] == inherited[1] in help_text(Config, "", "x")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--widht=3", r"^--widht: .*--width\b"),
        ("--nowidth", r"^--nowidth: .*--width\b"),
        ("--width=0", "^--width=0: .*>= 1 and <= 4096"),
        ("--width=4097", "^--width=4097: .*>= 1 and <= 4096"),
        ("--seed=2147483648", "^--seed=2147483648: .*2147483648"),
        ("--batch_size=99999999999999999999", "^--batch_size=99999999999999999999: .*2147483648"),
        ("--width=3.5", "^--width=3.5: .*integer"),
        ("--width=", "^--width=: .*integer"),
        ("--scale=0", "^--scale=0.0: .*> 0"),
        ("--scale=nan", "^--scale=nan: .*> 0"),
        ("--scale=inf", "^--scale=inf: .*> 0"),
        ("--scale=two", "^--scale=two: .*number"),
        ("--momentum=1", "^--momentum=1.0: .*>= 0 and < 1"),
        ("--shape=squar", r"^--shape=squar: .*round\|square .*\bsquare\b"),
        ("--overwrite=perhaps", "^--overwrite=perhaps: .*true or false"),
        ("square", "^square: .*--name=value"),
        ("--steps=3 --epochs=2", "^--steps=3 --epochs=2: "),
        ("--lr=3", r"^--lr: .*--learning_rate\b"),
        ("--bs=3", r"^--bs: .*--batch_size\b"),
        ("--wd=3", r"^--wd: .*--weight_decay\b"),
        ("--eval=3", r"^--eval: .*--eval_every\b"),
        ("--epoch=3", r"^--epoch: .*--epochs\b"),
        ("--beta2=0.9 --optimizer=sgd", "^--beta2=0.9: .*--optimizer=sgd"),
        ("--flagfile=/none/such", "/none/such"),
        ("--freeze=(", r"freeze .*'\('"),
        ("--seed=-1", "^--seed=-1: .*>= 0"),
        ("--parallel=ddp", r"^--parallel=ddp: .*jit\|pmap"),
        ("--seeds=0", "^--seeds=0: .*>= 1"),
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
    assert re.search(r"--width=INT\n +hidden units \(.*>= 1 and <= 4096; default: 64\)", text)
    assert max(map(len, text.splitlines())) <= 120


def test_every_shared_flag_has_a_group_and_a_rule():
    assert {f.rule.group for f in flags_of(RunConfig)} == {"training", "optimiser", "data", "run", "use", "devices"}


def test_schedule_errors_name_the_flag():
    with pytest.raises(FlagError, match="--warmup=8"):
        Config(warmup=8).make_optimizer()
