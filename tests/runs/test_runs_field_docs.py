"""What the source says of fields reaches the schema, inherited fields included."""

from pydantic import Field

from kleiber.runs import Document
from kleiber.runs.field_docs import field_docs


class Outer(Document):
    """No field."""

    first: int = 1
    """Of the first."""
    silent: int = 2
    said: int = Field(default=3, description="In the field.")
    """Under it."""


class Inner(Outer):
    second: Outer = Outer()
    """Of the second,
    on two lines."""
    first: int = 4
    """Said anew."""


def test_docs_stand_under_their_fields_and_are_inherited():
    assert field_docs(Outer) == {"first": "Of the first.", "said": "Under it."}
    assert field_docs(Inner) == {
        "first": "Said anew.",
        "said": "Under it.",
        "second": "Of the second,\non two lines.",
    }


def test_a_class_without_source_has_no_docs():
    assert field_docs(type("Made", (Document,), {"__annotations__": {"x": int}, "x": 1})) == {}


def test_the_schema_describes_every_field_that_the_source_does():
    schema = Inner.model_json_schema()
    assert schema["properties"]["first"]["description"] == "Said anew."
    assert schema["properties"]["said"]["description"] == "In the field."
    assert "description" not in schema["properties"]["silent"]
    assert schema["$defs"]["Outer"]["properties"]["first"]["description"] == "Of the first."
