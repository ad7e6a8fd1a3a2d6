"""A classifier that trains on and tests with what its attention maps cut out of an image."""

from collections.abc import Sequence

import torch
from mmpretrain.models import ImageClassifier
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import masks_to_boxes

from mmattn.registry import MODELS

__all__ = ['WSDAN', 'attention_boxes', 'attention_crop', 'attention_drop']


@MODELS.register_module()
class WSDAN(ImageClassifier):
    """A classifier of mmpretrain with WS-DAN's attention crops and drops.

    A step of training sees each image three times: whole; cut to the box of one of its attention
    maps and enlarged (crop); and with the place of another map blacked out (drop). The three
    classification losses are averaged; the centre loss takes the whole images. A test averages
    the probabilities of the whole image and of its crop to the box of all maps together.

    Paper: See Better Before Looking Closer: Weakly Supervised Data Augmentation Network for
    Fine-Grained Visual Classification (WS-DAN), arXiv 1901.09891, equations 6 to 8 and algorithm
    1. It is the fine-grained setting of TDAM (ECCV 2022).

    Differs from the paper: as in the authors' code a map is compared with a share of its maximum
    (the text stretches it to 0..1 first), its box grows by 10 % of the image on each side in
    training and 5 % in a test, and a test averages probabilities. The PyTorch code that TDAM names
    first draws the map with probabilities by its mean and averages scores; the text and the
    authors' code draw each map alike. A box is kept inside the image (the authors' code continues
    with black). A map that is zero everywhere crops and drops nothing.

    Args:
        backbone, neck, head, pretrained, train_cfg, data_preprocessor, init_cfg: those of
            mmpretrain's ``ImageClassifier``; the head is a ``mmattn.WSDANHead`` and there is no
            neck.
        crop_thr: share of a map's maximum from which a place is in the crop, drawn between these.
        drop_thr: share from which a place is dropped, drawn between these.
        test_thr: share for the crop of a test, of the mean of all maps.
        margin: what a box grows by on each side, in training and in a test, of the image's side.

    Shape: ``(N, 3, H, W) -> (N, num_classes)`` with ``mode='tensor'``: the whole images alone.

    Raises:
        TypeError: the head is no ``mmattn.WSDANHead``.
        ValueError: a share outside 0..1 or a pair in the wrong order, a negative margin; in
            training, mixed labels.
    """

    def __init__(
        self,
        backbone: dict,
        neck: dict | None = None,
        head: dict | None = None,
        crop_thr: tuple[float, float] = (0.4, 0.6),
        drop_thr: tuple[float, float] = (0.2, 0.5),
        test_thr: float = 0.1,
        margin: tuple[float, float] = (0.1, 0.05),
        **kwargs,
    ) -> None:
        for name, pair in dict(crop_thr=crop_thr, drop_thr=drop_thr).items():
            if not (len(pair) == 2 and 0 <= pair[0] <= pair[1] <= 1):
                raise ValueError(
                    f'{name} must be (low, high) with 0 <= low <= high <= 1, got {pair}'
                )
        if not 0 <= test_thr <= 1:
            raise ValueError(f'test_thr must be from 0 to 1, got {test_thr}')
        if len(margin) != 2 or not min(margin) >= 0:
            raise ValueError(f'margin must be two values >= 0 (training, test), got {margin}')
        super().__init__(backbone, neck, head, **kwargs)
        if not hasattr(self.head, 'centre_loss'):
            raise TypeError(f'head must be a mmattn.WSDANHead, got {type(self.head).__name__}')
        self.crop_thr, self.drop_thr, self.test_thr = crop_thr, drop_thr, test_thr
        self.margin = margin

    def loss(self, inputs: Tensor, data_samples: list) -> dict[str, Tensor]:
        """Return the losses of the whole images, of their crops and of their drops.

        Args:
            inputs: a batch, ``(N, 3, H, W)``.
            data_samples: with ``gt_label``.
        """
        pooled, maps = self.head.attend(self.extract_feat(inputs))
        with torch.no_grad():
            crops, drops = self.augment(inputs, maps.detach())
        losses = self.head._get_loss(self.head.score(pooled), data_samples)
        loss = losses.pop('loss') / 3
        found = {'loss_whole': loss, **losses}
        for name, images in dict(crop=crops, drop=drops).items():
            scores = self.head(self.extract_feat(images))
            found[f'loss_{name}'] = self.head._get_loss(scores, data_samples)['loss'] / 3
        return {**found, 'loss_centre': self.head.centre_loss(pooled, data_samples)}

    def augment(self, inputs: Tensor, maps: Tensor) -> tuple[Tensor, Tensor]:
        """Crop every image by one of its attention maps, and drop the place of another.

        Args:
            inputs: ``(N, 3, H, W)``.
            maps: ``(N, M, h, w)``.

        Returns:
            Two batches of the shape of ``inputs``.
        """
        chosen = [self._draw_maps(maps) for _ in range(2)]
        crop_thr, drop_thr = (
            torch.empty(len(inputs), device=maps.device).uniform_(*pair)
            for pair in (self.crop_thr, self.drop_thr)
        )
        crops = attention_crop(inputs, chosen[0], crop_thr, self.margin[0])
        return crops, attention_drop(inputs, chosen[1], drop_thr)

    @staticmethod
    def _draw_maps(maps: Tensor) -> Tensor:
        """One map of every image, each with the same probability: ``(N, h, w)``."""
        index = torch.randint(maps.shape[1], (len(maps),), device=maps.device)
        return maps[torch.arange(len(maps), device=maps.device), index]

    def predict(self, inputs: Tensor, data_samples: list | None = None, **kwargs) -> list:
        """Predict by the mean probability of the whole image and its crop.

        Args:
            inputs: a batch, ``(N, 3, H, W)``.
            data_samples: filled with the predictions.
            kwargs: passed to the head's predictions.
        """
        pooled, maps = self.head.attend(self.extract_feat(inputs))
        thresholds = maps.new_full((len(inputs),), self.test_thr)
        crops = attention_crop(inputs, maps.mean(1), thresholds, self.margin[1])
        scores = [self.head.score(pooled), self.head(self.extract_feat(crops))]
        mean = torch.stack([score.softmax(1) for score in scores]).mean(0)
        # the head's own softmax makes the probabilities of their logarithm
        return self.head._get_predictions(mean.clamp_min(1e-30).log(), data_samples, **kwargs)


