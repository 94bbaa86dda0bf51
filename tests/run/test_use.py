"""Using a finished run: in a notebook, on files and on other data sets."""

import csv
import dataclasses
import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest

import jaxdl
from experiments import image_classifier, language_model, language_model_comparison
from jaxdl.data import Batches, DataError, MissingData, load_images, load_text
from jaxdl.optim import with_peak_of
from jaxdl.run import FlagError, Inference, fit
from jaxdl.run.command.predictions import expand, use_run, write_predictions
from jaxdl.run.command.use import open_finished
from jaxdl.run.store.checkpoint import Checkpoints
from jaxdl.run.store.files import read_json, write_json
from jaxdl.run.store.folder import open_run


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Trains two seeds on digits for a few steps."""
    folder = tmp_path_factory.mktemp("runs") / "images"
    config = image_classifier.Config(
        model="softmax", augment="none", seeds=2, steps=64, tensorboard=False, progress=False, devices=1,
        workdir=str(folder),
    )  # fmt: skip
    config = open_run(config, "image_classifier")
    parts = image_classifier.data(config)
    result = fit(image_classifier.build(config, parts), parts, config)
    return config, result


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    """Trains a GRU on a text of six characters for a few steps."""
    folder = tmp_path_factory.mktemp("runs")
    (folder / "abc.txt").write_text("abcad.\n" * 200)
    config = language_model.Config(
        cell="gru", text=str(folder / "abc.txt"), features=7, layers=1, context=5, steps=30, batch_size=3, warmup=0,
        tensorboard=False, progress=False, devices=1, workdir=str(folder / "run"),
    )  # fmt: skip
    config = open_run(config, "language_model")
    parts = language_model.data(config)
    experiment = language_model.build(config, parts)
    return config, fit(experiment, parts, config)


def probabilities(result, x):
    """Softmax regression in NumPy."""
    dense = result.state.learner.params["Dense_0"]
    z = (2 * x.reshape(len(x), -1) - 1) @ np.asarray(dense["kernel"], np.float64) + np.asarray(dense["bias"])
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def rows(folder):
    with open(f"{folder}/predictions.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_a_loaded_run_predicts_and_gives_its_parts(images):
    config, result = images
    run = jaxdl.load(config.workdir)
    x = load_images("digits").test["x"][:11]
    expected = probabilities(result.runs[0], x)
    np.testing.assert_allclose(run.predict(x), expected, atol=1e-5)
    np.testing.assert_allclose(run.predict(Batches({"x": x}, 3)), expected, atol=1e-5)
    found = np.asarray(run.model.apply(run.variables, 2 * x - 1), np.float64)
    np.testing.assert_allclose(np.exp(found) / np.exp(found).sum(-1, keepdims=True), expected, atol=1e-5)
    assert run.table(x)["prediction"] == [str(i) for i in expected.argmax(-1)]
    assert (run.config.model, run.config.workdir, run.config.steps) == ("softmax", config.workdir, 64)
    assert run.data_facts["names"] == list("0123456789")
    assert (len(run.states), int(run.state.step)) == (2, 64)
    assert run.evaluate("digits") == [seed.metrics for seed in result.runs]


@pytest.mark.claims
def test_training_goes_on_from_a_loaded_state(images):
    """With the optimiser's state and another learning rate, as a loop of steps from that state does."""
    run = jaxdl.load(images[0].workdir)
    config = images[0].replace(workdir=None, seeds=1, steps=5, schedule="constant", learning_rate=0.03)
    parts = image_classifier.data(config)
    experiment = image_classifier.build(config, parts)
    later = fit(experiment, parts, config, state=run.state).state
    fresh = experiment.init(jax.random.key(config.seed))
    state = with_peak_of(fresh, run.state).replace(key=fresh.key)
    for t in range(5):
        state, _ = jax.jit(experiment.step)(state, parts.train.batch(0, t))
    assert int(later.step) == int(state.step) == 69
    for one, other in zip(jax.tree.leaves(later.learner), jax.tree.leaves(state.learner), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7)


