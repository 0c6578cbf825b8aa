from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - the field's own name for it

from kleiber.errors import RecipeError, RunFolderError, UsageError
from kleiber.models import build, load, save
from kleiber.models.dual import DualSpec
from kleiber.models.dual.convert import load as load_dual
from kleiber.models.dual.module import Dual
from kleiber.models.dual.towers import CausalBlock
from kleiber.runs import DataShape

CAPTIONS = DataShape(inputs="captions", vocab_size=60, context=8, channels=3, height=16, width=16)
SIZES: list[dict[str, object]] = [
    {},
    {"text_depth": 1, "text_width": 48, "embedding_width": 20, "patch_size": 8, "dropout": 0.1},
    {"depth": 1, "num_heads": 4, "text_mlp_width": 20, "activation": "relu"},
]


def dial(**size: object) -> DualSpec:
    return DualSpec.of_size({"depth": 2, "width": 32} | size, CAPTIONS)


def random_model(**size: object) -> Dual:
    """A model in which no weight is zero, in evaluation."""
    module = build(dial(**size))
    assert isinstance(module, Dual)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return module.eval()


def captions() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(4, 3, 16, 16, generator=generator)
    tokens = torch.randint(1, 60, (4, 8), generator=generator)
    for row, length in enumerate((8, 5, 1, 0)):
        tokens[row, length:] = 0
    return images, tokens


@pytest.mark.parametrize("size", SIZES)
@torch.no_grad()
def test_transformers_gives_the_same_embeddings_and_back(tmp_path: Path, size: dict[str, object]) -> None:
    transformers = pytest.importorskip("transformers")
    module = random_model(**size)
    save(module, module.spec, tmp_path / "ours")
    theirs, info = transformers.AutoModel.from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert type(theirs).__name__ == "CLIPModel"
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert sum(p.numel() for p in theirs.parameters()) == module.spec.count().total
    images, tokens = captions()
    # Their tokenizer sets the end of a text, our tower does.
    output = theirs.eval()(pixel_values=images, input_ids=F.pad(tokens, (0, 1)))
    image_BE, text_BE, scale = module(images, tokens)
    assert torch.allclose(output.image_embeds, image_BE, atol=1e-5)
    assert torch.allclose(output.text_embeds, text_BE, atol=1e-5)
    assert torch.allclose(output.logits_per_image, scale * image_BE @ text_BE.T, atol=1e-4)
    theirs.save_pretrained(tmp_path / "theirs")
    back, spec = load(tmp_path / "theirs")
    assert spec == module.spec
    for ours, again in zip((image_BE, text_BE, scale), back.eval()(images, tokens), strict=True):
        assert torch.equal(ours, again)


@torch.no_grad()
def test_padding_changes_nothing() -> None:
    module = random_model()
    _, tokens = captions()
    together = module.embed_texts(tokens)
    for row, length in enumerate((8, 5, 1, 0)):
        alone = module.embed_texts(tokens[row : row + 1, :length])
        assert torch.allclose(alone, together[row : row + 1], atol=1e-6)
    assert (together[0] - together[1]).abs().max() > 1e-3


@torch.no_grad()
def test_every_token_and_every_patch_counts() -> None:
    module = random_model()
    images, tokens = (part[:1] for part in captions())
    for position in range(8):
        changed = tokens.clone()
        changed[0, position] = 1 + tokens[0, position] % 59
        assert not torch.allclose(module.embed_texts(changed), module.embed_texts(tokens), atol=1e-5)
    for corner in ((0, 0), (0, 15), (15, 0), (15, 15)):
        changed = images.clone()
        changed[0, 1, *corner] += 3.0
        assert not torch.allclose(module.embed_images(changed), module.embed_images(images), atol=1e-5)


def test_the_scale_stays_below_100_and_is_saved_so(tmp_path: Path) -> None:
    module = random_model()
    with torch.no_grad():
        module.log_scale.fill_(7.0)
    assert module(*captions())[2].item() == pytest.approx(100, rel=1e-5)
    save(module, module.spec, tmp_path)
    assert load(tmp_path)[0].get_parameter("log_scale").item() == pytest.approx(math.log(100))


