"""A finished run in a notebook, on files and on other data sets."""

import csv
import dataclasses
import json
import math
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import jaxdl
from experiments import image_classifier, language_model, language_model_comparison
from jaxdl.data import DataError, MissingData, load_images, load_text
from jaxdl.run import FlagError, Inference, fit
from jaxdl.run.command.use import expand, open_finished, use_run, write_predictions
from jaxdl.run.store.checkpoint import Checkpoints
from jaxdl.run.store.files import read_json, write_json
from jaxdl.run.store.folder import open_run


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """A short run of two seeds on digits."""
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
    """A short run of a GRU on a text of five characters."""
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


def test_load_gives_model_variables_and_config(images):
    config, result = images
    model, variables, loaded = jaxdl.load(config.workdir)
    x = load_images("digits").test["x"][:11]
    found = np.asarray(model.apply(variables, 2 * x - 1), np.float64)
    expected = probabilities(result.runs[0], x)
    np.testing.assert_allclose(np.exp(found) / np.exp(found).sum(-1, keepdims=True), expected, atol=1e-5)
    assert loaded.model == "softmax"
    assert loaded.workdir == config.workdir
    assert loaded.steps == 64


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
    assert [row["input"] for row in table] == [str(name) for name in names]
    assert [row["class"] for row in table] == [str(i) for i in expected.argmax(-1)]
    found = [[float(row[str(i)]) for i in range(10)] for row in table]
    np.testing.assert_allclose(found, expected, atol=6e-5)
    assert [float(row["probability"]) for row in table] == [max(row) for row in found]
    shown = capsys.readouterr()
    assert shown.out.startswith("input")
    assert len(shown.out.splitlines()) == 8
    assert "by the first of 2 seeds" in shown.err


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

    monkeypatch.setattr("jaxdl.run.command.use.SHOWN", 3)
    for i in range(5):
        Image.fromarray(np.full((8, 8), 50 * i, np.uint8)).save(tmp_path / f"{i}.png")
    use_run(replace(images[0], predict=str(tmp_path)), image_classifier, "image_classifier")
    shown = capsys.readouterr()
    names = [line.split()[0].rpartition("/")[2] for line in shown.out.splitlines()]
    assert names == ["input", "0.png", "1.png", "2.png"]
    assert "2 more rows and all columns" in shown.err


def test_the_state_that_counts_and_the_order_of_the_seeds(images, tmp_path, capsys):
    """The state of the step that training chose, and seed 10 after seed 2."""
    folder, result = tmp_path / "copy", images[1]
    shutil.copytree(images[0].workdir, folder)
    (folder / "seed0").rename(folder / "seed2")
    (folder / "seed1").rename(folder / "seed10")
    run = open_finished(folder)
    assert run.metrics == [seed.metrics for seed in result.runs]
    assert [int(state.step) for state in run.states] == [64, 64]
    assert "has not ended" not in capsys.readouterr().err
    earlier = Checkpoints(folder / "seed2" / "checkpoints")
    earlier.save(65, run.states[0].replace(step=run.states[0].step + 1))
    earlier.close()
    assert [int(state.step) for state in open_finished(folder).states] == [64, 64]
    (folder / "seed2" / "result.json").unlink()
    assert [int(state.step) for state in open_finished(folder).states] == [65, 64]
    assert "seed2: has not ended; its state of step 65 is used" in capsys.readouterr().err


def test_another_set_of_another_size_is_resized_and_its_classes_must_agree(images, data_dir):
    config, _ = images
    use = open_finished(config.workdir, data_dir=str(data_dir)).inference
    usps = use.test("usps")
    assert usps.arrays["x"].shape == (2007, 8, 8, 1)
    assert 0 <= usps.arrays["x"].min() < usps.arrays["x"].max() <= 1
    with pytest.raises(FlagError, match="--evaluate=fashion_mnist: its classes are"):
        use.test("fashion_mnist")


def test_what_comes_next_in_a_text(text, tmp_path):
    config, result = text
    (tmp_path / "some.txt").write_text("abcab")
    (tmp_path / "long.txt").write_text("abcad.\n" * 30)
    use_run(replace(config, predict=f"{tmp_path}/some.txt,{tmp_path}/long.txt"), language_model, "language_model")
    vocabulary = load_text(file=config.text).vocabulary
    model = language_model.make_model(config, len(vocabulary))
    tokens = np.array([[vocabulary.index(c) for c in "abcab"]])
    p = np.exp(np.asarray(model.log_probabilities(result.state.learner.params, tokens), np.float64))[0]
    nats = -sum(math.log(p[t, tokens[0, t + 1]]) for t in range(4)) / 4
    some, long = rows(config.workdir)
    assert some["next"] == repr(vocabulary[p[-1].argmax()])
    assert abs(float(some["probability"]) - p[-1].max()) < 1e-4
    assert abs(float(some["nats a character"]) - nats) < 1e-4
    assert abs(float(some["perplexity"]) - math.exp(nats)) < 1e-3
    assert some["characters read"] == "5"
    assert long["characters read"] == "80"


