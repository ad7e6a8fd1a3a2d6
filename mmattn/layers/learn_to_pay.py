"""Learn to pay attention: local maps weighted by how well they go with a global descriptor."""

import torch.nn.functional as F
from torch import Tensor, nn

from mmattn.layers._gate import ScalingGate, at_least_float32, check_positive, full_precision
from mmattn.registry import MODELS

__all__ = ['LearnToPay', 'LearnToPayGate']

COMPATIBILITIES = ('learned', 'dot')


@MODELS.register_module()
class LearnToPay(nn.Module):
    """Sums the positions of a local map, each weighted by its compatibility with a global vector.

    ``out = sum_p a_p l_p`` with ``a = softmax_p(u . (l_p + g))`` or ``softmax_p(l_p . g)``; l is
    the local map, brought to the width of g by a 1x1 convolution where widths differ.

    Paper: Learn to Pay Attention, arXiv 1804.02391, section 3.1: both compatibility scores,
    equations 1 and 2.

    Differs from the paper: nothing; as in its code it is the projected map that is summed.

    It turns a map into a vector and so is no plugin and has no ``init='identity'``:
    ``mmattn.LearnToPayHead``, which classifies by it, and ``mmattn.LearnToPayGate``, which keeps
    the map, have.

    Limits: with the learned compatibility g has no effect and gets no gradient: it adds the same
    ``u . g`` to every score, and a softmax does not see a constant. So it is in the paper's
    formula; ``'dot'`` is free of it.

    Args:
        in_channels: width of the local map.
        global_channels: C_g, width of the global vector.
        compatibility: ``'learned'``, ``u . (l_p + g)`` (the paper's "pc"), or ``'dot'``,
            ``l_p . g`` (its "dp").

    Shape: local ``(N, in_channels, H, W)`` and global ``(N, C_g)`` or ``(N, C_g, 1, 1)`` ->
    ``(N, C_g)``.

    Raises:
        ValueError: a width below 1, unknown ``compatibility``.
    """

    def __init__(
        self, in_channels: int, global_channels: int, compatibility: str = 'learned'
    ) -> None:
        super().__init__()
        check_positive('in_channels', in_channels)
        check_positive('global_channels', global_channels)
        if compatibility not in COMPATIBILITIES:
            raise ValueError(
                f'compatibility must be one of {COMPATIBILITIES}, got {compatibility!r}'
            )
        self.proj = (
            nn.Conv2d(in_channels, global_channels, 1, bias=False)
            if in_channels != global_channels
            else nn.Identity()
        )
        learned = compatibility == 'learned'
        self.score = nn.Conv2d(global_channels, 1, 1, bias=False) if learned else None  # u
        self.init_weights()

    def forward(self, local: Tensor, context: Tensor) -> Tensor:
        local = self.proj(local)  # (N, C_g, H, W)
        attn = self._weights(local, context).to(local.dtype)  # (N, H * W)
        return (local.flatten(2) @ attn.unsqueeze(2)).squeeze(2)  # (N, C_g)

    def attention(self, local: Tensor, context: Tensor) -> Tensor:
        """Return the weights of the positions, which sum to 1.

        Shape: as the layer's input -> ``(N, 1, H, W)``, at least float32.
        """
        attn = self._weights(self.proj(local), context)
        return attn.unsqueeze(1).unflatten(2, local.shape[2:])

    def _weights(self, local: Tensor, context: Tensor) -> Tensor:
        """Return the weights, at least float32: sums over channels overflow float16."""
        with full_precision(local):
            local = at_least_float32(local)
            context = context.flatten(1)[:, :, None, None].to(local.dtype)  # (N, C_g, 1, 1)
            if self.score is not None:
                logits = F.conv2d(local + context, self.score.weight.to(local.dtype))  # eq. 1
            else:
                logits = (local * context).sum(1)  # (N, H, W), eq. 2
            return logits.flatten(1).softmax(1)

    def init_weights(self) -> None:
        """Give every parameter its initial value (torch's; the paper names none)."""
        for layer in self.children():
            if isinstance(layer, nn.Conv2d):
                layer.reset_parameters()


@MODELS.register_module()
class LearnToPayGate(ScalingGate):
    """Weighs the positions of a map as learn-to-pay attention does, without summing them.

    ``out_p = H W a_p x_p`` with the weights a of ``mmattn.LearnToPay`` between x and its global
    average: the mean of ``out`` over all positions is the paper's sum, and even weights change
    nothing.

    Paper: Learn to Pay Attention, arXiv 1804.02391, section 3.1, equations 1 and 2.

    Differs from the paper: our reading for networks that continue with maps, detectors first of
    all; the paper classifies by the sums (``mmattn.LearnToPayHead``). Its global vector comes
    from a deeper layer. With the learned compatibility that makes no difference, for the global
    vector cancels out.

    Limits: products of wide maps are large, so ``'dot'`` starts with nearly all weight on one
    position; use it with ``init='identity'``.

    Args:
        in_channels: C.
        compatibility: ``'learned'`` or ``'dot'`` (``mmattn.LearnToPay``).
        init: ``'paper'`` or ``'identity'`` (:mod:`mmattn.core.identity`).

    Shape: ``(N, C, H, W) -> (N, C, H, W)``.

    Raises:
        ValueError: ``in_channels`` below 1, unknown ``compatibility`` or ``init``.
    """

    _abbr_ = 'learn_to_pay'

    def __init__(
        self, in_channels: int, compatibility: str = 'learned', init: str = 'paper'
    ) -> None:
        super().__init__(init)
        self.weigh = LearnToPay(in_channels, in_channels, compatibility)
        self.init_weights()

    def factor(self, x: Tensor) -> Tensor:
        attn = self.weigh.attention(x, x.mean((2, 3)))
        return (attn * (x.shape[2] * x.shape[3])).to(x.dtype)
