"""Readers for original file formats, data sets bundled with installed libraries, splits, batches, augmentation."""

from jaxdl.data import augment
from jaxdl.data.batches import Batches, Order, shuffled
from jaxdl.data.csv_columns import Reading
from jaxdl.data.csv_schema import columns_named
from jaxdl.data.csv_table import Encoded, encode_columns
from jaxdl.data.errors import DataError, MissingData
from jaxdl.data.fields import Field, check_fields
from jaxdl.data.files import read_text
from jaxdl.data.folder import load_folder, load_labelled, read_images
from jaxdl.data.frames import columns_of
from jaxdl.data.glyphs import render_glyphs
from jaxdl.data.idx import read_idx
from jaxdl.data.image_arrays import encode_images
from jaxdl.data.images import IMAGE_SETS, Images, load_images, pixels01, pixels11
from jaxdl.data.parts import Data
from jaxdl.data.rows import SPLITS, Rows, encode_rows, scaled_parts
from jaxdl.data.splits import hold_out, k_folds, split
from jaxdl.data.streamed import Stream
from jaxdl.data.tables import TABLES, Table, column_scales, encode_csv, load_table, read_csv, standardize
from jaxdl.data.text import TEXTS, Text, first_windows, load_text, streams, windows
from jaxdl.data.toys import noisy_line

__all__ = [
    "IMAGE_SETS",
    "SPLITS",
    "TABLES",
    "TEXTS",
    "Batches",
    "Data",
    "DataError",
    "Encoded",
    "Field",
    "Images",
    "MissingData",
    "Order",
    "Reading",
    "Rows",
    "Stream",
    "Table",
    "Text",
    "augment",
    "check_fields",
    "column_scales",
    "columns_named",
    "columns_of",
    "encode_columns",
    "encode_csv",
    "encode_images",
    "encode_rows",
    "first_windows",
    "hold_out",
    "k_folds",
    "load_folder",
    "load_images",
    "load_labelled",
    "load_table",
    "load_text",
    "noisy_line",
    "pixels01",
    "pixels11",
    "read_csv",
    "read_idx",
    "read_images",
    "read_text",
    "render_glyphs",
    "scaled_parts",
    "shuffled",
    "split",
    "standardize",
    "streams",
    "windows",
]