@pytest.mark.claims
def test_weights_are_saved_and_begun_with(images, tmp_path):
    config, result = images
    run, parts = jaxdl.load(config.workdir), image_classifier.data(config)
    run.save(tmp_path / "w.npz")
    still = config.replace(workdir=None, seeds=1, steps=1, learning_rate=0.0)
    experiment = image_classifier.build(still, parts)
    begin = lambda source, **more: fit(experiment, parts, still, init=str(source), **more)
    for source in (config.workdir, tmp_path / "w.npz", f"{config.workdir}/seed0"):
        assert begin(source).metrics == result.runs[0].metrics
    assert begin(f"{config.workdir}/seed1").metrics == result.runs[1].metrics
    drawn = begin(config.workdir, init_skip="kernel").state.learner.params["Dense_0"]
    fresh = run.experiment.init(jax.random.key(0)).learner.params["Dense_0"]
    np.testing.assert_array_equal(drawn["kernel"], fresh["kernel"])
    np.testing.assert_array_equal(drawn["bias"], result.runs[0].state.learner.params["Dense_0"]["bias"])


@pytest.mark.parametrize(
    ("flags", "error", "told"),
    [
        ({"init": "nowhere"}, MissingData, "--init=nowhere: "),
        ({"init": "{tmp}"}, MissingData, "--init="),
        ({"init": "{tmp}/a.npz"}, DataError, r"a\.npz.*\.npz"),
        ({"init": "{run}", "model": "mlp"}, FlagError, r"learner/params/Dense_0/bias.*\b10\b.*\b256\b"),
        ({"init": "{run}", "init_skip": "nothing"}, FlagError, "--init_skip=nothing: .*learner/params"),
        ({"init": "{run}", "init_skip": "("}, FlagError, r"^--init_skip=\(: "),
        ({"init_skip": "a"}, FlagError, r"^--init_skip=a: .*without --init\b"),
    ],
)
def test_weights_that_do_not_fit(images, tmp_path, flags, error, told):
    (tmp_path / "a.npz").write_text("x")
    filled = {name: value.format(tmp=tmp_path, run=images[0].workdir) for name, value in flags.items()}
    begin = lambda config, parts: fit(image_classifier.build(config, parts), parts, config)
    with pytest.raises(error, match=told):
        begin(images[0].replace(workdir=None, seeds=1, **filled), image_classifier.data(images[0]))


@pytest.mark.claims
def test_averages_are_what_a_run_begins_with(tmp_path):
    """With --ema and with schedule_free: the new run starts from the average with which the source is evaluated."""
    for flags in ({"ema": 0.9}, {"optimizer": "schedule_free"}, {"ema": 0.9, "freeze": "bias"}):
        config = image_classifier.Config(
            model="softmax", augment="none", seeds=1, steps=9, tensorboard=False, progress=False, devices=1,
            workdir=str(tmp_path / str(flags)), **flags,
        )  # fmt: skip
        parts = image_classifier.data(config)
        first = fit(image_classifier.build(config, parts), parts, config)
        again = config.replace(workdir=None, init=config.workdir, learning_rate=0.0, steps=1)
        later = fit(image_classifier.build(again, parts), parts, again)
        assert later.metrics == pytest.approx(first.metrics, rel=1e-5)


def test_predictions_for_files_folders_and_patterns(images, tmp_path, capsys):
    from PIL import Image

    config, result = images
    x = load_images("digits").test["x"][:7]
    pixels = np.round(255 * x[..., 0]).astype(np.uint8)
    (tmp_path / "more").mkdir()
    names = [tmp_path / "a.png", tmp_path / "b.png", *(tmp_path / "more" / f"{i}.png" for i in range(5))]
    for name, image in zip(names, pixels, strict=True):
        Image.fromarray(image).save(name)
    use_run(replace(config, predict=f"{tmp_path}/?.png,{tmp_path}/more"), image_classifier, "image_classifier")
    table, expected = rows(config.workdir), probabilities(result.runs[0], pixels[..., None] / 255)
    assert [row["id"] for row in table] == [str(name) for name in names]
    assert [row["prediction"] for row in table] == [str(i) for i in expected.argmax(-1)]
    found = [[float(row[str(i)]) for i in range(10)] for row in table]
    np.testing.assert_allclose(found, expected, atol=6e-5)
    assert [float(row["probability"]) for row in table] == [max(row) for row in found]
    shown = capsys.readouterr()
    assert shown.out.startswith("id")
    assert len(shown.out.splitlines()) == 8
    assert "first of 2 seeds" in shown.err


