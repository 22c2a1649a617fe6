"""Arrays for the problems, as NumPy: embedded sets first, then files of the user's.

`images` has scikit-learn's digits, MNIST, Fashion-MNIST and CIFAR-10, `text` a synthetic
language and any text file. `files` finds files in the data folder and reads them with
suspicion, `download` has what is `published` and not there. Imports no jax.
"""

from study.data.files import find, pin, split, use
from study.data.images import (
    Split,
    Splits,
    digits,
    images,
    mnist,
    require_images,
    require_mnist,
)
from study.data.text import SYNTHETIC, Corpus, corpus, require_corpus, words

__all__ = [
    "SYNTHETIC",
    "Corpus",
    "Split",
    "Splits",
    "corpus",
    "digits",
    "find",
    "images",
    "mnist",
    "pin",
    "require_corpus",
    "require_images",
    "require_mnist",
    "split",
    "use",
    "words",
]
