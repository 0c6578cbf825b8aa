"""Forward passes that wait before a layer until it is solved.

Solving layers one after another, each on what the solved ones before it give, would take a forward pass a layer. Here the
passes of all batches are under way together and wait at the same layer, so that each runs once. Python cannot leave a function
in its middle but by a thread: each pass has one, and they take turns, so that only one of them ever computes.
"""

from __future__ import annotations

from collections.abc import Collection
from threading import Semaphore, Thread

import torch
from torch import nn

from kleiber.compress.uses import Use, Watch, inputs_of
from kleiber.data import Batch

__all__ = ["PausedPass"]


class PausedPass:
    """The forward pass of a module on one batch; the caller says when it goes on, and closes it.

    Args:
        module: In evaluation mode; its weights may be written to while the pass waits, and it goes on with the new ones.
        batch: What the pass is of.
        due: Names of the weights before whose use it waits, looked up each time.
    """

    def __init__(self, module: nn.Module, batch: Batch, due: Collection[str]) -> None:
        self._module, self._batch, self._due = module, batch, due
        self.use: Use | None = None
        """Before which it waits; None once it is through."""
        self._error: BaseException | None = None
        self._is_closed = False
        self._go, self._has_stopped = Semaphore(0), Semaphore(0)
        self._thread = Thread(target=self._run, daemon=True)
        self._thread.start()

    def advance(self) -> None:
        """Run to the next use of a weight that is due, or to the end."""
        self._go.release()
        self._has_stopped.acquire()
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        """Leave the pass where it is."""
        self._is_closed = True
        self._go.release()
        self._thread.join()

    def _run(self) -> None:
        self._go.acquire()
        try:
            if not self._is_closed:
                # Both are set for a thread alone.
                with torch.no_grad(), Watch(self._module, self._see):
                    self._module(*inputs_of(self._batch))
        except _Closed:
            pass
        except BaseException as error:  # noqa: BLE001 - raised again where the pass is advanced
            self._error = error
        self._has_stopped.release()

    def _see(self, use: Use) -> None:
        if use.name not in self._due or not use.has_rows:
            return
        self.use = use
        self._has_stopped.release()
        self._go.acquire()
        self.use = None
        if self._is_closed:
            raise _Closed


class _Closed(BaseException):
    """Nothing that a module catches."""
