"""The `rnn` network.

Legend: B sequences, T steps, F features of a series, W width, V vocabulary, C outputs.
The recurrence is torch's own: an LSTM is one fused operation a layer on a CPU, twice as fast as its steps.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 - the field's own name for it
from torch import Tensor, nn

from kleiber.models.family import FamilyModule
from kleiber.models.groups import ParamGroups, groups_of
from kleiber.models.initialization import seeded
from kleiber.models.padding import is_token, last_token
from kleiber.models.rnn.spec import CELL_GATES, RNNSpec

__all__ = ["EMBEDDING_STD", "RNN", "build"]

EMBEDDING_STD = 0.1
"""Standard deviation of the embeddings at the start: no norm scales them up, and a cell's gates should open and close."""


class RNN(FamilyModule):
    """Layers of recurrent cells over tokens or a series, in fp32."""

    def __init__(self, spec: RNNSpec) -> None:
        super().__init__()
        self.spec = spec
        if spec.shape.inputs == "tokens":
            self.embedding = nn.Embedding(spec.shape.vocab_size or 0, spec.width)
        self.recurrence = _recurrence(spec)
        if not spec.is_tied:
            self.head = nn.Linear(spec.width, spec.num_outputs, bias=not spec.is_language_model)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the logits of the next token after each token [B, T, V] of a language model, else the answers [B, C].

        Args:
            inputs: Tokens [B, T], int64, padded at their ends; or a series [B, T, F].
        """
        spec = self.spec
        x_BTW = self.embedding(inputs) if spec.shape.inputs == "tokens" else inputs
        states_BTW = self._drop(self.recurrence(self._drop(x_BTW))[0])
        if spec.is_language_model:
            return F.linear(states_BTW, self.embedding.weight if spec.is_tied else self.head.weight)
        answers_BC: Tensor = self.head(self._pooled(states_BTW, inputs))
        return answers_BC

    def _pooled(self, states_BTW: Tensor, inputs: Tensor) -> Tensor:
        """Return what the answer is given from, [B, W]: padding comes last, so no state that is read has seen it."""
        is_last = self.spec.pooling == "last"
        if self.spec.shape.inputs == "series":
            return states_BTW[:, -1] if is_last else states_BTW.mean(1)
        if is_last:
            rows_B = torch.arange(len(inputs), device=inputs.device)
            return states_BTW[rows_B, last_token(inputs, self.spec.shape.pad_id)]
        is_token_BT1 = is_token(inputs, self.spec.shape.pad_id)[..., None]
        return (states_BTW * is_token_BT1).sum(1) / is_token_BT1.sum(1)

    def _drop(self, x_BTW: Tensor) -> Tensor:
        return F.dropout(x_BTW, self.spec.dropout, self.training)

    def param_groups(self) -> ParamGroups:
        """Return the names of all parameters by how an optimizer treats them; a layer's gates are fused along their rows."""
        spec = self.spec
        return groups_of(
            self,
            embedding=["embedding.weight"] if spec.shape.inputs == "tokens" else [],
            head=[] if spec.is_tied else ["head.weight"],
            row_splits=lambda _: (spec.width,) * CELL_GATES[spec.cell],
        )

    @torch.no_grad()
    def init_weights_(self) -> None:
        """Fill what torch fills otherwise than we do, from its global generator."""
        if self.spec.shape.inputs == "tokens":
            nn.init.normal_(self.embedding.weight, 0.0, EMBEDDING_STD)
        for name, parameter in self.recurrence.named_parameters():
            if parameter.ndim == 1:
                self._init_bias_(name, parameter)
            elif self.spec.init != "default":
                for gate in torch.split(parameter, self.spec.width):
                    is_orthogonal = self.spec.init == "orthogonal" and name.startswith("weight_hh")
                    (nn.init.orthogonal_ if is_orthogonal else nn.init.xavier_uniform_)(gate)

    def _init_bias_(self, name: str, bias: Tensor) -> None:
        """Let an LSTM keep its state at first (Jozefowicz et al. 2015, section 2.2): its gates are in, forget, cell, out."""
        if self.spec.init != "default":
            bias.zero_()
        if self.spec.cell == "lstm" and name.startswith("bias_ih"):
            bias.chunk(4)[1].fill_(1.0)


def _recurrence(spec: RNNSpec) -> nn.RNNBase:
    sizes = {"input_size": spec.num_inputs, "hidden_size": spec.width, "num_layers": spec.depth}
    # torch warns of a dropout between layers where there is one layer.
    dropout = spec.dropout if spec.depth > 1 else 0.0
    if spec.cell == "elman":
        return nn.RNN(**sizes, nonlinearity=spec.activation, batch_first=True, dropout=dropout)
    return (nn.LSTM if spec.cell == "lstm" else nn.GRU)(**sizes, batch_first=True, dropout=dropout)


def build(spec: RNNSpec, *, seed: int = 0) -> RNN:
    """Return a network with freshly initialized weights [fp32, CPU]; the same seed gives the same weights."""
    with seeded(seed):
        module = RNN(spec)
        module.init_weights_()
    return module
