"""Small models of every kind that is served, with random weights."""

from __future__ import annotations

import json

import numpy as np
from untrained_runs import untrained_run

from kleiber.infer.classification import open_classifier
from kleiber.infer.embedding import open_embedder
from kleiber.serve import Opened
from kleiber.serve.given import reads

RATE = 8000
WORDS = ("good", "bad", "film", "plot", "lovely", "dull")


def opened_classifier(folder):
    """Return a run as it is served."""
    classifier = open_classifier(folder, num_threads=1)
    kind = reads(classifier.reader)
    return Opened(folder.name, folder, "classifier", "torch", "fp32", classifier=classifier, reads=kind)


def opened_encoder(folder):
    """Return an encoder as it is served."""
    embedder = open_embedder(folder, num_threads=1)
    return Opened(folder.name, folder, "encoder", embedder.engine, embedder.precision, embedder=embedder)


def texts_run(root, make_record):
    """Make a run over texts of a table."""
    rng = np.random.default_rng(0)
    rows = [{"text": " ".join(rng.choice(WORDS, 6)), "label": "yn"[i % 2]} for i in range(40)]
    (root / "texts.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return untrained_run(
        root / "reviews", make_record, f"data.source=jsonl:{root / 'texts.jsonl'}", "data.field=text", "data.target=label",
        "data.vocab_size=265", "data.context=16", "model.family=encoder", "model.depth=1", "model.width=32",
    )[0]  # fmt: skip


def rows_run(root, make_record):
    """Make a run over rows of a table."""
    lines = [f"{index % 50},{'fm'[index % 2]},{'ab'[index % 2]}" for index in range(60)]
    (root / "rows.csv").write_text("\n".join(["age,sex,kind", *lines]))
    return untrained_run(
        root / "people", make_record, f"data.source=csv:{root / 'rows.csv'}", "model.family=mlp", "model.depth=1",
        "model.width=8",
    )[0]  # fmt: skip


def digits_run(root, make_record):
    """Make a run over rows of numbers."""
    return untrained_run(
        root / "digits",
        make_record,
        "data.source=digits",
        "model.family=mlp",
        "model.depth=1",
        "model.width=8",
    )[0]


def images_run(root, make_record):
    """Make a run over small images in colour, in folders named after classes."""
    from PIL import Image  # noqa: PLC0415 - of an extra

    rng = np.random.default_rng(0)
    for kind in ("cat", "dog"):
        (root / "images" / kind).mkdir(parents=True)
        for index in range(6):
            pixels = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / "images" / kind / f"{index}.png")
    return untrained_run(
        root / "pets", make_record, f"data.source=imagefolder:{root / 'images'}", "data.image_size=8",
        "model.family=convnet", "model.depth=1", "model.width=8", "data.val_frac=0.3",
    )[0]  # fmt: skip


def sounds_run(root, make_record):
    """Make a run over sounds of half a second, in folders named after classes."""
    import soundfile  # noqa: PLC0415 - of an extra

    rng = np.random.default_rng(0)
    for kind in ("hum", "hiss"):
        (root / "sounds" / kind).mkdir(parents=True)
        for index in range(6):
            soundfile.write(root / "sounds" / kind / f"{index}.wav", rng.normal(0, 0.1, RATE // 2), RATE)
    return untrained_run(
        root / "noises", make_record, f"data.source=audiofolder:{root / 'sounds'}", "model.family=convnet",
        "model.depth=1", "model.width=8", "data.val_frac=0.3",
    )[0]  # fmt: skip