def test_the_loss_of_a_text_on_its_own_test_part(text):
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
    with pytest.raises(FlagError, match="no such file, and no text of python_docs"):
        run.inference.test("nosuch")
    part.write_text("ab\nab€")
    with pytest.raises(DataError, match="line 2: '€' is none of the 6 characters"):
        run.inference.test(str(part))
    part.write_text("a")
    with pytest.raises(DataError, match="too few"):
        run.inference.test(str(part))


@pytest.mark.parametrize(
    ("changes", "error", "line"),
    [
        ({"workdir": None, "predict": "a.png"}, FlagError, "--predict: name the run to use, --workdir=RUN"),
        ({"workdir": None, "evaluate": "usps"}, FlagError, "--evaluate: name the run to use, --workdir=RUN"),
        ({"workdir": "nowhere", "predict": "a.png"}, MissingData, "nowhere: no run is there"),
        ({"predict": "a.png"}, MissingData, "--predict=a.png: no such file"),
        ({"evaluate": "mnist"}, MissingData, "mnist is read from files: set --data_dir"),
        ({"evaluate": "usps", "model": "cnn"}, FlagError, "--model=cnn: this run was made with --model=softmax"),
    ],
)
def test_wrong_uses(images, changes, error, line, monkeypatch):
    monkeypatch.delenv("JAXDL_DATA_DIR", raising=False)
    with pytest.raises(error, match=line):
        use_run(replace(images[0], **changes), image_classifier, "image_classifier")


def test_a_run_of_another_experiment(images):
    config = language_model.Config(workdir=images[0].workdir, predict="a.txt")
    with pytest.raises(FlagError, match="is a run of image_classifier, not of language_model"):
        use_run(config, language_model, "language_model")


def test_other_facts_of_the_same_rows_are_another_fit(images):
    """Classes that were given other names leave pixels and labels as they are."""
    config, _ = images
    parts = image_classifier.data(config)
    for changes in ({"names": list("abcdefghij")}, {"original": False}):
        other = dataclasses.replace(parts, facts=parts.facts | changes)
        with pytest.raises(FlagError, match="what is known of the data has changed: facts"):
            fit(image_classifier.build(config, other), other, config)


def test_runs_that_cannot_be_used(tmp_path, text):
    config = language_model_comparison.Config(workdir=str(tmp_path / "r"))
    open_run(config, "language_model_comparison")
    with pytest.raises(DataError, match="language_model_comparison is a study of other experiments' models"):
        jaxdl.load(tmp_path / "r")
    config = image_classifier.Config(workdir=str(tmp_path / "i"), steps=3, progress=False, tensorboard=False)
    open_run(config, "image_classifier")
    with pytest.raises(MissingData, match=r"no fit is there \(no fit\.json\); the run ended before"):
        jaxdl.load(tmp_path / "i")
    config = config.replace(model="softmax", seeds=1)
    parts = image_classifier.data(config)
    fit(image_classifier.build(config, parts), parts, config, name="one")
    with pytest.raises(MissingData, match="it has the fits one"):
        jaxdl.load(tmp_path / "i")
    assert jaxdl.load(tmp_path / "i", fit="one").config.model == "softmax"
    shutil.rmtree(tmp_path / "i" / "one" / "checkpoints")
    (tmp_path / "i" / "one" / "result.json").unlink()
    with pytest.raises(MissingData, match="no checkpoint is there yet"):
        jaxdl.load(tmp_path / "i", fit="one")
    open_run(image_classifier.Config(workdir=str(tmp_path / "own")), "denoise")
    with pytest.raises(DataError, match="a run of 'denoise', no experiment of this package; give its module"):
        jaxdl.load(tmp_path / "own")
    (tmp_path / "i" / "one" / "fit.json").write_text("{")
    with pytest.raises(DataError, match="is damaged"):
        jaxdl.load(tmp_path / "i", fit="one")
    run = open_finished(text[0].workdir)
    with pytest.raises(FlagError, match="predicts nothing"):
        write_predictions(run._replace(inference=Inference()), [])


def test_an_experiment_of_ones_own_is_given_as_its_module(tmp_path, images):
    config, _ = images
    shutil.copytree(config.workdir, tmp_path / "copy")
    path = tmp_path / "copy" / "config.json"
    write_json(path, read_json(path) | {"experiment": "my_own"})
    assert jaxdl.run.load(tmp_path / "copy", image_classifier).config.model == "softmax"


def test_reading_leaves_a_run_alone_that_is_being_written(tmp_path):
    (tmp_path / "7").mkdir()  # a save that is under way, or an old one that is being removed
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


def test_import_is_light_and_other_names_are_refused():
    code = "import jaxdl, sys; print('jax' in sys.modules); print(jaxdl.nn.MLP.__name__); jaxdl.loda"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "False\nMLP\n"
    assert "module 'jaxdl' has no attribute 'loda'" in done.stderr
