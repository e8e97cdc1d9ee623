"""Public data sets: the mirrors that serve their files, and the digest of each file.

MNIST is published at http://yann.lecun.com/exdb/mnist/, which rarely answers nowadays; the same four
files, byte for byte, come from the other mirrors, tried in the order given.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from papershell.trainers import cifar10


@dataclass(frozen=True)
class Download:
    """The origin of a public data set: mirrors in the order to try, digest by file name."""

    mirrors: tuple[str, ...]
    sha256: Mapping[str, str]


DOWNLOADS = {
    "mnist": Download(
        mirrors=(
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
            "http://yann.lecun.com/exdb/mnist/",
        ),
        sha256={
            "train-images-idx3-ubyte.gz": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
            "train-labels-idx1-ubyte.gz": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
            "t10k-images-idx3-ubyte.gz": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
            "t10k-labels-idx1-ubyte.gz": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
        },
    ),
    "cifar10": Download(
        mirrors=(
            "https://www.cs.toronto.edu/~kriz/",
            "https://storage.googleapis.com/s4tf-hosted-binaries/datasets/CIFAR10/",
            "https://mindspore-website.obs.cn-north-4.myhuaweicloud.com/notebook/datasets/",
        ),
        sha256={cifar10.ARCHIVE: "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"},
    ),
}
