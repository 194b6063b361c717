"""What shmcat prints."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np


def shown(value: Any) -> str:
    """Return what shmcat prints."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{shown(key)}: {shown(child)}" for key, child in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(shown, value)) + "]"
    if isinstance(value, bytes):
        return f'{{"$bytes": "{value.hex()}"}}'
    return shown_array(value) if isinstance(value, np.ndarray) else shown_scalar(value)


def shown_scalar(value: Any) -> str:
    if isinstance(value, float) and math.isfinite(value):
        return f"{value:.17g}" + (".0" if value.is_integer() and abs(value) < 1e16 else "")
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\\n", "\\u000a")
    return json.dumps(value)


def shown_array(value: Any) -> str:
    order = "C" if value.flags.c_contiguous else "F"
    dtype = json.dumps(value.dtype.descr) if value.dtype.names else value.dtype.str
    data = value.tobytes(order).hex()
    parts = f'{json.dumps(dtype)}, "order": "{order}", "shape": {list(value.shape)}, "data": "{data}"'
    return f'{{"$array": {parts}}}'
