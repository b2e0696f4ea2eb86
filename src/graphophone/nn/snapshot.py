"""Whether a module is still what it was: for results that are kept as long as it does not change."""

from __future__ import annotations

from torch import nn


class Snapshot:
    """Notices a module's new weights, buffers and submodules, weights changed in place, moved, or cast, other modes.

    Of tensors made in inference mode PyTorch does not count the changes: a module with such weights is never unchanged.
    Changes that go round PyTorch's version counters (``weight.data.mul_(2)``) are not noticed; whoever keeps results
    should also drop them where such changes are usual, as when a module is put into another mode.

    Args:
        module: What is watched.
    """

    def __init__(self, module: nn.Module) -> None:
        modules = list(module.modules())
        self._children = [(m._modules, name, child) for m in modules for name, child in m._modules.items()]
        self._modes = [(m, m.training) for m in modules]
        self._hooks = [m._forward_hooks for m in modules] + [m._forward_pre_hooks for m in modules]
        self._tensors = [
            (held, name, tensor, tensor.data_ptr(), -1 if tensor.is_inference() else tensor._version, tensor.dtype)
            for m in modules
            for held in (m._parameters, m._buffers)
            for name, tensor in held.items()
            if tensor is not None and name not in m._non_persistent_buffers_set
        ]

    def unchanged(self) -> bool:
        """Whether nothing is new, and no submodule has a hook that a shortcut would pass by."""
        return (
            not any(self._hooks)
            and all(module.training == mode for module, mode in self._modes)
            and all(held.get(name) is child for held, name, child in self._children)
            and all(
                held.get(name) is tensor
                and tensor.data_ptr() == pointer
                and not tensor.is_inference()
                and tensor._version == version
                and tensor.dtype == dtype
                for held, name, tensor, pointer, version, dtype in self._tensors
            )
        )
