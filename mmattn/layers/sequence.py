"""Several gates, one after the other, as one gate."""

from collections.abc import Sequence as SequenceOf

from torch import Tensor, nn

from mmattn.layers._gate import Gate, check_channels
from mmattn.registry import MODELS

__all__ = ['Sequence']


@MODELS.register_module()
class Sequence(Gate):
    """Applies gates in the order given: ``out = g_k(... g_1(x))``.

    Paper: the hybrids of Attention Mechanisms for Image Classification (course report, 2023), such
    as ``gates=[dict(type='mmattn.ECA'), dict(type='mmattn.SpatialGate')]`` (its "CBAM Spatial +
    ECA") and ``[dict(type='mmattn.ECA'), dict(type='mmattn.ConvAutoencoderAttention')]``. In all
    three of its hybrids the channel attention (ECA) comes first.

    Differs from the paper: any gates in any order; the order is that of ``gates``.

    Limits: as its gates.

    Args:
        in_channels: C, passed to every gate.
        gates: configs of registered gates, with or without the scope in their type.
        init: ``'paper'``, or ``'identity'``, which is handed to every gate: each starts as the
            identity with a gamma of its own, and the sequence has none.

    Shape: ``(N, C, H, W) -> (N, C, H, W)``.

    Raises:
        TypeError: ``gates`` holds something else than dicts.
        ValueError: ``in_channels`` below 1, no gates, unknown ``init``, or a gate that sets
            ``init='paper'`` in a sequence with ``init='identity'``.
        KeyError: an unknown ``type``.
    """

    _abbr_ = 'seq'

    def __init__(self, in_channels: int, gates: SequenceOf[dict], init: str = 'paper') -> None:
        super().__init__(init)
        check_channels(in_channels)
        if not gates:
            raise ValueError('gates must hold at least one config, got none')
        for index, cfg in enumerate(gates):
            if not isinstance(cfg, dict):
                raise TypeError(f'gates[{index}] must be a dict, got {cfg!r}')
            if init == 'identity' and cfg.get('init', init) != init:
                raise ValueError(
                    f"gates[{index}] sets init={cfg['init']!r} in a sequence with init='identity'"
                )
        self.gamma = None
        defaults = dict(init=init) if init == 'identity' else {}
        self.gates = nn.ModuleList(
            MODELS.build({**defaults, **cfg, 'in_channels': in_channels, '_scope_': 'mmattn'})
            for cfg in gates
        )
        self.init_weights()

    def attend(self, x: Tensor) -> Tensor:
        for gate in self.gates:
            x = gate(x)
        return x
