"""Models as GGUF, which llama.cpp runs."""

from kleiber.infer.export.gguf.write import GgufFile, require_gguf, write_gguf

__all__ = ["GgufFile", "require_gguf", "write_gguf"]
