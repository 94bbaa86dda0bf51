"""The flags that all experiments share: interactions of two flags, recipes, and derived values."""

import math
import re
from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest

from jaxdl.data import Batches
from jaxdl.optim import learning_rate
from jaxdl.run import FlagError, RunConfig, flag
from jaxdl.run.command.flags import flags_of, given, help_text, parse


class BySteps(RunConfig):
    steps: int | None = 1000


class ByEpochs(RunConfig):
    epochs: float | None = 50


def rows(length, batch_size=10):
    return Batches({"x": np.zeros(length)}, batch_size)


class TestLength:
    @pytest.mark.parametrize(
        ("made", "steps", "epochs"),
        [
            (BySteps(), 1000, None),
            (BySteps(epochs=5), None, 5),
            (BySteps(steps=8), 8, None),
            (replace(BySteps(), epochs=5), None, 5),
            (replace(BySteps(epochs=5), seed=3), None, 5),
            (ByEpochs(), None, 50),
            (ByEpochs(steps=8), 8, None),
            (replace(ByEpochs(), steps=8), 8, None),
            (RunConfig(), None, None),
        ],
    )
    def test_the_given_one_of_steps_and_epochs_wins(self, made, steps, epochs):
        assert (made.steps, made.epochs) == (steps, epochs)

    def test_on_a_command_line_too_and_it_reads_back(self):
        for config_class, word in ((BySteps, "--epochs=5"), (ByEpochs, "--steps=8")):
            config = parse(config_class, [word])
            assert given(config) == [word]
            assert given(config, keep={"steps", "epochs"}) == [word]

    @pytest.mark.parametrize("config_class", [RunConfig, BySteps, ByEpochs])
    def test_both_are_refused(self, config_class):
        with pytest.raises(FlagError, match=r"^--steps=8 --epochs=5: "):
            config_class(steps=8, epochs=5.0)

    def test_a_subclass_counts_in_its_own_unit(self):
        class Both(ByEpochs):
            steps: int | None = 20

        assert (Both().steps, Both().epochs) == (20, None)
        assert (Both(epochs=3).steps, Both(epochs=3).epochs) == (None, 3)

    def test_resolve_leaves_the_steps_alone(self):
        resolved = ByEpochs(epochs=3).resolve(rows(53))
        assert (resolved.steps, resolved.epochs) == (16, None)  # 15.9 batches
        assert resolved.resolve(rows(7)) == resolved
        assert BySteps().resolve(None).steps == 1000

    def test_an_epoch_of_several_sources_is_that_of_the_longest(self):
        sources = {"a": rows(53), "b": (rows(20, batch_size=2), rows(30))}
        assert ByEpochs(epochs=3).resolve(sources).steps == 30
        for without in (None, {"a": rows(53), "b": object()}):
            with pytest.raises(FlagError, match=r"^--epochs=3: .*--steps"):
                ByEpochs(epochs=3).resolve(without)
        with pytest.raises(FlagError, match=r"^--steps: .*--epochs"):
            RunConfig().resolve(rows(53))

    def test_accumulated_batches_fill_whole_updates(self):
        assert ByEpochs(epochs=3, accumulate=5).resolve(rows(53)).steps == 20
        assert ByEpochs(epochs=3, accumulate=8).resolve(rows(53)).steps == 16
        assert RunConfig(steps=300, accumulate=100).resolve().steps == 300
        for steps, right in ((30, 100), (301, 400)):
            with pytest.raises(FlagError, match=rf"^--steps={steps}: .*--accumulate=100\b.*\b{right}$"):
                RunConfig(steps=steps, accumulate=100).resolve()


class TestSeeds:
    def test_the_last_seed_is_32_bits_long(self):
        assert RunConfig(seed=2**31 - 2, seeds=2).seeds == 2
        for seed, seeds in ((2**31 - 1, 2), (5, 2**31 - 4)):
            with pytest.raises(FlagError, match=f"^--seed={seed} --seeds={seeds}: .*2147483648.*2147483647"):
                RunConfig(seed=seed, seeds=seeds)


