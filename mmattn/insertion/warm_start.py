"""From a plain checkpoint to the start of a network with attention, and proof that they agree."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from mmengine.config import Config, ConfigDict
from mmengine.dataset import pseudo_collate
from mmengine.logging import MMLogger
from mmengine.registry import DATASETS, MODELS, DefaultScope
from torch import Tensor, nn

from mmattn.core.checkpoint import LoadReport, compare, find_state, load_checkpoint
from mmattn.core.modes import eval_mode
from mmattn.insertion.networks import Network, tensors_in

__all__ = ['Difference', 'WarmStart', 'largest_difference', 'start_of', 'warm_start']

DRAWN_SIZE = 320  # longer side of a drawn image


@dataclass
class WarmStart:
    """A network with attention that starts from a plain checkpoint.

    Args:
        plain: the plain network with its weights.
        attended: the network with attention, with the same weights where it has them.
        report: how the checkpoint and the attended network fit.
        checkpoint: what to save.
    """

    plain: nn.Module
    attended: nn.Module
    report: LoadReport
    checkpoint: dict

    def save(self, path: str | Path) -> None:
        """Write the checkpoint."""
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        torch.save(self.checkpoint, path)


def start_of(checkpoint: str) -> str:
    """How the methods in a trained checkpoint started: their gamma is there, or not."""
    state = find_state(load_checkpoint(checkpoint))
    ours = [key for key in state if key.rpartition('.')[2] == 'gamma' and state[key].dim() == 0]
    return 'identity' if ours else 'paper'


def warm_start(plain: Config, attended: Config, checkpoint: str | Path) -> WarmStart:
    """Load a plain checkpoint into both networks.

    Args:
        plain: the config of the checkpoint.
        attended: the same with attention (:func:`mmattn.add_attention`).
        checkpoint: a file or an address.

    Raises:
        ValueError: the checkpoint is of another network.
    """
    loaded = load_checkpoint(checkpoint)
    state = find_state(loaded)
    nets = [_build(cfg) for cfg in (plain, attended)]
    fit = compare(nets[0], loaded)
    if not fit.fits:
        raise ValueError(
            f'checkpoint {checkpoint} is not of the plain config: {fit.summary()}. {fit.advice()}'
        )
    report = compare(nets[1], loaded)
    if report.mismatched:
        raise ValueError(f'checkpoint {checkpoint}: {report.summary()}')
    for net in nets:
        net.load_state_dict(dict(state), strict=False)
    meta = {k: v for k, v in loaded.get('meta', {}).items() if k in ('dataset_meta', 'seed')}
    start = dict(meta=meta, state_dict=nets[1].state_dict())
    return WarmStart(*nets, report, start)


class Difference(NamedTuple):
    """How far the outputs of two networks are apart.

    Args:
        largest: the largest absolute difference.
        scale: the largest absolute value of the plain network's outputs.
        what: which outputs, for which images.
    """

    largest: float
    scale: float
    what: str

    @property
    def is_rounding(self) -> bool:
        """Whether it is no more than two orders of float32 operations explain."""
        return self.largest <= 1e-5 * max(self.scale, 1.0)

    def __str__(self) -> str:
        if self.largest == 0:
            return f'0 ({self.what})'
        kind = 'rounding of float32' if self.is_rounding else 'not the same network'
        return f'{self.largest:.1e}, {kind} ({self.what}, up to {self.scale:.3g})'


def largest_difference(start: WarmStart, cfg: Config, images: int = 2) -> Difference:
    """Run both networks on a few images and compare all their outputs.

    Args:
        start: the networks.
        cfg: the config whose validation images are taken, where they are here; else drawn ones.
        images: how many.
    """
    network = Network(cfg)
    batches, where = _validation_images(network, images)
    difference, scale, what = 0.0, 0.0, ''
    for batch in batches:
        with torch.no_grad(), eval_mode(start.plain, start.attended):
            theirs, what = _outputs(start.plain, batch)
            ours, _ = _outputs(start.attended, batch)
        for one, other in zip(ours, theirs, strict=True):
            if one.shape != other.shape:
                return Difference(float('inf'), 0.0, f'{what} of other shapes for {where}')
            if one.numel():
                difference = max(difference, (one.double() - other.double()).abs().max().item())
                scale = max(scale, other.abs().max().item())
    return Difference(difference, scale, f'{what} for {where}')


def _build(cfg: Config) -> nn.Module:
    """Return a model with initial values and no weights from elsewhere."""
    network = Network(cfg)
    model = copy.deepcopy(cfg.model)
    if 'data_preprocessor' in cfg:
        model.setdefault('data_preprocessor', copy.deepcopy(cfg.data_preprocessor))
    _forget_weights(model)
    with DefaultScope.overwrite_default_scope(network.scope), _no_init_log():
        net = MODELS.build(model)
        net.init_weights()
    return net


@contextmanager
def _no_init_log() -> Iterator[None]:
    """mmengine logs how every parameter starts: hundreds of lines."""
    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.setLevel('WARNING')
    try:
        yield
    finally:
        logger.setLevel(level)


def _forget_weights(cfg: object) -> None:
    """No part of a model's config asks for a checkpoint any more."""
    if isinstance(cfg, dict):
        rule = cfg.get('init_cfg')
        if isinstance(rule, dict) and str(rule.get('type')).endswith('Pretrained'):
            cfg['init_cfg'] = None
        if isinstance(cfg.get('pretrained'), str):
            cfg['pretrained'] = None
        cfg = list(cfg.values())
    if isinstance(cfg, list | tuple):
        for value in cfg:
            _forget_weights(value)


