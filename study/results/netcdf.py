"""Datasets as bytes of netCDF-3, and back again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from study.errors import UserError


def to_bytes(dataset: xr.Dataset, pack: bool = False) -> bytes:
    """A netCDF-3 file, smaller with `pack`.

    Angles and arrays with the attribute `decimals` then have 16 bits, all else but `exact`
    arrays 32.
    """
    encoding: dict[str, dict[str, Any]] = {}
    for name, array in dataset.data_vars.items():
        if pack and array.attrs.get("units") == "radian":
            encoding[str(name)] = {
                "dtype": "int16",
                "scale_factor": 1e-4,
                "_FillValue": -32768,
            }
        elif pack and "decimals" in array.attrs:
            encoding[str(name)] = {
                "dtype": "int16",
                "scale_factor": 10.0 ** -array.attrs["decimals"],
                "_FillValue": -32768,
            }
        elif pack and array.dtype == np.float64 and not array.attrs.get("exact"):
            encoding[str(name)] = {"dtype": "float32"}
    with np.errstate(over="ignore"):  # a diverging run beyond float32 is stored as inf
        content = dataset.to_netcdf(
            engine="scipy", format="NETCDF3_64BIT", encoding=encoding
        )
    return bytes(content)


def decode(content: bytes, path: Path) -> xr.Dataset:
    """A file's content as a Dataset in memory, of this machine's byte order.

    Raises:
        UserError: it is no such file; `path` is what the complaint names.
    """
    try:
        dataset = xr.load_dataset(content, engine="scipy")
    except Exception:  # the reader raises whatever the damage leads it to
        raise UserError(f"{path} is not a readable record file") from None
    return dataset.assign(dataset.map(_native, keep_attrs=True))


def _native(array: xr.DataArray) -> xr.DataArray:
    return array.astype(array.dtype.newbyteorder("="))
