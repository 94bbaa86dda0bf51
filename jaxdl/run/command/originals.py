"""URLs, sizes and digests of the original files of data sets."""

from collections.abc import Mapping
from typing import NamedTuple

from jaxdl.data.idx import FILES


class File(NamedTuple):
    """One file on a server; `url` is the URL of its folder and ends in a slash."""

    url: str
    name: str
    size: int
    sha256: str


class Source(NamedTuple):
    """A data set: its folder below data_dir, its files, and the members to extract if the file is an archive.

    members: path in the archive and below `folder` -> the published md5, which identifies a file that exists already.
    A downloaded archive is verified by its SHA-256.
    unpacked: upper bound on the unpacked size of the archive in bytes.
    """

    folder: str
    files: tuple[File, ...]
    members: Mapping[str, str] = {}
    unpacked: int = 0


def _idx(url: str, *pairs: tuple[int, str]) -> tuple[File, ...]:
    return tuple(File(url, f"{name}.gz", *pair) for name, pair in zip(FILES, pairs, strict=True))


SOURCES: dict[str, Source] = {
    # The original server, yann.lecun.com, no longer provides these files. This copy has the md5 that
    # torchvision lists: f68b3c2d..., d53e105e..., 9fb629c4..., ec29112d...
    "mnist": Source(
        "mnist",
        _idx(
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
            (9_912_422, "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"),
            (28_881, "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"),
            (1_648_877, "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"),
            (4_542, "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"),
        ),
    ),
    # md5 in its README: 8d4fb7e6..., 25c81989..., bef4ecab..., bb300cfd...
    "fashion_mnist": Source(
        "fashion-mnist",
        _idx(
            "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/"
            "b2617bb6d3ffa2e429640350f613e3291e10b141/data/fashion/",
            (26_421_880, "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84"),
            (29_515, "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845"),
            (4_422_102, "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073"),
            (5_148, "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5"),
        ),
    ),
    # SHA-256 as in keras/datasets/cifar10.py; md5 c58f30108f718f92721af3b95e74349a on cs.toronto.edu/~kriz/cifar.html;
    # md5 of the members as in torchvision/datasets/cifar.py.
    "cifar10": Source(
        "cifar10",
        (
            File(
                "https://www.cs.toronto.edu/~kriz/",
                "cifar-10-python.tar.gz",
                170_498_071,
                "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
            ),
        ),
        {
            "cifar-10-batches-py/data_batch_1": "c99cafc152244af753f735de768cd75f",
            "cifar-10-batches-py/data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
            "cifar-10-batches-py/data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
            "cifar-10-batches-py/data_batch_4": "634d18415352ddfa80567beed471001a",
            "cifar-10-batches-py/data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
            "cifar-10-batches-py/test_batch": "40351d587109b95175f43aff81a1287e",
        },
        unpacked=190_000_000,  # six batches of 31.04 MB
    ),
    "tinyshakespeare": Source(
        "tinyshakespeare",
        (
            File(
                "https://raw.githubusercontent.com/karpathy/char-rnn/"
                "6f9487a6fe5b420b7ca9afb0d7c078e37c1d1b4e/data/tinyshakespeare/",
                "input.txt",
                1_115_394,
                "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
            ),
        ),
    ),
}
