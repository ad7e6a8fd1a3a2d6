"""mmattn's child registries; mmengine imports this file for any ``type='mmattn.X'``."""

import importlib
from collections.abc import Callable

from mmengine.registry import DATASETS as MMENGINE_DATASETS
from mmengine.registry import HOOKS as MMENGINE_HOOKS
from mmengine.registry import METRICS as MMENGINE_METRICS
from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.registry import Registry

from mmattn.core.arguments import check_arguments, checked
from mmattn.core.checkpoint import SafeCheckpointHook
from mmattn.core.finite import InvalidLossHook
from mmattn.core.hosts import host_problem
from mmattn.core.names import did_you_mean

__all__ = ['DATASETS', 'HOOKS', 'METRICS', 'MODELS']

# Where the modules are. Those of a host that is absent say so when a name of theirs is used.
_LOCATIONS = [
    'mmattn.layers',
    'mmattn.convs',
    'mmattn.auxiliary',
    'mmattn.backbones',
    'mmattn.necks',
    'mmattn.heads',
    'mmattn.classifiers',
]


class _Registry(Registry):
    """A registry that says what is wrong with a name it does not have."""

    def _register_module(
        self,
        module: type | Callable,
        module_name: str | list[str] | None = None,
        force: bool = False,
    ) -> None:
        if isinstance(module, type):
            check_arguments(module)
        else:
            module = checked(module)
        super()._register_module(module, module_name, force)

    def get(self, key: str) -> type | None:
        """Return the registered class.

        Raises:
            ImportError: The class needs a framework that is absent; says how to get it.
            KeyError: There is no such class; names the closest ones.
        """
        found = super().get(key)
        if found is None and '.' not in key:  # a dotted path is resolved by the caller
            for location in self._locations:
                getattr(importlib.import_module(location), key, None)  # raises its ImportError
            raise KeyError(self._explain(key))
        return found

    def _explain(self, key: str) -> str:
        names = sorted(self.module_dict)
        hint = did_you_mean(key, names, n=3, sep='', prefix='mmattn.')
        hint = hint or f'registered names are {", ".join(names)}.'
        return f"type 'mmattn.{key}' is not registered; {hint}"


MODELS = _Registry('model', parent=MMENGINE_MODELS, scope='mmattn', locations=_LOCATIONS)

HOOKS = _Registry('hook', parent=MMENGINE_HOOKS, scope='mmattn', locations=['mmattn.auxiliary'])
for hook in (SafeCheckpointHook, InvalidLossHook):  # the ground floor knows no registry
    HOOKS.register_module(module=hook)

METRICS = _Registry(
    'metric',
    parent=MMENGINE_METRICS,
    scope='mmattn',
    locations=[
        'mmattn.evaluation.step_accuracy',
        *([] if host_problem('mmdet') else ['mmattn.evaluation.coco_metric']),
    ],
)

DATASETS = _Registry(
    'dataset',
    parent=MMENGINE_DATASETS,
    scope='mmattn',
    locations=[
        'mmattn.datasets.splits',
        *(
            []
            if host_problem('mmpretrain')
            else ['mmattn.datasets.cifar', 'mmattn.datasets.imagenet']
        ),
    ],
)
