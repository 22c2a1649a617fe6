"""Published files: where they come from, their digests, and who published those.

To add a data set of images, add its files to FILES and what they must hold to IMAGES.
No digest here is our own: each was read in the list named beside it.
"""

from __future__ import annotations

from typing import NamedTuple

TFDS = "tensorflow/datasets, tensorflow_datasets/url_checksums/"


class File(NamedTuple):
    """One file of a data set.

    Attributes:
        group: the data set, and its folder in the cache.
        name: of the file, in the data folder as in the cache.
        address: to download it from.
        digest: `sha256:...` or `md5:...`; empty where none is published: such a file is
            unverified, its digest printed at the first download and pinned from then on.
        source: repository and path of the list that has the digest.
    """

    group: str
    name: str
    address: str
    digest: str
    source: str


class Images(NamedTuple):
    """What the files of a data set of images must hold.

    Attributes:
        form: `idx` or `cifar`.
        shape: of one image, in bytes.
        train: images to train on, by class.
        test: images to test on, by class.
    """

    form: str
    shape: tuple[int, ...]
    train: tuple[int, ...]
    test: tuple[int, ...]


IDX = tuple(
    f"{part}-{kind}-ubyte.gz"
    for part in ("train", "t10k")
    for kind in ("images-idx3", "labels-idx1")
)
"""Images and labels to train on, images and labels to test on."""
IMAGES = {
    "mnist": Images(
        "idx",
        (28, 28),
        (5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949),
        (980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009),
    ),
    "fashion-mnist": Images("idx", (28, 28), (6000,) * 10, (1000,) * 10),
    "cifar-10": Images("cifar", (32, 32, 3), (5000,) * 10, (1000,) * 10),
}


def _files(group: str, base: str, source: str, digests: dict[str, str]) -> tuple[File, ...]:
    return tuple(
        File(group, name, base + name, f"sha256:{digest}", source)
        for name, digest in digests.items()
    )


FILES = (
    # LeCun, Cortes & Burges (1998)
    *_files(
        "mnist",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
        f"{TFDS}mnist.txt",
        {
            IDX[0]: "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
            IDX[1]: "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
            IDX[2]: "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
            IDX[3]: "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
        },
    ),
    # Xiao, Rasul & Vollgraf (2017), arXiv:1708.07747
    *_files(
        "fashion-mnist",
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        f"{TFDS}fashion_mnist.txt",
        {
            IDX[0]: "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
            IDX[1]: "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
            IDX[2]: "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
            IDX[3]: "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
        },
    ),
    # Krizhevsky (2009); the python version is read too, where it is in the data folder
    *_files(
        "cifar-10",
        "https://www.cs.toronto.edu/~kriz/",
        f"{TFDS}cifar10.txt",
        {
            "cifar-10-binary.tar.gz": (
                "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"
            )
        },
    ),
    # Karpathy (2015), char-rnn
    File(
        "text",
        "tinyshakespeare.txt",
        "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/"
        "tinyshakespeare/input.txt",
        "sha256:86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
        f"{TFDS}tiny_shakespeare.txt",
    ),
)
