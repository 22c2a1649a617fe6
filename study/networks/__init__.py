"""Networks as Flax NNX modules, met at one functional boundary.

Everything outside sees `init(key) -> params` and `apply(params, x)`, with params a plain
nested dict. A network of any other library fits if it offers the same two functions.
"""

from study.networks.attention import Transformer
from study.networks.boundary import ACTIVATIONS, INITIALISATIONS, Network, functional
from study.networks.convolution import LeNet5
from study.networks.dense import MLP

__all__ = [
    "ACTIVATIONS",
    "INITIALISATIONS",
    "MLP",
    "LeNet5",
    "Network",
    "Transformer",
    "functional",
]
