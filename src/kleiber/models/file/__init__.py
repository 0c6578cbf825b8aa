"""The `file` family: somebody's own module, from the Python file that they name."""

from kleiber.models.file.spec import FileSpec

__all__ = ["FileSpec"]
