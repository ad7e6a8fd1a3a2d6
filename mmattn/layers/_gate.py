"""What every gate shares: the blend of ``init='identity'`` and initial values."""

import numbers
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn

from mmattn.core.arguments import check_arguments
from mmattn.core.identity import blend, blend_factor, make_gamma

if hasattr(torch.compiler, 'is_compiling'):
    _is_compiling = torch.compiler.is_compiling
else:  # torch 2.1
    from torch._dynamo import is_compiling as _is_compiling

__all__ = [
    'Gate',
    'ScalingGate',
    'at_least_float32',
    'full_precision',
    'check_batch',
    'check_channels',
    'check_positive',
    'hidden_width',
    'is_capturing',
]


def hidden_width(in_channels: int, reduction: int) -> int:
    """Width of a gate's hidden layer, ``max(in_channels // reduction, 1)``.

    Raises:
        TypeError: one is no integer.
        ValueError: one is below 1.
    """
    check_positive('in_channels', in_channels)
    check_positive('reduction', reduction)
    return max(in_channels // reduction, 1)


def check_channels(in_channels: int) -> None:
    """Refuse a width that is no integer from 1 on (:func:`check_positive`)."""
    check_positive('in_channels', in_channels)


def check_positive(name: str, value: int) -> None:
    """Refuse what is no integer from 1 on.

    Raises:
        TypeError: ``value`` is no integer.
        ValueError: ``value`` is below 1.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f'{name} must be an integer, got {value!r}')
    if value < 1:
        raise ValueError(f'{name} must be >= 1, got {value}')


def check_batch(norm: nn.Module, values: int, refused: str) -> None:
    """Refuse to train a BatchNorm on one value per channel, which torch cannot normalise.

    Args:
        norm: of whatever kind; a SyncBatchNorm sees the other processes' values as well.
        values: per channel.
        refused: who cannot train on what, for the message.

    Raises:
        ValueError: it is a BatchNorm in training mode and ``values`` is 1.
    """
    if norm.training and type(norm) in (nn.BatchNorm1d, nn.BatchNorm2d) and values == 1:
        raise ValueError(
            f'{refused} (its BatchNorm sees one value per channel): give each process at least 2 '
            'images or convert the model to SyncBatchNorm'
        )


def at_least_float32(x: Tensor) -> Tensor:
    """``x`` itself, or a float32 copy of a half-precision map."""
    return x.float() if x.dtype == torch.float16 or x.dtype == torch.bfloat16 else x


def full_precision(x: Tensor) -> AbstractContextManager:
    """Context without autocast on the device of ``x``."""
    kind = 'cpu' if x.is_meta else x.device.type  # meta tensors have no autocast
    return torch.autocast(kind, enabled=False)


def is_capturing() -> bool:
    """Whether the forward is being recorded as a graph (trace, ONNX export, ``torch.compile``)."""
    return torch.jit.is_tracing() or _is_compiling()


class Gate(nn.Module):
    """A module that attends to a feature map and keeps its shape.

    A method writes :meth:`attend`; ``forward`` adds the blend of ``init='identity'``
    (:mod:`mmattn.core.identity`). ``_abbr_`` is the name inside a host's checkpoint.

    Args:
        init: ``'paper'``, the method as published, or ``'identity'``, which starts as ``out = x``.

    Shape: ``(N, C, H, W) -> (N, C, H, W)``.
    """

    _abbr_ = 'gate'

    def __init_subclass__(cls, **kwargs: object) -> None:
        super().__init_subclass__(**kwargs)
        check_arguments(cls)

    def __init__(self, init: str = 'paper') -> None:
        super().__init__()
        self.gamma = make_gamma(init)

    def attend(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        return blend(x, self.attend(x), self.gamma)

    def init_weights(self) -> None:
        """Give every parameter the method's initial value.

        A host applies its own rule (such as Kaiming on every ``Conv2d``) to the whole network
        first and calls this afterwards. A method with particular values extends it.
        """
        for module in self.children():
            _initialise(module)
        if self.gamma is not None:
            nn.init.zeros_(self.gamma)

    def added_keys(self) -> set[str]:
        """Return the keys that a checkpoint of the network without this gate lacks: all."""
        return set(self.state_dict())


class ScalingGate(Gate):
    """A gate that multiplies its input: a method writes :meth:`factor`."""

    def factor(self, x: Tensor) -> Tensor:
        """Return what to multiply ``x`` with, of a shape that broadcasts to that of ``x``."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        return x * blend_factor(self.factor(x), self.gamma)


def _initialise(module: nn.Module) -> None:
    """Reset a module and all below it; the outer one has the last word."""
    if isinstance(module, Gate):
        module.init_weights()
        return
    for child in module.children():
        _initialise(child)
    if hasattr(module, 'reset_parameters'):
        module.reset_parameters()
