"""`python -m experiments`: every experiment, its question, cost, and results."""

from study import listing

listing.main()
