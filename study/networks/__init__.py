"""Networks as Flax NNX modules, met at one functional boundary.

Everything outside sees `init(key) -> params` and `apply(params, x)`, with params a plain
nested dict. A network of any other library fits if it offers the same two functions.
"""

from study.networks.attention import Transformer
from study.networks.autoencoder import Autoencoder
from study.networks.boundary import ACTIVATIONS, INITIALISATIONS, Network, functional
from study.networks.convolution import LeNet5
from study.networks.deepobs import Dense, ThreeConvolutions, TwoConvolutions
from study.networks.dense import MLP
from study.networks.patches import truncated_normal
from study.networks.recurrent import LSTM

__all__ = [
    "ACTIVATIONS",
    "INITIALISATIONS",
    "LSTM",
    "MLP",
    "Autoencoder",
    "Dense",
    "LeNet5",
    "Network",
    "ThreeConvolutions",
    "Transformer",
    "TwoConvolutions",
    "functional",
    "truncated_normal",
]
