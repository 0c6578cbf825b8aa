"""Decoding in llama.cpp, from a file of GGUF.

Legend: B sequences, T tokens of each, L of them whose logits are wanted, M tokens handed over in one call, V vocabulary.
"""

from __future__ import annotations

import ctypes
import functools
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from kleiber.errors import KleiberError, RunFolderError
from kleiber.infer.decoding.decoder import Tokens
from kleiber.infer.sessions import require

__all__ = ["LlamaCppStepper", "tokenize"]

_MOST_TOKENS = 512
"""Of one call: what llama.cpp multiplies at once."""
_F32 = 0
"""Of a cache, as ggml numbers types."""
_NO_FUSED_ATTENTION = 0
"""As llama.h numbers it."""
_FILE_TYPES = {0: "fp32", 1: "f16", 2: "Q4_0", 3: "Q4_1", 7: "Q8_0"}
"""What a file says that most of its numbers are, as llama.h numbers it."""


class LlamaCppStepper:
    """A language model in llama.cpp and its cache.

    A model of plain fp32 numbers keeps keys and values in fp32, any other in fp16, as llama.cpp does by itself.

    Args:
        path: Of the file.
        num_threads: Of each operation.
        context: Tokens of a sequence; None is what the file says.

    Raises:
        MissingExtraError: llama-cpp-python is not installed.
        RunFolderError: The file is missing, truncated, or of a kind that this llama.cpp does not know.
    """

    engine = "llamacpp"
    notes: tuple[str, ...] = ()

    def __init__(self, path: Path, num_threads: int, context: int | None = None) -> None:
        library = _library()
        self._model = _model(path, has_weights=True)
        self._num_threads = num_threads
        self._vocab_size = int(library.llama_vocab_n_tokens(library.llama_model_get_vocab(self._model)))
        self.context = context or int(library.llama_model_n_ctx_train(self._model))
        stored = _file_type(self._model)
        self._has_f32_cache = stored == "fp32"
        self.precision = stored if self._has_f32_cache else f"{stored}, f16 cache"
        self._running: _Running | None = None

    def start(self, batch: int) -> None:
        """Forget what was read; make room for `batch` sequences."""
        if self._running is None or self._running.batch != batch:
            self._running = None  # its memory is given back first
            self._running = _Running(
                self._model,
                batch,
                self.context,
                vocab_size=self._vocab_size,
                num_threads=self._num_threads,
                has_f32_cache=self._has_f32_cache,
            )
        self._running.clear()

    def step(self, tokens_BT: Tokens, num_kept: int) -> npt.NDArray[np.float32]:
        """Read more tokens of each sequence; return the logits after each of the last `num_kept`, [B, L, V]."""
        return self._started().step(tokens_BT, num_kept)

    def rewind(self, length: int) -> None:
        """Forget all tokens after the first `length`, of every sequence."""
        self._started().rewind(length)

    def _started(self) -> _Running:
        if self._running is None:
            raise AssertionError("start comes before anything is read")
        return self._running


def tokenize(path: Path, text: str) -> list[int]:
    """Return the tokens that llama.cpp reads a text as, nothing put around it; what spells a special token is text.

    Args:
        path: Of the file, whose weights are not read.
        text: Any.

    Raises:
        MissingExtraError: llama-cpp-python is not installed.
        RunFolderError: The file cannot be read.
    """
    library = _library()
    vocab = library.llama_model_get_vocab(
        _vocabulary_of(path, path.stat().st_mtime_ns if path.is_file() else 0)
    )
    raw = text.encode()
    room = len(raw) + 2
    tokens = (ctypes.c_int32 * room)()
    num = int(library.llama_tokenize(vocab, raw, len(raw), tokens, room, False, False))
    return list(tokens[:num])


@functools.lru_cache(maxsize=1)
def _vocabulary_of(path: Path, _changed_ns: int) -> Any:
    return _model(path, has_weights=False)


