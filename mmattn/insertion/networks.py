"""What a config's network looks like: its parts, and the stages, blocks and maps of a part.

Nothing here knows a method. Parts are built on the CPU and run on torch's ``meta`` device, which
computes shapes only.
"""

import copy
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from mmengine.config import Config, ConfigDict
from mmengine.registry import MODELS, DefaultScope
from torch import Tensor, nn

from mmattn.backbones._insert import can_replace, convolutions
from mmattn.core.hosts import require_host
from mmattn.core.modes import hooks

__all__ = [
    'Network',
    'Stage',
    'Traced',
    'class_of',
    'is_attend',
    'pattern_of',
    'plain_type',
    'spatial_convs',
    'stages_of',
    'tensors_in',
]

HOSTS = ('mmdet', 'mmpretrain')
WRAPPERS = ('model', 'detector', 'student', 'module')  # keys under which a model holds another

# class of a residual block -> children of which the first that gives a map ends the branch
BLOCKS = {
    'DarknetBottleneck': ('conv2',),
    'CSPNeXtBlock': ('conv2',),
    'ResBlock': ('conv2',),  # Darknet
    'InvertedResidual': ('linear_conv', 'branch2'),
    'EdgeResidual': ('conv2',),
    'BasicBlock': ('drop_path',),
    'Bottleneck': ('drop_path',),
    'ConvNeXtBlock': ('drop_path',),
    'RepVGGBlock': (),
}
MANY_STAGES = 5  # a network with more groups of blocks is counted by the sizes of its maps


class Traced(NamedTuple):
    """A built part and what one run of it showed.

    Args:
        net: the part, in eval mode.
        shapes: name of a module -> ``(C, H, W)`` of the map it gives, ``None`` where it gives no
            single map, or maps of several shapes.
        outputs: the same for the outputs of the part.
        inputs: what it ran on; ``None`` where that is not known.
        problem: why it could not run; empty when it did.
    """

    net: nn.Module
    shapes: dict
    outputs: list
    inputs: Any
    problem: str = ''

    @property
    def gives_maps(self) -> bool:
        """Whether all its outputs are ``(N, C, H, W)`` maps."""
        return bool(self.outputs) and None not in self.outputs


class Stage(NamedTuple):
    """A stage of a backbone.

    Args:
        end: name of the module that gives the stage's map; ``None`` where no module does.
        blocks: names of its residual blocks.
        branches: for each of them, the module that ends its residual branch, else the block.
        convs: for each block the names of its spatial convolutions that attention can stand for;
            one list where there are no blocks.
    """

    end: str | None
    blocks: list
    branches: list
    convs: list


class Network:
    """The model of a config, part by part.

    Args:
        cfg: the config. It is not changed here, and a change of it needs a new ``Network``.

    Raises:
        ValueError: there is no backbone in it.
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

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the images the config tests on."""
        return _image_size(self.cfg, self.model, self.is_classifier)

    def part(self, where: str) -> ConfigDict | None:
        """Return the config of a part by its path, such as ``'neck.0'`` or
        ``'roi_head.mask_head'``.
        """
        found: Any = self.model
        for key in where.split('.'):
            if isinstance(found, list | tuple) and key.isdigit() and int(key) < len(found):
                found = found[int(key)]
            else:
                found = found.get(key) if isinstance(found, dict) else None
        return found if isinstance(found, dict) and 'type' in found else None

    def necks(self) -> list[str]:
        """Return the paths of its necks: none, one, or those of a chain."""
        neck = self.model.get('neck')
        if isinstance(neck, list | tuple):
            return [f'neck.{i}' for i in range(len(neck))]
        return ['neck'] if self.part('neck') is not None else []

    def heads(self) -> list[str]:
        """Return the paths of its heads; those of a chain (Cascade R-CNN) one by one."""
        found = []
        for prefix, model in (('', self.model), ('roi_head.', self.model.get('roi_head') or {})):
            for key, value in model.items():
                if key.endswith('head') and key != 'roi_head':
                    many = len(value) if isinstance(value, list | tuple) else 0
                    path = f'{prefix}{key}'
                    found += [f'{path}.{i}' for i in range(many)] if many else [path]
        return [path for path in found if self.part(path) is not None]

    def names(self) -> list[str]:
        """Return the paths of all parts."""
        return ['backbone', *self.necks(), *self.heads()]

    def kind(self, where: str) -> type:
        """Return the class of a part, that of the wrapped network for ``mmattn.Attend``."""
        cfg = self.part(where)
        return class_of(plain_type(cfg), cfg.get('_scope_') or self.scope)

    def build(self, where: str) -> nn.Module:
        """Return a part, without weights from anywhere.

        Raises:
            ValueError: it cannot be built; the sentence names the part.
        """
        cfg = copy.deepcopy(self.part(where))
        scope = cfg.pop('_scope_', None) or self.scope
        with DefaultScope.overwrite_default_scope(scope):
            try:
                return MODELS.build(cfg)
            except (ValueError, TypeError, KeyError, AssertionError) as error:
                raise ValueError(f'the {where} cannot be built: {_plain_words(error)}') from error

    def trace(self, where: str) -> Traced:
        """Return a part built and run on an image of the config's size, or on maps."""
        if where not in self._traced:
            self._traced[where] = _trace(lambda: self.build(where), self._inputs(where))
        return self._traced[where]

    def _inputs(self, where: str) -> Any:
        """Return what a part runs on: an image, or maps; ``None`` where that is not known."""
        if where == 'backbone':
            channels = self.part('backbone').get('in_channels', 3)
            return torch.zeros(1, channels if isinstance(channels, int) else 3, *self.size)
        if where.startswith('roi_head.'):
            return _region(self.part(where))
        chain = ['backbone', *self.necks()]
        before = chain[chain.index(where) - 1] if where in chain else chain[-1]
        traced = self.trace(before)
        return (
            tuple(torch.zeros(1, *shape) for shape in traced.outputs)
            if traced.gives_maps
            else None
        )

    def read_levels(self) -> list[int]:
        """Which outputs of the backbone the neck reads; all where there is none."""
        maps = self.trace('backbone')
        everything = list(range(len(maps.outputs)))
        if not self.necks() or not maps.gives_maps:
            return everything
        name = self.necks()[0]
        neck = self.trace(name)
        try:
            inputs = tuple(torch.zeros_like(x, requires_grad=True) for x in neck.inputs)
            total = sum(x.sum() for x in tensors_in(neck.net(inputs)))
            grads = torch.autograd.grad(total, inputs, allow_unused=True)
        except Exception:  # whatever a foreign neck cannot do: its config's words remain
            return everything[self.part(name).get('start_level', 0) :]
        return [level for level, grad in enumerate(grads) if grad is not None]


