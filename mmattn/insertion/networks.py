"""What a config's network looks like: its parts, and the stages, blocks and maps of a part.

Nothing here knows a method. Parts are built on the CPU and run on torch's ``meta`` device, which
computes shapes only.
"""

import copy
import re
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import torch
from mmengine.config import Config, ConfigDict
from mmengine.registry import MODELS, DefaultScope
from torch import Tensor, nn

from mmattn.core.hosts import require_host

__all__ = ['Network', 'Stage', 'Traced', 'pattern_of', 'stages_of']

HOSTS = ('mmdet', 'mmpretrain')
WRAPPERS = ('model', 'detector', 'student', 'module')  # keys under which a model holds another
HEADS = ('bbox_head', 'rpn_head', 'roi_head.bbox_head', 'roi_head.mask_head', 'mask_head', 'head')

# class of a residual block -> its child that ends the residual branch (None: nothing does)
BLOCKS = {
    'DarknetBottleneck': 'conv2',
    'CSPNeXtBlock': 'conv2',
    'ResBlock': 'conv2',  # Darknet
    'InvertedResidual': 'linear_conv',
    'EdgeResidual': 'conv2',
    'BasicBlock': None,
    'Bottleneck': None,
    'BottleneckBlock': None,
    'ConvNeXtBlock': None,
    'RepVGGBlock': None,
}
MANY_STAGES = 5  # a network with more groups of blocks is counted by the sizes of its maps


class Traced(NamedTuple):
    """A built part and what one run of it showed.

    Args:
        net: the part, in eval mode.
        shapes: name of a module -> ``(C, H, W)`` of the map it gives, ``None`` where it gives no
            single map, or maps of several shapes.
        outputs: the same for the outputs of the part.
        inputs: what it ran on.
        problem: why it could not run; empty when it did.
    """

    net: nn.Module
    shapes: dict
    outputs: list
    inputs: object
    problem: str = ''


class Stage(NamedTuple):
    """A stage of a backbone.

    Args:
        end: name of the module that gives the stage's map; ``None`` where no module does.
        blocks: names of its residual blocks.
        branches: for each of them, the module that ends its residual branch, else the block.
        convs: names of the plain spatial convolutions in its blocks.
    """

    end: str | None
    blocks: list
    branches: list
    convs: list


class Network:
    """The model of a config, part by part.

    Args:
        cfg: the config; it is neither kept in step nor changed.
    """

    def __init__(self, cfg: Config) -> None:
        self.cfg = cfg
        self.scope = _scope(cfg)
        self.model, self.outer = _inner(cfg.model)
        self._traced: dict = {}

    @property
    def is_classifier(self) -> bool:
        """Whether it is one of mmpretrain's classifiers."""
        return self.scope == 'mmpretrain' and 'head' in self.model

    def part(self, where: str) -> ConfigDict | None:
        """The config of a part (``'backbone'``, ``'neck'``, ``'roi_head.bbox_head'``)."""
        found = self.model
        for key in where.split('.'):
            found = found.get(key) if isinstance(found, dict) else None
        return found if isinstance(found, dict) and 'type' in found else None

    def heads(self) -> list:
        """The names of its heads."""
        return [name for name in HEADS if self.part(name) is not None]

    def names(self) -> list:
        """The names of all parts that can be spoken of."""
        nested = [name for name in ('backbone', 'neck') if self.part(name) is not None]
        return [*nested, *self.heads()]

    def kind(self, cfg: dict) -> type:
        """The class a part's config names, that of the wrapped network for ``mmattn.Attend``."""
        return class_of(plain_type(cfg), cfg.get('_scope_') or self.scope)

    def build(self, cfg: dict) -> nn.Module:
        """A part from its config, without weights from anywhere."""
        cfg = copy.deepcopy(cfg)
        scope = cfg.pop('_scope_', None) or self.scope
        with DefaultScope.overwrite_default_scope(scope):
            return MODELS.build(cfg)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the images the config tests on."""
        return _image_size(self.cfg, self.model, self.is_classifier)

    def trace(self, where: str) -> Traced:
        """A part built and run on an image of the config's size, or on the maps before it."""
        if where not in self._traced:
            part = self.part(where)
            self._traced[where] = _trace(lambda: self.build(part), self.inputs(where))
        return self._traced[where]

    def inputs(self, where: str):
        """What a part runs on: an image, or maps; ``None`` where that is not known."""
        if where == 'backbone':
            channels = self.part('backbone').get('in_channels', 3)
            return torch.zeros(1, channels if isinstance(channels, int) else 3, *self.size)
        before = 'neck' if where != 'neck' and self.part('neck') is not None else 'backbone'
        if self.part(before) is None:
            return None
        maps = self.trace(before).outputs
        if not maps or None in maps:
            return None
        return tuple(torch.zeros(1, *shape) for shape in maps)

    def read_levels(self) -> list[int]:
        """Which outputs of the backbone the neck reads; all where there is none."""
        maps = self.trace('backbone').outputs
        everything = list(range(len(maps)))
        if self.part('neck') is None or None in maps:
            return everything
        neck = self.trace('neck')
        inputs = self.inputs('neck')
        try:
            device = neck.inputs[0].device
            inputs = tuple(x.to(device).requires_grad_() for x in inputs)
            total = sum(x.sum() for x in _tensors(neck.net(inputs)))
            grads = torch.autograd.grad(total, inputs, allow_unused=True)
        except Exception:  # whatever a foreign neck cannot do: the config's words remain
            start = self.part('neck').get('start_level', 0)
            return everything[start:]
        return [level for level, grad in enumerate(grads) if grad is not None]


