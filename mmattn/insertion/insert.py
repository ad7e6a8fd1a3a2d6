"""One call puts any method into any config: :func:`add_attention`."""

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmattn.core import config
from mmattn.core.identity import INITS
from mmattn.insertion.attends import (
    add_aw_fpn,
    conv_in_backbone,
    conv_in_heads,
    conv_in_neck,
    gate_in_backbone,
    gate_in_heads,
    gate_in_neck,
)
from mmattn.insertion.methods import Method, find_method
from mmattn.insertion.networks import Network
from mmattn.insertion.report import attach
from mmattn.insertion.request import Request, Start, can_stand, method_config, need_part
from mmattn.insertion.resnets import becomes_attention_resnet, conv_in_resnet, gate_in_resnet
from mmattn.insertion.whole_parts import (
    TWINS,
    add_learn_to_pay,
    add_ssia,
    add_twin,
    is_ssd,
    repair_ssd,
)

__all__ = ['add_attention', 'choose_init', 'insert', 'read_config']

WHERE = ('backbone', 'neck', 'head', 'model')
# kind of a method -> the parts it goes into, its natural one first
PARTS = {
    'gate': ('backbone', 'neck', 'head'),
    'conv': ('backbone', 'neck', 'head'),
    'neck': ('neck',),
    'twin': ('backbone',),
    'head': ('head',),
    'model': ('model',),
}


def add_attention(
    cfg: Config | str | Path,
    method: str | dict | Sequence,
    where: str | Sequence | None = None,
    stages: Sequence | int | None = None,
    position: str | None = None,
    init: str | None = None,
    **options,
) -> Config:
    """Return a config with attention in it: any method in any detector or classifier.

    Every method has a place that its paper gives it (``python tools/add_attention.py --list``);
    ``where``, ``stages`` and ``position`` choose another. What the config has (``plugins``,
    ``dcn``, ``conv_cfg``, pixel decoders) stays.

    Args:
        cfg: a config, its file, or a name such as
            ``'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py'`` (or ``'mmpretrain::...'``).
        method: a registered name with or without its scope (``'SE'``, ``'mmattn.SE'``;
            ``'TDAM'`` takes the twin of the config's backbone), a dict with options
            (``dict(type='SE', reduction=8)``), or a list of these, added in their order.
        where: ``'backbone'``, ``'neck'``, ``'head'`` (all heads), ``'model'``, one head by its
            name in the config (``'roi_head.mask_head'``), or a list of these.
        stages: of a backbone, counted from 0, or a bool for each; of a neck, its output maps.
        position: ``'branch'``, ``'after_conv1'``, ``'after_conv2'``, ``'after_conv3'``,
            ``'before_norm2'``, ``'after_add'``, ``'after_stage'``, ``'outputs'``, or a regular
            expression for the names of modules.
        init: ``'identity'``, ``'paper'`` (:mod:`mmattn.core.identity`), or ``None``: identity
            where the network starts from weights, paper from scratch.
        options: of the method.

    Returns:
        A new config. Its entry ``mmattn`` says what was added (:func:`mmattn.report`).

    Raises:
        TypeError: an argument of the wrong type.
        ValueError: an unknown method; a place that the network lacks or where the method cannot
            stand; a method added twice; a bad option. The sentence says what can stand there.
        FileNotFoundError: no such config.
    """
    new, names, start = insert(cfg, method, where, stages, position, init, **options)
    attach(new, names, start.init, start.reason)
    return new


def insert(
    cfg: Config | str | Path,
    method: str | dict | Sequence,
    where: str | Sequence | None = None,
    stages: Sequence | int | None = None,
    position: str | None = None,
    init: str | None = None,
    **options,
) -> tuple[Config, list[str], Start]:
    """Return what :func:`add_attention` does, without measuring it for the report.

    Returns:
        The new config, the names of the methods, and how they start.
    """
    new = copy.deepcopy(read_config(cfg))
    if init is not None and init not in INITS:
        raise ValueError(f'init must be one of {INITS} or None, got {init!r}')
    methods = [method] if isinstance(method, str | dict) else method
    if not isinstance(methods, Sequence) or not methods:
        raise TypeError(f'method must be a name, a dict or a list of these, got {method!r}')
    if options and len(methods) > 1:
        raise ValueError(
            f'options belong to one method: write dict(type=..., {next(iter(options))}=...) in '
            f'the list, got {sorted(options)} for {len(methods)} methods'
        )
    start = Start(init, 'as asked', True) if init else Start(*choose_init(new), False)
    for one in methods:
        _add_one(new, one, where, stages, position, start, options)
    names = [one if isinstance(one, str) else str(one.get('type')) for one in methods]
    return new, names, start