def test_initial_scales() -> None:
    module = build(DualSpec.of_size({"depth": 2, "width": 64}, CAPTIONS))
    assert module.log_scale.exp().item() == pytest.approx(1 / 0.07)
    block = module.images.blocks[0]
    assert block.qkv.weight.std().item() == pytest.approx(64**-0.5, rel=0.05)
    assert block.attn_out.weight.std().item() == pytest.approx((4 * 64) ** -0.5, rel=0.05)
    assert module.images.patches.weight.std().item() == pytest.approx(
        module.spec.num_patch_values**-0.5, rel=0.1
    )
    assert module.texts.table.std().item() == pytest.approx(0.02, rel=0.05)


def test_a_causal_block_takes_no_mask() -> None:
    block = CausalBlock(16, 1, 16, is_pre_norm=True)
    with pytest.raises(ValueError, match="causality hides it"):
        block(torch.zeros(1, 2, 16), torch.ones(1, 1, 1, 2, dtype=torch.bool))


def test_longer_texts_than_the_model_reads_are_refused() -> None:
    with pytest.raises(UsageError, match=r"texts of at most 8 tokens. Got 9"):
        random_model().embed_texts(torch.ones(1, 9, dtype=torch.long))


@pytest.mark.parametrize(
    ("side", "patch_size"), [(8, 1), (16, 2), (28, 4), (32, 4), (64, 8), (224, 32), (5, 1), (13, 1)]
)
def test_the_usual_patch_leaves_seven_a_side(side: int, patch_size: int) -> None:
    shape = CAPTIONS.model_copy(update={"height": side, "width": side})
    assert DualSpec.of_size({"depth": 2}, shape).patch_size == patch_size


@pytest.mark.parametrize(
    ("size", "message"),
    [
        ({"num_heads": 5}, "num_heads 5 must divide width 32"),
        ({"text_num_heads": 5}, "text_num_heads 5 must divide width 32"),
        ({"patch_size": 5}, "patch_size 5 must divide the side 16 of the images"),
        ({"text_width": 0}, "text_width"),
        ({"text_width": "wide"}, "text_width"),
        ({"embedding_width": 1}, "embedding_width"),
    ],
)
def test_absurd_sizes_are_refused(size: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        dial(**size)


def test_oblong_images_are_refused() -> None:
    shape = CAPTIONS.model_copy(update={"width": 20})
    with pytest.raises(RecipeError, match=r"dual reads square images with a text each. Got '16 x 20'"):
        DualSpec.of_size({"depth": 2}, shape)
    with pytest.raises(RecipeError, match="dual reads square images"):
        DualSpec.of(dial().model_dump() | {"shape": shape.model_dump()}, "spec", RecipeError)


@pytest.mark.parametrize(
    ("tower", "keys", "message"),
    [
        (None, {"architectures": ["SiglipModel"]}, "the architecture must be CLIPModel"),
        (None, {"text_config": None}, "vision_config and text_config must hold the sizes"),
        ("text_config", {"eos_token_id": 2}, "eos_token_id must be 0. Got 2"),
        ("text_config", {"eos_token_id": None}, "eos_token_id must be 0. Got 49407"),
        ("text_config", {"hidden_act": "relu"}, "hidden_act must be that of the images. Got 'relu'"),
        ("vision_config", {"layer_norm_eps": 1e-6}, "layer_norm_eps must be 1e-05"),
        ("vision_config", {"patch_size": 4}, r"patch_embedding.weight must be \(32, 3, 4, 4\)"),
        ("vision_config", {"num_hidden_layers": 1}, "vision_model.encoder.layers.1.* must be absent"),
    ],
)
def test_other_models_are_refused(
    tmp_path: Path, tower: str | None, keys: dict[str, object], message: str
) -> None:
    module = random_model()
    save(module, module.spec, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    part = config if tower is None else config[tower]
    for key, value in keys.items():
        if value is None:
            del part[key]
        else:
            part[key] = value
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(RunFolderError, match=message):
        load_dual(tmp_path)
