"""`python -m experiments`: every experiment, its question, cost, and results.

`python -m experiments claims`: every prediction, what was measured, and the verdict.

`python -m experiments draw`: every figure again, from stored or published records.
"""

import sys

from study import findings, gallery, listing

match sys.argv[1:]:
    case []:
        listing.main()
    case ["claims"]:
        findings.main()
    case ["draw", *options]:
        gallery.main(options)
    case _:
        print("error: python -m experiments [claims | draw]", file=sys.stderr)
        sys.exit(2)