def plain_type(cfg: dict):
    """The type of a part, that of the wrapped network for ``mmattn.Attend``."""
    kind = cfg['type']
    if kind == 'mmattn.Attend' or getattr(kind, '__name__', '') == 'Attend':
        wrapped = cfg['wrapped']
        return wrapped['type'] if isinstance(wrapped, dict) else wrapped
    return kind


def class_of(kind, scope: str) -> type:
    """The class of a type in a config.

    Raises:
        ValueError: nothing of that name is registered.
    """
    if not isinstance(kind, str):
        return kind
    with (
        DefaultScope.overwrite_default_scope(scope),
        MODELS.switch_scope_and_registry(None) as registry,
    ):
        found = registry.get(kind)
    if found is None:
        raise ValueError(f'cfg: type {kind!r} is not registered in {scope}')
    return found


def _scope(cfg: Config) -> str:
    """The framework of a config."""
    scope = cfg.get('default_scope') or cfg.model.get('_scope_')
    if scope is None:
        kind = cfg.model.get('type', '')
        scope = 'mmpretrain' if str(kind).endswith('Classifier') else 'mmdet'
    if scope in HOSTS:
        require_host(scope)
    return scope


def _inner(model: dict) -> tuple[dict, list]:
    """The model that has the backbone, and the types of those around it."""
    outer = []
    while 'backbone' not in model:
        key = next((key for key in WRAPPERS if isinstance(model.get(key), dict)), None)
        if key is None:
            raise ValueError(
                f'cfg: the model {model.get("type")!r} has no backbone, neck or head to add to'
            )
        outer.append(model.get('type'))
        model = model[key]
    return model, outer


def _tensors(outs) -> list:
    if isinstance(outs, Tensor):
        return [outs]
    if isinstance(outs, dict):
        outs = list(outs.values())
    return [x for out in outs or () for x in _tensors(out)] if isinstance(outs, Iterable) else []


def _trace(build: Callable, inputs) -> Traced:
    """On the meta device; on the CPU where a part needs values."""
    if inputs is None:
        return Traced(_built(build), {}, [], None, 'what comes before it gives no maps')
    for device in ('meta', 'cpu'):
        net = _built(build)
        shapes: dict = {}
        handles = [
            module.register_forward_hook(_note(shapes, name))
            for name, module in net.named_modules()
            if name
        ]
        shadow = _to(inputs, device)
        try:
            with torch.no_grad():
                outs = net.to(device)(shadow)
        except Exception as error:  # a foreign network may raise anything
            problem = f'{type(error).__name__}: {error}'.split('\n')[0]
            continue
        finally:
            for handle in handles:
                handle.remove()
        outs = [outs] if isinstance(outs, Tensor) else outs
        outputs = [_shape(out) for out in outs] if isinstance(outs, Sequence) else []
        return Traced(net, shapes, outputs, shadow)
    return Traced(net, {}, [], inputs, problem)


