"""Continuous batching in OpenVINO, whose cache is in pages: texts that begin alike share them."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from kleiber.errors import KleiberError, UsageError
from kleiber.infer.batching.backend import Job, Written
from kleiber.infer.batching.paged_graph import paged_graph, write_paged
from kleiber.infer.decoding.cached_forward import cached_heads
from kleiber.infer.sessions import require
from kleiber.models.family import FamilyModule
from kleiber.models.gpt.cache import require_cache_bits
from kleiber.models.stored import Activations, Forms

__all__ = ["Pages"]

_PAGE_TOKENS = 32
"""Of a page on a CPU."""
_TOKENS_A_STEP = 256
"""Of all texts: those who write wait no longer for a long prompt."""
_DRAWN = (
    "openvino draws tokens itself: a seed gives the same text each time, and another than with other engines."
)


class Pages:
    """`openvino_genai.ContinuousBatchingPipeline` on a model of ours, given and giving tokens.

    Args:
        module: fp32, of the family gpt or hf; its weights are those that `forms` stand for.
        forms: How weights are stored.
        activations: How the inputs of layers are held, and keys and values.
        max_running: Texts that are written at once; the cache has pages for so many of full length.
        num_threads: Of each operation.
        context: Tokens that a text may have with its prompt; None is all that the model reads.

    Raises:
        MissingExtraError: openvino-genai, openvino or onnx is not installed.
        UsageError: The module does not go on from text, or bits that no cache has.
        RecipeError: It cannot be exported.
        KleiberError: OpenVINO does not find attention over a cache in it.
    """

    engine = "openvino"

    def __init__(
        self,
        module: FamilyModule,
        forms: Forms,
        activations: Activations,
        *,
        max_running: int,
        num_threads: int,
        context: int | None = None,
    ) -> None:
        require("openvino_genai", "openvino", "Continuous batching in OpenVINO")
        require_cache_bits(activations.cache_bits)
        heads = cached_heads(module)
        lowered = paged_graph(module, forms, activations)
        bits = activations.cache_bits
        self.precision = lowered.precision if bits is None else f"{lowered.precision}, int{bits} cache"
        self.notes = (*lowered.notes, _DRAWN)
        self.context = context or heads.context
        num_pages = max_running * (math.ceil((self.context + 1) / _PAGE_TOKENS) + 1)
        with tempfile.TemporaryDirectory() as folder:
            write_paged(lowered, heads, Path(folder))
            self._pipeline = _pipeline(folder, max_running, num_pages, num_threads, bits)
        self._handles: dict[Job, Any] = {}
        self._num_submitted = 0

    @property
    def cache_frac(self) -> float:
        """Share of the cache that is in use, by texts that are over too: others may begin alike."""
        percent: float = self._pipeline.get_metrics().cache_usage
        return percent / 100

    def check(self, job: Job) -> None:
        """Refuse what openvino-genai does not tell.

        Raises:
            UsageError: The likeliest tokens beside the drawn one are asked for, or a form of the text.
        """
        if job.request.constraint is not None:
            raise UsageError(
                "openvino gives text no form when it writes for many: it draws tokens itself.",
                hint="engine='auto'",
            )
        if job.request.num_logprobs:
            raise UsageError(
                "openvino tells the logprob of the drawn token alone when it writes for many.",
                got=job.request.num_logprobs,
                hint="num_logprobs=0, or engine='torch'",
            )

    def admit(self, job: Job) -> None:
        """Take a text in."""
        import openvino  # noqa: PLC0415 - of an extra

        tokens_1T = np.array([job.writing.tokens], np.int64)
        number, self._num_submitted = self._num_submitted, self._num_submitted + 1
        self._handles[job] = self._pipeline.add_request(number, openvino.Tensor(tokens_1T), _settings(job))

    def release(self, job: Job) -> None:
        """Forget a text; its pages go with the next step."""
        self._handles.pop(job).cancel()

    def step(self) -> Written:
        """Read and write tokens of all texts; return what was written."""
        self._pipeline.step()
        written: Written = []
        for job, handle in self._handles.items():
            while handle.can_read():
                for output in handle.read().values():
                    written += _pieces(job, output)
            if job.writing.is_open and handle.get_status().name == "IGNORED":
                written.append(
                    (job, KleiberError("openvino gave the text up: its cache has no room for it."))
                )
        return written


def _pipeline(folder: str, max_running: int, num_pages: int, num_threads: int, cache_bits: int | None) -> Any:
    import openvino_genai  # noqa: PLC0415 - of an extra

    plan = openvino_genai.SchedulerConfig()
    plan.num_kv_blocks, plan.cache_size = num_pages, 0
    plan.max_num_seqs, plan.max_num_batched_tokens = max_running, _TOKENS_A_STEP
    plan.dynamic_split_fuse, plan.enable_prefix_caching = True, True
    settings = {
        "INFERENCE_NUM_THREADS": num_threads,
        # Left to itself OpenVINO takes bf16 where the CPU can, and 8 bits for the cache.
        "INFERENCE_PRECISION_HINT": "f32",
        "KV_CACHE_PRECISION": "f32" if cache_bits is None else "u8",
    }
    try:
        return openvino_genai.ContinuousBatchingPipeline(folder, plan, "CPU", settings)
    except RuntimeError as error:
        reason = next((line for line in str(error).splitlines() if line.strip()), "it says no more")
        raise KleiberError(
            f"openvino-genai does not batch this model: {reason.strip()}", hint="engine='torch'"
        ) from None


def _settings(job: Job) -> Any:
    import openvino_genai  # noqa: PLC0415 - of an extra

    request, config = job.request, openvino_genai.GenerationConfig()
    config.max_new_tokens = request.max_tokens
    # What ends a text is found here, by the same rules for every engine.
    config.set_eos_token_id(0)
    config.ignore_eos = True
    if request.num_logprobs is not None:
        config.logprobs = 1
    sampling = request.sampling
    config.repetition_penalty = sampling.repetition_penalty
    config.do_sample = not sampling.is_greedy
    if config.do_sample:
        config.temperature, config.top_p, config.min_p = sampling.temperature, sampling.top_p, sampling.min_p
        if sampling.top_k:
            config.top_k = sampling.top_k
        config.rng_seed = int(np.random.SeedSequence((request.seed, job.sample)).generate_state(1)[0])
    return config


def _pieces(job: Job, output: Any) -> Written:
    """Return what tokens of openvino add to a text, up to its end."""
    written: Written = []
    for token, logprob in zip(output.generated_ids, output.generated_log_probs, strict=True):
        if job.writing.is_open:
            said = None if job.request.num_logprobs is None else (float(logprob), ())
            written.append((job, job.add(int(token), said)))
    return written