def read_config(cfg: Config | str | Path) -> Config:
    """Return a config from whatever :func:`add_attention` takes.

    Raises:
        TypeError: it is something else.
        FileNotFoundError: no such file.
        ValueError: it has no model.
    """
    if isinstance(cfg, str | Path):
        cfg = config.read_config(cfg)
    if not isinstance(cfg, Config):
        raise TypeError(f'cfg must be a Config, a file or a name, got {type(cfg).__name__}')
    if not isinstance(cfg.get('model'), dict):
        raise ValueError('cfg: the config has no model')
    return cfg


def choose_init(cfg: Config) -> tuple[str, str]:
    """Return the start of new parts, and why: identity where the network starts from weights."""
    if cfg.get('load_from'):
        return 'identity', f'the network starts from load_from={cfg.load_from!r}'
    start = _pretrained(cfg.model)
    if start:
        return 'identity', f'the network starts from weights ({start})'
    return (
        'paper',
        'the network starts from scratch (no init_cfg of type Pretrained, no load_from)',
    )


def _pretrained(cfg: Any) -> str | None:
    """Return the first checkpoint that some part of a model starts from."""
    if isinstance(cfg, dict):
        if str(cfg.get('type')).endswith('Pretrained'):
            return str(cfg.get('checkpoint'))
        if isinstance(cfg.get('pretrained'), str):
            return cfg['pretrained']
        cfg = list(cfg.values())
    if isinstance(cfg, list | tuple):
        return next(filter(None, map(_pretrained, cfg)), None)
    return None


def _add_one(
    cfg: Config, method: Any, where: Any, stages: Any, position: Any, start: Start, options: dict
) -> None:
    """Add one method at all places it is wanted at."""
    given = dict(method) if isinstance(method, dict) else dict(type=method)
    network = Network(cfg)
    row = _settle(find_method(given.pop('type', None)), network)
    options = {**given, **options}
    if row.name == 'Sequence':
        row = _like_first_gate(row, options)
    for place in _places(row, where, network):
        network = Network(cfg)
        own = method_config(row, options, start, network)
        _ADD[row.kind](network, Request(row, own, place, stages, position, start))
    repair_ssd(Network(cfg))


def _settle(row: Method, network: Network) -> Method:
    """Return the method that a name stands for in this network."""
    if row.name == 'TDAM':
        need_part(network, 'backbone', 'TDAM')
        kind = network.kind('backbone').__name__
        return find_method(TWINS.get(kind, kind if kind in TWINS.values() else 'TDResNet'))
    if row.name == 'LearnToPay':
        return find_method('LearnToPayHead' if network.is_classifier else 'LearnToPayGate')
    return row


def _like_first_gate(row: Method, options: dict) -> Method:
    """Several gates stand where the first of them belongs."""
    gates = options.get('gates') or ()
    if not gates or not isinstance(gates[0], dict) or 'type' not in gates[0]:
        return row  # what is wrong with it is said when it is built
    first = find_method(gates[0]['type'])
    return row._replace(position=first.position, stages=first.stages, block=first.block)


def _places(row: Method, where: Any, network: Network) -> list[str]:
    """Return the parts of the network a method goes into.

    Raises:
        TypeError: ``where`` is no name or list of names.
        ValueError: no such part, or the method cannot stand there.
    """
    allowed = PARTS[row.kind]
    if where is None:
        where = allowed[0]
        if row.name == 'AWConv2d' and is_ssd(network):
            where = ['neck', 'bbox_head']  # our reading of its paper's SSD300
    places = [where] if isinstance(where, str) else where
    if not isinstance(places, Sequence) or not places:
        raise TypeError(f'where must be one of {WHERE} or a list of these, got {where!r}')
    for place in places:
        general = 'neck' if place in network.necks() else place
        if place not in WHERE and general != 'neck':
            general = 'head'
            if not isinstance(place, str) or network.part(place) is None:
                names = (*WHERE, *network.heads())
                raise ValueError(f'where must be one of {names}, got {place!r}')
        if general not in allowed:
            raise ValueError(
                f'where: {row.name} goes into the {" or the ".join(allowed)}, got {place!r}; what '
                f'can stand in the {place}: {can_stand(network, general)}'
            )
    return list(places)


def _add_gate(network: Network, request: Request) -> None:
    if request.where == 'backbone':
        need_part(network, 'backbone', request.name)
        resnet = becomes_attention_resnet(network, request)
        (gate_in_resnet if resnet else gate_in_backbone)(network, request)
    elif request.where.startswith('neck'):
        gate_in_neck(network, request)
    else:
        gate_in_heads(network, request)


def _add_conv(network: Network, request: Request) -> None:
    if request.where == 'backbone':
        need_part(network, 'backbone', request.name)
        resnet = request.position is None and becomes_attention_resnet(network, request)
        (conv_in_resnet if resnet else conv_in_backbone)(network, request)
    elif request.where.startswith('neck'):
        conv_in_neck(network, request)
    else:
        conv_in_heads(network, request)


_ADD: dict[str, Callable] = {
    'gate': _add_gate,
    'conv': _add_conv,
    'neck': add_aw_fpn,
    'twin': add_twin,
    'head': add_learn_to_pay,
    'model': add_ssia,
}
