"""What a check works on, and the words in which it fails."""

import inspect
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

__all__ = ['Case', 'check_finite', 'close', 'demand', 'flat', 'randomise', 'run']


@dataclass(frozen=True)
class Case:
    """A method with options small enough for a check, and how it is called.

    Args:
        cls: the class.
        options: what its constructor gets, ``in_channels`` among them.
        still: names of parameters, or ``'input 0'``, whose gradient is 0 by the method's formula.
        any_size: whether one compiled graph serves maps of all sizes.
        identity_error: how far ``init='identity'`` may be from a no-op.
    """

    cls: type
    options: Mapping = field(default_factory=lambda: dict(in_channels=16))
    still: Collection[str] = frozenset()
    any_size: bool = True
    identity_error: float = 0

    @property
    def inits(self) -> tuple[str, ...]:
        """The values of ``init`` it takes; one where it has no such argument."""
        has = 'init' in inspect.signature(self.cls.__init__).parameters
        return ('paper', 'identity') if has else ('paper',)

    def build(self, init: str = 'paper', seed: int = 0) -> nn.Module:
        torch.manual_seed(seed)
        return self.cls(**self.options, **(dict(init=init) if len(self.inits) > 1 else {}))

    def random(self, seed: int = 0) -> nn.Module:
        """Random weights, with a gamma where the method has one: all its code takes part."""
        return randomise(self.build(self.inits[-1]), seed)

    def inputs(
        self, num: int, height: int, width: int, dtype: torch.dtype = torch.float32, seed: int = 1
    ) -> tuple:
        """Return what the module is called with."""
        torch.manual_seed(seed)
        return (torch.randn(num, self.options['in_channels'], height, width, dtype=dtype),)

    def unchanged(self, module: nn.Module, inputs: tuple) -> Tensor:
        """Return what ``init='identity'`` gives before the first step."""
        return flat(inputs)[-1]

    def shape(self, inputs: tuple) -> tuple:
        """Of the output."""
        return tuple(flat(inputs)[-1].shape)


def randomise(module: nn.Module, seed: int = 0) -> nn.Module:
    """Random weights and random BatchNorm statistics in place: nothing at a special value."""
    generator = torch.Generator().manual_seed(seed)

    def noise(t: Tensor) -> Tensor:
        return torch.randn(t.shape, generator=generator, dtype=torch.float64).to(t.dtype)

    with torch.no_grad():
        for name, parameter in module.named_parameters():
            fan = max(parameter[0].numel(), 1) if parameter.ndim > 1 else 1
            parameter.copy_(noise(parameter) / fan**0.5)
            if parameter.ndim == 0:
                parameter.fill_(0.3 + 0.1 * (len(name) % 5))  # gammas, alphas, betas
        for part in module.modules():
            if isinstance(part, _BatchNorm):
                part.running_mean.copy_(0.5 * noise(part.running_mean))
                part.running_var.copy_(0.5 + noise(part.running_var).abs())
    return module


def run(module: nn.Module, inputs: tuple) -> Tensor:
    """Return the tensor a method changes: its output, of a tuple the last."""
    out = module(*inputs)
    out = out if isinstance(out, Tensor) else out[-1]
    demand(isinstance(out, Tensor), f'forward must return a tensor, got {type(out).__name__}')
    return out


def flat(inputs: tuple) -> list[Tensor]:
    """All tensors of the inputs."""
    return [t for x in inputs for t in (x if isinstance(x, tuple) else (x,))]


def close(found: object, wanted: object, tolerance: float = 1e-4) -> None:
    """Compare tensors, or whole state dicts."""
    torch.testing.assert_close(found, wanted, rtol=tolerance, atol=tolerance)


def demand(condition: object, otherwise: str) -> None:
    if not condition:
        raise AssertionError(otherwise)


def check_finite(tensor: Tensor, what: str) -> None:
    demand(torch.isfinite(tensor).all(), f'{what} must be finite')