def _built(build: Callable) -> nn.Module:
    net = build()
    net.eval()  # mmdet's ResNet returns nothing here
    return net


def _to(inputs, device: str):
    return inputs.to(device) if isinstance(inputs, Tensor) else tuple(x.to(device) for x in inputs)


def _note(shapes: dict, name: str):
    def hook(module: nn.Module, inputs: tuple, output) -> None:
        shape = _shape(output)
        shapes[name] = shape if shapes.get(name, shape) == shape else None

    return hook


def _shape(output) -> tuple | None:
    is_map = isinstance(output, Tensor) and output.dim() == 4
    return tuple(output.shape[1:]) if is_map else None


# ------------------------------------------------------------------------- stages of a backbone


def stages_of(traced: Traced) -> list[Stage]:
    """The stages of a backbone: groups of residual blocks, or what lies between poolings."""
    modules = dict(traced.net.named_modules())
    blocks = [name for name in modules if _is_block(modules, name, traced.shapes)]
    if blocks:
        return _block_stages(blocks, modules, traced.shapes)
    return _pooled_stages(modules, traced.shapes)


def _block_kind(module: nn.Module) -> str | None:
    return next((kind.__name__ for kind in type(module).__mro__ if kind.__name__ in BLOCKS), None)


def _is_block(modules: dict, name: str, shapes: dict) -> bool:
    if _block_kind(modules[name]) is None or shapes.get(name) is None:
        return False
    parents = _parents(name)
    return not any(_block_kind(modules[parent]) for parent in parents if parent in modules)


def _parents(name: str) -> list:
    parts = name.split('.')
    return ['.'.join(parts[:i]) for i in range(1, len(parts))]


def _block_stages(blocks: list, modules: dict, shapes: dict) -> list[Stage]:
    groups: dict = {}
    for name in blocks:
        prefix = re.match(r'.*?\d+(?=\.|$)|.*', name)[0]  # 'layer1.0' -> 'layer1'
        groups.setdefault(prefix, []).append(name)
    merged = [([prefix], names) for prefix, names in groups.items()]
    if len(merged) > MANY_STAGES:
        merged = _merge_by_size(merged, shapes)
    found = []
    for prefixes, names in merged:
        end = prefixes[-1] if shapes.get(prefixes[-1]) else None
        branches = [_branch(name, modules, shapes) for name in names]
        convs = [conv for name in names for conv in _spatial_convs(name, modules)]
        found.append(Stage(end, names, branches, convs))
    return found


def _merge_by_size(groups: list, shapes: dict) -> list:
    """Neighbours whose maps have one size are one stage."""
    merged: list = []
    for prefixes, names in groups:
        if merged and shapes[merged[-1][1][-1]][1:] == shapes[names[-1]][1:]:
            merged[-1][0].extend(prefixes)
            merged[-1][1].extend(names)
        else:
            merged.append((list(prefixes), list(names)))
    return merged


def _branch(name: str, modules: dict, shapes: dict) -> str:
    child = BLOCKS[_block_kind(modules[name])]
    return f'{name}.{child}' if child and shapes.get(f'{name}.{child}') else name


def is_plain_conv(module: nn.Module) -> bool:
    """Whether it is a convolution that another one can stand for: torch's or mmcv's own."""
    return type(module).__name__ == 'Conv2d' and isinstance(module, nn.Conv2d)


def _spatial_convs(block: str, modules: dict) -> list:
    return [
        name
        for name, module in modules.items()
        if name.startswith(f'{block}.')
        and is_plain_conv(module)
        and max(module.kernel_size) > 1
        and 'downsample' not in name.split('.')
    ]


def _pooled_stages(modules: dict, shapes: dict) -> list[Stage]:
    """A chain of layers such as VGG: a stage is what lies between two poolings."""
    for name, module in modules.items():
        if isinstance(module, nn.Sequential) and name:
            pools = [i for i, layer in enumerate(module) if isinstance(layer, nn.MaxPool2d)]
            if len(pools) > 2:
                return _between(name, module, pools, modules, shapes)
    return []


