"""What all documents share: frozen, strict about keys, written whole or not at all."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, ClassVar, Self

import yaml
from pydantic import BaseModel, ConfigDict, GetJsonSchemaHandler, ValidationError, model_validator

from kleiber.errors import KleiberError, RunFolderError, nearest
from kleiber.runs.field_docs import field_docs
from kleiber.runs.files import write_text

__all__ = ["Document", "canonical_json", "explain", "hash_of"]


class Document(BaseModel):
    """A frozen value that a person can read on disk as JSON or YAML."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    help_line: ClassVar[str | None] = None
    """What to type to learn what the document takes."""

    @model_validator(mode="before")
    @classmethod
    def _without_derived(cls, raw: Any) -> Any:
        # What was written out for readers and follows from the rest is computed again.
        derived = cls.model_computed_fields
        return (
            {k: v for k, v in raw.items() if k not in derived} if isinstance(raw, dict) and derived else raw
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: Any, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        # pydantic would read the docstrings of all documents whenever kleiber starts: a tenth of a second.
        schema = handler.resolve_ref_schema(handler(core_schema))
        for name, text in field_docs(cls).items():
            if name in schema.get("properties", {}):
                schema["properties"][name].setdefault("description", text)
        return schema

    @classmethod
    def read(cls, path: Path, error_type: type[KleiberError] = RunFolderError) -> Self:
        """Return the document in `path`, JSON or YAML by its ending.

        Raises:
            KleiberError: Of `error_type`: the file is missing, truncated, or does not hold such a document.
        """
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
            raise error_type(
                f"{path} cannot be read as a {cls.__name__.lower()}: {reason}.", hint=cls.help_line
            ) from None
        is_yaml = path.suffix in {".yaml", ".yml"}
        try:
            raw = yaml.safe_load(text) if is_yaml else json.loads(text)
        except (yaml.YAMLError, json.JSONDecodeError) as error:
            raise error_type(
                f"{path} is truncated or not valid {'YAML' if is_yaml else 'JSON'}: {str(error).splitlines()[0]}.",
                # What people write says how; what a command has written it makes again.
                hint=cls.help_line or f"rm {path}   and run the command that wrote it again",
            ) from None
        return cls.of(raw, str(path), error_type)

    @classmethod
    def of(cls, raw: object, where: str, error_type: type[KleiberError]) -> Self:
        """Return the document that `raw` describes; errors name the key's path inside `where`."""
        if not isinstance(raw, dict):
            raise error_type(f"{where} must hold a mapping of keys to values.", got=type(raw).__name__)
        try:
            return cls.model_validate(raw)
        except ValidationError as error:
            raise error_type(f"{where}: {explain(error, cls)}", hint=cls.help_line) from None

    def _refuse_without_effect(self, keys: tuple[str, ...], needed: str) -> None:
        """Refuse keys that were given where they change nothing; for validators.

        Raises:
            ValueError: One of the keys is not at its default.
        """
        for key in keys:
            if getattr(self, key) != type(self).model_fields[key].default:
                raise ValueError(f"{key} has no effect without {needed}, got {getattr(self, key)}")

    def write(self, path: Path) -> None:
        """Write the document to `path`, whole or not at all."""
        write_text(path, self.to_yaml() if path.suffix in {".yaml", ".yml"} else self.to_json())

    def to_json(self) -> str:
        """Return indented JSON, null for numbers that are not finite."""
        # Only pydantic's own JSON has that null; json.dumps would write NaN, which is not JSON.
        return json.dumps(json.loads(self.model_dump_json()), indent=2, ensure_ascii=False) + "\n"

    def to_yaml(self) -> str:
        """Return YAML in the order of the fields."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def canonical_json(value: Any) -> str:
    """Return JSON with sorted keys and no white space: the text that hashes are taken of."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def hash_of(value: Any) -> str:
    """Return the first 16 hexadecimal digits of the SHA-256 of a JSON value or document."""
    raw = value.model_dump(mode="json") if isinstance(value, BaseModel) else value
    return hashlib.sha256(canonical_json(raw).encode()).hexdigest()[:16]


def explain(error: ValidationError, model: type[BaseModel]) -> str:
    """Return the first violation as one sentence with the key's path, the constraint and what was got."""
    violations = error.errors()
    # A misspelt key is often why another one is missing.
    first = next((one for one in violations if one["type"] == "extra_forbidden"), violations[0])
    path = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        known = _fields_at(model, tuple(str(part) for part in first["loc"][:-1]))
        return f"unknown key '{path}'. {nearest(str(first['loc'][-1]), known)}"
    if first["type"] == "missing":
        return f"the key '{path}' is missing."
    if first["type"] == "value_error":  # a rule of ours across several keys: its message says what was got
        return f"{path}: {first['ctx']['error']}." if path else f"{first['ctx']['error']}."
    return f"{path}: {first['msg'][0].lower()}{first['msg'][1:]}. Got {first['input']!r}."


def _fields_at(model: type[BaseModel], path: tuple[str, ...]) -> list[str]:
    for part in path:
        field = model.model_fields.get(part)
        annotation = field.annotation if field else None
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            break
        model = annotation
    return list(model.model_fields)
