"""Dataclasses and msgspec Structs, as the plain values that codecs write.

A value can only be one of them if the process has imported their module, so testing for one does not import it.
"""

from __future__ import annotations

import sys
from typing import Any


def fields_of(value: Any) -> Any:
    """Return the fields of a dataclass or Struct instance, one level deep; None for any other value.

    A dict, or a list for a Struct with `array_like`. Field names and tags of Structs are the ones that msgspec encodes,
    so that a typed read returns an equal object.
    """
    dataclasses = sys.modules.get("dataclasses")
    if dataclasses is not None and dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    msgspec = sys.modules.get("msgspec")
    if msgspec is None or not isinstance(value, msgspec.Struct):
        return None
    config = value.__struct_config__
    fields = [getattr(value, name) for name in value.__struct_fields__]
    if config.array_like:
        return fields if config.tag is None else [config.tag, *fields]
    tag = {} if config.tag is None else {config.tag_field: config.tag}
    return {**tag, **dict(zip(value.__struct_encode_fields__, fields, strict=True))}
