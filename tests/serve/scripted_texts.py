"""A model that always writes the alphabet, at a pace of its own: what is asked of it is kept."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from types import SimpleNamespace

import httpx
import openai
from running_server import running
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from kleiber.data.text_tokenizer import TextTokenizer
from kleiber.errors import KleiberError, UsageError
from kleiber.infer.batching import BatchedText, Speaker
from kleiber.serve import Opened, ServeSettings

ALPHABET = "abcdefghijklmnopqrstuvwxyz"
END = "<|endoftext|>"
CONTEXT = 400
BROKEN, ENDING = "!", "?"
"""Prompts that begin with them break the engine, and end after three tokens."""


def bytes_tokenizer(special=None):
    """Return a tokenizer with a token a byte, in their order, and its end of text."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    order = {
        pre_tokenizers.ByteLevel(add_prefix_space=False).pre_tokenize_str(chr(i))[0][0]: i for i in range(128)
    }
    rest = [letter for letter in letters if letter not in order]
    vocab = order | {letter: 128 + index for index, letter in enumerate(rest)}
    backend = Tokenizer(models.BPE(vocab, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([END, *(special or ())])
    return TextTokenizer(backend, {"eos_token": END, "bos_token": END})


class Alphabet:
    """A backend whose texts are a, b, c and so on, each token as probable as the last."""

    engine, precision, notes, context = "alphabet", "fp32", (), CONTEXT

    def __init__(self, step_s, end_id):
        self.step_s, self.jobs, self.asked, self.end_id = step_s, {}, [], end_id
        self.num_released = 0
        self.go = threading.Event()
        self.go.set()

    @property
    def cache_frac(self):
        return 0.0

    def check(self, job):
        if job.request.constraint is not None:
            raise UsageError("the alphabet takes no form.")
        if job.request.num_logprobs is not None and job.request.num_logprobs > 5:
            raise UsageError("the alphabet tells five likeliest at most.", got=job.request.num_logprobs)

    def admit(self, job):
        self.asked.append(job)
        self.jobs[job] = len(job.writing.tokens)

    def release(self, job):
        del self.jobs[job]
        self.num_released += 1

    def step(self):
        self.go.wait(30)
        time.sleep(self.step_s)
        written = []
        for job, num_prompt in list(self.jobs.items()):
            first, place = chr(job.writing.tokens[0]), len(job.writing.tokens) - num_prompt
            if first == BROKEN:
                raise KleiberError("the alphabet is broken.")
            token = self.end_id if first == ENDING and place == 3 else ord(ALPHABET[place % 26])
            said = None
            if job.request.num_logprobs is not None:
                said = (-0.5, tuple((ord("a") + one, -0.5 - one) for one in range(job.request.num_logprobs)))
            written.append((job, job.add(token, said)))
        return written


def alphabet_model(folder, *, step_s=0.0, name="alphabet", template=None, **options):
    """Return a model as it is served, and its backend."""
    folder = folder / name
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text("{}")
    if template is not None:
        (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": template}))
    tokenizer = bytes_tokenizer(options.pop("special", None))
    backend = Alphabet(step_s, tokenizer.end_id)
    speaker = Speaker(tokenizer, (), frozenset((tokenizer.end_id,)), CONTEXT)
    options = {"max_running": 4, "max_waiting": 100} | options
    text = BatchedText(backend, speaker, **options)
    return Opened(name, folder, "text", backend.engine, backend.precision, text=text), backend


@contextlib.contextmanager
def serving(folder, settings=None, **options):
    """Yield a server of the alphabet: its address, clients, the model and its backend."""
    settings = settings or ServeSettings(max_running=4, max_waiting=8)
    model, backend = alphabet_model(folder, **options)
    with (
        running({model.name: model}, settings) as address,
        openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0, timeout=20) as client,
        httpx.Client(base_url=address, timeout=20) as raw,
    ):
        yield SimpleNamespace(address=address, openai=client, raw=raw, model=model, backend=backend)


def until(is_so, within_s):
    """Wait until something is so, and return whether it was in time."""
    deadline = time.monotonic() + within_s
    while not is_so():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True
