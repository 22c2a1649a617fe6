"""`python -m study.report [results] [--output FILE]`."""

from study.report import page

page.main()
