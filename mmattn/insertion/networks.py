"""What a config's network looks like: its parts, and the maps of a part.

Nothing here knows a method. Parts are built on the CPU and run on torch's ``meta`` device, which
computes shapes only.
"""

import copy
import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from mmengine.config import Config, ConfigDict
from mmengine.registry import MODELS, DefaultScope
from torch import Tensor, nn

from mmattn.core.config import FRAMEWORKS
from mmattn.core.hosts import require_host
from mmattn.core.modes import hooks

__all__ = [
    'Network',
    'Traced',
    'class_of',
    'is_attend',
    'plain_type',
    'tensors_in',
]

WRAPPERS = ('model', 'detector', 'student', 'module')  # keys under which a model holds another


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
    if scope in FRAMEWORKS:
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
