"""Folders of class folders: layouts, conversions, and one line for every error."""

import os
import re
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from PIL import Image

from jaxdl.data import DataError, MissingData, load_folder, load_labelled, read_images

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (7, 5), np.uint8)  # [H, W]
RGB = RNG.integers(0, 256, (7, 5, 3), np.uint8)


def save(path, pixels=GREY, mode=None, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(path, **options)
    return path


def classes(root, counts=(7, 5), pixels=GREY):
    """Creates class folders b0, b1, ...; image k of class c has the given pixels + 10 c + k."""
    for c, count in enumerate(counts):
        for k in range(count):
            save(root / f"b{c}" / f"{k}.png", pixels + np.uint8(10 * c + k))
    return root


def complaint(root, **options):
    with pytest.raises((DataError, MissingData)) as e:
        load_folder(root, **options)
    assert "\n" not in str(e.value)
    return str(e.value)


def test_split_layout(tmp_path):
    classes(tmp_path / "train", (3, 2, 5))
    save(tmp_path / "test/b2/x.png", GREY)
    save(tmp_path / "test/b2/y.png", GREY)
    save(tmp_path / "test/b0/x.png", GREY + np.uint8(1))
    save(tmp_path / "val/b0/x.png", GREY)
    images = load_folder(tmp_path, valid=0)
    assert images.valid is None
    assert (images.name, images.original) == (str(tmp_path), True)
    assert images.names == ("b0", "b1", "b2")
    assert images.train["y"].tolist() == [0] * 3 + [1] * 2 + [2] * 5
    assert images.test["y"].tolist() == [0, 2, 2]
    assert (images.train["x"].shape, images.train["x"].dtype) == ((10, 7, 5, 1), np.uint8)
    assert images.test["y"].dtype == np.int32
    np.testing.assert_array_equal(images.test["x"][:, :, :, 0], [GREY + np.uint8(1), GREY, GREY])
    np.testing.assert_array_equal(images.train["x"][4, :, :, 0], GREY + np.uint8(11))
    assert images.note.startswith(f"{tmp_path}: 10 training and 3 test images, 7x5x1, 3 classes: b0 4, b1 2, b2 7 ")
    assert "no test images of b1" in images.note
    assert ": val/)" in images.note


def numbers(part):
    """Returns 10 c + k of the images that `classes` saved."""
    return (part["x"][..., 0] - GREY)[:, 0, 0].tolist()


def test_a_validation_part_of_train(tmp_path):
    classes(tmp_path / "train", (10, 7))
    classes(tmp_path / "test", (2, 3))
    whole, images, other = (load_folder(tmp_path, seed=seed, valid=part) for seed, part in ((0, 0), (0, 0.3), (1, 0.3)))
    assert whole.valid is None
    assert numbers(whole.train) == [*range(10), *range(10, 17)]
    assert sorted(numbers(images.train) + numbers(images.valid)) == numbers(whole.train)
    assert numbers(images.valid) != numbers(other.valid)
    assert np.bincount(images.valid["y"]).tolist() in ([4, 2], [3, 3])
    assert all(y == (number >= 10) for number, y in zip(numbers(images.valid), images.valid["y"], strict=True))
    np.testing.assert_array_equal(images.test["x"], whole.test["x"])
    assert images.note.startswith(
        f"{tmp_path}: 11 training, 6 validation and 5 test images, 7x5x1, 2 classes: b0 12, b1 10 "
    )
    assert re.search("0.3 of train/.*seed 0", images.note)


@pytest.mark.parametrize("name", ["valid", "val"])
def test_a_folder_of_validation_images(tmp_path, name):
    classes(tmp_path / "train", (3, 2, 5))
    classes(tmp_path / "test", (1, 1))
    save(tmp_path / "val/b1/x.png", GREY + np.uint8(77))
    for c in (0, 2):
        save(tmp_path / name / f"b{c}/x.png", GREY + np.uint8(90 + c))
    images = load_folder(tmp_path)
    assert numbers(images.train) == [0, 1, 2, 10, 11, 20, 21, 22, 23, 24]
    assert numbers(images.valid) == ([90, 92] if name == "valid" else [90, 77, 92])
    assert images.valid["y"].tolist() == ([0, 2] if name == "valid" else [0, 1, 2])
    assert f"10 training, {len(images.valid['y'])} validation and 2 test images" in images.note
    assert f"train/, {name}/ and test/" in images.note
    assert "no test images of b2" in images.note
    assert (": val/)" in images.note) == (name == "valid")
    with pytest.raises(ValueError, match="valid=1"):
        load_folder(tmp_path, valid=1)
    save(tmp_path / name / "c/x.png")
    assert re.match(f"{tmp_path}/{name}/c: .*train/.* b0, b1, b2", complaint(tmp_path))


def test_small_classes_train_and_the_smallest_say_how(tmp_path):
    images = load_folder(classes(tmp_path / "three", (3, 3)))
    assert [len(part["y"]) for part in (images.train, images.valid, images.test)] == [3, 1, 2]
    assert set(images.train["y"].tolist()) == {0, 1}
    classes(tmp_path / "one/train", (1, 1))
    classes(tmp_path / "one/test", (1, 1))
    assert re.match(f"{tmp_path}/one/train: .*--valid_fraction=0", complaint(tmp_path / "one"))
    assert len(load_folder(tmp_path / "one", valid=0).train["y"]) == 2
    with pytest.raises(ValueError, match="valid=1"):
        load_folder(tmp_path / "one", valid=1)


def test_a_split_is_made_where_there_is_none(tmp_path):
    images, again, other = (load_folder(classes(tmp_path, (20, 10)), seed=seed) for seed in (0, 0, 1))
    whole = load_folder(tmp_path, valid=0)
    # as before there were validation parts
    assert numbers(images.test) == numbers(whole.test) == [11, 0, 16, 2, 17, 5]
    assert numbers(whole.train)[:12] == [6, 17, 3, 18, 13, 4, 10, 14, 19, 13, 15, 1]
    assert numbers(whole.train)[12:] == [18, 16, 9, 8, 12, 19, 7, 15, 14, 11, 10, 12]
    np.testing.assert_array_equal(images.train["x"], again.train["x"])
    assert not np.array_equal(images.train["x"], other.train["x"])
    assert np.bincount(images.test["y"]).tolist() == [4, 2]
    assert np.bincount(images.valid["y"]).tolist() in ([2, 1], [1, 2])
    for part in (images.train, images.valid, images.test):
        for x, y in zip(part["x"][..., 0], part["y"], strict=True):
            assert (x - GREY).min() == (x - GREY).max()
            assert (x - GREY)[0, 0] in (range(20) if y == 0 else range(10, 20))
    every = numbers(images.train) + numbers(images.valid) + numbers(images.test)
    assert sorted(every) == sorted([*range(20), *range(10, 20)])
    assert "21 training, 3 validation and 6 test images" in images.note
    assert re.search("fifth.* 0.1 .*seed 0", images.note)
    assert re.search("fifth.*seed 0", whole.note)
    assert "validation" not in whole.note


def one(tmp_path, pixels, name="0.png", **options):
    """Saves pixels in a folder of grey images of the same size, and returns the image that is read, and its shape."""
    classes(tmp_path, (2, 7))
    file = save(tmp_path / "a" / name, pixels, **options)
    save(tmp_path / "a" / "z.png", GREY)
    images = load_folder(tmp_path)
    shape = images.train["x"].shape[1:]
    return read_images([file], shape)[1][0], shape


def test_grey_stays_grey(tmp_path):
    x, shape = one(tmp_path, GREY)
    assert shape == (7, 5, 1)
    np.testing.assert_array_equal(x[..., 0], GREY)


def test_one_image_in_colour_makes_all_so(tmp_path):
    x, shape = one(tmp_path, RGB)
    assert shape == (7, 5, 3)
    np.testing.assert_array_equal(x, RGB)
    np.testing.assert_array_equal(read_images([tmp_path / "a/z.png"], shape)[1][0], np.stack([GREY] * 3, -1))
    grey = read_images([tmp_path / "a/0.png"], (7, 5, 1))[1][0, ..., 0]
    np.testing.assert_allclose(grey, RGB @ [0.299, 0.587, 0.114], atol=1)  # ITU-R 601, as in Pillow's documentation


@pytest.mark.parametrize("mode", ["LA", "1", "I;16"])
def test_grey_modes(tmp_path, mode):
    if mode == "LA":
        alpha = RNG.integers(0, 256, GREY.shape, np.uint8)
        picture = Image.merge("LA", [Image.fromarray(GREY), Image.fromarray(alpha)])
        expected = (GREY * (alpha / 255) + 255 * (1 - alpha / 255)).round()
    elif mode == "1":
        picture, expected = Image.fromarray(GREY > 99), 255 * (GREY > 99)
    else:
        wide = RNG.integers(0, 65536, GREY.shape, np.uint16)
        picture, expected = Image.fromarray(wide), wide // 256
    x, shape = one(tmp_path, picture)
    assert shape == (7, 5, 1)
    np.testing.assert_allclose(x[..., 0].astype(int), expected, atol=mode == "LA")


def test_transparency_is_laid_on_white(tmp_path):
    alpha = RNG.integers(0, 256, (7, 5, 1), np.uint8)
    x, shape = one(tmp_path, np.concatenate([RGB, alpha], -1))
    assert shape == (7, 5, 3)
    np.testing.assert_allclose(x, RGB * (alpha / 255) + 255 * (1 - alpha / 255), atol=1)


def test_palette(tmp_path):
    picture = Image.fromarray(RGB).quantize(8)
    x, _ = one(tmp_path, picture, transparency=0)
    expected = np.array(picture.convert("RGB"))
    expected[np.array(picture) == 0] = 255
    np.testing.assert_array_equal(x, expected)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(tmp_path, orientation):
    """Tests the eight values, which the EXIF standard defines by the sides of row 0 and column 0 of the file."""
    upright = GREY
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.T,
        6: upright.T[::-1],  # row 0 of the file is the right side, column 0 the top
        7: upright.T[::-1, ::-1],
        8: upright.T[:, ::-1],
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    x, shape = one(tmp_path, np.ascontiguousarray(stored), exif=exif)
    assert shape == (7, 5, 1)
    np.testing.assert_array_equal(x[..., 0], upright)


def test_jpeg(tmp_path):
    picture = np.full((7, 5, 3), (200, 30, 90), np.uint8)
    for name, mode in (("0.JPG", "RGB"), ("1.jpeg", "CMYK")):
        x, _ = one(tmp_path, picture, name, mode=mode, quality=95)
        assert np.abs(x.astype(int) - picture).max() < 10


@pytest.mark.parametrize(("size", "shape"), [(3, (3, 3)), ((3, 5), (3, 5))])
def test_scaled_until_it_covers_then_cut(tmp_path, size, shape):
    wide = np.zeros((30, 90), np.uint8)
    wide[:, 30:60] = 100  # a square keeps only the middle third
    classes(tmp_path, (2, 7))
    save(tmp_path / "b0/wide.png", wide)
    images = load_folder(tmp_path, size)
    assert images.train["x"].shape[1:] == (*shape, 1)
    assert "scaled" in images.note
    # Pillow's triangle filter extends half a pixel over the edge, with an eighth of its weight.
    x = read_images([tmp_path / "b0/wide.png"], (3, 3, 1))[1][0, :, :, 0]
    np.testing.assert_allclose(x, [[87.5, 100, 87.5]] * 3, atol=1)
    tall = save(tmp_path / "tall.png", np.repeat(np.array([[0], [77], [255]], np.uint8), 30, 0).repeat(30, 1))
    x = read_images([tall], (3, 3, 1))[1][0, :, :, 0]
    np.testing.assert_allclose(x.T, [[77 * 7 / 8, 77, 77 * 7 / 8 + 255 / 8]] * 3, atol=1)


def test_large_jpeg_is_reduced_while_it_is_read(tmp_path):
    ramp = np.tile(np.arange(256, dtype=np.uint8).repeat(4), (1024, 1))
    x = read_images([save(tmp_path / "0.jpg", ramp, quality=95)], (8, 8, 1))[1][0, :, :, 0]
    expected = ramp.reshape(8, 128, 8, 128).mean((1, 3))
    np.testing.assert_allclose(x[:, 1:-1], expected[:, 1:-1], atol=3)


def test_files_without_an_image_extension_are_ignored_and_listed(tmp_path):
    root = classes(tmp_path / "x")
    for name in (".DS_Store", "Thumbs.db", "b0/.hidden.png", "b0/thumbs.DB", "b1/labels.csv", ".git/config", "README"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes(b"x")
    images = load_folder(root)
    assert images.names == ("b0", "b1")
    assert len(images.train["y"]) + len(images.valid["y"]) + len(images.test["y"]) == 12
    assert images.note.endswith(": README, Thumbs.db, b0/thumbs.DB, b1/labels.csv)")
    assert len(read_images([root / "b0"], (7, 5, 1))[0]) == 7
    parts = tmp_path / "y"
    parts.mkdir()
    root.rename(parts / "train")
    classes(parts / "test")
    classes(parts / "val")
    (parts / "test/b1/notes.md").write_text("x")
    (parts / "LICENSE").write_text("x")
    note = load_folder(parts).note
    listed = "LICENSE, test/b1/notes.md, train/README, train/Thumbs.db, train/b0/thumbs.DB, train/b1/labels.csv)"
    assert note.endswith(f": {listed}")


@pytest.mark.parametrize(("ending", "options"), [
    ("bmp", {}), ("tif", {}), ("TIFF", {"compression": "jpeg", "quality": 100}), ("webp", {"lossless": True}),
    ("gif", {}), ("jfif", {"format": "JPEG", "quality": 100, "subsampling": 0}),
    ("jpg", {"format": "WEBP", "lossless": True}),
])  # fmt: skip
def test_formats(tmp_path, ending, options):
    colours = np.array([[200, 30, 90], [0, 255, 7], [31, 31, 31]], np.uint8)[np.arange(35).reshape(7, 5) % 3]
    pixels = np.full((7, 5, 3), colours[0, 0]) if "quality" in options else colours
    x, shape = one(tmp_path, pixels, f"0.{ending}", **options)
    assert shape == (7, 5, 3)
    np.testing.assert_allclose(x.astype(int), pixels, atol=2 if "quality" in options else 0)


def test_a_turned_tiff_is_turned_once(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    x, shape = one(tmp_path, np.ascontiguousarray(GREY.T[::-1]), "0.tif", exif=exif)
    assert shape == (7, 5, 1)
    np.testing.assert_array_equal(x[..., 0], GREY)


def test_the_first_of_several_frames_counts(tmp_path):
    for name in ("a.gif", "b.tif", "c.webp"):
        options = {"lossless": True} if name == "c.webp" else {}
        frames = [Image.fromarray(GREY), Image.fromarray(255 - GREY)]
        save(tmp_path / name, frames[0], save_all=True, append_images=frames[1:], **options)
        np.testing.assert_array_equal(read_images([tmp_path / name], (7, 5, 1))[1][0, ..., 0], GREY)


def test_notes_list_conversions(tmp_path):
    classes(tmp_path)
    assert "converted" not in load_folder(tmp_path).note
    for name in "ab":
        save(tmp_path / f"b0/{name}.png", np.concatenate([RGB, GREY[..., None]], -1))
    save(tmp_path / "b1/c.png", RGB)
    assert "; converted: 12 grey, 2 RGBA" in load_folder(tmp_path).note
    save(tmp_path / "b1/d.png", np.zeros((1, 1), np.uint8))
    assert "; converted: 13 grey, 2 RGBA, 1 1x1" in load_folder(tmp_path, 4).note


def test_many_classes_are_counted(tmp_path):
    images = load_folder(classes(tmp_path, (5,) * 23))
    assert ", 23 classes: b0 5, b1 5, b10 5, " in images.note
    assert " and 3 more (" in images.note


def test_bad_files_of_all_kinds_are_listed_with_their_reasons(tmp_path):
    classes(tmp_path)
    save(tmp_path / "b0/large.png", np.zeros((11, 3), np.uint8))
    (tmp_path / "b1/empty.png").write_bytes(b"")
    said = complaint(tmp_path)
    assert re.match(f"{tmp_path}: 2 of 14 .*b0/large.png: .*3x11.*5x7.*b1/empty.png: .*empty", said)
    assert "--image_size=5" in said
    assert complaint(tmp_path, size=5).startswith(f"{tmp_path}/b1/empty.png: ")
    for k in range(7):
        (tmp_path / f"b0/{k}.png").write_bytes(b"x")
        (tmp_path / f"b1/{k}.png").write_bytes(b"x")
    (tmp_path / "b0/large.png").unlink()
    assert "15 of 15 " in complaint(tmp_path)


def labelled(*arguments):
    arrays, note = load_labelled(*arguments)
    return arrays["x"], arrays["y"], note


def test_all_labelled_images_for_a_model(tmp_path):
    classes(tmp_path, (3, 2, 5))
    names = ("a", "b2", "b1", "b0")
    x, y, note = labelled(tmp_path, names, (7, 5, 1))
    assert (x.dtype, y.dtype) == (np.uint8, np.int32)
    assert y.tolist() == [3] * 3 + [2] * 2 + [1] * 5
    assert (x[..., 0] - GREY)[:, 0, 0].tolist() == [0, 1, 2, 10, 11, 20, 21, 22, 23, 24]
    assert note.startswith(f"{tmp_path}: 10 images, 7x5x1, of 3 classes: b2 5, b1 2, b0 3 (")
    assert labelled(tmp_path, names, (4, 9, 3))[0].shape == (10, 4, 9, 3)
    assert re.match(f"{tmp_path}/b1: .*model.* b0, b2", complaint_of(tmp_path, ("b0", "b2")))
    (tmp_path / "b1/x.png").write_bytes(b"")
    (tmp_path / "b1/y.png").write_bytes(b"")
    assert re.match(f"{tmp_path}: 2 of 12 .*b1/x.png: .*b1/y.png: ", complaint_of(tmp_path, names))
    (tmp_path / "empty").mkdir()
    assert complaint_of(tmp_path / "empty", names).startswith(f"{tmp_path}/empty: ")
    with pytest.raises(MissingData, match=f"{tmp_path}/none: "):
        load_labelled(tmp_path / "none", names, (7, 5, 1))


def test_the_test_part_for_a_model(tmp_path):
    classes(tmp_path / "test", (3,))
    names = ("b1", "b0")
    for train in (False, True):
        if train:
            classes(tmp_path / "train", (4, 4))
        _, y, note = labelled(tmp_path, names, (7, 5, 1))
        assert y.tolist() == [1] * 3
        assert note.startswith(f"{tmp_path}/test: 3 images, 7x5x1, of 1 class: b0 3 (")
    (tmp_path / "test").rename(tmp_path / "tested")
    assert re.match(f"{tmp_path}: .*train/.* test/", complaint_of(tmp_path, names))


def complaint_of(root, names):
    with pytest.raises(DataError) as e:
        load_labelled(root, names, (7, 5, 1))
    assert "\n" not in str(e.value)
    return str(e.value)


def test_classes_called_train_and_plane(tmp_path):
    for name in ("train", "plane"):
        for k in range(5):
            save(tmp_path / name / f"{k}.png")
    assert load_folder(tmp_path).names == ("plane", "train")


def test_files_and_folders_to_predict(tmp_path):
    classes(tmp_path / "d", (3, 2))
    lone = save(tmp_path / "photo", RGB, format="PNG")  # a file that is named need not be called .png
    paths, x = read_images([tmp_path / "d/b1", lone], (7, 5, 3))
    assert paths == [str(tmp_path / p) for p in ("d/b1/0.png", "d/b1/1.png", "photo")]
    assert (x.shape, x.dtype) == ((3, 7, 5, 3), np.uint8)
    np.testing.assert_array_equal(x[1, ..., 0], GREY + np.uint8(11))
    np.testing.assert_array_equal(x[2], RGB)
    for files, message in (
        ([], "no image files"),
        ([tmp_path / "no.png"], "no.png: "),
        ([tmp_path / "d"], "d/b0: .*folder"),
    ):
        with pytest.raises((DataError, MissingData), match=message):
            read_images(files, (7, 5, 3))


def png_header(width, height):
    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    size = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + chunk(b"IDAT", zlib.compress(bytes(99)))


def halved(path):
    content = save(path, RNG.integers(0, 256, (97, 89), np.uint8)).read_bytes()
    path.write_bytes(content[: len(content) // 2])


WRONG = {
    "an image in the root": (lambda r: save(r / "x.png"), "/x.png: "),
    "another format": (lambda r: save(r / "b0/a.ppm"), "b0/a.ppm: .*PNG, JPEG, WebP, BMP, GIF or TIFF"),
    "a class without images": (lambda r: save(r / "c/a.png").rename(r / "c/a"), "/c: .*no images.* a; .*PNG"),
    "an empty class": (lambda r: (r / "c").mkdir(), "/c: .*no images.*PNG"),
    "a deeper folder": (lambda r: save(r / "b0/c/x.png"), "b0/c: .*folder"),
    "a loop of links": (lambda r: (r / "b0/x").symlink_to(r), "b0/x: .*folder"),
    "a link to itself": (lambda r: (r / "b0/x.png").symlink_to(r / "b0/x.png"), "b0/x.png: .*link"),
    "a pipe": (lambda r: os.mkfifo(r / "b0/x.png"), "b0/x.png: .*regular file"),
    "an empty file": (lambda r: (r / "b0/x.png").write_bytes(b""), "b0/x.png: .*empty"),
    "text called png": (lambda r: (r / "b0/x.png").write_text("hello"), "b0/x.png: .*PNG, JPEG"),
    "PPM called jpg": (lambda r: save(r / "b0/x.jpg", format="PPM"), "b0/x.jpg: .*PNG, JPEG"),
    "floats": (lambda r: save(r / "b0/x.tif", GREY / np.float32(255)), "b0/x.tif: .*32-bit"),
    "32 bits": (lambda r: save(r / "b0/x.tif", GREY.astype(np.int32)), "b0/x.tif: .*32-bit"),
    "half a PNG": (lambda r: halved(r / "b0/x.png"), "b0/x.png: .*truncated"),
    "half a JPEG": (lambda r: halved(r / "b0/x.jpg"), "b0/x.jpg: .*truncated"),
    "a bomb": (lambda r: (r / "b0/x.png").write_bytes(png_header(10**5, 10**5)), "b0/x.png: .*pixels"),
    "a small bomb": (lambda r: (r / "b0/x.png").write_bytes(png_header(10**4, 10**4)), "b0/x.png: .*pixels"),
    "one image in a class": (lambda r: save(r / "c/x.png"), "/c: .*one image"),
    "test without train": (lambda r: save(r / "test/c/x.png"), ": .*test/.* train/"),
    "train without test": (lambda r: save(r / "train/c/x.png"), ": .*train/.* test/"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_one_line_names_what_is_wrong(tmp_path, name):
    classes(tmp_path)
    change, message = WRONG[name]
    change(tmp_path)
    said = complaint(tmp_path)
    assert re.match(f"{tmp_path}.*{message}", said)


def test_wrong_roots(tmp_path):
    root = tmp_path / "root"
    assert "--data_dir" in complaint(None)
    assert complaint(root).startswith(f"{root}: ")
    root.mkdir()
    assert re.match(f"{root}: .*no class folders", complaint(root))
    save(root / "a/x.png")
    assert re.match(f"{root}: .*class folder 'a'", complaint(root))
    assert complaint(root / "a/x.png").startswith(f"{root}/a/x.png: ")
    for c in "abcdef":
        for k in range(2):
            save(root / c / f"{k}.png")
    assert re.match(rf"{root}: 13 images of 6 classes.*\b3\b", complaint(root))


def test_wrong_train_and_test(tmp_path):
    classes(tmp_path / "train")
    classes(tmp_path / "test", (1, 1, 2))
    assert re.match(f"{tmp_path}/test/b2: .*train/.* b0, b1", complaint(tmp_path))
    for part in ("train", "test"):
        for k in range(5):
            save(tmp_path / "flat" / part / f"{k}.png")
    assert complaint(tmp_path / "flat").startswith(f"{tmp_path}/flat/train/0.png: ")


def test_sizes_say_what_would_make_them_one(tmp_path):
    classes(tmp_path)
    save(tmp_path / "b1/x.png", np.zeros((3, 11), np.uint8))
    said = complaint(tmp_path)
    assert re.match(f"{tmp_path}/b1/x.png: .*11x3.*5x7.*--image_size=5", said)
    assert load_folder(tmp_path, size=5).train["x"].shape[1:] == (5, 5, 1)
    with pytest.raises(ValueError, match="size=0"):
        load_folder(tmp_path, size=0)


def test_too_many_pixels_for_memory(tmp_path, monkeypatch):
    monkeypatch.setattr("jaxdl.data.image_files.LIMIT", 100)
    said = complaint(classes(tmp_path))
    assert re.search("12 images of 5x7 .*420 bytes.* 100", said)
    assert said.endswith("JAXDL_MAX_IMAGE_BYTES=420")
    monkeypatch.setenv("JAXDL_MAX_IMAGE_BYTES", "420")
    assert load_folder(tmp_path).names == ("b0", "b1")
    monkeypatch.setenv("JAXDL_MAX_IMAGE_BYTES", "large")
    assert "JAXDL_MAX_IMAGE_BYTES='large'" in complaint(tmp_path)


@pytest.mark.claims
def test_a_tiff_is_read_where_stderr_is_closed_and_leaves_it_as_it_was(tmp_path):
    save(tmp_path / "x.tif", RGB, compression="tiff_lzw")
    code = f"""if True:
        import os
        from jaxdl.data import read_images
        read = lambda: read_images([{str(tmp_path / "x.tif")!r}], (7, 5, 3))[1].shape
        before = os.fstat(2), os.listdir("/dev/fd")
        read()
        assert (os.fstat(2), os.listdir("/dev/fd")) == before
        os.close(2)
        print(read())"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100)
    assert (done.stdout, done.stderr) == ("(1, 7, 5, 3)\n", "")


@pytest.mark.parametrize("name", ["x.png", "x.jpg", "x.webp", "x.bmp", "x.gif", "x.tif"])
def test_flipped_bytes_are_refused_or_read_never_worse(tmp_path, name, capfd):
    options = {"compression": "tiff_lzw"} if name == "x.tif" else {"exif": Image.Exif()}
    content = save(tmp_path / name, RGB, **options).read_bytes()
    rng = np.random.default_rng(0)
    for at, change in zip(rng.integers(0, len(content), 200), rng.integers(1, 256, 200), strict=True):
        (tmp_path / name).write_bytes(content[:at] + bytes([content[at] ^ change]) + content[at + 1 :])
        said = ""
        try:
            assert read_images([tmp_path / name], (7, 5, 3))[1].shape == (1, 7, 5, 3)
        except DataError as e:
            said = str(e)
        assert "\n" not in said
    assert capfd.readouterr() == ("", "")
