"""The experiments: one question a module, `python -m experiments.NAME`."""

from study import listing

listing.refuse_unknown_module(__name__)