def _validation_images(network: Network, images: int) -> tuple[list, str]:
    """Return a few images of the config's validation set as its pipeline gives them; else drawn
    ones.
    """
    loader = network.cfg.get('val_dataloader') or network.cfg.get('test_dataloader')
    dataset = copy.deepcopy((loader or {}).get('dataset'))
    if isinstance(dataset, ConfigDict):
        with DefaultScope.overwrite_default_scope(network.scope):
            try:
                built = DATASETS.build(dataset)
                chosen = range(min(images, len(built)))
                batches = [pseudo_collate([built[i]]) for i in chosen]
                return batches, f'{len(batches)} images of the validation set'
            except (OSError, ImportError):
                pass  # no data here
    return list(_drawn(network, images)), f'{images} drawn images (the validation set is not here)'


def _drawn(network: Network, images: int) -> Iterator[dict]:
    """Images of colour gradients and noise."""
    height, width = network.size
    scale = min(1.0, DRAWN_SIZE / max(height, width)) if not network.is_classifier else 1.0
    size = tuple(max(int(side * scale) // 32 * 32, 32) for side in (height, width))
    if network.is_classifier or max(height, width) <= DRAWN_SIZE:
        size = (height, width)
    generator = torch.Generator().manual_seed(0)
    for _ in range(images):
        noise = torch.rand(3, *size, generator=generator)
        slope = torch.linspace(0, 1, size[1]).expand(3, *size)
        image = ((noise + slope) * 127).to(torch.uint8)
        batch: dict[str, Any] = dict(inputs=[image])
        if not network.is_classifier:
            from mmdet.structures import DetDataSample

            meta = dict(
                img_id=0,
                img_path='',
                img_shape=size,
                ori_shape=size,
                pad_shape=size,
                scale_factor=(1.0, 1.0),
            )
            batch['data_samples'] = [DetDataSample(metainfo=meta)]
        yield batch


def _outputs(model: nn.Module, batch: dict) -> tuple[list[Tensor], str]:
    """Return the raw outputs of a model; its feature maps where it has no raw mode that runs."""
    data = model.data_preprocessor(copy.deepcopy(batch), False)
    try:
        outs = model(**data, mode='tensor')
        what = 'raw outputs'
    except Exception:  # some models of mmdet have no raw mode that works
        outs, what = model.extract_feat(data['inputs']), 'feature maps'
    return list(tensors_in(outs)), what
