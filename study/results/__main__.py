"""`python -m study.results verify FOLDER`: 0 all is well, 1 findings, 2 no such results."""

import sys
from pathlib import Path

from study.errors import UserError
from study.results.verify import verify

match sys.argv[1:]:
    case ["verify", folder]:
        try:
            found = verify(Path(folder))
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(2)
        for kind, what, why in found:
            print(f"{kind}: {what}: {why}")
        print(f"{len(found)} findings in {folder}")
        sys.exit(1 if found else 0)
    case _:
        print("error: python -m study.results verify FOLDER", file=sys.stderr)
        sys.exit(2)