class Chosen(RunConfig):
    recipes = {"shape": {"round": {"epochs": 3, "width": 7, "seeds": 5}, "square": {"steps": 11, "width": 13}}}
    shape: str = flag("round", "which", choices=recipes["shape"])
    width: int = flag(None, "units", minimum=1)
    seeds: int = flag(None)


class TestRecipes:
    def test_open_choices_are_filled_in_at_once_and_anew(self):
        config = Chosen()
        assert (config.epochs, config.steps, config.width, config.seeds) == (3, None, 7, 5)
        square = config.replace(shape="square")
        assert (square.epochs, square.steps, square.width, square.seeds) == (None, 11, 13, 1)  # seeds as inherited
        assert square.replace(width=2).replace(shape="round").width == 2

    def test_steps_and_epochs_are_one_choice(self):
        assert (Chosen(steps=2).steps, Chosen(steps=2).epochs) == (2, None)
        assert (Chosen(shape="square", epochs=2).steps, Chosen(shape="square", epochs=2).epochs) == (None, 2)
        assert Chosen().resolve(rows(53)).steps == 16
        assert (
            Chosen().resolve(rows(53)).replace(shape="square").steps == 16
        )  # steps that were computed from epochs stay

    def test_what_a_recipe_says_is_checked_like_a_flag(self):
        class Wrong(Chosen):
            recipes = {"shape": {"round": {"width": 0}, "square": {"width": 2}}}

        with pytest.raises(FlagError, match=r"^--width=0: "):
            Wrong()
        with pytest.raises(FlagError, match=r"^--shape=oval: .*round\|square"):
            Chosen(shape="oval")

    def test_a_choice_that_nothing_fills_in_is_named(self):
        class Open(RunConfig):
            width: int = flag(None, "units")

        with pytest.raises(FlagError, match=r"^--width: .*recipe"):
            Open()
        assert Open(width=3).width == 3

    def test_a_change_of_no_flag_names_the_nearest(self):
        with pytest.raises(FlagError, match=r"^learning_rat: .*\blearning_rate\b"):
            RunConfig().replace(learning_rat=1)

    def test_what_was_open_is_not_repeated(self):
        assert given(Chosen()) == []
        assert given(Chosen(shape="square", width=13)) == ["--shape=square", "--width=13"]

    def test_help_has_the_table(self):
        text = help_text(Chosen, "", "x")
        assert re.search(r"\n  shape +epochs +width +seeds +steps\n  round +3 +7 +5 +-\n  square +- +13 +- +11\n", text)
        assert "units (>= 1; default: by --shape)" in text

    def test_a_subclass_is_a_frozen_dataclass(self):
        with pytest.raises(FrozenInstanceError):
            Chosen().width = 3
        assert hash(Chosen()) == hash(Chosen())
        assert Chosen() == Chosen(shape="round") != Chosen(width=8)


