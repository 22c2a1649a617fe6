"""The catalogue of optimizers, by what is rescaled.

`scalar`: the whole vector by one number, or nothing. `elementwise`: each element by its
own history. `sign`: each element to the same length. An optimizer of your own is a
subclass of `Optimizer` under `@OPTIMIZERS.register`, in any module.
"""

from study.optimizers.base import OPTIMIZERS, Optimizer
from study.optimizers.elementwise import Adagrad, Adam, AdamW, RMSProp
from study.optimizers.scalar import SGD, Averaging, Momentum, Nesterov, NormalisedGD
from study.optimizers.sign import Lion, LionAveraging, SignDescent

__all__ = [
    "OPTIMIZERS",
    "SGD",
    "Adagrad",
    "Adam",
    "AdamW",
    "Averaging",
    "Lion",
    "LionAveraging",
    "Momentum",
    "Nesterov",
    "NormalisedGD",
    "Optimizer",
    "RMSProp",
    "SignDescent",
]
