"""A transformers model under the contract of the families.

Legend: B samples, T tokens, S tokens of a source, V vocabulary, K outputs, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from kleiber.models.family import FamilyModule
from kleiber.models.foreign.transformers_config import quiet
from kleiber.models.groups import ParamGroups, groups_of
from kleiber.models.hf.fitted import fitted
from kleiber.models.hf.pretrained import pretrained_model
from kleiber.models.hf.spec import HFSpec
from kleiber.models.padding import is_token

__all__ = ["HF", "build"]


class HF(FamilyModule):
    """What transformers builds for a spec, called as the families are: tensors in, logits out.

    Args:
        spec: The model, on its data.
        model: Of transformers, where it was loaded; None builds one with random weights on the current default device.
    """

    def __init__(self, spec: HFSpec, model: nn.Module | None = None) -> None:
        super().__init__()
        self.spec = spec
        found = fitted(spec)
        self._head = found.head
        self.model = found.architecture.build() if model is None else model

    def forward(self, *inputs: Tensor) -> Tensor:
        """Return logits [B, T, V] of each next token, or outputs [B, K].

        Args:
            inputs: `tokens_BT`, `images_BCHW`, or `source_BS` and `target_BT`.
        """
        logits: Tensor = self.model(**self._keywords(*inputs)).logits
        return logits

    def _keywords(self, *inputs: Tensor) -> dict[str, Tensor]:
        """Return the arguments by the names that transformers has for them; what is padding is masked."""
        if self._head == "IMAGE_CLASSIFICATION":
            return {"pixel_values": inputs[0]}
        if self._head == "CAUSAL_LM":
            return {"input_ids": inputs[0]}
        read = {"input_ids": inputs[0], "attention_mask": is_token(inputs[0], self.spec.shape.pad_id).long()}
        if self._head == "SEQ_TO_SEQ_CAUSAL_LM":
            # Data begins targets with padding, as most decoders do; this one may know another start.
            start_B1 = torch.full_like(inputs[1][:, :1], self.config.decoder_start_token_id)
            read["decoder_input_ids"] = torch.cat((start_B1, inputs[1][:, 1:]), 1)
        return read

    @torch.no_grad()
    def generate(self, source_BS: Tensor, *, beam_size: int) -> Tensor:
        """Return a target for each source by the search of transformers, [B, T]: without its start, padded at the end."""
        write: Any = self.model.generate
        shape = self.spec.shape
        with quiet():
            written_BT: Tensor = write(
                input_ids=source_BS,
                attention_mask=is_token(source_BS, shape.pad_id).long(),
                num_beams=beam_size,
                do_sample=False,
                use_cache=True,
                max_new_tokens=(shape.context or 2) - 1,
                pad_token_id=shape.pad_id,
                eos_token_id=shape.end_id,
                decoder_start_token_id=self.config.decoder_start_token_id,
            )
        return written_BT[:, 1:]

    @property
    def config(self) -> Any:
        """What transformers built the model with."""
        return self.model.config

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:  # type: ignore[override] # torch has overloads
        """Return the tensors by name, those that have several once: a file of tensors holds none twice."""
        tied = self._tied()
        tensors = super().state_dict(*args, **kwargs)
        return {name: tensor for name, tensor in tensors.items() if name not in tied}

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> Any:
        """Set the tensors to what `state_dict` gave."""
        copies = {name: state_dict[first] for name, first in self._tied().items() if first in state_dict}
        return super().load_state_dict({**state_dict, **copies}, strict=strict, assign=assign)

    def _tied(self) -> dict[str, str]:
        """Return the further names of parameters that have several, each with the first."""
        first_of: dict[int, str] = {}
        named = self.named_parameters(remove_duplicate=False)
        firsts = {name: first_of.setdefault(id(parameter), name) for name, parameter in named}
        return {name: first for name, first in firsts.items() if name != first}

    def param_groups(self) -> ParamGroups:
        """Return the names of all parameters by how an optimizer treats them: tables and positions, the head, the rest."""
        params = dict(self.named_parameters())
        tables = {
            f"{path}.weight" for path, part in self.named_modules() if isinstance(part, nn.Embedding)
        } & params.keys()
        # Learnt positions and class tokens that are plain parameters, with a leading batch of one.
        loose = {name for name, param in params.items() if param.ndim == 3 and param.shape[0] == 1}
        embedding = tables | loose
        head = {name for name in self._head_names(params) if params[name].ndim > 1} - embedding
        return groups_of(self, embedding=embedding, head=head)

    def _head_names(self, params: dict[str, nn.Parameter]) -> set[str]:
        """Return the parameters of the last linear layer: the output projection, or the one with as many rows as outputs."""
        ask: Any = self.model.get_output_embeddings
        head = ask() if self.spec.shape.num_outputs is None else None
        if head is None:
            rows = self.spec.shape.num_outputs or self.config.get_text_config().vocab_size
            linears = [part for part in self.model.modules() if isinstance(part, nn.Linear)]
            head = next((part for part in reversed(linears) if part.out_features == rows), None)
        own = set() if head is None else {id(param) for param in head.parameters()}
        return {name for name, param in params.items() if id(param) in own}


def build(spec: HFSpec, *, seed: int = 0) -> HF:
    """Return the module [fp32, CPU]: random weights by the seed, or the pretrained ones with a head that fits.

    Raises:
        RecipeError: The config's sizes do not fit together, or the weights do not fit it.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return HF(spec, pretrained_model(fitted(spec), spec) if spec.pretrained else None)