class TestWithoutEffect:
    @pytest.mark.parametrize(
        ("flags", "flag", "other"),
        [
            ({"optimizer": "sgd", "beta2": 0.9}, "--beta2=0.9", "with --optimizer=sgd"),
            ({"rms_decay": 0.8}, "--rms_decay=0.8", "with --optimizer=adam"),
            ({"optimizer": "sgd", "momentum": 0.0}, "--momentum=0", "with --optimizer=sgd"),
            ({"decay_rate": 0.5}, "--decay_rate=0.5", "with --schedule=constant"),
            ({"schedule": "cosine", "decay_every": 5}, "--decay_every=5", "with --schedule=cosine"),
            ({"schedule": "step", "final_fraction": 0.1}, "--final_fraction=0.1", "with --schedule=step"),
            ({"mirror": "https://a.b"}, "--mirror=https://a.b", "without --download"),
        ],
    )
    def test_is_refused(self, flags, flag, other):
        with pytest.raises(FlagError, match=f"^{flag}: .*{other}\\b"):
            RunConfig(**flags)

    @pytest.mark.parametrize(
        "flags",
        [
            *({"optimizer": name, "momentum": 0.5} for name in ("momentum", "nesterov", "adam", "adamw")),
            {"optimizer": "adamw", "beta2": 0.9},
            {"optimizer": "rmsprop", "rms_decay": 0.8},
            *({"schedule": name, "decay_rate": 0.5, "decay_every": 7} for name in ("step", "exponential")),
            {"schedule": "cosine", "final_fraction": 0.1},
            {"download": True, "mirror": "https://a.b"},
        ],
    )
    def test_what_has_one_is_not(self, flags):
        assert vars(RunConfig(**flags)).items() >= flags.items()

    def test_a_class_s_own_default_is_not_given_and_its_need_is_inherited(self):
        class Adamw(RunConfig):
            optimizer: str = "adamw"
            beta2: float = 0.99

        assert parse(Adamw, ["--optimizer=sgd"]).beta2 == 0.99
        with pytest.raises(FlagError, match=r"^--beta2=0.999: .*--optimizer=sgd\b"):
            Adamw(optimizer="sgd", beta2=0.999)

    def test_a_flag_can_need_that_another_is_left_out(self):
        class Text(RunConfig):
            text: str | None = flag(None, "a file")
            dataset: str = flag("shakespeare", "a text", needs=("text", (None,)))

        assert Text(dataset="other").dataset == "other"
        with pytest.raises(FlagError, match=r"^--dataset=other: .*--text=a.txt\b"):
            Text(dataset="other", text="a.txt")
        assert "a text (without --text; default: shakespeare)" in help_text(Text, "", "x")

    def test_help_says_what_a_flag_needs(self):
        text = " ".join(help_text(RunConfig, "", "x").split())
        assert "(with --optimizer=adam|adamw|lion|muon|schedule_free; >= 0 and < 1; default: 0.999)" in text
        assert "(with --download; default: not set)" in text

    def test_needs_name_flags_and_values_that_there_are(self):
        table = {f.name: f for f in flags_of(RunConfig)}
        needs = [f.rule.needs for f in table.values() if f.rule.needs]
        assert len(needs) == 8
        assert all(set(allowed) <= set(table[name].rule.choices or (True,)) for name, allowed in needs)


class TestRates:
    def first_rate(self, config):
        return float(learning_rate(config.make_optimizer().init({"w": np.ones(3, np.float32)})))

    def test_a_default_warm_up_gives_way_to_a_short_run(self):
        class Warm(RunConfig):
            warmup: int = 100
            learning_rate: float = 1.0
            schedule: str = "cosine"

        for steps, updates in ((2000, 100), (1000, 100), (500, 50), (59, 5), (9, 1)):
            assert self.first_rate(Warm(steps=steps)) == pytest.approx(1 / updates), steps
        assert self.first_rate(Warm(steps=400, accumulate=2)) == pytest.approx(1 / 20)
        assert self.first_rate(Warm(steps=50, warmup=40)) == pytest.approx(1 / 40)
        with pytest.raises(FlagError, match=r"^--warmup=60: .*\b50\b"):
            Warm(steps=50, warmup=60).make_optimizer()
        assert self.first_rate(Warm(schedule="constant")) == pytest.approx(1 / 100)  # the run has no end

    def test_a_range_test_lets_the_rate_grow(self):
        config = RunConfig(steps=30, schedule="exponential", decay_rate=100.0, learning_rate=1e-4)
        assert math.isclose(self.first_rate(config), 1e-4, rel_tol=1e-6)
        with pytest.raises(FlagError, match=r"^--decay_rate=0.0: .*> 0$"):
            RunConfig(schedule="step", decay_rate=0.0)
