"""mmattn's child registries; mmengine imports this file for any ``type='mmattn.X'``."""

from mmengine.registry import HOOKS as MMENGINE_HOOKS
from mmengine.registry import METRICS as MMENGINE_METRICS
from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.registry import Registry

from mmattn.core.hosts import host_problem
from mmattn.core.names import did_you_mean

__all__ = ['HOOKS', 'METRICS', 'MODELS']

# where the modules are -> the host they need
_LOCATIONS = {
    'mmattn.layers': '',
    'mmattn.convs': '',
    'mmattn.auxiliary': '',
    'mmattn.backbones': '',  # each class says which host it needs
    'mmattn.necks': 'mmdet',
    'mmattn.heads': 'mmpretrain',
    'mmattn.heads.ssd_head': 'mmdet',
}


class _Registry(Registry):
    """A registry that answers a misspelt name with the closest registered names."""

    def get(self, key: str) -> type | None:
        found = super().get(key)
        if found is None and '.' not in key:  # a dotted path is resolved by the caller
            raise KeyError(self._explain(key))
        return found

    def _explain(self, key: str) -> str:
        names = sorted(self.module_dict)
        hint = did_you_mean(key, names, n=3, sep='', prefix='mmattn.')
        hint = hint or f'registered names are {", ".join(names)}.'
        problems = filter(None, map(host_problem, _needed_hosts()))
        return ' '.join((f"type 'mmattn.{key}' is not registered; {hint}", *problems))


def _needed_hosts() -> list:
    return sorted({host for host in _LOCATIONS.values() if host})


MODELS = _Registry(
    'model',
    parent=MMENGINE_MODELS,
    scope='mmattn',
    locations=[
        location for location, host in _LOCATIONS.items() if not host or not host_problem(host)
    ],
)

HOOKS = _Registry('hook', parent=MMENGINE_HOOKS, scope='mmattn', locations=['mmattn.auxiliary'])

METRICS = _Registry(
    'metric',
    parent=MMENGINE_METRICS,
    scope='mmattn',
    locations=[] if host_problem('mmdet') else ['mmattn.evaluation.coco_metric'],
)
