"""Learn to pay attention: summaries of local maps, weighted by a global descriptor."""

from torch import Tensor, nn

from mmattn.layers._gate import check_channels
from mmattn.registry import MODELS

__all__ = ['LearnToPay']


@MODELS.register_module()
class LearnToPay(nn.Module):
    """Sums the positions of a local map, each weighted by its compatibility with a global vector.

    ``out = sum_p a_p l_p`` with ``a = softmax_p(u . (l_p + g))``; l is the local map, brought to
    the width of g by a 1x1 convolution where widths differ.

    Paper: Learn to Pay Attention, arXiv 1804.02391, equations 1 (compatibility by a learned u),
    2 and 3.

    Differs from the paper: nothing; as in its code it is the projected map that is summed.

    It turns a map into a vector and so is no plugin and has no ``init='identity'``:
    ``mmattn.LearnToPayHead``, which classifies by it, has.

    Args:
        in_channels: width of the local map.
        global_channels: C_g, width of the global vector.

    Shape: local ``(N, in_channels, H, W)`` and global ``(N, C_g)`` or ``(N, C_g, 1, 1)`` ->
    ``(N, C_g)``.

    Raises:
        ValueError: a width below 1.
    """

    def __init__(self, in_channels: int, global_channels: int) -> None:
        super().__init__()
        check_channels(in_channels)
        if global_channels < 1:
            raise ValueError(f'global_channels must be >= 1, got {global_channels}')
        self.proj = (
            nn.Conv2d(in_channels, global_channels, 1, bias=False)
            if in_channels != global_channels
            else nn.Identity()
        )
        self.score = nn.Conv2d(global_channels, 1, 1, bias=False)  # u

    def forward(self, local: Tensor, context: Tensor) -> Tensor:
        local = self.proj(local)  # (N, C_g, H, W)
        attn = self._weights(local, context)  # (N, H * W)
        return (local.flatten(2) @ attn.unsqueeze(2)).squeeze(2)  # (N, C_g), eq. 3

    def attention(self, local: Tensor, context: Tensor) -> Tensor:
        """The weights of the positions, which sum to 1.

        Shape: as the layer's input -> ``(N, 1, H, W)``.
        """
        attn = self._weights(self.proj(local), context)
        return attn.unsqueeze(1).unflatten(2, local.shape[2:])

    def _weights(self, local: Tensor, context: Tensor) -> Tensor:
        logits = self.score(local + context.flatten(1)[:, :, None, None])  # (N, 1, H, W), eq. 1
        return logits.flatten(1).softmax(1)  # eq. 2
