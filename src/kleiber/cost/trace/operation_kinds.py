"""Which kind of work an operation of torch is, by its name and tags."""

from __future__ import annotations

import functools
import re
from typing import Any

import torch

from kleiber.cost.operations import OperationKind

__all__ = ["kind_of", "operation_name"]

_PATTERNS: dict[OperationKind, str] = {
    "optimizer": r"fused_(adamw?|sgd|adagrad|rmsprop)",
    "attention": r".*(scaled_dot_product|(flash|efficient|cudnn|flex|multi_head|triton_\w*)_attention"
    r"|fused_attention|scaled_dot_attention).*|transformer_encoder_layer_fwd",
    "recurrent": r"(mkldnn|cudnn|miopen)_rnn(_layer)?(_backward)?|.*(lstm|gru|rnn_tanh|rnn_relu)(_\w+)?",
    "convolution": r".*(convolution|conv[123]d|conv_transpose|conv_depthwise|slow_conv|conv_dilated|conv_tbc).*",
    "matmul": r"(add|badd|scaled_|int_|grouped_|scaled_grouped_|weight_int\w+_|_)*(b?mm|mv)(_\w+)?|addbmm"
    r"|dot|vdot|inner|matmul|matmul_backward|einsum|tensordot|chain_matmul"
    r"|(mkldnn_|mkl_|fbgemm_)?linear(_backward\w*|_pointwise|_fp16_weight|_int8_weight)?",
    "normalization": r".*(layer|batch|group|rms|instance|weight)_norm.*",
    "softmax": r".*(softmax|logsumexp|nll_loss|cross_entropy_loss).*",
    "pooling": r".*(pool[123]d|upsample|grid_sampler|max_unpool|interpolate).*",
    "lookup": r".*embedding.*|index(_\w+)?|unsafe_(masked_)?index.*|gather.*|scatter.*|take(_along_dim)?|put"
    r"|masked_(select|scatter).*|one_hot|nonzero(_static)?|argwhere|bucketize|searchsorted",
    "reduction": r"(sum|mean|any|all|prod|min|max|amin|amax|norm|argmin|argmax|std|var|aminmax|median|mode|dist)(_\w+)?"
    r"|\w*vector_norm|cum(sum|prod|max|min).*|logcumsumexp|topk|sort|argsort|kthvalue|trace|allclose|histc|bincount"
    r"|unique.*",
    "copy": r"clone|contiguous|to_copy|copy|.*_copy|lift_fresh_copy|cat|concat\w*|.*stack|repeat|repeat_interleave"
    r"|tile|roll|flip\w*|rot90|.*_pad[123]?d?(_nd|[123]d)?(_backward)?|pad|pixel_(un)?shuffle|.*channel_shuffle"
    r"|im2col|col2im|(slice|select)_backward|\w+_scatter|unfold_backward|diag\w*|tri[lu](_indices)?|pin_memory"
    r"|reshape|fill|zero|(new_)?(zeros|ones|full|eye|arange)(_like)?|.*dense_to_jagged.*|.*jagged_to_padded.*",
}


def operation_name(func: Any) -> str:
    """Return the name of an operation without namespace, overload and the marks of being private or in place.

    Example:
        >>> operation_name(torch.ops.aten._foreach_add_.Scalar), operation_name(torch.ops.aten._to_copy.default)
        ('add', 'to_copy')
    """
    packet = getattr(func, "overloadpacket", func)
    return str(packet.__name__).strip("_").removeprefix("foreach_")


@functools.cache
def kind_of(func: Any) -> OperationKind:
    """Return the kind of an operation; every operation has one.

    First by name (the patterns above, in their order), then by torch's tags for reductions and pointwise
    operations. What remains is `copy` when it takes no tensor, for it only fills one, and `elementwise` when it does.

    Args:
        func: An overload, or a higher-order operator.

    Example:
        >>> aten = torch.ops.aten
        >>> kind_of(aten.addmm.default), kind_of(aten.gelu.default), kind_of(aten.clone.default)
        ('matmul', 'elementwise', 'copy')
    """
    name = operation_name(func)
    for kind, pattern in _PATTERNS.items():
        if re.fullmatch(pattern, name):
            return kind
    tags = getattr(func, "tags", ())
    if torch.Tag.reduction in tags:
        return "reduction"
    if torch.Tag.pointwise in tags:
        return "elementwise"
    schema = getattr(func, "_schema", None)
    takes_tensor = schema is None or any("Tensor" in str(argument.type) for argument in schema.arguments)
    return "elementwise" if takes_tensor else "copy"