def _between(name: str, chain: nn.Module, pools: list, modules: dict, shapes: dict) -> list:
    stages, start = [], 0
    for stop in [*pools, len(chain)]:
        layers = [f'{name}.{i}' for i in range(start, stop)]
        start = stop + 1
        if not layers:
            continue
        convs = [
            conv
            for layer in layers
            for conv in [layer, *_children(layer, modules)]
            if is_plain_conv(modules[conv]) and max(modules[conv].kernel_size) > 1
        ]
        end = layers[-1] if shapes.get(layers[-1]) else None
        stages.append(Stage(end, [], [], convs))
    return stages


def _children(name: str, modules: dict) -> list:
    return [other for other in modules if other.startswith(f'{name}.')]


# ---------------------------------------------------------------------- names as one expression


def pattern_of(names: Sequence, everything: Iterable) -> str | list:
    """A short regular expression that matches exactly these of all names; a list where needed."""
    groups: dict = {}
    for name in names:
        groups.setdefault(tuple(re.split(r'\d+', name)), []).append(name)
    everything = set(everything)
    patterns = [_pattern(words, group, everything) for words, group in groups.items()]
    return patterns[0] if len(patterns) == 1 else patterns


def _pattern(words: tuple, names: list, everything: set) -> str:
    columns = list(zip(*(map(int, re.findall(r'\d+', name)) for name in names)))
    several = [i for i, column in enumerate(columns) if len(set(column)) > 1]
    for exact in range(len(several) + 1):
        numbers = [
            _numbers(set(column)) if i not in several[exact:] else r'\d+'
            for i, column in enumerate(columns)
        ]
        pattern = ''.join(re.escape(word) + number for word, number in zip(words, [*numbers, '']))
        if {name for name in everything if re.fullmatch(pattern, name)} == set(names):
            return pattern
    return '|'.join(map(re.escape, names))


def _numbers(values: set) -> str:
    texts = [str(value) for value in sorted(values)]
    if len(texts) == 1:
        return texts[0]
    return f'[{"".join(texts)}]' if max(map(len, texts)) == 1 else f'({"|".join(texts)})'


# ---------------------------------------------------------------------------- size of the images


def _image_size(cfg: Config, model: dict, is_classifier: bool) -> tuple[int, int]:
    """From the last transform of the test (else training) pipeline that fixes a size."""
    for split in ('test', 'val', 'train'):
        pipeline = _pipeline(cfg.get(f'{split}_dataloader'))
        for step in reversed(pipeline):
            size = _step_size(step)
            if size:
                return _padded(size, model.get('data_preprocessor') or {})
    return (224, 224) if is_classifier else (800, 1344)


def _pipeline(loader) -> list:
    dataset = (loader or {}).get('dataset') or {}
    while isinstance(dataset, dict) and 'pipeline' not in dataset:
        inner = dataset.get('dataset') or next(iter(dataset.get('datasets') or []), None)
        if inner is None:
            return []
        dataset = inner
    return list(dataset['pipeline'] or []) if isinstance(dataset, dict) else []


def _step_size(step: dict) -> tuple[int, int] | None:
    """``(height, width)`` after a transform that fixes them."""
    name = str(getattr(step.get('type'), '__name__', step.get('type'))).rpartition('.')[2]
    if name == 'Pad':
        size = step.get('size')
        return tuple(size) if isinstance(size, Sequence) else None
    if name in ('CenterCrop', 'RandomCrop'):
        size = step.get('crop_size')
        return (size, size) if isinstance(size, int) else size and tuple(size)
    if name in ('Resize', 'RandomResizedCrop', 'FixScaleResize'):
        scale = step.get('scale')
        if isinstance(scale, int):
            return scale, scale
        return (scale[1], scale[0]) if isinstance(scale, Sequence) and len(scale) == 2 else None
    return None


def _padded(size: tuple, preprocessor: dict) -> tuple[int, int]:
    divisor = preprocessor.get('pad_size_divisor') or 1
    return tuple(-(-int(side) // divisor) * divisor for side in size)
