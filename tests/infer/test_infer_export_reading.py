from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from exporting import TEXT, byte_tokenizer, character_tokenizer, gpt_folder, llama_folder

from kleiber.errors import DataError, RunFolderError
from kleiber.infer.export.gguf import read_tokenizer, write_gguf
from kleiber.models import load

TEXTS = [TEXT, " the low", "low\n\n  the\tthe", "\u00e9\u6c34 tower", "don't 1234 we'LL"]


def written(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch, left_out: tuple[str, ...] = ()) -> Path:
    """Write a small model without some keys, as other programs do."""
    gguf = pytest.importorskip("gguf")
    make, tokenizer = {"gpt": (gpt_folder, byte_tokenizer()), "llama": (llama_folder, character_tokenizer())}[
        name
    ]
    module, spec = load(make(folder / "model"))
    add = gguf.GGUFWriter.add_key_value

    def some(self: Any, key: str, *values: Any, **options: Any) -> None:
        if key not in left_out:
            add(self, key, *values, **options)

    monkeypatch.setattr(gguf.GGUFWriter, "add_key_value", some)
    write_gguf(folder / "model.gguf", module, spec, tokenizer)
    return folder / "model.gguf"


@pytest.mark.parametrize("left_out", [(), ("tokenizer.huggingface.json",)])
@pytest.mark.parametrize("name", ["gpt", "llama"])
def test_the_tokenizer_of_a_file_reads_and_writes_as_the_models(
    name: str, left_out: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = {"gpt": byte_tokenizer(), "llama": character_tokenizer()}[name]
    theirs = read_tokenizer(written(name, tmp_path, monkeypatch, left_out))
    for text in TEXTS:
        ids = ours.backend.encode(text, add_special_tokens=False).ids
        assert theirs.backend.encode(text, add_special_tokens=False).ids == ids
        assert theirs.backend.decode(ids) == ours.backend.decode(ids)
    assert (theirs.prefix, theirs.suffix, theirs.end_id) == (ours.prefix, ours.suffix, ours.end_id)


def test_a_text_begins_as_llamacpp_begins_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left_out = ("tokenizer.huggingface.json", "tokenizer.ggml.add_bos_token")
    theirs = read_tokenizer(written("llama", tmp_path, monkeypatch, left_out))
    assert theirs.prefix == (1,)


def test_files_that_hold_no_tokenizer_that_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left_out = ("tokenizer.huggingface.json", "tokenizer.ggml.pre")
    path = written("gpt", tmp_path, monkeypatch, left_out)
    with pytest.raises(DataError, match=r"holds a tokenizer that is not known here.*'pre': None"):
        read_tokenizer(path)
    for name, content in (("half.gguf", path.read_bytes()[:3000]), ("text.gguf", b"not a model at all " * 9)):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(RunFolderError, match=rf"{name} cannot be read as GGUF"):
            read_tokenizer(tmp_path / name)
    with pytest.raises(RunFolderError, match=r"none\.gguf cannot be read as GGUF: .*No such file"):
        read_tokenizer(tmp_path / "none.gguf")
