"""The classifier head of the autoencoder report as its code has it."""

from mmpretrain.models.heads import LinearClsHead
from torch import Tensor

from mmattn.registry import MODELS

__all__ = ['ReportHead']


@MODELS.register_module()
class ReportHead(LinearClsHead):
    """A linear classifier with ReLU and softmax before a loss that applies softmax again.

    ``scores = softmax(relu(W x + b))``.

    Paper: Attention Mechanisms for Image Classification (course report, 2023), published code.

    Differs from the paper: nothing. Cross-entropy on such scores cannot fall below 1.461 with 10
    classes, so its losses and accuracies do not compare with those of a plain
    ``LinearClsHead``.

    Args: those of mmpretrain's ``LinearClsHead``.

    Shape: tuple whose last entry is ``(N, C)`` -> ``(N, num_classes)``.
    """

    def forward(self, feats: tuple[Tensor]) -> Tensor:
        return super().forward(feats).relu().softmax(1)
