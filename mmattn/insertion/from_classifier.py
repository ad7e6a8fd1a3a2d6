"""From a trained classifier to the start of a detector: its backbone, in the detector's names."""

import copy
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from torch import Tensor, nn

from mmattn.core.checkpoint import LoadReport, compare, find_state, load_checkpoint
from mmattn.core.config import forget_pretrained
from mmattn.core.names import shorten
from mmattn.insertion.networks import Network
from mmattn.layers.bam import BAM
from mmattn.layers.cbam import CBAM
from mmattn.layers.eca import ECA
from mmattn.layers.se import SE

__all__ = ['DetectorStart', 'detector_config', 'detector_start']

MMPRETRAIN = 'mmpretrain'
PLAIN = 'torchvision, timm or the like'
_HEADS = re.compile(r'(fc|classifier|head|last_linear)\.')
# what torchvision's, timm's and the CBAM and BAM authors' ResNets were trained on
_TORCH_STYLE = dict(
    style='pytorch', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], rgb=True
)


class _Gates(NamedTuple):
    """How a family of networks names the parameters of its gates.

    Args:
        family: the family, for people.
        kind: our class.
        key: matches a key of a gate: the place of the gate as group 1, its layer as group 2.
        place: what our gate's name begins with, as a replacement for that match.
        layers: layer -> ours, where the names differ.
    """

    family: str
    kind: type
    key: str
    place: str
    layers: Mapping[str, str]


_AUTHORS = "the CBAM and BAM authors' ResNet"
_GATES = (
    _Gates(
        _AUTHORS,
        CBAM,
        r'(layer\d\.\d+)\.cbam\.((?:Channel|Spatial)Gate\..+)',
        r'\1.',
        {
            'ChannelGate.mlp.1': 'mlp.0',  # 0 flattens there
            'ChannelGate.mlp.3': 'mlp.2',
            'SpatialGate.spatial.conv': 'spatial.0',
            'SpatialGate.spatial.bn': 'spatial.1',
        },
    ),
    _Gates(
        _AUTHORS,
        BAM,
        r'bam(\d)\.((?:channel|spatial)_att\..+)',
        r'layer\1_',
        {
            'channel_att.gate_c.gate_c_fc_0': 'channel.0',
            'channel_att.gate_c.gate_c_bn_1': 'channel.1',
            'channel_att.gate_c.gate_c_fc_final': 'channel.3',
            'spatial_att.gate_s.gate_s_conv_reduce0': 'spatial.0',
            'spatial_att.gate_s.gate_s_bn_reduce0': 'spatial.1',
            'spatial_att.gate_s.gate_s_conv_di_0': 'spatial.3',
            'spatial_att.gate_s.gate_s_bn_di_0': 'spatial.4',
            'spatial_att.gate_s.gate_s_conv_di_1': 'spatial.6',
            'spatial_att.gate_s.gate_s_bn_di_1': 'spatial.7',
            'spatial_att.gate_s.gate_s_conv_final': 'spatial.9',
        },
    ),
    _Gates('timm', SE, r'(layer\d\.\d+)\.se\.(fc[12]\..+)', r'\1.', {}),
    _Gates('timm', ECA, r'(layer\d\.\d+)\.se\.(conv\.weight)', r'\1.', {}),
)


@dataclass
class DetectorStart:
    """A detector whose backbone comes from a classifier.

    Args:
        backbone: the detector's, with these weights.
        family: whose names the checkpoint had.
        report: how the checkpoint's backbone and the detector's fit, from both sides.
        notes: what fits by its keys and still differs, or is left out.
        checkpoint: what to save: the backbone alone, in the detector's names.
    """

    backbone: nn.Module
    family: str
    report: LoadReport
    notes: list[str]
    checkpoint: dict

    def save(self, path: str | Path) -> None:
        """Write the checkpoint."""
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        torch.save(self.checkpoint, path)


def detector_start(cfg: Config, checkpoint: str | Path) -> DetectorStart:
    """Load the backbone of a classifier's checkpoint into the detector of a config.

    Reads checkpoints of mmpretrain (with any of mmattn's backbones), torchvision, timm (ResNets,
    also with SE or ECA), and of the authors of CBAM and BAM. Gates go to the gates of the same
    kind at the same place of the detector, whatever their names; where those are blended in
    (``init='identity'``), their gamma becomes 1, since the weights were trained with the whole
    gate.

    Args:
        cfg: the config of the detector, with the same backbone.
        checkpoint: a file, or an address such as ``torchvision://resnet50``.

    Raises:
        FileNotFoundError: there is no such checkpoint.
        ValueError: it is damaged or of another network (the sentence has the keys of both sides),
            or the config is of a classifier or has no backbone.
    """
    loaded = load_checkpoint(checkpoint)
    backbone = _build_backbone(cfg)
    family, state = _backbone_of(find_state(loaded))
    gates, state = _place_gates(backbone, state)
    state = _shape_like(backbone, state)
    report = compare(backbone, state)
    if not report.useful or report.mismatched or report.missing:
        raise ValueError(
            f"{checkpoint} ({gates or family}) does not fit the config's backbone "
            f'{type(backbone).__name__}: {report.summary()}. {report.advice()}'
        )
    backbone.load_state_dict(state, strict=False)
    notes = [] if not report.unexpected else _unused(report.unexpected)
    notes += _differences(cfg, family, loaded)
    known = {f'backbone.{key}': value for key, value in state.items() if key in report.matched}
    meta = dict(start=f'backbone of {checkpoint}', family=gates or family)
    return DetectorStart(
        backbone, gates or family, report, notes, dict(meta=meta, state_dict=known)
    )


