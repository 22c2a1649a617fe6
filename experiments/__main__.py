"""`python -m experiments`: every experiment, its question, cost, and results.

`python -m experiments claims`: every prediction, what was measured, and the verdict.
"""

import sys

from study import findings, listing

match sys.argv[1:]:
    case []:
        listing.main()
    case ["claims"]:
        findings.main()
    case _:
        print("error: python -m experiments [claims]", file=sys.stderr)
        sys.exit(2)
