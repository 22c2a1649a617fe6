"""The catalogue of problems: what is trained.

A problem of your own is a subclass of `Problem` under `@PROBLEMS.register`, in any
module.
"""

from study.problems.altered import Altered
from study.problems.autoencoder import ImageVAE
from study.problems.base import PROBLEMS, Indexed, Problem
from study.problems.bigram import Bigrams
from study.problems.blocks import BlockQuadratic
from study.problems.chebyshev import ChebyshevFit
from study.problems.constrained import MatrixQuadratic, TiltedBowl
from study.problems.deep import DeepBlobs, RandomTargets, Recall
from study.problems.deepobs import Image2C2D, Image3C3D, ImageLogreg, ImageMLP
from study.problems.images import Digits, LeNet
from study.problems.incontext import InContextRegression
from study.problems.invariant import InvariantRegression
from study.problems.landscapes import Bowl, Plateau, Saddle
from study.problems.linear import HeavyTailed, LogisticRegression, OneSidedLabels
from study.problems.noise import SparseNoise
from study.problems.online import (
    PeriodicSpike,
    RandomSpike,
    SlantedValley,
    TwoSamples,
)
from study.problems.quadratic import DeepObsQuadratic, NoisyQuadratic
from study.problems.recurrent import TextLSTM
from study.problems.rotated import RotatedQuadratic
from study.problems.text import Text
from study.problems.toy import (
    GivenGradient,
    OneWeight,
    RandomGradient,
    RandomLayer,
    ReluRegression,
)

__all__ = [
    "PROBLEMS",
    "Altered",
    "Bigrams",
    "BlockQuadratic",
    "Bowl",
    "ChebyshevFit",
    "DeepBlobs",
    "DeepObsQuadratic",
    "Digits",
    "GivenGradient",
    "HeavyTailed",
    "Image2C2D",
    "Image3C3D",
    "ImageLogreg",
    "ImageMLP",
    "ImageVAE",
    "InContextRegression",
    "Indexed",
    "InvariantRegression",
    "LeNet",
    "LogisticRegression",
    "MatrixQuadratic",
    "NoisyQuadratic",
    "OneSidedLabels",
    "OneWeight",
    "PeriodicSpike",
    "Plateau",
    "Problem",
    "RandomGradient",
    "RandomLayer",
    "RandomSpike",
    "RandomTargets",
    "Recall",
    "ReluRegression",
    "RotatedQuadratic",
    "Saddle",
    "SlantedValley",
    "SparseNoise",
    "Text",
    "TextLSTM",
    "TiltedBowl",
    "TwoSamples",
]