def attention_boxes(
    attention: Tensor, thresholds: Tensor, size: Sequence, margin: float
) -> Tensor:
    """Return the box around all places of a map that reach a share of its maximum.

    Args:
        attention: a map for each image, enlarged to ``size`` first.
        thresholds: the share for each image.
        size: ``(height, width)`` of the images.
        margin: what a box grows by on each side, of the side; it stays inside the image.

    Shape: ``(N, h, w)``, ``(N,)`` -> ``(N, 4)``, integers ``x0, y0, x1, y1``; ``x1`` and ``y1``
    are outside the box.
    """
    height, width = size
    large, least = _thresholds(attention, thresholds, size)
    boxes = masks_to_boxes(large >= least).double()  # the last row and column are inside
    boxes[:, 2:] += 1
    grown = boxes + margin * boxes.new_tensor([-width, -height, width, height])
    return grown.clamp(min=0).minimum(boxes.new_tensor([width, height] * 2)).long()


def attention_crop(images: Tensor, attention: Tensor, thresholds: Tensor, margin: float) -> Tensor:
    """Cut every image to the box of its map and enlarge it to its old size.

    Args:
        images: ``(N, 3, H, W)``.
        attention, thresholds, margin: see :func:`attention_boxes`.

    Shape: returns ``(N, 3, H, W)``.
    """
    size = images.shape[2:]
    crops = [
        F.interpolate(image[None, :, y0:y1, x0:x1], size=size, mode='bilinear')
        for image, (x0, y0, x1, y1) in zip(
            images, attention_boxes(attention, thresholds, size, margin).tolist()
        )
    ]
    return torch.cat(crops)


def attention_drop(images: Tensor, attention: Tensor, thresholds: Tensor) -> Tensor:
    """Set to 0 the places of every image where its map reaches a share of its maximum.

    Args:
        images: normalised, so that 0 is the mean colour: ``(N, 3, H, W)``.
        attention: ``(N, h, w)``.
        thresholds: ``(N,)``.

    Shape: returns ``(N, 3, H, W)``.
    """
    large, least = _thresholds(attention, thresholds, images.shape[2:])
    kept = (large < least) | (large.amax((1, 2), keepdim=True) == 0)
    return images * kept[:, None]


def _thresholds(attention: Tensor, shares: Tensor, size: Sequence) -> tuple[Tensor, Tensor]:
    """Return the enlarged maps, and of each the share of its maximum."""
    large = F.interpolate(attention[:, None], size=tuple(size), mode='bilinear')[:, 0]
    return large, shares[:, None, None] * large.amax((1, 2), keepdim=True)
