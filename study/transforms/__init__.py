"""The study's own Optax transformations: what the measurements need and Optax lacks.

`averages`: of gradients, without rescaling. `rules`: update rules. `around`: a rule in
another basis, with another's length, on rescaled elements or on single examples.
"""

from study.transforms.around import (
    Basis,
    along_axes,
    cross,
    graft,
    in_blocks,
    lookahead,
    of_examples,
    rescale_elements,
    rotate,
    whole,
)
from study.transforms.averages import (
    difference_average,
    interpolated_average,
    nesterov_average,
    two_averages,
)
from study.transforms.rules import (
    error_feedback,
    largest_element,
    normalise_leaves,
    power,
    rescaled_sign,
    scale_by_shampoo,
    scale_by_variance,
)

__all__ = [
    "Basis",
    "along_axes",
    "cross",
    "difference_average",
    "error_feedback",
    "graft",
    "in_blocks",
    "interpolated_average",
    "largest_element",
    "lookahead",
    "nesterov_average",
    "normalise_leaves",
    "of_examples",
    "power",
    "rescale_elements",
    "rescaled_sign",
    "rotate",
    "scale_by_shampoo",
    "scale_by_variance",
    "two_averages",
    "whole",
]
