"""The module of a smaller spec, with what is left of the tensors of a larger one."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable

from torch import Tensor

from kleiber.compress.structure.axes import Axis, cut
from kleiber.compress.subject import Subject
from kleiber.models import Spec, build
from kleiber.models.stored import Forms, Masked

__all__ = ["rebuilt"]


def rebuilt(
    subject: Subject, spec: Spec, kept: Iterable[tuple[Axis, Tensor]] = (), dropped: Collection[str] = ()
) -> Subject:
    """Return the subject with a module of `spec`, which holds the units that are kept; masks are cut alike.

    Args:
        subject: Its tensors are those of the larger module; left as it was.
        spec: Of what is left.
        kept: Of axes that get smaller, the units that stay.
        dropped: Blocks that go.
    """
    kept = list(kept)
    module = build(spec)
    module.load_state_dict(cut(subject.module.state_dict(), kept, dropped))
    return dataclasses.replace(subject, module=module.eval(), spec=spec, forms=_masks(subject, kept, dropped))


def _masks(subject: Subject, kept: list[tuple[Axis, Tensor]], dropped: Collection[str]) -> Forms:
    """Return what is left of the masks; where columns go, there are no longer N of every M neighbours."""
    params = dict(subject.module.named_parameters())
    narrower = {place.name for axis, _ in kept for place in axis.places if place.dim}
    forms: Forms = {}
    for name, form in subject.forms.items():
        if not isinstance(form, Masked):
            continue
        mask = form.is_kept_RC.reshape(params[name].shape)
        pattern = None if name in narrower else form.pattern
        small = cut({name: mask}, kept, dropped)
        forms |= {new_name: Masked(one.flatten(1), pattern) for new_name, one in small.items()}
    return forms