def detector_config(cfg: Config, start: str | Path) -> Config:
    """Return the config that trains the detector from a saved start: nothing else is loaded.

    Args:
        cfg: the config of the detector.
        start: the file that :meth:`DetectorStart.save` wrote.
    """
    new = Config(cfg._cfg_dict.to_dict(), filename=cfg.filename)
    forget_pretrained(new.model)
    new.load_from = str(start)
    return new


def _build_backbone(cfg: Config) -> nn.Module:
    network = Network(cfg)
    if network.is_classifier:
        raise ValueError(
            f'config must be of a detector, got {cfg.filename or "one"} of the classifier '
            f'{network.model.type}'
        )
    part = copy.deepcopy(network.part('backbone'))
    if part is None:
        raise ValueError('config must have a model with a backbone, got one without')
    forget_pretrained(part)
    with DefaultScope.overwrite_default_scope(network.scope):
        return MODELS.build(part)


def _backbone_of(state: dict[str, Tensor]) -> tuple[str, dict[str, Tensor]]:
    """Return the family of a classifier, and its keys without wrappers, head and the like."""
    state = {re.sub(r'^(module\.|_orig_mod\.)+', '', key): value for key, value in state.items()}
    inside = {
        k.removeprefix('backbone.'): v for k, v in state.items() if k.startswith('backbone.')
    }
    if inside:
        return MMPRETRAIN, inside
    return PLAIN, {key: value for key, value in state.items() if not _HEADS.match(key)}


def _place_gates(backbone: nn.Module, state: dict[str, Tensor]) -> tuple[str, dict[str, Tensor]]:
    """Rename the gates' keys to those of the backbone's gates; returns whose names they were."""
    ours = {kind: [] for _, kind, *_ in _GATES}
    for name, module in backbone.named_modules():
        for kind in ours:
            if isinstance(module, kind):
                ours[kind].append(name)
    whose, renamed = '', {}
    for key, value in state.items():
        for family, kind, pattern, place, layers in _GATES:
            found = re.fullmatch(pattern, key)
            if found is None:
                continue
            whose = family
            here = [name for name in ours[kind] if name.startswith(found.expand(place))]
            layer, _, parameter = found[2].rpartition('.')
            if here:
                key = f'{here[0]}.{layers.get(layer, layer)}.{parameter}'
            break
        renamed[key] = value
    for kind in ours:
        for name in ours[kind]:
            gamma = f'{name}.gamma'
            trained = any(key.startswith(f'{name}.') for key in renamed)
            if trained and gamma not in renamed and backbone.get_submodule(name).gamma is not None:
                renamed[gamma] = torch.ones(())
    return whose, renamed


def _shape_like(backbone: nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Make a linear layer's weights those of the 1x1 convolution that computes the same."""
    own = backbone.state_dict()
    return {
        key: value[..., None, None]
        if key in own and own[key].dim() == 4 and own[key].shape == (*value.shape, 1, 1)
        else value
        for key, value in state.items()
    }


def _unused(keys: list[str]) -> list[str]:
    gates = sorted({key.partition('.')[0] if key.startswith('bam') else key for key in keys})
    return [
        f'the backbone of the config has no place for {shorten(gates, 3)}: what the classifier '
        'computed with them is missing (add it with tools/add_attention.py first)'
    ]


def _differences(cfg: Config, family: str, loaded: Mapping) -> list[str]:
    """Say what no key shows: where a block has its stride, and what images look like."""
    theirs = _trained_with(loaded) if family == MMPRETRAIN else _TORCH_STYLE
    ours = _settings(cfg)
    names = dict(
        style='backbone.style (the convolution of a bottleneck that has the stride)',
        mean='data_preprocessor.mean',
        std='data_preprocessor.std',
        rgb='data_preprocessor.bgr_to_rgb',
    )
    return [
        f'{what} is {ours[key]} here and was {theirs[key]} there: the same weights compute '
        'something else'
        for key, what in names.items()
        if key in theirs and key in ours and not _alike(theirs[key], ours[key])
    ]


def _alike(one: Any, other: Any) -> bool:
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(abs(a - b) < 0.5 for a, b in zip(one, other))
    return one == other


def _trained_with(loaded: Mapping) -> dict[str, Any]:
    """Return the settings in the config that mmengine keeps in a checkpoint; {} without one."""
    text = (loaded.get('meta') or {}).get('cfg')
    if not isinstance(text, str):
        return {}
    try:
        return _settings(Config.fromstring(text, '.py'))
    except Exception:  # a config of other versions: only notes depend on it
        return {}


def _settings(cfg: Config) -> dict[str, Any]:
    """Return style, mean, std and the order of colours, as far as a config says them."""
    model = cfg.get('model') or {}
    backbone = model.get('backbone') or {}
    prepared = {**(cfg.get('data_preprocessor') or {}), **(model.get('data_preprocessor') or {})}
    found = {}
    if 'ResNe' in str(backbone.get('type')) and backbone.get('depth', 0) not in (18, 34):
        found['style'] = backbone.get('style', 'pytorch')
    found.update({k: list(prepared[k]) for k in ('mean', 'std') if prepared.get(k) is not None})
    if 'mean' in found:
        rgb = prepared.get('bgr_to_rgb', prepared.get('to_rgb', False))
        found['rgb'] = bool(rgb)
    return found