def test_a_score_on_another_set_stands_beside_its_own(images, capsys):
    config, result = images
    use_run(replace(config, evaluate="digits"), image_classifier, "image_classifier")
    with open(f"{config.workdir}/evaluations.json") as file:
        found = json.load(file)["digits"]
    assert [m["accuracy"] for m in found] == [run.metrics["accuracy"] for run in result.runs]
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("accuracy"))
    assert line.count("(2 seeds)") == 2


def test_the_first_rows_are_shown(images, tmp_path, capsys, monkeypatch):
    from PIL import Image

    monkeypatch.setattr("jaxdl.run.command.predictions.SHOWN", 3)
    for i in range(5):
        Image.fromarray(np.full((8, 8), 50 * i, np.uint8)).save(tmp_path / f"{i}.png")
    use_run(replace(images[0], predict=str(tmp_path)), image_classifier, "image_classifier")
    shown = capsys.readouterr()
    names = [line.split()[0].rpartition("/")[2] for line in shown.out.splitlines()]
    assert names == ["id", "0.png", "1.png", "2.png"]
    assert "2 more rows" in shown.err


@pytest.mark.claims
def test_the_state_that_counts_and_the_order_of_the_seeds(images, tmp_path, capsys):
    """`load` uses the state of the step that training chose, and seed 10 comes after seed 2."""
    folder, result = tmp_path / "copy", images[1]
    shutil.copytree(images[0].workdir, folder)
    (folder / "seed0").rename(folder / "seed2")
    (folder / "seed1").rename(folder / "seed10")
    run = open_finished(folder)
    assert list(run.metrics) == [seed.metrics for seed in result.runs]
    assert [int(state.step) for state in run.states] == [64, 64]
    assert "seed2" not in capsys.readouterr().err
    earlier = Checkpoints(folder / "seed2" / "checkpoints")
    earlier.save(65, run.states[0].replace(step=run.states[0].step + 1))
    earlier.close()
    assert [int(state.step) for state in open_finished(folder).states] == [64, 64]
    (folder / "seed2" / "result.json").unlink()
    assert [int(state.step) for state in open_finished(folder).states] == [65, 64]
    assert re.search(r"seed2: .*\bstep 65\b", capsys.readouterr().err)


@pytest.mark.claims
def test_another_set_of_another_size_is_resized_and_its_classes_must_agree(images, data_dir):
    config, _ = images
    use = open_finished(config.workdir, data_dir=str(data_dir)).inference
    usps = use.test("usps")
    assert usps.arrays["x"].shape == (2007, 8, 8, 1)
    assert 0 <= usps.arrays["x"].min() < usps.arrays["x"].max() <= 1
    with pytest.raises(FlagError, match=r"^--evaluate=fashion_mnist: .*classes"):
        use.test("fashion_mnist")


