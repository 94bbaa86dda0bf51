import jax
import numpy as np
import pytest

from jaxdl.run import pictures, plots
from jaxdl.run.engine.parallel import make_mesh
from jaxdl.run.show.report import Progress, size, start_line
from tests.shapes import CASES


@pytest.mark.parametrize(
    ("count", "text"), [(3, "3 B"), (61_706 * 4, "247 kB"), (47.3e6, "47.3 MB"), (2.5e9, "2.5 GB")]
)
def test_size(count, text):
    assert size(count) == text


def test_the_line_at_the_start_counts_all_players():
    experiment, train = CASES["wgan_gp"]()
    state = jax.jit(experiment.init)(jax.random.key(0))
    generator, critic = 3 * 11 + 11 + 11 * 2 + 2, 2 * 13 + 13 + 13 + 1
    line = start_line(state, train.arrays, make_mesh(8))
    assert line.startswith(f"8 x cpu | {generator + critic} parameters, {size(4 * (generator + critic))} | state ")
    assert line.endswith(f"data {size(53 * 3 * 2 * 4)}")


class TestProgress:
    @pytest.fixture
    def bar(self, monkeypatch):
        """The calls of a terminal's progress bar."""
        told = []

        class Bar:
            n = 0

            def __init__(self, **_):
                told.append("new")

            def update(self, by):
                self.n += by

            def set_postfix_str(self, text, refresh=True):
                told.append(text)

            def write(self, line, file):
                told.append(line)

        monkeypatch.setattr("tqdm.tqdm", Bar)
        monkeypatch.setattr("sys.stderr.isatty", lambda: True)
        return told

    def test_the_bar_says_compiling_and_names_its_numbers(self, bar):
        progress = Progress(True, 0, 60, "", "", epoch=20.0)
        progress.step(2)
        progress.step(30, {"loss": 1.25, "accuracy": 0.5})
        progress.evaluation(30, {"valid/loss": 0.5, "test/loss": 0.75})
        assert bar[1:] == [
            "compiling", "epoch 0.1", "epoch 1.5, training loss 1.25",
            "step 30/60 (epoch 1.5)  validation: loss 0.5 | test: loss 0.75",
        ]  # fmt: skip

    def test_without_a_length_there_is_no_epoch(self, bar):
        progress = Progress(True, 0, 60, "one", "")
        progress.step(30, {"loss": 1.25})
        progress.evaluation(30, {"valid/loss": 0.5})
        assert bar[1:] == ["compiling", "training loss 1.25", "one: step 30/60  validation: loss 0.5"]


class TestPlots:
    def result(self, offset=0.0):
        rows = [{"step": t, "train/loss": 2.0 / t + offset, "train/learning_rate": 0.1} for t in range(1, 11)]
        rows += [{"step": t, "valid/loss": 3.0 / t, "valid/accuracy": 0.1 * t, "seconds": 1.0} for t in (5, 10)]
        return rows

    def test_curves_have_a_panel_a_metric_and_no_constant_rate(self):
        figure = plots.curves({"": [self.result(), self.result(1.0)]})
        assert [axis.get_title() for axis in figure.axes] == ["loss", "accuracy"]
        assert len(figure.axes[0].lines) == 4
        assert [text.get_text() for text in figure.legends[0].get_texts()] == ["train", "valid"]

    def test_norms_have_no_panels(self):
        rows = [{"step": t, "train/loss": 2.0, "train/norm/params/Dense_0": 1.0} for t in (1, 2)]
        assert plots.panels([rows]) == ["loss"]

    def test_many_panels_stand_in_rows_and_what_spans_much_is_logarithmic(self):
        rows = [{"step": t, "train/learning_rate": 0.1 / t**2, "valid/frechet": 9.0 / t**2} for t in range(1, 11)]
        rows += [{"step": t, **{f"valid/{name}": float(t) for name in "abcd"}} for t in (5, 10)]
        figure = plots.curves({"": [rows]})
        assert [axis.get_title() for axis in figure.axes if axis.axison] == ["frechet", *"abcd", "learning rate"]
        assert (len(figure.axes), figure.axes[0].get_gridspec().get_geometry()) == (8, (2, 4))
        scales = {axis.get_title(): axis.get_yscale() for axis in figure.axes if axis.axison}
        assert scales.pop("frechet") == "log"
        assert set(scales.values()) == {"linear"}

    def test_thinned_keeps_the_mean(self):
        steps, values = plots.thinned(range(1000), np.arange(1000.0))
        assert len(steps) == 100
        assert steps[0] == values[0] == 4.5
        np.testing.assert_array_equal(plots.thinned([1, 2], [3.0, 4.0]), ([1, 2], [3, 4]))

    def test_image_grid_takes_grey_colour_and_signs(self):
        assert len(pictures.image_grid(np.zeros((3, 5, 7, 1)), ["a", "b", "c"]).axes) == 3
        assert len(pictures.image_grid(np.zeros((9, 5, 7, 3))).axes) == 16
        figure = pictures.image_grid(np.array([-3.0, 1.0]).reshape(2, 1, 1, 1), diverging=True)
        assert figure.axes[0].images[0].get_clim() == (-3, 3)

    def test_confusion_counts(self):
        figure = pictures.confusion(np.repeat([0, 1], [6, 7]), np.repeat([0, 1], [5, 8]), ["cat", "dog"])
        assert figure.axes[0].get_title().startswith("12 of 13 ")
        assert {text.get_text() for text in figure.axes[0].texts} == {"5", "1", "7"}