class _Running:
    """A context of llama.cpp: a cache of some sequences, and the tokens that are handed over to it."""

    def __init__(
        self,
        model: Any,
        batch: int,
        context: int,
        *,
        vocab_size: int,
        num_threads: int,
        has_f32_cache: bool,
    ) -> None:
        library = _library()
        settings = library.llama_context_default_params()
        settings.n_ctx = (
            batch * -(-context // 256) * 256
        )  # llama.cpp rounds the room of a sequence up to this
        settings.n_seq_max = batch
        settings.n_batch = settings.n_ubatch = max(_MOST_TOKENS, batch)
        settings.n_threads = settings.n_threads_batch = num_threads
        settings.no_perf = True
        if has_f32_cache:
            settings.type_k = settings.type_v = _F32
            # Its fused attention rounds to fp16 on the way, whatever the cache holds.
            settings.flash_attn_type = _NO_FUSED_ATTENTION
        self._context = library.llama_init_from_model(model, settings)
        if not self._context:
            raise KleiberError(f"llama.cpp has no memory for {batch} sequences of {context:,} tokens.")
        weakref.finalize(self, _free, library.llama_free, self._context, model)
        self.batch = batch
        self._vocab_size = vocab_size
        self._memory = library.llama_get_memory(self._context)
        self._handed = _Handed(settings.n_batch)
        self._length = 0

    def clear(self) -> None:
        """Forget all tokens."""
        _library().llama_memory_clear(self._memory, False)
        self._length = 0

    def rewind(self, length: int) -> None:
        """Forget all tokens after the first `length`."""
        for sequence in range(self.batch):
            _library().llama_memory_seq_rm(self._memory, sequence, length, -1)
        self._length = length

    def step(self, tokens_BT: Tokens, num_kept: int) -> npt.NDArray[np.float32]:
        """Return the logits after each of the last `num_kept` tokens of each sequence, [B, L, V]."""
        B, T = tokens_BT.shape
        # A stretch of every sequence at a time: they are of one length, and llama.cpp multiplies them together.
        width = max(1, self._handed.room // B)
        logits_BLV = np.empty((B, num_kept, self._vocab_size), np.float32)
        for start in range(0, T, width):
            part_BT = tokens_BT[:, start : start + width]
            first_kept = max(0, T - num_kept - start)
            num_here = part_BT.shape[1] - first_kept
            said = self._read(part_BT, self._length + start, first_kept)
            if num_here > 0:
                place = start + first_kept - (T - num_kept)
                logits_BLV[:, place : place + num_here] = said.reshape(B, num_here, -1)
        self._length += T
        return logits_BLV

    def _read(self, tokens_BT: Tokens, position: int, first_kept: int) -> npt.NDArray[np.float32]:
        """Read tokens of each sequence from a position on; return the logits after those that are kept, in order."""
        library = _library()
        code = library.llama_decode(self._context, self._handed.fill(tokens_BT, position, first_kept))
        if code != 0:
            raise KleiberError("llama.cpp could not read the tokens.", got=code)
        num_said = len(tokens_BT) * max(0, tokens_BT.shape[1] - first_kept)
        if not num_said:
            return np.empty((0, self._vocab_size), np.float32)
        pointer = library.llama_get_logits(self._context)
        return np.ctypeslib.as_array(pointer, (num_said, self._vocab_size))


class _Handed:
    """Tokens as llama.cpp is given them, in memory of NumPy's that is filled again and again.

    Args:
        room: Most tokens of a call.
    """

    def __init__(self, room: int) -> None:
        self.room = room
        self._token_M = np.zeros(room, np.int32)
        self._position_M = np.zeros(room, np.int32)
        self._num_sequences_M = np.ones(room, np.int32)
        self._sequence_M = np.zeros(room, np.int32)
        # llama.cpp wants a list of sequences for each token: each is one number long here.
        self._sequences_M = np.arange(room, dtype=np.uintp) * 4 + np.uintp(self._sequence_M.ctypes.data)
        self._is_kept_M = np.zeros(room, np.int8)
        self._batch = _library().llama_batch(
            0,
            _pointer(self._token_M, ctypes.c_int32),
            None,
            _pointer(self._position_M, ctypes.c_int32),
            _pointer(self._num_sequences_M, ctypes.c_int32),
            self._sequences_M.ctypes.data_as(ctypes.POINTER(ctypes.POINTER(ctypes.c_int32))),
            _pointer(self._is_kept_M, ctypes.c_int8),
        )

    def fill(self, tokens_BT: Tokens, position: int, first_kept: int) -> Any:
        """Return a `llama_batch` of the tokens of each sequence, the next after those at `position`."""
        B, T = tokens_BT.shape
        num = B * T
        self._token_M[:num] = tokens_BT.reshape(-1)
        self._position_M[:num] = np.tile(np.arange(position, position + T), B)
        self._sequence_M[:num] = np.repeat(np.arange(B), T)
        self._is_kept_M[:num] = np.tile(np.arange(T) >= first_kept, B)
        self._batch.n_tokens = num
        return self._batch


def _pointer(array: npt.NDArray[Any], kind: Any) -> Any:
    return array.ctypes.data_as(ctypes.POINTER(kind))


def _model(path: Path, *, has_weights: bool) -> Any:
    """Return a model of llama.cpp; its memory is given back with the last that holds it.

    Raises:
        RunFolderError: The file is missing, truncated, or of a kind that this llama.cpp does not know.
    """
    if not path.is_file():
        raise RunFolderError(f"{path} is no file.", hint="kleiber export RUN --format gguf -o FOLDER")
    library = _library()
    settings = library.llama_model_default_params()
    settings.vocab_only = not has_weights
    settings.n_gpu_layers = 0
    pointer = library.llama_model_load_from_file(str(path).encode(), settings)
    if not pointer:
        raise RunFolderError(
            f"{path} is truncated, no GGUF, or of a kind that this llama.cpp does not know.",
            hint="kleiber export RUN --format gguf -o FOLDER",
        )
    holder = _Model(pointer)
    weakref.finalize(holder, library.llama_model_free, pointer)
    return holder


class _Model:
    """What a pointer to a model of llama.cpp is handed around as."""

    def __init__(self, pointer: Any) -> None:
        self._as_parameter_ = pointer


def _free(free: Callable[[Any], None], context: Any, model: Any) -> None:
    """Give a context back, before the model that it reads."""
    del model
    free(context)


def _file_type(model: Any) -> str:
    room = 32
    text = ctypes.create_string_buffer(room)
    found = _library().llama_model_meta_val_str(model, b"general.file_type", text, room)
    number = int(text.value) if found > 0 else -1
    return _FILE_TYPES.get(number, f"file type {number}")


@functools.cache
def _library() -> Any:
    """Return llama.cpp, which says nothing by itself.

    Raises:
        MissingExtraError: llama-cpp-python is not installed.
    """
    require("llama_cpp", "llamacpp", "The engine llamacpp")
    import llama_cpp  # noqa: PLC0415 - of an extra

    llama_cpp.llama_log_set(_silence(llama_cpp), ctypes.c_void_p(0))
    llama_cpp.llama_backend_init()
    return llama_cpp


@functools.cache
def _silence(llama_cpp: Any) -> Any:
    """Return what llama.cpp calls with each of its messages: it is kept, for a pointer to it keeps nothing alive."""
    return llama_cpp.llama_log_callback(lambda _level, _text, _data: None)
