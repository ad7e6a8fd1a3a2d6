"""Checks that a method of yours works wherever the methods of mmattn do.

``check_gate(MyGate)`` runs the contract that every gate of mmattn is tested with, and raises an
``AssertionError`` that names the first demand it does not meet. No test framework is needed.
"""

import functools
import importlib.util
from collections.abc import Callable, Iterable

import torch
from torch import nn

from mmattn.testing import graphs, start, values
from mmattn.testing.case import Case, randomise

__all__ = ['CHECKS', 'SLOW_CHECKS', 'Case', 'check_gate', 'randomise']


def check_gate(
    cls: type,
    *,
    channels: int = 16,
    no_gradient: Iterable[str] = (),
    except_for: Iterable[str] = (),
    slow: bool = False,
    **options: object,
) -> list[str]:
    """Run the contract of a gate: ``(N, C, H, W)`` in, the same shape out, usable as a plugin.

    The demands are the keys of ``CHECKS``: shapes, dtypes, gradients of every parameter, initial
    values that survive those of a detector, ``init='identity'`` where the class has it, copies,
    checkpoints and graphs. The one that needs mmdet, and the one that needs onnxruntime, are left
    out where these are not installed.

    Args:
        cls: the class; ``cls(in_channels=channels, **options)`` builds it.
        channels: C.
        no_gradient: names of parameters whose gradient is 0 by the method's own formula, such as
            a bias before a softmax.
        except_for: demands that this method cannot meet; say so in its docstring.
        slow: also compile it, which takes seconds.
        options: further constructor arguments.

    Returns:
        The demands it meets, in the order in which they were checked.

    Raises:
        AssertionError: a demand is not met; the sentence names it and what was found.
        TypeError: ``cls`` is not a class of modules.
        ValueError: ``except_for`` names no demand.
    """
    if not isinstance(cls, type) or not issubclass(cls, nn.Module):
        raise TypeError(f'cls must be a class of torch modules, got {cls!r}')
    checks = {**CHECKS, **(SLOW_CHECKS if slow else {})}
    unknown = sorted(set(except_for) - {*CHECKS, *SLOW_CHECKS})
    if unknown:
        raise ValueError(f'except_for must name demands of {list(checks)}, got {unknown[0]!r}')
    case = Case(cls, dict(in_channels=channels, **options), frozenset(no_gradient))
    met = []
    for demand, check in checks.items():
        package = _NEEDS.get(demand)
        if demand in except_for or (package and importlib.util.find_spec(package) is None):
            continue
        try:
            check(case)
        except Exception as error:
            raise AssertionError(f'{cls.__name__} must {demand}: {error}') from error
        met.append(demand)
    return met


def _checks() -> dict[str, Callable[[Case], None]]:
    part = functools.partial
    return {
        **{
            f'train on {name}': part(values.trains, size=size)
            for name, size in values.SIZES.items()
        },
        **{
            f'predict on {name}': part(values.predicts, size=size)
            for name, size in values.SIZES.items()
        },
        'keep float64': part(values.keeps_dtype, dtype=torch.float64),
        'keep bfloat16': part(values.keeps_dtype, dtype=torch.bfloat16),
        'treat the images of a batch apart': values.treats_images_apart,
        'react to its input': values.reacts,
        'change its input': values.changes,
        'let every parameter learn': values.learns,
        'have right gradients': values.right_gradients,
        'survive autocast': part(values.survives_autocast, scale=1),
        'survive autocast on large values': part(values.survives_autocast, scale=100),
        "start as a no-op with init='identity'": start.starts_as_identity,
        'set in init_weights what its constructor sets': start.initialises,
        'work inside a ResNet': start.works_inside,
        'give the same after a checkpoint is loaded': graphs.keeps_checkpoint,
        'be copied': graphs.copies,
        'be traced for any size': graphs.traces,
        'be exported to ONNX for any size': graphs.exports,
    }


CHECKS = _checks()
SLOW_CHECKS: dict[str, Callable[[Case], None]] = {
    'compile to one graph': functools.partial(
        graphs.compiles, backend='eager', calls=[((2, 6, 5), True)]
    ),
    'compile to one graph for many sizes': functools.partial(
        graphs.compiles,
        backend='eager',
        calls=[((2, 6, 5), False), ((3, 9, 7), False), ((1, 8, 11), False)],
    ),
    'give the same when compiled': functools.partial(
        graphs.compiles,
        backend='inductor',
        calls=[((2, 6, 5), True), ((3, 9, 7), False)],
        fixed=True,
    ),
}
_NEEDS = {'work inside a ResNet': 'mmdet', 'be exported to ONNX for any size': 'onnxruntime'}
