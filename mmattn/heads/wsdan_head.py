"""A classifier that pools its map once for each of several attention maps (WS-DAN)."""

import torch
from mmengine.dist import all_gather
from mmpretrain.models.heads import ClsHead
from torch import Tensor, nn
from torch.nn import functional as F

from mmattn.registry import MODELS

__all__ = ['WSDANHead', 'bilinear_attention_pooling']

_INIT = (
    dict(type='Normal', layer='Linear', std=0.01),
    dict(type='Kaiming', layer='Conv2d'),
    dict(type='Constant', layer='BatchNorm2d', val=1),
)
SCALE = 100.0  # of the normalised features before the linear layer, as in the authors' code


def bilinear_attention_pooling(features: Tensor, attention: Tensor) -> Tensor:
    """Average a map's features once under each attention map; signed root, then length 1.

    ``f_k = mean_hw(a_k * F)``, all side by side, ``sign(f) sqrt(|f|)``, divided by its L2 norm.

    Paper: WS-DAN, arXiv 1901.09891, equations 2 to 4.

    Differs from the paper: nothing (the root and the norm are in the text and the authors' code).

    Shape: features ``(N, C, H, W)``, attention ``(N, M, H, W)`` -> ``(N, M * C)``.
    """
    with torch.autocast(features.device.type, enabled=False):  # the root needs all its digits
        dtype = torch.promote_types(features.dtype, torch.float32)
        pooled = torch.einsum('nmhw,nchw->nmc', attention.to(dtype), features.to(dtype))
        pooled = pooled.flatten(1) / features.shape[2:].numel()  # (N, M * C)
        return F.normalize(pooled.sign() * (pooled.abs() + 1e-12).sqrt())


@MODELS.register_module()
class WSDANHead(ClsHead):
    """Classifies by bilinear attention pooling: the head of ``mmattn.WSDAN``.

    ``a = ReLU(BN(conv1x1(F)))``, ``scores = W (100 * pool(F, a))``
    (:func:`bilinear_attention_pooling`). Each class has a centre, which the pooled features of its
    images are pulled towards and which moves after them: ``c <- c + beta (f - c / |c|)``.

    Paper: See Better Before Looking Closer: Weakly Supervised Data Augmentation Network for
    Fine-Grained Visual Classification (WS-DAN), arXiv 1901.09891, equations 1 to 5.

    Differs from the paper: as in both public codes the centre is normalised where it is compared,
    which the text does not say, and the linear layer has no bias in the PyTorch one that TDAM
    names (here too). The authors' code takes the attention maps from a branch of Inception; the
    1x1 convolution with BatchNorm and ReLU is that PyTorch code's. Images of one class in a batch
    each move the centre, as in the authors' code; in the PyTorch one only the last does. Several
    processes move it together.

    Use it without a neck, in a model of type ``mmattn.WSDAN``, which adds the crops and drops; in
    an ``ImageClassifier`` it trains on whole images with the centre loss.

    Args:
        num_classes: number of classes.
        in_channels: C, width of the backbone's last map.
        maps: M, number of attention maps (32 in the paper).
        beta: how far a centre moves (0.05).
        centre_weight: weight of the centre loss (1).
        init_cfg: as mmpretrain's; normal weights of 0.01 for the linear layer, Kaiming's for the
            convolution.
        kwargs: ``loss``, ``topk`` and ``cal_acc`` of mmpretrain's ``ClsHead``.

    Shape: tuple whose last entry is ``(N, C, H, W)`` -> ``(N, num_classes)``.

    Raises:
        ValueError: ``num_classes``, ``in_channels`` or ``maps`` below 1, ``beta`` outside 0..1, a
            negative ``centre_weight``; in training, mixed labels (Mixup, CutMix), which have no
            centre.
        TypeError: a feature that is no map (the model has a pooling neck).
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        maps: int = 32,
        beta: float = 0.05,
        centre_weight: float = 1.0,
        init_cfg: dict | list[dict] | None = [*_INIT],  # noqa: B006
        **kwargs,
    ) -> None:
        for name, value in dict(
            num_classes=num_classes, in_channels=in_channels, maps=maps
        ).items():
            if value < 1:
                raise ValueError(f'{name} must be >= 1, got {value}')
        if not 0 <= beta <= 1:
            raise ValueError(f'beta must be from 0 to 1, got {beta}')
        if not centre_weight >= 0:
            raise ValueError(f'centre_weight must be >= 0, got {centre_weight}')
        super().__init__(init_cfg=init_cfg, **kwargs)
        self.beta = beta
        self.centre_weight = centre_weight
        self.attention = nn.Sequential(
            nn.Conv2d(in_channels, maps, 1, bias=False),
            nn.BatchNorm2d(maps, eps=1e-3),
            nn.ReLU(inplace=True),
        )
        self.fc = nn.Linear(maps * in_channels, num_classes, bias=False)
        self.register_buffer('centres', torch.zeros(num_classes, maps * in_channels))

    def attend(self, feats: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        """Return the pooled features ``(N, M * C)`` and the attention maps ``(N, M, H, W)``."""
        features = feats[-1]
        if not isinstance(features, Tensor) or features.ndim != 4:
            raise TypeError('WSDANHead needs maps (N, C, H, W): set neck=None')
        attention = self.attention(features)  # eq. 1
        return bilinear_attention_pooling(features, attention), attention

    def pre_logits(self, feats: tuple[Tensor, ...]) -> Tensor:
        """Return the pooled features, ``(N, M * C)``."""
        return self.attend(feats)[0]

    def score(self, pooled: Tensor) -> Tensor:
        """Return the scores of pooled features, ``(N, num_classes)``."""
        return self.fc(SCALE * pooled)

    def forward(self, feats: tuple[Tensor, ...]) -> Tensor:
        return self.score(self.pre_logits(feats))

    def loss(self, feats: tuple[Tensor, ...], data_samples: list, **kwargs) -> dict[str, Tensor]:
        """Return the losses of whole images: classification, and distance to the centres."""
        pooled = self.pre_logits(feats)
        losses = self._get_loss(self.score(pooled), data_samples, **kwargs)
        return {**losses, 'loss_centre': self.centre_loss(pooled, data_samples)}

    def centre_loss(self, pooled: Tensor, data_samples: list) -> Tensor:
        """Return the mean squared distance to the classes' centres; in training these move.

        Args:
            pooled: features, ``(N, M * C)``.
            data_samples: with ``gt_label``.
        """
        if 'gt_score' in data_samples[0]:
            raise ValueError(
                'labels must be one class an image, got mixed ones: WSDANHead has a centre a '
                'class, so leave Mixup and CutMix out of train_cfg'
            )
        labels = torch.cat([sample.gt_label for sample in data_samples]).to(pooled.device)
        centres = F.normalize(self.centres[labels])
        if self.training:
            self._move(pooled.detach(), centres, labels)
        return self.centre_weight * (pooled - centres).square().sum(1).mean()

    @torch.no_grad()
    def _move(self, pooled: Tensor, centres: Tensor, labels: Tensor) -> None:
        steps = torch.cat(all_gather((self.beta * (pooled - centres)).contiguous()))
        self.centres.index_add_(0, torch.cat(all_gather(labels)), steps)  # eq. 5
