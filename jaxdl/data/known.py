"""The data sets that are read from original files, and which files those are."""

from jaxdl.data.cifar import CIFAR10
from jaxdl.data.files import FileSet
from jaxdl.data.idx import SETS
from jaxdl.data.tables import BIKE_SHARING, CALIFORNIA_HOUSING
from jaxdl.data.text import TINYSHAKESPEARE, WIKITEXT2
from jaxdl.data.usps import USPS

# by the names that --dataset takes
KNOWN: dict[str, FileSet] = {
    **SETS,
    "usps": USPS,
    "cifar10": CIFAR10,
    "california_housing": CALIFORNIA_HOUSING,
    "bike_sharing": BIKE_SHARING,
    "tinyshakespeare": TINYSHAKESPEARE,
    "wikitext2": WIKITEXT2,
}
