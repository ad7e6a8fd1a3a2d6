"""The learned scalars of ``init='identity'``: how much of each method a network uses."""

from collections.abc import Mapping

from torch import Tensor, nn

__all__ = ['gammas_of']


def gammas_of(source: nn.Module | Mapping[str, Tensor]) -> dict[str, float]:
    """Return every learned gamma by the name of its module.

    ``out = plain + gamma * (attended - plain)``: 0 is the plain network, 1 the method as published
    (:mod:`mmattn.core.identity`). A vector named gamma, such as a layer scale, is none.

    Args:
        source: a network, or a checkpoint's ``state_dict``.

    Returns:
        In the order of the network; empty where every method has ``init='paper'``.
    """
    state = source.state_dict() if isinstance(source, nn.Module) else source
    return {
        name.rpartition('.')[0]: float(value)
        for name, value in state.items()
        if name.rpartition('.')[2] == 'gamma' and value.dim() == 0
    }
