"""The form of what is submitted, for the OpenAPI document; docs/transformations.md and the library say the rest."""

from __future__ import annotations

from typing import Any

_TEXT: dict[str, Any] = {"type": "string", "minLength": 1}
_INPUT: dict[str, Any] = {
    "type": "object",
    "description": "Files: `path` is upload:NAME, a file below one of the owner's folders, or s3://bucket/name below one of its prefixes",
    "additionalProperties": False,
    "properties": {
        "path": {"anyOf": [_TEXT, {"type": "array", "items": _TEXT, "minItems": 1}]},
        "from": {"enum": ["artifacts", "breaks", "table"], "description": "What the reconciliation has; needs the role read-all"},
        "table": _TEXT,
        "window": _TEXT,
        "format": {"type": "object"},
        "columns": {"type": "array", "items": _TEXT},
        "types": {"type": "object", "additionalProperties": _TEXT},
    },
}
_OUTPUT: dict[str, Any] = {
    "type": "object",
    "description": "`path` is the name of the result, or a place of the owner that gets a copy",
    "additionalProperties": False,
    "required": ["table", "path"],
    "properties": {
        "table": _TEXT,
        "path": _TEXT,
        "format": {"enum": ["csv", "tsv", "parquet", "xlsx"]},
        "guard": {"type": "boolean"},
        "sheets": {"enum": ["one", "split"]},
    },
}
FORM: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["inputs", "outputs"],
    "properties": {
        "version": {"const": "v1"},
        "as_of": {"type": "string", "format": "date"},
        "inputs": {
            "type": "object",
            "minProperties": 1,
            "maxProperties": 100,
            "propertyNames": {"pattern": "^[A-Za-z_][A-Za-z0-9_]{0,59}$"},
            "additionalProperties": _INPUT,
        },
        "operations": {
            "type": "array",
            "maxItems": 1000,
            "items": {"type": "object", "minProperties": 1, "maxProperties": 1, "description": "The operation's name and its section"},
        },
        "outputs": {"type": "array", "minItems": 1, "maxItems": 100, "items": _OUTPUT},
        "holidays": {},
        "approximate": {"type": "boolean"},
        "on_error": {"enum": ["text", "null", "reject", "fail"]},
    },
}
SMALL: dict[str, Any] = {
    "inputs": {"sales": {"path": "upload:0123456789abcdef0123456789abcdef", "types": {"amount": "decimal(18,2)"}}},
    "operations": [{"filter": {"table": "sales", "where": "=[@amount]>0"}}],
    "outputs": [{"table": "sales", "path": "sales.csv"}],
}
