import jax.numpy as jnp
import numpy as np
import pytest

from jaxdl.data import Field, check_fields

FIELDS = {
    "x": Field(("B", 13), np.floating, "feature vectors"),
    "y": Field(("B",), np.integer, "labels", 0, 2),
    "image": Field(("B", "H", "H", 3), np.uint8),
}
GOOD = {"x": np.zeros((5, 13)), "y": np.array([0, 1, 2, 0, 1]), "image": np.zeros((5, 7, 7, 3), np.uint8)}


def test_a_good_batch_of_any_size_passes():
    check_fields(GOOD, FIELDS)
    check_fields({name: jnp.asarray(values[:0]) for name, values in GOOD.items()}, FIELDS)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"z": np.zeros(5)}, r"^z: no such field; a batch has x, y, image"),
        ({"x": None}, r"^x: missing; must be floating \[B, 13\] \(feature vectors\)"),
        ({"x": np.zeros((5, 11))}, r"^x: .*\[B, 13\].*got shape \[5, 11\]"),
        ({"x": np.zeros(13)}, r"^x: .*got shape \[13\]"),
        ({"y": np.zeros((5, 1), int)}, r"^y: .*integer \[B\] from 0 to 2 \(labels\), got shape \[5, 1\]"),
        ({"y": np.zeros(3, int)}, r"^y: .*where B=5 as in x, got shape \[3\]"),
        ({"image": np.zeros((5, 7, 11, 3), np.uint8)}, r"^image: .*where H=7 as in image"),
        ({"x": np.zeros((5, 13), int)}, r"^x: .*got dtype int64"),
        ({"image": np.zeros((5, 7, 7, 3), np.int8)}, r"^image: must be uint8 .*got dtype int8"),
        ({"y": np.array([0, 1, 2, 3, 0])}, r"^y: .*from 0 to 2.*got 0 to 3"),
        ({"y": np.array([0, 1, 2, -1, 0])}, r"^y: .*got -1 to 2"),
        ({"x": np.where(np.arange(65).reshape(5, 13) == 17, np.nan, 0)}, r"^x: must be finite, got nan at \[1, 4\]"),
    ],
)
def test_the_field_that_is_wrong_is_named(changes, words):
    batch = {name: values for name, values in (GOOD | changes).items() if values is not None}
    with pytest.raises(ValueError, match=words):
        check_fields(batch, FIELDS)
