"""Results on disk: one labelled file a cell, a manifest beside them, and back again.

A folder of records holds `manifest.json` and `records/*.nc`, netCDF-3 files that any
reader of that format opens. Every file is written under a temporary name and moved into
place, and its SHA-256 stands in the manifest: a file is whole or it is not there. A
published folder holds one thinned `records.nc` in place of `records/`.
"""

from study.results import locks, provenance
from study.results.cells import finished, prepare, set_aside, write_cell
from study.results.files import refuse_unwritable, write
from study.results.manifest import (
    MANIFEST,
    PUBLISHED,
    RECORDS,
    SCHEMA,
    environment_name,
    publish_manifest,
    read_manifest,
    spec_differences,
    update_manifest,
    write_manifest,
)
from study.results.netcdf import to_bytes
from study.results.provenance import commit
from study.results.stacking import load, stack_problems
from study.results.verify import verify

__all__ = [
    "MANIFEST",
    "PUBLISHED",
    "RECORDS",
    "SCHEMA",
    "commit",
    "environment_name",
    "finished",
    "load",
    "locks",
    "prepare",
    "provenance",
    "publish_manifest",
    "read_manifest",
    "refuse_unwritable",
    "set_aside",
    "spec_differences",
    "stack_problems",
    "to_bytes",
    "update_manifest",
    "verify",
    "write",
    "write_cell",
    "write_manifest",
]
