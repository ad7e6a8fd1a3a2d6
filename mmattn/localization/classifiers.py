"""Loads a classifier from any of the usual places.

=================================  ============================================================
``mmpretrain:CONFIG CHECKPOINT``   a config file, ``mmpretrain::resnet/...py`` or a model name
``torchvision:resnet50 [WEIGHTS]`` weights by enum name (``DEFAULT``, ``IMAGENET1K_V2``) or file
``timm:NAME [FILE | pretrained]``  any timm model
``python:module:function [ARG]``   a function that returns a module, or a module and a dict of
                                   :class:`~mmattn.localization.images.Preprocess` values
                                   (and ``classes``); ``module`` may be a file ``path/x.py``
=================================  ============================================================
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from http.client import HTTPException
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from mmengine.logging import print_log
from torch import Tensor, nn

from mmattn.core.checkpoint import load_checkpoint
from mmattn.core.checkpoint import load_weights as load_into
from mmattn.core.config import forget_pretrained, read_config
from mmattn.core.modes import eval_mode
from mmattn.core.names import closest
from mmattn.localization.images import Preprocess
from mmattn.localization.recipes import colours_of, preprocess_of

__all__ = [
    'KINDS',
    'Classifier',
    'as_classifier',
    'count_classes',
    'load_classifier',
    'load_weights',
]

KINDS = ('mmpretrain', 'torchvision', 'timm', 'python')


@dataclass(frozen=True)
class Classifier:
    """A network, how to call it, and how its images are prepared.

    Args:
        model: The network.
        preprocess: From the model's own config where it has one.
        name: What the user asked for.
        classes: Class names, or empty.
        forward: ``forward(model, x) -> logits``, or None for ``model(x)``.
    """

    model: nn.Module
    preprocess: Preprocess = Preprocess()
    name: str = ''
    classes: tuple = ()
    forward: Callable[[Any, Any], Any] | None = None

    def __call__(self, x: Tensor) -> Tensor:
        return self.forward(self.model, x) if self.forward else self.model(x)


def load_classifier(
    spec: str,
    weights: str | None = None,
    num_classes: int | None = None,
    input_size: tuple[int, int] | None = None,
) -> Classifier:
    """Build the classifier a user names.

    Args:
        spec: ``'kind:what'``, see the module's table.
        weights: Checkpoint file, weight name, or argument of the function.
        num_classes: Number of classes where it is not the library's default.
        input_size: ``(height, width)``; width and height of each image are resized to it on their
            own, and the model's own resizes and crops are not looked at.

    Raises:
        ValueError: Unknown kind or name, no class, missing or unfitting checkpoint, NaN weights,
            an mmpretrain config whose preprocessing cannot be reproduced.
        ImportError: The library is not installed.
    """
    if num_classes is not None and num_classes < 1:
        raise ValueError(f'num_classes must be at least 1, got {num_classes}')
    kind, _, what = spec.partition(':')
    if kind not in KINDS or not what:
        raise ValueError(
            f'model must be one of {", ".join(k + ":..." for k in KINDS)}, got {spec!r}'
        )
    if kind == 'mmpretrain':
        classifier = _from_mmpretrain(what, weights, num_classes, input_size is None)
    elif kind == 'torchvision':
        classifier = _from_torchvision(what, weights, num_classes)
    elif kind == 'timm':
        classifier = _from_timm(what, weights, num_classes)
    else:
        classifier = _from_python(what, weights)
    _check_weights(classifier.model)
    return replace(classifier, name=spec, preprocess=classifier.preprocess.changed(input_size))


def as_classifier(model: nn.Module | Classifier | str, weights: str | None = None) -> Classifier:
    """Take a classifier in any form.

    Args:
        model: A :class:`Classifier`, what :func:`load_classifier` takes, or a network. A network
            of timm or mmpretrain brings its mean and deviation along; any other one gets the
            default :class:`~mmattn.localization.images.Preprocess`.
        weights: Of a model that is named by a text.

    Raises:
        ValueError: See :func:`load_classifier`; weights beside a network.
        TypeError: Something else.
    """
    if isinstance(model, str):
        return load_classifier(model, weights)
    if not isinstance(model, (Classifier, nn.Module)):
        raise TypeError(
            "model must be an nn.Module, a Classifier or a text as 'torchvision:resnet50', got "
            f'{type(model).__name__}'
        )
    if weights is not None:
        raise ValueError(
            f'weights belong to a model named by a text, got {weights!r} beside a '
            f'{type(model).__name__}: load them into the network'
        )
    classifier = model if isinstance(model, Classifier) else _from_network(model)
    _check_weights(classifier.model)
    return classifier


def _from_network(model: nn.Module) -> Classifier:
    name = type(model).__name__
    prep = getattr(model, 'data_preprocessor', None)
    if hasattr(prep, 'to_rgb'):  # mmpretrain's
        return Classifier(model, Preprocess(**colours_of(prep)), name, forward=_tensor_mode)
    if isinstance(getattr(model, 'pretrained_cfg', None), Mapping):  # timm's
        return Classifier(model, _timm_preprocess(model), name)
    return Classifier(model, name=name)


def count_classes(
    classifier: Classifier,
    device: torch.device | str = 'cpu',
    image_size: tuple[int, int] | None = None,
) -> int:
    """Count the scores the classifier gives, with one empty image.

    Args:
        classifier: The classifier.
        device: Where its network is.
        image_size: ``(height, width)`` of an image, for a network that takes images as they are.

    Raises:
        ValueError: It does not return ``(N, classes)``.
    """
    model, preprocess = classifier.model, classifier.preprocess
    size = preprocess.input_size or preprocess.size_of(image_size or (224, 224))
    x = torch.zeros(1, 3, *size, device=device)
    try:
        with eval_mode(model), torch.no_grad():
            scores = classifier(x)
    except Exception as error:
        raise ValueError(
            f'the classifier does not take an input of {size[0]} x {size[1]}: {_first_line(error)}'
        ) from error
    if not isinstance(scores, torch.Tensor) or scores.dim() != 2:
        got = tuple(scores.shape) if isinstance(scores, torch.Tensor) else type(scores).__name__
        raise ValueError(f'the classifier must return scores of shape (N, classes), got {got}')
    return scores.shape[1]


def load_weights(model: nn.Module, path: str | Path) -> dict[str, Any]:
    """Load a checkpoint file and say in one sentence what does not fit.

    Wherever the file keeps its state dict; a common prefix of all its keys (``module.``,
    ``_orig_mod.``, ``model.``) is taken off.

    Returns:
        The checkpoint's ``meta`` dict (may be empty).

    Raises:
        ValueError: The file is missing, unreadable or holds more than weights, or keys or shapes
            do not match; the message has the keys of both sides.
    """
    try:
        checkpoint = load_checkpoint(path)
    except FileNotFoundError as error:
        raise ValueError(str(error)) from error
    report = load_into(model, checkpoint, f'checkpoint {path}')
    if report.unexpected or report.prefix:
        print_log(f'checkpoint {path}: {report.summary()}', 'current')
    return checkpoint.get('meta') or {}


def _check_weights(model: nn.Module) -> None:
    for name, tensor in list(model.named_parameters()) + list(model.named_buffers()):
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise ValueError(f'the weights hold NaN or infinity, first in {name}')


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).split('\n')[0]


def _warn_random(spec: str) -> None:
    print_log(f'{spec} has RANDOM weights: no checkpoint was given', 'current', 30)


def _from_mmpretrain(
    what: str, weights: str | None, num_classes: int | None, own_size: bool
) -> Classifier:
    from mmattn.core.hosts import require_host

    require_host('mmpretrain')
    from mmengine.registry import DefaultScope
    from mmpretrain.registry import MODELS

    try:
        if Path(what).is_file() or '::' in what:
            config = read_config(what)
        else:
            from mmpretrain import ModelHub

            config = ModelHub.get(what).config
    except Exception as error:
        raise ValueError(f'mmpretrain:{what} is no config file or model name: {error}') from error
    model_config = config.model.copy()
    forget_pretrained(model_config)
    if num_classes is not None and 'head' in model_config:
        model_config.head.num_classes = num_classes
    model_config.setdefault('data_preprocessor', config.get('data_preprocessor'))
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        try:
            model = MODELS.build(model_config)
        except Exception as error:
            raise ValueError(f'mmpretrain:{what} cannot be built: {_first_line(error)}') from error
        preprocess = preprocess_of(config, model, f'mmpretrain:{what}', own_size)
    meta = load_weights(model, weights) if weights else {}
    if not weights:
        _warn_random(f'mmpretrain:{what}')
    classes = (meta.get('dataset_meta') or {}).get('classes') or meta.get('CLASSES') or ()
    return Classifier(model, preprocess, '', tuple(classes), _tensor_mode)


def _tensor_mode(model: nn.Module, x: Tensor) -> Tensor:
    return model(x, mode='tensor')


def _from_torchvision(what: str, weights: str | None, num_classes: int | None) -> Classifier:
    import torchvision

    if what not in torchvision.models.list_models():
        near = closest(what, torchvision.models.list_models())
        raise ValueError(f'torchvision has no model {what!r}; nearest: {", ".join(near) or "-"}')
    options = {} if num_classes is None else dict(num_classes=num_classes)
    enum = None
    if weights and not Path(weights).is_file():
        names = [w.name for w in torchvision.models.get_model_weights(what)] + ['DEFAULT']
        if weights not in names:
            raise ValueError(
                f'weights of torchvision:{what} must be {", ".join(names)} or a checkpoint '
                f'file that exists, got {weights!r}'
            )
        enum = torchvision.models.get_model_weights(what)[weights]
        return _torchvision_pretrained(torchvision, what, enum, options)
    inception = {'init_weights': True} if what in ('googlenet', 'inception_v3') else {}
    model = torchvision.models.get_model(what, weights=None, **inception, **options)
    if weights:
        load_weights(model, weights)
    else:
        _warn_random(f'torchvision:{what}')
    return Classifier(model)


def _torchvision_pretrained(
    torchvision: ModuleType, what: str, enum: Any, options: dict[str, Any]
) -> Classifier:
    try:
        model = torchvision.models.get_model(what, weights=enum, **options)
    except (OSError, EOFError, RuntimeError, HTTPException) as error:
        raise ValueError(
            f'the weights {enum.name} of torchvision:{what} cannot be downloaded '
            f'({_first_line(error)}): fetch {enum.url} on another machine and give the file as '
            'the second word'
        ) from error
    recipe = enum.transforms()
    size = recipe.crop_size[0]
    preprocess = Preprocess(
        input_size=(size, size),
        mean=tuple(255 * v for v in recipe.mean),
        std=tuple(255 * v for v in recipe.std),
        interpolation='bicubic' if 'bicubic' in str(recipe.interpolation) else 'bilinear',
    )
    return Classifier(model, preprocess, '', tuple(enum.meta.get('categories', ())))


def _from_timm(what: str, weights: str | None, num_classes: int | None) -> Classifier:
    try:
        import timm
    except ImportError as error:
        raise ImportError('timm is not installed: pip install timm') from error
    options = {} if num_classes is None else dict(num_classes=num_classes)
    pretrained = weights == 'pretrained'
    if '/' not in what and not timm.is_model(what):  # 'hf_hub:user/name' is no name of a table
        near = ', '.join(timm.list_models(f'*{what.split("_")[0]}*')[:5])
        raise ValueError(f'timm has no model {what!r}; nearest: {near or "-"}')
    try:
        model = timm.create_model(what, pretrained=pretrained, **options)
    except Exception as error:
        if not pretrained:
            raise ValueError(f'timm:{what} cannot be built: {_first_line(error)}') from error
        raise ValueError(
            f'the pretrained weights of timm:{what} cannot be loaded ({_first_line(error)}); a '
            "checkpoint file may stand in place of 'pretrained'"
        ) from error
    if weights and weights != 'pretrained':
        load_weights(model, weights)
    elif not weights:
        _warn_random(f'timm:{what}')
    return Classifier(model, _timm_preprocess(model))


def _timm_preprocess(model: nn.Module) -> Preprocess:
    config = model.pretrained_cfg
    return Preprocess(
        input_size=tuple(config['input_size'][1:]),
        mean=tuple(255 * v for v in config['mean']),
        std=tuple(255 * v for v in config['std']),
        interpolation='bicubic' if config.get('interpolation') == 'bicubic' else 'bilinear',
    )


def _from_python(what: str, weights: str | None) -> Classifier:
    module_name, _, attribute = what.rpartition(':')
    if not module_name:
        raise ValueError(f'write python:package.module:function, got python:{what}')
    try:
        module = _import(module_name)
        function = module
        for part in attribute.split('.'):
            function = getattr(function, part)
    except (ImportError, FileNotFoundError, AttributeError, SyntaxError) as error:
        raise ValueError(f'python:{what} cannot be imported: {error}') from error
    if not callable(function):
        raise ValueError(f'python:{what} must be a function, got {type(function).__name__}')
    given = [weights] if weights else []
    try:
        inspect.signature(function).bind(*given)
    except TypeError as error:
        shown = ', '.join(map(repr, given)) or 'no argument'
        raise ValueError(f'python:{what} cannot be called with {shown}: {error}') from error
    made = function(*given)
    model, values = made if isinstance(made, tuple) and len(made) == 2 else (made, {})
    if not isinstance(model, nn.Module) or not isinstance(values, Mapping):
        got = ', '.join(type(v).__name__ for v in (made if isinstance(made, tuple) else [made]))
        raise ValueError(
            f'python:{what} must return an nn.Module, got {got}; a dict may follow the module'
        )
    values = dict(values)
    classes = tuple(values.pop('classes', ()))
    unknown = set(values) - set(Preprocess.__dataclass_fields__)
    if unknown:
        allowed = ', '.join(['classes', *Preprocess.__dataclass_fields__])
        raise ValueError(f'python:{what} returned unknown values {sorted(unknown)}; {allowed}')
    values = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    return Classifier(model, Preprocess(**values), '', classes)


def _import(name: str) -> ModuleType:
    if not name.endswith('.py'):
        if '' not in sys.path:
            sys.path.insert(0, '')  # the folder the user stands in
        return importlib.import_module(name)
    spec = importlib.util.spec_from_file_location(Path(name).stem, name)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