def is_attend(cfg: dict) -> bool:
    """Whether a part's config is of ``mmattn.Attend``."""
    kind = cfg['type']
    return kind == 'mmattn.Attend' or getattr(kind, '__name__', '') == 'Attend'


def plain_type(cfg: dict) -> Any:
    """Return the type of a part, that of the wrapped network for ``mmattn.Attend``."""
    if is_attend(cfg):
        wrapped = cfg['wrapped']
        return wrapped['type'] if isinstance(wrapped, dict) else wrapped
    return cfg['type']


def class_of(kind: Any, scope: str) -> type:
    """Return the class of a type in a config.

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


def _plain_words(error: Exception) -> str:
    """Return the message of an error without what a registry puts before it."""
    text = error.args[0] if isinstance(error, KeyError) and error.args else error
    return (
        re.sub(r'^(class `\w+` in \S+: ?)+', '', str(text)).split('\n')[0] or type(error).__name__
    )


def _scope(cfg: Config) -> str:
    """Return the framework of a config."""
    scope = cfg.get('default_scope') or cfg.model.get('_scope_')
    if scope is None:
        kind = cfg.model.get('type', '')
        scope = 'mmpretrain' if str(kind).endswith('Classifier') else 'mmdet'
    if scope in HOSTS:
        require_host(scope)
    return scope


def _inner(model: ConfigDict) -> tuple[ConfigDict, list]:
    """Return the model that has the backbone, and the types of those around it."""
    outer: list = []
    while 'backbone' not in model:
        key = next((key for key in WRAPPERS if isinstance(model.get(key), dict)), None)
        if key is None:
            raise ValueError(
                f'cfg: the model {model.get("type")!r} has no backbone, so nothing can be added'
            )
        outer.append(model.get('type'))
        model = model[key]
    return model, outer


def _region(cfg: dict) -> Any:
    """Return the features of one region, for a head after a RoI extractor."""
    channels, size = cfg.get('in_channels', 256), cfg.get('roi_feat_size', 7)
    if not isinstance(channels, int):
        return None
    size = (size, size) if isinstance(size, int) else tuple(size)
    return torch.zeros(1, channels, *size)


def tensors_in(outs: Any) -> Iterator[Tensor]:
    """Every tensor of floating point in nested outputs."""
    if isinstance(outs, Tensor):
        if outs.is_floating_point():
            yield outs
    elif isinstance(outs, dict) or (hasattr(outs, 'values') and callable(outs.values)):
        for value in outs.values():  # also mmengine's InstanceData
            yield from tensors_in(value)
    elif isinstance(outs, Sequence) and not isinstance(outs, str):
        for value in outs:
            yield from tensors_in(value)


def _trace(build: Callable, inputs: Any) -> Traced:
    """On the meta device; on the CPU where a part needs values."""
    problem = 'what comes before it gives no maps'
    for device in ('meta', 'cpu') if inputs is not None else ():
        net, shapes = _in_eval(build), {}
        shadow = _to(inputs, device)
        named = {name: module for name, module in net.named_modules() if name}
        try:
            with hooks(named, partial(_note, shapes)), torch.no_grad():
                outs = net.to(device)(shadow)
        except Exception as error:  # a foreign network may raise anything
            problem = f'{type(error).__name__}: {error}'.split('\n')[0]
            continue
        outs = [outs] if isinstance(outs, Tensor) else outs
        outputs = [_shape(out) for out in outs] if isinstance(outs, Sequence) else []
        return Traced(net, shapes, outputs, shadow)
    return Traced(_in_eval(build), {}, [], inputs, problem)


def _in_eval(build: Callable) -> nn.Module:
    net = build()
    net.eval()  # mmdet's ResNet returns nothing here
    return net


def _to(inputs: Any, device: str) -> Any:
    return inputs.to(device) if isinstance(inputs, Tensor) else tuple(x.to(device) for x in inputs)


def _note(shapes: dict, name: str, module: nn.Module, inputs: tuple, output: Any) -> None:
    shape = _shape(output)
    shapes[name] = shape if shapes.get(name, shape) == shape else None


def _shape(output: Any) -> tuple | None:
    is_map = isinstance(output, Tensor) and output.dim() == 4
    return tuple(output.shape[1:]) if is_map else None


# ------------------------------------------------------------------------- stages of a backbone


def stages_of(traced: Traced) -> list[Stage]:
    """Return the stages of a backbone: residual blocks, or what lies between poolings."""
    modules = dict(traced.net.named_modules())
    blocks = [name for name in modules if _is_block(modules, name, traced.shapes)]
    if blocks:
        return _block_stages(blocks, modules, traced)
    return _pooled_stages(modules, traced)


def _block_kind(module: nn.Module) -> str | None:
    return next((kind.__name__ for kind in type(module).__mro__ if kind.__name__ in BLOCKS), None)


def _is_block(modules: dict, name: str, shapes: dict) -> bool:
    if _block_kind(modules[name]) is None or shapes.get(name) is None:
        return False
    words = name.split('.')
    parents = ('.'.join(words[:i]) for i in range(1, len(words)))
    return not any(_block_kind(modules[parent]) for parent in parents if parent in modules)


def _block_stages(blocks: list, modules: dict, traced: Traced) -> list[Stage]:
    groups: dict = {}
    for name in blocks:
        prefix = re.match(r'.*?\d+(?=\.|$)|.*', name)[0]  # 'layer1.0' -> 'layer1'
        groups.setdefault(prefix, []).append(name)
    merged = [([prefix], names) for prefix, names in groups.items()]
    if len(merged) > MANY_STAGES:
        merged = _merge_by_size(merged, traced.shapes)
    convs = spatial_convs(traced.net)
    found = []
    for prefixes, names in merged:
        end = prefixes[-1] if traced.shapes.get(prefixes[-1]) else None
        branches = [_branch(name, modules, traced.shapes) for name in names]
        inside = [[c for c in convs if c.startswith(f'{name}.')] for name in names]
        inside = [[c for c in block if 'downsample' not in c.split('.')] for block in inside]
        found.append(Stage(end, names, branches, inside))
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
    children = (f'{name}.{child}' for child in BLOCKS[_block_kind(modules[name])])
    return next((child for child in children if shapes.get(child)), name)


def spatial_convs(net: nn.Module, smallest: int = 2) -> list[str]:
    """Return the first names of the convolutions that attention can stand for, kernels from a size
    on.

    Those inside another convolution, which predict offsets or switches, are none.
    """
    outer = {name for name, module in net.named_modules() if 'weight' in module._parameters}
    return [
        names[0]
        for conv, names in convolutions(net).items()
        if can_replace(conv)
        and max(conv.kernel_size) >= smallest
        and names[0].rpartition('.')[0] not in outer
    ]


def _pooled_stages(modules: dict, traced: Traced) -> list[Stage]:
    """Return a chain of layers such as VGG: a stage is what lies between two poolings."""
    for name, module in modules.items():
        if isinstance(module, nn.Sequential) and name:
            pools = [i for i, layer in enumerate(module) if isinstance(layer, nn.MaxPool2d)]
            if len(pools) > 2:
                return _between(name, module, pools, traced)
    return []


def _between(name: str, chain: nn.Module, pools: list, traced: Traced) -> list[Stage]:
    convs = spatial_convs(traced.net)
    stages, start = [], 0
    for stop in [*pools, len(chain)]:
        layers = [f'{name}.{i}' for i in range(start, stop)]
        start = stop + 1
        if layers:
            inside = [c for c in convs if any(f'{c}.'.startswith(f'{layer}.') for layer in layers)]
            end = layers[-1] if traced.shapes.get(layers[-1]) else None
            stages.append(Stage(end, [], [], [inside]))
    return stages


# ---------------------------------------------------------------------- names as one expression


def pattern_of(names: Sequence, everything: Iterable) -> str | list:
    """Return a short regular expression that matches exactly these of all names; a list where
    needed.
    """
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


def _pipeline(loader: dict | None) -> list:
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
