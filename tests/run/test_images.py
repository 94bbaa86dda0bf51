"""Photographs in many formats through training, evaluation and prediction; arrays instead of files."""

import csv
import json
import struct
import zlib
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_images

from experiments import image_classifier
from jaxdl.data import DataError, MissingData, encode_images, load_folder, load_labelled, read_images
from jaxdl.run import FlagError, fit
from jaxdl.run.command.predictions import use_run
from jaxdl.run.command.use import open_finished
from jaxdl.run.store.folder import open_run
from tests.budget import first

SIDE = 96


def patches(picture, count, seed):
    """Returns squares of a photograph, uint8 [count, SIDE, SIDE, 3]."""
    rng = np.random.default_rng(seed)
    places = rng.integers(0, (picture.shape[0] - SIDE, picture.shape[1] - SIDE), (count, 2))
    return [picture[i : i + SIDE, j : j + SIDE] for i, j in places]


def header_of_a_bomb():
    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    size = struct.pack(">IIBBBBB", 10**5, 10**5, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + chunk(b"IDAT", zlib.compress(bytes(99)))


def odd_files(folder):
    """Writes unusual files that can be read, with sides of SIDE or less; returns their number and the image."""
    tile = patches(load_sample_images().images[1], 1, 7)[0]
    rgb, grey, alpha = Image.fromarray(tile), Image.fromarray(tile).convert("L"), Image.new("L", (SIDE, SIDE), 99)
    turned = Image.Exif()
    turned[0x0112] = 6
    rgba, la = rgb.copy(), Image.merge("LA", [grey, alpha])
    rgba.putalpha(alpha)
    rgba.save(folder / "rgba.png")
    la.save(folder / "la.png")
    rgb.quantize(8).save(folder / "palette.png", transparency=0)
    rgb.convert("CMYK").save(folder / "cmyk.jpg")
    Image.fromarray(np.asarray(grey).astype(np.uint16) * 257).save(folder / "wide.png")
    grey.convert("1").save(folder / "bits.png")
    rgb.rotate(90).save(folder / "turned.jpg", exif=turned, quality=95)
    rgb.save(folder / "moves.gif", save_all=True, append_images=[Image.new("RGB", rgb.size)])
    rgb.save(folder / "photo.webp", quality=95)
    rgb.save(folder / "photo.BMP")
    rgb.save(folder / "photo.tiff", compression="tiff_lzw")
    rgb.save(folder / "progressive.jpg", progressive=True, quality=95)
    rgb.resize((1, 1)).save(folder / "one.png")
    rgb.save(folder / "a, b und Ünï 蘑菇.png")
    rgb.save(folder / "UPPER.JPEG", quality=95)
    rgb.save(folder / "really a.png.jpg", format="PNG")
    (folder / "link.png").symlink_to(folder / "photo.webp")
    return 17, tile


def strays(folder):
    (folder / ".hidden.png").write_bytes(b"x")
    (folder / "Thumbs.db").write_bytes(b"x")
    (folder / "README.txt").write_text("flowers")


def bad_files(folder):
    """Writes files that cannot be read; returns a word from the message for each."""
    (folder / "empty.png").write_bytes(b"")
    content = (folder / "UPPER.JPEG").read_bytes()
    (folder / "half.jpg").write_bytes(content[: len(content) // 2])
    (folder / "text.png").write_text("this is text")
    (folder / "bomb.png").write_bytes(header_of_a_bomb())
    (folder / "nowhere.png").symlink_to(folder / "nothing")
    (folder / "phone.heic").write_bytes(b"\0\0\0\x18ftypheic")
    return ("empty", "truncated", "PNG", "pixels", "link", "PNG")


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A folder of patches of two photographs with all unusual files; one class has a name in another script."""
    root = tmp_path_factory.mktemp("photos")
    for name, picture, seed in (("temple", 0, 0), ("蘑菇", 1, 1)):
        (root / name).mkdir()
        for k, patch in enumerate(patches(load_sample_images().images[picture], 20, seed)):
            Image.fromarray(patch).save(root / name / f"{k}.jpg", quality=95)
    odd_files(root / "蘑菇")
    strays(root / "蘑菇")
    (root / "labels.csv").write_text("x")
    return root


@pytest.fixture(scope="module")
def run(photos, tmp_path_factory):
    """Trains on the photographs for a few steps."""
    config = image_classifier.Config(
        dataset="folder", data_dir=str(photos), image_size=16, model="softmax", augment="none", steps=60,
        batch_size=16, tensorboard=False, progress=False, devices=1, workdir=str(tmp_path_factory.mktemp("run") / "a"),
    )  # fmt: skip
    config = open_run(config, "image_classifier")
    data = image_classifier.data(config)
    result = fit(image_classifier.build(config, data), data, config)
    return config, data, result


def inference(run):
    return open_finished(run[0].workdir).inference


def probabilities(run, x):
    """Computes the softmax regression of uint8 pixels [n, H, W, C] with NumPy."""
    dense = run[2].state.learner.params["Dense_0"]
    z = (x.reshape(len(x), -1) / 127.5 - 1) @ np.asarray(dense["kernel"], np.float64) + np.asarray(dense["bias"])
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def test_odd_files_are_read_as_they_look(tmp_path):
    count, tile = odd_files(tmp_path)
    strays(tmp_path)
    paths, x = read_images([tmp_path], tile.shape)
    assert len(paths) == count
    found = {path.rpartition("/")[2]: pixels.astype(int) for path, pixels in zip(paths, x, strict=True)}
    close = lambda name, expected, off: np.abs(found[name] - expected).mean() <= off
    for name in ("photo.BMP", "photo.tiff", "a, b und Ünï 蘑菇.png", "really a.png.jpg"):
        np.testing.assert_array_equal(found[name], tile)
    for name in ("UPPER.JPEG", "progressive.jpg", "photo.webp", "cmyk.jpg", "turned.jpg", "moves.gif", "link.png"):
        assert close(name, tile, 12), name
    on_white = lambda pixels: pixels * (99 / 255) + 255 * (1 - 99 / 255)
    grey = (tile @ [0.299, 0.587, 0.114])[..., None]
    assert close("rgba.png", on_white(tile), 1)
    assert close("la.png", on_white(grey), 1)
    assert close("wide.png", grey, 1)
    assert set(np.unique(found["bits.png"])) == {0, 255}
    assert np.abs(found["palette.png"] - tile).min() < 20
    assert (found["palette.png"] == 255).all(-1).any()
    assert np.ptp(found["one.png"], (0, 1)).max() == 0
    assert close("one.png", tile.mean((0, 1)), 60)


def test_the_note_lists_what_was_found(photos, run):
    note = run[1].note
    assert "2 classes: temple 20, 蘑菇 37 (" in note
    assert ": labels.csv, 蘑菇/README.txt, 蘑菇/Thumbs.db" in note
    converted = note.partition("converted: ")[2].partition(";")[0].split(", ")
    assert set(converted) == {
        "1 RGBA", "1 LA", "1 palette", "1 transparent palette", "1 CMYK", "1 16-bit", "1 1-bit", "1 1x1"
    }  # fmt: skip
    assert ".hidden" not in note


def test_one_message_lists_all_bad_files(photos, tmp_path):
    import shutil

    root = tmp_path / "photos"
    shutil.copytree(photos, root, symlinks=True)
    reasons = bad_files(root / "蘑菇")
    with pytest.raises(DataError) as e:
        load_folder(root, 16)
    said = str(e.value)
    assert said.startswith(f"{root}: 6 of 63 ")
    assert "\n" not in said
    for name, reason in zip(
        ("empty.png", "half.jpg", "text.png", "bomb.png", "nowhere.png", "phone.heic"), reasons, strict=True
    ):
        assert reason in said.partition(f"蘑菇/{name}: ")[2].partition("; ")[0], name
    assert "UPPER" not in said
    for k in range(23):
        (root / "temple" / f"b{k:02}.png").write_bytes(b"")
    with pytest.raises(DataError, match="29 of 86 ") as e:
        load_folder(root, 16)
    said = str(e.value)
    assert "temple/b19.png: " in said
    assert " 9 more" in said
    assert "temple/b20.png" not in said
    with pytest.raises(DataError, match="6 of 43 "):
        read_images([root / "蘑菇"], (16, 16, 3))


def test_a_folder_is_scored_as_a_whole(photos, run, tmp_path, capfd):
    config, _, _ = run
    x, y = load_labelled(photos, ("temple", "蘑菇"), (16, 16, 3)).arrays.values()
    assert np.bincount(y).tolist() == [20, 37]
    accuracy = np.mean(probabilities(run, x).argmax(-1) == y)
    use_run(replace(config, evaluate=str(photos)), image_classifier, "image_classifier")
    said = capfd.readouterr().err
    assert f"{photos}: 57 images, 16x16x3, of 2 classes: temple 20, 蘑菇 37 (all images of the folder" in said
    assert "57 rows" in said
    with open(f"{config.workdir}/evaluations.json") as file:
        assert json.load(file)[str(photos)][0]["accuracy"] == pytest.approx(accuracy, abs=1e-6)


def test_the_test_part_and_some_of_the_classes(photos, run, tmp_path, capfd):
    test = inference(run).test
    (tmp_path / "test").mkdir()
    (tmp_path / "test/蘑菇").symlink_to(photos / "蘑菇")
    assert test(str(tmp_path)).arrays["y"].tolist() == [1] * 37  # its own only class is not class 0
    assert "test/" in capfd.readouterr().err.partition("(")[2]
    (tmp_path / "train").mkdir()
    (tmp_path / "train/temple").symlink_to(photos / "temple")
    assert test(str(tmp_path)).length == 37
    assert test(str(tmp_path / "train")).arrays["y"].tolist() == [0] * 20
    (tmp_path / "test").rename(tmp_path / "later")
    with pytest.raises(DataError, match=r"train/.* test/"):
        test(str(tmp_path))
    (tmp_path / "later/spoon").symlink_to(photos / "temple")
    with pytest.raises(DataError, match=r"later/spoon: .* temple, 蘑菇"):
        test(str(tmp_path / "later"))
    with pytest.raises(DataError, match=r"/temple/.*jpg: "):
        test(str(photos / "temple"))
    with pytest.raises(MissingData, match="/nothing: "):
        test(str(photos / "nothing"))
    with pytest.raises(FlagError, match=r"^--evaluate=digits: .*classes"):
        test("digits")


def test_predictions_for_odd_files(photos, run, capfd):
    config, _, _ = run
    use_run(replace(config, predict=str(photos / "蘑菇")), image_classifier, "image_classifier")
    with open(f"{config.workdir}/predictions.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    paths, x = read_images([photos / "蘑菇"], (16, 16, 3))
    assert [row["id"] for row in rows] == paths
    found = [[float(row[name]) for name in ("temple", "蘑菇")] for row in rows]
    np.testing.assert_allclose(found, probabilities(run, x), atol=1e-4)


RNG = np.random.default_rng(0)
GIVEN = {
    "colour": RNG.integers(0, 256, (5, 23, 19, 3), np.uint8),
    "its own size": RNG.integers(0, 256, (5, 16, 16, 3), np.uint8),
    "grey": RNG.integers(0, 256, (5, 23, 19), np.uint8),
    "grey of its own size": RNG.integers(0, 256, (5, 16, 16), np.uint8),
    "one channel": RNG.integers(0, 256, (5, 16, 16, 1), np.uint8),
    "alpha": RNG.integers(0, 256, (5, 16, 16, 4), np.uint8),
    "grey and alpha": RNG.integers(0, 256, (5, 23, 19, 2), np.uint8),
}


def saved(images, folder):
    """Saves images as files and returns their paths."""
    for k, image in enumerate(images):
        Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(folder / f"{k}.png")
    return [str(folder / f"{k}.png") for k in range(len(images))]


@pytest.mark.parametrize("name", first(GIVEN, 2))
def test_what_is_given_is_what_its_files_are(run, tmp_path, name):
    given = GIVEN[name]
    files = saved(given, tmp_path)
    use = inference(run)
    expected = use.read(files)[1].arrays["x"]
    assert expected.shape == (5, 16, 16, 3)
    pictures = [Image.open(file) for file in files]
    floats = given.astype(np.float32) / 255
    forms = (given, list(given), floats, floats.astype(np.float64), pictures, files, tmp_path, [files[0], given[1:]])
    for form in (*forms, [[files[0]], pictures[1], tuple(floats[2:])], np.array(files)):
        rows = use.encode(form)
        assert list(rows.arrays) == ["x"]
        assert rows.batch_size == 256
        assert rows.arrays["x"].dtype == np.uint8
        np.testing.assert_array_equal(rows.arrays["x"], expected)
    for one in (given[0], floats[0], pictures[0], files[0]):
        np.testing.assert_array_equal(use.encode(one).arrays["x"], expected[:1])
    assert use.decode is None


def test_a_run_of_floats_is_given_floats(tmp_path):
    config = image_classifier.Config(dataset="digits", seeds=1)
    data = image_classifier.data(config)
    use = image_classifier.inference(config, data)
    x = data.test.arrays["x"][:7]
    assert (x.dtype, x.shape) == (np.float32, (7, 8, 8, 1))
    for form in (x, x[..., 0], list(x), x.astype(np.float64)):
        rows = use.encode(form).arrays["x"]
        assert rows.dtype == np.float32
        np.testing.assert_array_equal(rows, x)  # not rounded to 256 levels
    np.testing.assert_array_equal(use.encode(x[3]).arrays["x"], x[3:4])
    np.testing.assert_array_equal(use.encode(x[3, ..., 0]).arrays["x"], x[3:4])
    large = RNG.integers(0, 256, (3, 23, 19, 3), np.uint8)  # of another size, and converted to grey
    files = saved(large, tmp_path)
    expected = use.read(files)[1].arrays["x"].astype(np.float32) / 255
    for form in (large, large / 255, files):
        rows = use.encode(form).arrays["x"]
        assert rows.dtype == np.float32
        np.testing.assert_array_equal(rows, expected)


def test_floats_are_rounded_and_narrow_images_are_not_taken_for_channels():
    x = np.array([0, 0.4, 1.4, 254.4, 254.6, 255]).reshape(1, 2, 3, 1) / 255
    assert encode_images(x, (2, 3, 1)).ravel().tolist() == [0, 0, 1, 254, 255, 255]
    assert encode_images(x[..., 0], (2, 3, 3))[0, ..., 2].ravel().tolist() == [0, 0, 1, 254, 255, 255]
    grey = RNG.integers(0, 256, (7, 5, 3), np.uint8)
    np.testing.assert_array_equal(encode_images(grey, (5, 3, 1))[..., 0], grey)  # 7 grey images of 5 x 3
    assert encode_images(grey, (5, 4, 1)).shape == (1, 5, 4, 1)  # one in colour
    np.testing.assert_array_equal(encode_images(grey, (7, 5, 3)), grey[None])
    np.testing.assert_array_equal(encode_images(grey[:3, :3], (3, 3, 3)), grey[None, :3, :3])  # its own shape wins


COLOUR = np.zeros((5, 16, 16, 3))
WRONG = {
    "floats to 255": (COLOUR + 255, "x / 255"),
    "floats from -1": (COLOUR - 1, r"\(x \+ 1\) / 2"),
    "floats just above 1": (COLOUR + 1.01, r"in 0\.\.1, got"),
    "not a number": (COLOUR + np.nan, "got nan"),
    "integers": (COLOUR.astype(int), "int64"),
    "booleans": (COLOUR > 0, "bool"),
    "channels first": (COLOUR.transpose(0, 3, 1, 2), r"np.moveaxis\(x, 1, -1\)"),
    "one, channels first": (COLOUR[0].transpose(2, 0, 1), r"np.moveaxis\(x, 0, -1\)"),
    "channels": (np.zeros((5, 16, 16, 5)), "channels"),
    "a number": (3.5, r"shape \[\]"),
    "numbers": ([0.5, 0.5], r"shape \[\]"),
    "nothing": ([], "no images"),
    "no rows": (COLOUR[:0], r"\[0, 16, 16, 3\]"),
    "one of several": ([COLOUR, COLOUR[0] * 2 - 1], r"\(x \+ 1\) / 2"),
    "a picture of floats": (Image.fromarray(np.zeros((16, 16), np.float32)), "32-bit"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_given(run, name):
    given, message = WRONG[name]
    with pytest.raises(ValueError, match=message) as e:
        inference(run).encode(given)
    assert "\n" not in str(e.value)


def test_files_that_cannot_be_given(run, tmp_path):
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(DataError, match=r"2 of 2 .*a.png: .*empty.*b.png: .*empty"):
        inference(run).encode([tmp_path / "a.png", str(tmp_path / "b.png")])
    with pytest.raises(MissingData, match=r"c.png: "):
        inference(run).encode([tmp_path / "c.png", COLOUR])
