"""Models as GGUF, which llama.cpp runs."""

from kleiber.infer.export.gguf.read import read_tokenizer
from kleiber.infer.export.gguf.write import GgufFile, require_gguf, write_gguf

__all__ = ["GgufFile", "read_tokenizer", "require_gguf", "write_gguf"]
