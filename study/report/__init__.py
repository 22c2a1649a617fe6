"""The whole study as one page: `python -m study.report [results]`.

Reads published folders and the experiments' docstrings, runs nothing, and writes one HTML
file that needs no network. Everything from files is escaped by the template; the page's
content policy lets no script run but its own.
"""