@pytest.mark.full
def test_a_prompt_is_continued(text, tmp_path, capsys):
    """Prompts of several lengths in one batch: the most likely characters, equal to those of a pass without a cache."""
    config, result = text
    vocabulary = load_text(file=config.text).vocabulary
    model = language_model.make_model(config, len(vocabulary))

    def continued(prompt, length=11):
        words = prompt
        for _ in range(length):
            tokens = np.array([[vocabulary.index(c) for c in words]])
            words += vocabulary[int(model.log_probabilities(result.state.learner.params, tokens)[0, -1].argmax())]
        return words[len(prompt) :]

    run = jaxdl.load(config.workdir, length=11, temperature=0.0)
    prompts = ["abcab", "a", "d.\nabcad"]
    assert run.predict(prompts) == [continued(prompt) for prompt in prompts]
    assert run.predict("a") == [continued("a")]
    assert len(run.predict("a", length=3)[0]) == 3
    (tmp_path / "some.txt").write_text("abcab")
    use = lambda **more: use_run(replace(config, length=11, temperature=0.0, **more), language_model, "language_model")
    use(predict=f"{tmp_path}/some.txt")
    assert [row["continuation"] for row in rows(config.workdir)] == [continued("abcab")]
    use(predict="abÁ bc", out=str(tmp_path / "mine.csv"))
    found = capsys.readouterr()
    assert "'Á' as 'a' (1x)" in found.err
    assert found.out.endswith("abÁ bc" + continued("aba\nbc") + "\n")
    assert (tmp_path / "mine.csv").exists()
    drawn = [run.predict("a", length=50, temperature=1.5, draw_seed=seed)[0] for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    with pytest.raises(MissingData, match=r"^--predict=some\.txt: "):
        use(predict="some.txt")
    for wrong in ("", [], 7, ["a", ""]):
        with pytest.raises(FlagError, match=r"^predict: .*text"):
            run.predict(wrong)
    with pytest.raises(FlagError, match=r"^--top_k=9: .*\b6\b"):
        run.predict("a", top_k=9)
    with pytest.raises(FlagError, match=r"^--temprature: .*finished run.*--temperature\b"):
        run.predict("a", temprature=1.0)
    with pytest.raises(FlagError, match=r"^--learning_rate: .*finished run"):
        run.predict("a", learning_rate=1.0)


@pytest.mark.claims
def test_the_loss_of_a_text_on_its_own_test_part(text, capsys):
    config, result = text
    run = open_finished(config.workdir)
    whole = Path(config.text).read_text()
    part = Path(config.workdir) / "test.txt"
    part.write_text(whole[int(0.9 * len(whole)) :])
    use_run(replace(config, evaluate=str(part)), language_model, "language_model")
    with open(f"{config.workdir}/evaluations.json") as file:
        assert json.load(file)[str(part)] == [pytest.approx(result.metrics)]
    other = part.with_name("other.txt")
    other.write_text("abcad.\n" * 30)
    use_run(replace(config, evaluate=str(other)), language_model, "language_model")
    with open(f"{config.workdir}/evaluations.json") as file:
        assert {str(part), str(other)} <= json.load(file).keys()
    with pytest.raises(FlagError, match=r"nosuch.*python_docs"):
        run.inference.test("nosuch")
    part.write_text("ab\nab€" * 20)
    run.inference.test(str(part))
    assert "'€' as '\\n' (20x)" in capsys.readouterr().err
    part.write_text("a")
    with pytest.raises(DataError, match=r"test\.txt"):
        run.inference.test(str(part))


@pytest.mark.parametrize(
    ("changes", "error", "line"),
    [
        ({"workdir": None, "predict": "a.png"}, FlagError, "^--predict: .*--workdir=RUN"),
        ({"workdir": None, "evaluate": "usps"}, FlagError, "^--evaluate: .*--workdir=RUN"),
        ({"workdir": "nowhere", "predict": "a.png"}, MissingData, "^nowhere: .*config.json"),
        ({"predict": "a.png"}, MissingData, "^--predict=a.png: "),
        ({"evaluate": "mnist"}, MissingData, "mnist.*--data_dir"),
        ({"evaluate": "usps", "model": "cnn"}, FlagError, r"--model\b.*softmax"),
    ],
)
def test_wrong_uses(images, changes, error, line, monkeypatch):
    monkeypatch.delenv("JAXDL_DATA_DIR", raising=False)
    with pytest.raises(error, match=line):
        use_run(replace(images[0], **changes), image_classifier, "image_classifier")


def test_a_run_of_another_experiment(images):
    config = language_model.Config(workdir=images[0].workdir, predict="a.txt")
    with pytest.raises(FlagError, match=r"^--workdir=.*language_model.*image_classifier"):
        use_run(config, language_model, "language_model")


def test_other_facts_of_the_same_rows_are_another_fit(images):
    """Renamed classes leave pixels and labels unchanged, but make another fit."""
    config, _ = images
    parts = image_classifier.data(config)
    for changes in ({"names": list("abcdefghij")}, {"original": False}):
        other = dataclasses.replace(parts, facts=parts.facts | changes)
        with pytest.raises(FlagError, match=r"data.*facts"):
            fit(image_classifier.build(config, other), other, config)


@pytest.mark.claims
def test_runs_that_cannot_be_used(tmp_path, text):
    config = language_model_comparison.Config(workdir=str(tmp_path / "r"))
    open_run(config, "language_model_comparison")
    with pytest.raises(MissingData, match=r"fit\.json"):
        jaxdl.load(tmp_path / "r")
    config = image_classifier.Config(workdir=str(tmp_path / "i"), steps=3, progress=False, tensorboard=False)
    open_run(config, "image_classifier")
    with pytest.raises(MissingData, match=r"fit\.json.*before"):
        jaxdl.load(tmp_path / "i")
    config = config.replace(model="softmax", seeds=1)
    parts = image_classifier.data(config)
    fit(image_classifier.build(config, parts), parts, config, name="one")
    fit(image_classifier.build(config, parts), parts, config, name="two")
    with pytest.raises(MissingData, match=r"--fit=NAME.*: one, two"):
        jaxdl.load(tmp_path / "i")
    shutil.rmtree(tmp_path / "i" / "two")
    for name in ("one", None):
        assert jaxdl.load(tmp_path / "i", fit=name).config.model == "softmax"
    shutil.rmtree(tmp_path / "i" / "one" / "checkpoints")
    (tmp_path / "i" / "one" / "result.json").unlink()
    with pytest.raises(MissingData, match=r"one: .*--checkpoint_every"):
        jaxdl.load(tmp_path / "i", fit="one")
    open_run(image_classifier.Config(workdir=str(tmp_path / "own")), "denoise")
    with pytest.raises(DataError, match=r"'denoise'.*--module=FILE"):
        jaxdl.load(tmp_path / "own")
    (tmp_path / "i" / "one" / "fit.json").write_text("{")
    with pytest.raises(DataError, match=r"one/fit\.json"):
        jaxdl.load(tmp_path / "i", fit="one")
    run = open_finished(text[0].workdir)
    with pytest.raises(FlagError, match=r"^--predict: "):
        write_predictions(replace(run, inference=Inference()), [])


def test_an_experiment_of_ones_own_is_given_as_its_module(tmp_path, images):
    config, _ = images
    shutil.copytree(config.workdir, tmp_path / "copy")
    path = tmp_path / "copy" / "config.json"
    write_json(path, read_json(path) | {"experiment": "my_own"})
    assert jaxdl.run.load(tmp_path / "copy", image_classifier).config.model == "softmax"


def test_reading_leaves_a_run_alone_that_is_being_written(tmp_path):
    (tmp_path / "7").mkdir()  # a save in progress, or an old one that is being removed
    Checkpoints(tmp_path, write=False).close()
    assert (tmp_path / "7").is_dir()
    Checkpoints(tmp_path).close()
    assert not (tmp_path / "7").exists()
    Checkpoints(tmp_path / "none", write=False).close()
    assert not (tmp_path / "none").exists()


def test_expand(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "deep" / "er").mkdir(parents=True)
    for name in ("b.png", "a.png", "[odd].png", "deep/er/z.jpg", "deep/y.jpg", "x.jpg"):
        (tmp_path / name).touch()
    assert expand("[ab].png,[odd].png") == ["a.png", "b.png", "[odd].png"]
    assert expand("**/*.jpg") == ["deep/er/z.jpg", "deep/y.jpg", "x.jpg"]


@pytest.mark.claims
def test_import_is_light_and_other_names_are_refused():
    code = "import jaxdl, sys; print('jax' in sys.modules); print(jaxdl.nn.MLP.__name__); jaxdl.loda"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "False\nMLP\n"
    assert "AttributeError" in done.stderr
    assert "loda" in done.stderr.splitlines()[-1]
