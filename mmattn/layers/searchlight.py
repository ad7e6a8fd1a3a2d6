"""The visual searchlight of top-down attention (TDAM)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmattn.core.identity import make_gamma
from mmattn.layers._gate import hidden_width

__all__ = ['ATTENTIONS', 'OPERATIONS', 'Searchlight']

ATTENTIONS = ('joint', 'top')
OPERATIONS = (
    'channel-spatial',
    'spatial-channel',
    'channel',
    'spatial',
    'parallel',
    'recurrent',
)


class Searchlight(nn.Module):
    """Scales a lower map, first its channels and then its positions, by what a higher map shows.

    With ``s = W3 [ReLU(W1 gap(top)); ReLU(W2 gap(bottom))]`` for ``attention='joint'`` and
    ``s = W2 ReLU(W1 gap(top))`` for ``'top'``::

        Xc  = sigmoid(s) * bottom                 channels
        M   = sum over channels of s_c * Xc_c     a 1x1 convolution whose one filter is s
        out = sigmoid(M) * Xc                     positions

    Paper: TDAM: Top-Down Attention Module for Contextually Guided Feature Selection in CNNs,
    ECCV 2022, arXiv 2111.13470, equations 4 to 8.

    Differs from the paper: equations 4 and 5 end in a sigmoid; the authors' code keeps s raw,
    takes the sigmoid in equation 6 only and convolves with the raw s in equation 7. We follow
    the code. Otherwise nothing: no biases, and both hidden layers of ``'joint'`` have
    ``C_h // r`` units, C_h being the width of the top. The authors' option for a sigmoid in
    the spatial step makes their code leave that step out; there is no such option here.

    The other ``operation`` values are the ones the paper compares in its ablation; it keeps
    channel then spatial. What each does:

    - ``'spatial-channel'``: the two in the other order.
    - ``'channel'``, ``'spatial'``: only that one.
    - ``'parallel'``: the mean of both, each computed from ``bottom`` (the paper's formula is not
      known to us; the product would be ``'spatial-channel'``).
    - ``'recurrent'``: no searchlight, the next bottom is a 1x1 convolution of the top, brought to
      the bottom's size where a stride lies between (that resize is ours).

    Args:
        bottom_channels: C_l.
        top_channels: C_h.
        attention: ``'joint'`` or ``'top'``.
        reduction: r.
        operation: see above.
        init: ``'paper'``, or ``'identity'``: the block around it then blends its last step with
            its first (:class:`mmattn.backbones.top_down.TopDown`); the scalar is kept here.

    Shape: bottom ``(N, C_l, H_l, W_l)``, top ``(N, C_h, H_h, W_h)`` -> ``(N, C_l, H_l, W_l)``.

    Raises:
        ValueError: a width or ``reduction`` below 1, unknown ``attention``, ``operation`` or
            ``init``.
    """

    def __init__(
        self,
        bottom_channels: int,
        top_channels: int,
        attention: str = 'joint',
        reduction: int = 16,
        operation: str = 'channel-spatial',
        init: str = 'paper',
    ) -> None:
        super().__init__()
        if attention not in ATTENTIONS:
            raise ValueError(f'attention must be one of {ATTENTIONS}, got {attention!r}')
        if operation not in OPERATIONS:
            raise ValueError(f'operation must be one of {OPERATIONS}, got {operation!r}')
        if bottom_channels < 1:
            raise ValueError(f'bottom_channels must be >= 1, got {bottom_channels}')
        if top_channels < 1:
            raise ValueError(f'top_channels must be >= 1, got {top_channels}')
        hidden = hidden_width(top_channels, reduction)
        self.attention, self.operation = attention, operation
        self.gamma = make_gamma(init)
        if operation == 'recurrent':
            self.top = nn.Conv2d(top_channels, bottom_channels, 1, bias=False)
        else:
            # the pool and the ReLU are modules so that a complexity counter sees them
            self.pool = nn.AdaptiveAvgPool2d(1)
            self.relu = nn.ReLU(inplace=True)
            self.top = nn.Conv2d(top_channels, hidden, 1, bias=False)  # W1
            width = hidden
            if attention == 'joint':
                self.bottom = nn.Conv2d(bottom_channels, hidden, 1, bias=False)  # W2
                width = 2 * hidden
            self.out = nn.Conv2d(width, bottom_channels, 1, bias=False)  # W3, eq. 5: W2
        for conv in self.children():  # the authors' rule; a host's own comes afterwards
            if isinstance(conv, nn.Conv2d):
                nn.init.kaiming_normal_(conv.weight, mode='fan_out', nonlinearity='relu')

    def searchlight(self, bottom: Tensor, top: Tensor) -> Tensor:
        """Return the raw searchlight s, (N, C_l, 1, 1)."""
        hidden = self.relu(self.top(self.pool(top)))
        if self.attention == 'joint':
            hidden = torch.cat([hidden, self.relu(self.bottom(self.pool(bottom)))], 1)  # eq. 4
        return self.out(hidden)  # eq. 5 with attention='top'

    def gates(self, bottom: Tensor, top: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """Return the gates of channels and of positions, as the operation takes them.

        Shape: ``(N, C_l, 1, 1)`` and ``(N, 1, H_l, W_l)``, None for one that it does not take.
        """
        if self.operation == 'recurrent':
            return None, None
        s = self.searchlight(bottom, top)
        channels = None if self.operation == 'spatial' else s.sigmoid()
        if self.operation == 'channel':
            return channels, None
        seen = bottom * channels if self.operation == 'channel-spatial' else bottom
        return channels, _spatial_gate(seen, s)

    def forward(self, bottom: Tensor, top: Tensor) -> Tensor:
        if self.operation == 'recurrent':
            out = self.top(top)
            if out.shape[2:] != bottom.shape[2:]:
                out = F.interpolate(out, bottom.shape[2:], mode='nearest')
            return out
        s = self.searchlight(bottom, top)
        if self.operation == 'parallel':
            return bottom * ((s.sigmoid() + _spatial_gate(bottom, s)) / 2)
        out = bottom
        for step in self.operation.split('-'):
            out = out * (s.sigmoid() if step == 'channel' else _spatial_gate(out, s))  # eq. 6, 8
        return out

    def extra_repr(self) -> str:
        return f'attention={self.attention!r}, operation={self.operation!r}'


def _spatial_gate(x: Tensor, s: Tensor) -> Tensor:
    """``sigmoid(sum_c s_c x_c)``: (N, C, H, W), (N, C, 1, 1) -> (N, 1, H, W), eq. 7.

    A matrix product for each image; it keeps no second map of C channels for the backward pass.
    """
    logits = torch.matmul(s.flatten(2).transpose(1, 2), x.flatten(2))  # (N, 1, C) x (N, C, HW)
    return logits.unflatten(2, x.shape[2:]).sigmoid()
