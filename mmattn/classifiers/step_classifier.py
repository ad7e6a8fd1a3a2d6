"""A classifier with a top-down backbone that chooses among its steps."""

import torch
from mmpretrain.models import ImageClassifier
from torch import Tensor

from mmattn.backbones.top_down import count_steps, outputs_per_step
from mmattn.localization.boxes import boxes_from_maps
from mmattn.localization.steps import keep_apart
from mmattn.registry import MODELS

__all__ = ['RULES', 'StepClassifier']

RULES = ('confident', 'union')
BOX_RULE = 'tdam'  # the authors' boxes


@MODELS.register_module()
class StepClassifier(ImageClassifier):
    """An ``ImageClassifier`` that predicts, and learns, from every step of its top-down backbone.

    It predicts the scores of each image's most confident step: the one whose best class has the
    highest probability. With ``rule='union'`` it also finds by the authors' rule which steps are
    kept (their boxes do not overlap, :func:`mmattn.localization.steps.keep_apart`), from the class
    activation map of each step's best class; no true box is needed. ``mmattn.StepAccuracy`` as the
    ``test_evaluator`` reports all steps, the most confident one, and the union (an image is right
    if any kept step is right), which is no plain accuracy and which no single prediction could
    give: with another metric both rules score the most confident step.

    The loss with ``'confident'`` is that of the most confident step of each image. With
    ``'union'`` it is the mean over images and steps of the losses of those steps which predict the
    class that the step with the smallest loss predicts; the others count as 0.

    Paper: TDAM, ECCV 2022, arXiv 2111.13470, the evaluation of its classification tables.

    Differs from the paper: it does not say how confidence is measured. By probability, as in the
    authors' rule for boxes; their older sorting takes the highest score. The loss of the union is
    that of their older training script without its similarities of class names from WordNet; the
    released networks were trained on the last step alone, which is ``ImageClassifier``.

    A step costs a whole forward pass, and in training the norms of earlier layers see every image
    once for each step.

    Args:
        rule: ``'confident'`` or ``'union'``.
        kwargs: all arguments of mmpretrain's ``ImageClassifier``. With ``'union'`` the head has
            one linear layer ``fc`` on a global average.

    Shape: ``(N, 3, H, W) -> (N, num_classes)`` with ``mode='tensor'``: the last step's scores.

    Raises:
        ValueError: unknown ``rule``, or a backbone without top-down blocks.
        TypeError: no head, or ``'union'`` with one that has no ``fc``.
    """

    def __init__(self, *args, rule: str = 'confident', **kwargs) -> None:
        if rule not in RULES:
            raise ValueError(f'rule must be one of {RULES}, got {rule!r}')
        super().__init__(*args, **kwargs)
        self.rule = rule
        if self.head is None:
            raise TypeError(
                'head must be a dict, the classifier whose scores are compared, got None'
            )
        if count_steps(self) < 2:
            raise ValueError(
                'backbone must have top-down blocks of 2 steps or more (mmattn.TDResNet, '
                f'TDConvNeXt, TDMobileNetV3), got {type(self.backbone).__name__} with none'
            )
        if rule == 'union' and not isinstance(getattr(self.head, 'fc', None), torch.nn.Linear):
            raise TypeError(
                "head must have one linear layer fc for rule='union', whose boxes are those of "
                f'class activation maps, got {type(self.head).__name__}'
            )

    def step_scores(self, inputs: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return the scores of every step, and the backbone's last maps.

        Shape: ``(N, 3, H, W)`` -> ``(T, N, num_classes)`` and T maps ``(N, C, h, w)``.
        """
        maps = outputs_per_step(self, inputs, forward=_backbone)
        feats = maps if self.neck is None else [self.neck(out) for out in maps]
        return torch.stack([self.head(feat) for feat in feats]), [out[-1] for out in maps]

    def loss(self, inputs: Tensor, data_samples: list) -> dict[str, Tensor]:
        """Return the losses by the rule.

        Args:
            inputs: a batch, ``(N, 3, H, W)``.
            data_samples: with their labels.
        """
        scores, _ = self.step_scores(inputs)
        chosen = _most_confident(scores)
        losses = self.head._get_loss(chosen, data_samples)
        if self.rule == 'union':
            losses['loss'] = self._union_loss(scores, data_samples)
        return losses

    def _union_loss(self, scores: Tensor, data_samples: list) -> Tensor:
        each = torch.stack([
            self.head._get_loss(step, data_samples, reduction_override='none')['loss']
            for step in scores
        ])  # fmt: skip
        best = scores.argmax(2)  # (T, N)
        agreeing = best == best.gather(0, each.argmin(0, keepdim=True))
        return (each * agreeing).mean()

    def predict(self, inputs: Tensor, data_samples: list | None = None, **kwargs) -> list:
        """Predict by the most confident step; says what each step gives.

        Args:
            inputs: a batch, ``(N, 3, H, W)``.
            data_samples: filled with the predictions.
            kwargs: passed to the head's predictions.

        Returns:
            The samples, also with ``step_scores`` (T, num_classes) and, with ``'union'``, ``kept``
            (T): the step, from 0, that stands for each step.
        """
        scores, maps = self.step_scores(inputs)
        samples = self.head._get_predictions(_most_confident(scores), data_samples, **kwargs)
        kept = self._kept(scores, maps, inputs.shape[2:]) if self.rule == 'union' else None
        for index, sample in enumerate(samples):
            sample.set_field(scores[:, index].softmax(1), 'step_scores', dtype=Tensor)
            if kept is not None:
                sample.set_field(torch.tensor(kept[index]), 'kept', dtype=Tensor)
        return samples

    def _kept(self, scores: Tensor, maps: list[Tensor], size: torch.Size) -> list[list[int]]:
        """Return, for each image, the step that stands for each step."""
        confidence, best = scores.softmax(2).max(2)  # (T, N)
        boxes = []
        for labels, out in zip(best, maps):
            cams = torch.einsum('nc,nchw->nhw', self.head.fc.weight[labels], out)
            boxes.append(boxes_from_maps(cams, tuple(size), BOX_RULE))
        return [
            keep_apart(list(zip(confidence[:, index].tolist(), each)))
            for index, each in enumerate(zip(*boxes))
        ]


def _backbone(model: ImageClassifier, inputs: Tensor) -> tuple[Tensor, ...]:
    return model.extract_feat(inputs, stage='backbone')


def _most_confident(scores: Tensor) -> Tensor:
    """Return each image's scores at the step whose best class is the most probable.

    Shape: ``(T, N, K) -> (N, K)``.
    """
    step = scores.softmax(2).amax(2).argmax(0)
    return scores[step, torch.arange(scores.shape[1], device=scores.device)]
