"""Readers of original file formats, sets that come with the installed libraries, splits, batches, augmentation."""

from jaxdl.data.augment import batched, compose, flip, noise, resized, rotate, rotate_by, shift
from jaxdl.data.batches import Batches, Order, shuffled
from jaxdl.data.errors import DataError, MissingData
from jaxdl.data.files import read_text
from jaxdl.data.folder import load_folder, read_images
from jaxdl.data.glyphs import render_glyphs
from jaxdl.data.idx import read_idx
from jaxdl.data.images import IMAGE_SETS, Images, load_images, pixels01
from jaxdl.data.parts import Data
from jaxdl.data.rows import Rows, encode_rows, scaled_parts
from jaxdl.data.splits import hold_out, k_folds, split
from jaxdl.data.tables import TABLES, Table, column_scales, encode_csv, load_table, read_csv, standardize
from jaxdl.data.text import TEXTS, Text, first_windows, load_text, streams, windows
from jaxdl.data.toys import noisy_line

__all__ = [
    "IMAGE_SETS",
    "TABLES",
    "TEXTS",
    "Batches",
    "Data",
    "DataError",
    "Images",
    "MissingData",
    "Order",
    "Rows",
    "Table",
    "Text",
    "batched",
    "column_scales",
    "compose",
    "encode_csv",
    "encode_rows",
    "first_windows",
    "flip",
    "hold_out",
    "k_folds",
    "load_folder",
    "load_images",
    "load_table",
    "load_text",
    "noise",
    "noisy_line",
    "pixels01",
    "read_csv",
    "read_idx",
    "read_images",
    "read_text",
    "render_glyphs",
    "resized",
    "rotate",
    "rotate_by",
    "scaled_parts",
    "shift",
    "shuffled",
    "split",
    "standardize",
    "streams",
    "windows",
]
