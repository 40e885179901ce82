"""What the OpenAPI document says of bodies that the routes read themselves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel


def request_body(models: Mapping[str, type[BaseModel]]) -> dict[str, Any]:
    """A route's ``openapi_extra``: which model each media type holds."""
    content = {
        kind: {"schema": _inlined(model.model_json_schema())} for kind, model in models.items()
    }
    return {"requestBody": {"required": True, "content": content}}


def _inlined(schema: dict[str, Any]) -> dict[str, Any]:
    """A JSON schema with its definitions put where they are referred to (OpenAPI has no $defs)."""
    definitions = schema.pop("$defs", {})

    def resolve(part: Any) -> Any:
        if isinstance(part, list):
            return [resolve(one) for one in part]
        if not isinstance(part, dict):
            return part
        if "$ref" in part:
            return resolve(definitions[part["$ref"].rpartition("/")[2]])
        return {key: resolve(value) for key, value in part.items()}

    resolved: dict[str, Any] = resolve(schema)
    return resolved
