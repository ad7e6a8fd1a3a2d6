"""Score maps of a detector: what speaks for a detection, or for all of a class."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from mmattn.core.modes import eval_mode, hooks
from mmattn.core.names import did_you_mean
from mmattn.localization.engines import GradientEngine, parameters_frozen
from mmattn.localization.layouts import find_layouts
from mmattn.localization.methods import METHODS

__all__ = ['Asked', 'DetectorMap', 'choose_detections', 'detect', 'explain_detections']


@dataclass(frozen=True)
class Asked:
    """One map to make.

    Args:
        title: what it is of, such as ``'dog 0.91'``.
        rows: the detections whose scores are summed, counted from the surest, 0.
    """

    title: str
    rows: tuple[int, ...]


@dataclass(frozen=True)
class DetectorMap:
    """A map of one image.

    Args:
        title: as asked for.
        heat: ``(h, w)``, 0 or more, at the size of the layer; it covers the padded input.
        boxes_xyxy: boxes of the detections it is of, in pixels of the network's input.
    """

    title: str
    heat: np.ndarray
    boxes_xyxy: np.ndarray


def detect(model: nn.Module, data: dict) -> dict[str, Tensor]:
    """Run a detector on one image.

    Args:
        model: a detector of mmdet.
        data: what its ``forward`` takes (:func:`mmattn.analysis.loading.load_image`).

    Returns:
        ``bboxes`` ``(D, 4)`` in pixels of the network's input, ``scores`` and ``labels`` ``(D,)``,
        the surest first.

    Raises:
        ValueError: the model gives no boxes.
    """
    if not hasattr(model, 'predict'):
        raise ValueError(
            f'model must be a detector of mmdet, got {type(model).__name__} without predict()'
        )
    (sample,) = model.predict(data['inputs'], data['data_samples'], rescale=False)
    found = getattr(sample, 'pred_instances', None)
    if found is None or 'bboxes' not in found:
        raise ValueError(f'model must be a detector with boxes, got {type(model).__name__}')
    order = found.scores.detach().argsort(descending=True, stable=True)
    return {name: found[name][order] for name in ('bboxes', 'scores', 'labels')}


def choose_detections(
    found: dict[str, Tensor],
    classes: Sequence[str],
    rows: Sequence[int] = (),
    label: str | int | None = None,
    count: int = 3,
    score_thr: float = 0.3,
) -> list[Asked]:
    """Choose what maps are made of.

    Args:
        found: what :func:`detect` gave.
        classes: names of the classes.
        rows: detections, counted from the surest, 0.
        label: a class, by name or index: one map of all its detections from ``score_thr`` on.
        count: without ``rows`` and ``label``: so many detections, the surest.
        score_thr: of those that are chosen without ``rows``.

    Returns:
        What to ask for; nothing where nothing is sure enough.

    Raises:
        ValueError: there is no such detection or class, or ``count`` is below 1.
    """
    if count < 1:
        raise ValueError(f'count must be 1 or more, got {count}')
    labels, scores = found['labels'].tolist(), found['scores'].tolist()

    def title(row: int) -> str:
        return f'{classes[labels[row]]} {scores[row]:.2f}'

    if rows:
        for row in rows:
            if not 0 <= row < len(scores):
                raise ValueError(f'detection must be from 0 to {len(scores) - 1}, got {row}')
        return [Asked(title(row), (row,)) for row in rows]
    sure = [row for row, score in enumerate(scores) if score >= score_thr]
    if label is None:
        return [Asked(title(row), (row,)) for row in sure[:count]]
    wanted = _class_index(label, classes)
    own = tuple(row for row in sure if labels[row] == wanted)
    return [Asked(f'{classes[wanted]}, {len(own)} found', own)] if own else []


def _class_index(label: str | int, classes: Sequence[str]) -> int:
    if label in classes:
        return list(classes).index(label)
    if str(label).isdecimal() and int(label) < len(classes):
        return int(label)
    raise ValueError(
        f'class must be a name or an index below {len(classes)}, got {label!r}'
        f'{did_you_mean(str(label), classes)}'
    )


def explain_detections(
    model: nn.Module,
    data: dict,
    asked: Sequence[Asked],
    method: str = 'gradcam',
    layer: str | None = None,
    level: int | None = None,
) -> list[DetectorMap]:
    """Make score maps of detections: which positions of a layer spoke for a box's score.

    The score is the one that the detector gives the box at its end, after softmax or sigmoid and
    the suppression of overlapping boxes; its gradient is taken down to the layer. The network runs
    once, without gradients below the layer.

    Args:
        model: a detector of mmdet.
        data: what its ``forward`` takes, one image.
        asked: the maps to make (:func:`choose_detections`).
        method: one of :data:`~mmattn.localization.methods.METHODS` but ``'cam'``.
        layer: name of a module whose output is a map, such as ``'backbone.layer4'``.
        level: number of one of the maps that the neck (without one, the backbone) gives. Without
            ``layer`` and ``level``: all of them, each scaled to a maximum of 1, and so is their
            sum at the finest size; a box is read from one or a few of them, the others stay 0.

    Paper: Grad-CAM (Selvaraju et al., ICCV 2017), Grad-CAM++, LayerCAM (Jiang et al., TIP 2021),
    HiResCAM.

    Differs from the papers: theirs are of a classifier's score before the softmax; boxes have
    none that all detectors share. Grad-CAM weighs a channel by its mean gradient over the map, of
    which a box fills a part: its maps show whatever else in the image those channels answer to.
    ``'layercam'`` and ``'hirescam'`` keep the place of the gradient.

    Raises:
        ValueError: an unknown method, layer or level; the layer gives no map; the scores do not
            depend on it.
    """
    allowed = [name for name in METHODS if name != 'cam']
    if method not in allowed:
        raise ValueError(f'method must be one of {", ".join(allowed)}, got {method!r}')
    if layer is not None and level is not None:
        raise ValueError(f'layer or level, not both, got {layer!r} and {level}')
    if not asked:
        return []
    boxes: list[Tensor] = []
    with (
        eval_mode(model),
        parameters_frozen(model),
        torch.inference_mode(False),
        _targets(model, data['inputs'], layer, level) as (modules, levels),
    ):
        read = levels if layer is None and level is None else []

        def run(x: Tensor) -> Tensor:
            found = detect(model, dict(data, inputs=x))
            boxes[:] = [found['bboxes'].detach()]
            scores = torch.stack([found['scores'][list(one.rows)].sum() for one in asked])
            # a level that no box reads then has a gradient of 0, which is no error
            return scores[None] + sum(0 * level.mean() for level in read)

        engine = GradientEngine(run, modules, {}, method, 'last', _to_maps)
        out = engine(data['inputs'], torch.arange(len(asked))[None])
    maps = out.maps[0].cpu().numpy()  # (K, h, w)
    if read:  # the mean of several levels, of which most are 0
        maps = maps / np.maximum(maps.max((1, 2), keepdims=True), 1e-12)
    corners = boxes[0].cpu().numpy()
    return [
        DetectorMap(one.title, heat, corners[list(one.rows)]) for one, heat in zip(asked, maps)
    ]


@contextmanager
def _targets(
    model: nn.Module, x: Tensor, layer: str | None, level: int | None
) -> Iterator[tuple[dict[str, nn.Module], list[Tensor]]]:
    """Give the modules to read by name, and the maps of the levels of the current run.

    Levels have no module of their own: each passes an identity that is put after the neck.
    """
    if layer is not None:
        names = {name: module for name, module in model.named_modules() if name}
        if layer not in names:
            raise ValueError(
                f'layer must be a module of the detector, got {layer!r}'
                f'{did_you_mean(layer, names)}'
            )
        yield {layer: names[layer]}, []
        return
    source = 'neck' if getattr(model, 'neck', None) is not None else 'backbone'
    with torch.no_grad():
        count = len(model.extract_feat(x))
    if level is not None and not 0 <= level < count:
        raise ValueError(f'level must be from 0 to {count - 1} (of the {source}), got {level}')
    doors = {i: nn.Identity() for i in (range(count) if level is None else [level])}
    maps: list[Tensor] = []

    def pass_doors(module: nn.Module, inputs: tuple, outputs: Sequence[Tensor]) -> tuple:
        maps[:] = [doors[i](out) if i in doors else out for i, out in enumerate(outputs)]
        return tuple(maps)

    with hooks([getattr(model, source)], pass_doors):
        yield {f'{source}[{i}]': door for i, door in doors.items()}, maps


def _to_maps(name: str, output: Tensor, x: Tensor) -> Tensor:
    """Bring a layer's output into ``(N, C, h, w)``, which it mostly is in mmdet."""
    if output.dim() == 4:
        return output
    layouts = find_layouts(output.shape, x.shape[-2:])
    if not layouts:
        raise ValueError(
            f'layer must give a map, {name!r} gives the shape {tuple(output.shape)} for a '
            f'{x.shape[-2]} x {x.shape[-1]} input'
        )
    return layouts[0].to_maps(output)
