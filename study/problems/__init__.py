"""The catalogue of problems: what is trained.

A problem of your own is a subclass of `Problem` under `@PROBLEMS.register`, in any
module.
"""

from study.problems.base import PROBLEMS, Problem
from study.problems.constrained import MatrixQuadratic, TiltedBowl
from study.problems.deep import DeepBlobs, RandomTargets, Recall
from study.problems.images import Digits
from study.problems.invariant import InvariantRegression
from study.problems.landscapes import Bowl, Plateau, Saddle
from study.problems.linear import HeavyTailed, LogisticRegression
from study.problems.noise import SparseNoise
from study.problems.quadratic import DeepObsQuadratic, NoisyQuadratic
from study.problems.toy import (
    GivenGradient,
    OneWeight,
    RandomGradient,
    RandomLayer,
    ReluRegression,
)

__all__ = [
    "PROBLEMS",
    "Bowl",
    "DeepBlobs",
    "DeepObsQuadratic",
    "Digits",
    "GivenGradient",
    "HeavyTailed",
    "InvariantRegression",
    "LogisticRegression",
    "MatrixQuadratic",
    "NoisyQuadratic",
    "OneWeight",
    "Plateau",
    "Problem",
    "RandomGradient",
    "RandomLayer",
    "RandomTargets",
    "Recall",
    "ReluRegression",
    "Saddle",
    "SparseNoise",
    "TiltedBowl",
]
