"""Non-local block."""

from torch import Tensor, nn

from mmattn.core.hosts import require_host
from mmattn.layers._attention import attention
from mmattn.layers._gate import Gate, _initialise, hidden_width
from mmattn.registry import MODELS

__all__ = ['NonLocal']


@MODELS.register_module()
class NonLocal(Gate):
    """Adds to every position a mean of all positions, weighted by their similarity to it.

    ``out = x + Wz (softmax(theta(x)^T phi(x)) g(x))`` (embedded Gaussian).

    Paper: Non-local Neural Networks, arXiv 1711.07971, equations 4 and 6. Layers, names and
    initial values are mmcv's ``NonLocal2d``; the softmax product runs without the
    (positions x positions) matrix, so that large maps fit.

    Differs from the paper: nothing. The place our configs and ``add_attention`` give it is the
    original paper's, right before the last block of res4 (so on the output of the last but one,
    ``blocks={2: (-2,)}``: the last block still works on what it gathered), not the one the survey
    draws. The authors' configs also divide the scores by
    the square root of the inner width (``use_scale=True``), put a BatchNorm after Wz
    (``norm_cfg=dict(type='BN')``) and halve phi and g by max-pooling (``sub_sample=True``). Wz, or
    its norm, starts at 0; with ``init='identity'``, where gamma does that, at random (the norm
    at 1), or two zeros would never move.

    Limits: ``phi``'s bias gets no gradient: a softmax does not see a constant; with a norm,
    ``g``'s as well, in training, since the norm removes it. With ``sub_sample`` a map needs at
    least 2 x 2 positions. torch's compiler (2.8) needs a graph for each map size,
    ``torch.compile(dynamic=False)``.

    Args:
        in_channels: C.
        reduction: the inner width is ``max(C // reduction, 1)``.
        use_scale: whether scores are divided by the square root of the inner width.
        sub_sample: whether 2x2 max-pooling follows phi and g.
        norm_cfg: the norm after Wz, such as ``dict(type='BN')``, or ``None``.
        init: ``'paper'`` or ``'identity'`` (:mod:`mmattn.core.identity`).

    Shape: ``(N, C, H, W) -> (N, C, H, W)``.

    Raises:
        ImportError: mmcv is missing or too old.
        ValueError: ``in_channels`` or ``reduction`` below 1, unknown ``init``; in the forward
            pass, ``sub_sample`` and a map with one row or column.
    """

    _abbr_ = 'non_local'

    def __init__(
        self,
        in_channels: int,
        reduction: int = 2,
        use_scale: bool = False,
        sub_sample: bool = False,
        norm_cfg: dict | None = None,
        init: str = 'paper',
    ) -> None:
        super().__init__(init)
        inner = hidden_width(in_channels, reduction)
        self.scale = inner**-0.5 if use_scale else 1.0
        self.sub_sample = sub_sample
        require_host('mmcv')
        from mmcv.cnn import NonLocal2d

        self.block = NonLocal2d(
            in_channels, sub_sample=sub_sample, reduction=reduction, norm_cfg=norm_cfg
        )
        self.init_weights()

    def attend(self, x: Tensor) -> Tensor:
        if self.sub_sample and min(x.shape[2:]) < 2:
            raise ValueError(f'sub_sample needs a map of at least 2x2, got {tuple(x.shape[2:])}')
        maps = self.block.theta(x), self.block.phi(x), self.block.g(x)
        query, key, value = [m.flatten(2).transpose(1, 2) for m in maps]  # (N, positions, inner)
        out = attention(query, key, value, self.scale)  # eq. 4
        out = out.transpose(1, 2).unflatten(2, x.shape[2:])  # (N, inner, H, W)
        return x + self.block.conv_out(out)  # eq. 6

    def init_weights(self) -> None:
        super().init_weights()
        out = self.block.conv_out
        last = out.conv if out.norm_cfg is None else out.norm
        for layer in (self.block.g, self.block.theta, self.block.phi):
            conv = (layer[0] if isinstance(layer, nn.Sequential) else layer).conv
            nn.init.normal_(conv.weight, std=0.01)
            nn.init.zeros_(conv.bias)
        if self.gamma is None:
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
        else:
            _initialise(last)
