"""One method in one stock config: whether it works, and if not why.

A cell is one method in one config, narrow, on two small images: build, ``init_weights``, loss and
backward, predict, state-dict round trip, ``deepcopy``, ``pickle``, and at ``init='identity'`` the
output of the plain network with its weights loaded.
"""

import copy
import pickle
import time
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import torch
from mmengine.config import Config
from mmengine.logging import MessageHub
from mmengine.registry import MODELS, DefaultScope
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmattn.convs import AAConv2d, AWConv2d
from mmattn.core.modes import eval_mode
from mmattn.insertion.insert import add_attention, insert
from mmattn.insertion.methods import METHODS
from mmattn.insertion.report import NOT_PLAIN
from mmattn.insertion.stock import Stock, batch_for, narrow
from mmattn.layers._gate import Gate

__all__ = ['COLUMNS', 'Cell', 'Host', 'try_method']

ROOM = str(Path(__file__).parents[1])
TOLERANCE = 1e-4  # relative, in float32, between two orders of computing the same
STARTS = 3  # of a network whose new parts may be off by chance
WORKS, NOT_APPLICABLE, FRAMEWORK, FAILS = 'works', 'not applicable', 'framework', 'fails'

# options without which a narrow network is too narrow, or that a method must have
_NARROW = {
    **{name: dict(reduction=4) for name in ('SE', 'CBAM', 'BAM', 'GlobalContext', 'FcaNet')},
    'Sequence': dict(gates=[dict(type='ECA'), dict(type='SpatialGate')]),
    'AAConv2d': dict(dk=4, dv=4, num_heads=2),
}
_TWINS = ('TDResNet', 'TDConvNeXt', 'TDMobileNetV3')
COLUMNS = (*(method.name for method in METHODS if method.name not in _TWINS), 'TDAM')
# what a plain network cannot do here: a part of the error -> in words
_KNOWN = {
    "'SSDHead' object has no attribute 'loss_cls'": (
        "mmdet's SSDHead cannot predict since 3.2 (mmdetection issues 11063, 11305, 11780); with "
        'a method the network gets mmattn.SSDHead, which can'
    ),
    'upper bound and lower bound inconsistent': (
        'mmdet cannot paste the masks when no box reaches into the image, and the boxes of this '
        'network before its training do not'
    ),
}


class Cell(NamedTuple):
    """One method in one config.

    Args:
        config: with its framework, ``'mmdet::...'``.
        method: name of the column.
        status: ``'works'``, ``'not applicable'``, ``'framework'`` (what does not work does not
            work without attention either) or ``'fails'``.
        note: the reason, or nothing.
        params: parameters added in the narrow network.
        seconds: of the processor that it took.
    """

    config: str
    method: str
    status: str
    note: str = ''
    params: int = 0
    seconds: float = 0.0


class _Broken(Exception):
    """A check that a network with attention did not pass."""


class Host:
    """A plain narrow network, and what it can do by itself.

    Attributes:
        faults: Name of a step -> why the plain network cannot do it.
        idle: Parameters that train and get a gradient of 0 in the training step.
    """

    def __init__(self, stock: Stock) -> None:
        self.stock = stock
        self.cfg = narrow(stock)
        self.faults: dict[str, str] = {}
        self.net = _build(self.cfg)
        self.net.init_weights()
        for module in self.net.modules():
            if type(module).__name__ == 'TridentConv':  # mmdet leaves it as the memory was
                nn.init.kaiming_normal_(module.weight)
        self._try('settle', lambda: self.settle(self.net))
        self.state = copy.deepcopy(self.net.state_dict())
        self._try('loss', lambda: self.loss(self.net))
        own = self.net.named_parameters()
        self.idle = {name for name, p in own if p.grad is not None and not p.grad.any()}
        self.net.load_state_dict(self.state)  # the step moved the statistics of the norms
        self.net.zero_grad()
        self._try('predict', lambda: self.predict(self.net))
        self.is_raw = True
        try:
            self.outputs = self.run(self.net)
        except Exception:  # not every model of mmdet has this mode
            self.is_raw = False
            self.outputs = self._try('outputs', lambda: self.run(self.net)) or []
        self._try('copy', lambda: pickle.loads(pickle.dumps(copy.deepcopy(self.net))))

    @property
    def backbone(self) -> str:
        """The class of its backbone."""
        return type(self.net.backbone).__name__

    def _try(self, step: str, action: Callable):
        try:
            return action()
        except Exception as error:  # a framework may raise anything
            self.faults.setdefault(step, sentence_of(error))
            return None

    def settle(self, net: nn.Module) -> None:
        """Statistics of its own in every norm, as a trained network has; no dead branch."""
        norms = [module for module in net.modules() if isinstance(module, _BatchNorm)]
        for module in net.modules():
            weight = getattr(module, 'weight', None)
            norm = isinstance(module, (_BatchNorm, nn.GroupNorm, nn.LayerNorm))
            if norm and weight is not None and not weight.any():
                nn.init.constant_(weight, 0.5)  # zero_init_residual
        momenta = [norm.momentum for norm in norms]
        with eval_mode(net), torch.no_grad():
            for norm in norms:
                norm.training, norm.momentum = True, 1.0
            try:
                self.features(net)
            finally:
                for norm, momentum in zip(norms, momenta):
                    norm.training, norm.momentum = False, momentum

    def batch(self, net: nn.Module, training: bool) -> dict:
        """Two images, through the network's preprocessor."""
        data = net.data_preprocessor(batch_for(self.cfg, self.stock), training)
        return {**data, 'inputs': data['inputs'].to(next(net.parameters()).dtype)}

    def features(self, net: nn.Module) -> object:
        """Return what comes out of backbone and neck."""
        return net.extract_feat(self.batch(net, False)['inputs'])

    def loss(self, net: nn.Module, seed: int = 0) -> Tensor:
        """Run a training step without the optimizer's."""
        torch.manual_seed(seed)
        MessageHub.get_current_instance().update_info('epoch', 0)  # TOOD reads it there
        net.train()
        if hasattr(net, 'set_epoch'):
            net.set_epoch(0)
        losses = net(**self.batch(net, True), mode='loss')
        total, _ = net.parse_losses(losses)
        total.backward()
        net.eval()
        if not total.isfinite():
            raise _Broken('the loss is not finite')
        return total.detach()

    def predict(self, net: nn.Module) -> list:
        """Predictions for the two images, as tensors."""
        torch.manual_seed(0)
        net.eval()
        with torch.no_grad():
            samples = net.test_step(batch_for(self.cfg, self.stock))
        found = []
        for sample in samples:
            instances = sample.get('pred_instances')
            if instances is not None:
                found += [instances.get(key) for key in ('bboxes', 'scores')]
            for key in ('pred_score',):
                found.append(sample.get(key))
        return _tensors(found)

    def run(self, net: nn.Module) -> list:
        """Return the raw outputs of the heads in eval mode; the maps where the model has no such
        mode.
        """
        net.eval()
        torch.manual_seed(0)
        with torch.no_grad():
            if self.is_raw:
                return _tensors(net(**self.batch(net, False), mode='tensor'))
            return self.maps(net)

    def maps(self, net: nn.Module) -> list:
        """Return the maps of backbone and neck in eval mode."""
        net.eval()
        torch.manual_seed(0)
        with torch.no_grad():
            return _tensors(self.features(net))


def _build(cfg: Config, seed: int = 0) -> nn.Module:
    model = copy.deepcopy(cfg.model)
    if 'data_preprocessor' in cfg and 'data_preprocessor' not in model:
        model['data_preprocessor'] = cfg.data_preprocessor
    torch.manual_seed(seed)
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope', 'mmdet')):
        return MODELS.build(model)


def _tensors(outs: object) -> list:
    if isinstance(outs, Tensor):
        return [outs]
    if isinstance(outs, dict):
        outs = list(outs.values())
    if hasattr(outs, 'bboxes'):  # proposals
        return _tensors(outs.bboxes)
    return [x for out in outs for x in _tensors(out)] if isinstance(outs, (list, tuple)) else []


def try_method(host: Host, method: str) -> Cell:
    """One cell."""
    start = time.process_time()
    status, note, params = WORKS, '', 0
    torch.manual_seed(0)
    try:
        params = _check(host, method)
        note = NOT_PLAIN.get((method, host.backbone), '')
        if host.faults:
            status = FRAMEWORK
            note = '; '.join(f'{step}: {why}' for step, why in sorted(host.faults.items()))
    except ValueError as error:
        status, note = (NOT_APPLICABLE if _is_ours(error) else FAILS), sentence_of(error)
    except Exception as error:  # the page names what is left
        status, note = FAILS, sentence_of(error)
    seconds = round(time.process_time() - start, 1)
    return Cell(host.stock.config, method, status, note, params, seconds)


def _is_ours(error: Exception) -> bool:
    """Whether a sentence of ours refused, in :func:`add_attention`."""
    frames = traceback.extract_tb(error.__traceback__)
    if error.__cause__ is not None and any(frame.name == 'attach' for frame in frames):
        frames = traceback.extract_tb(error.__cause__.__traceback__)  # a method, when it is built
        return frames[-1].filename.startswith(str(Path(ROOM) / 'layers'))
    inside = any(frame.name == 'insert' for frame in frames)
    return inside and frames[-1].filename.startswith(ROOM)


def sentence_of(error: Exception) -> str:
    text = ' '.join(str(error).split())
    known = next((words for part, words in _KNOWN.items() if part in text), None)
    if known:
        return known
    if isinstance(error, _Broken) or (isinstance(error, ValueError) and _is_ours(error)):
        return text
    frame = traceback.extract_tb(error.__traceback__)[-1]
    place = '/'.join(Path(frame.filename).parts[-3:])
    return f'{type(error).__name__} in {place}: {text or frame.line}'[:300]


def _check(host: Host, method: str) -> int:
    """Every check of a cell; the number of parameters added."""
    method_cfg = dict(type=method, **_NARROW.get(method, {}))
    cfg = add_attention(host.cfg, method_cfg, init='paper')
    idle: set | None = None
    for seed in range(STARTS):  # a few hidden units, or a block (drop path), may be off by chance
        paper, missing = _attended(host, cfg, seed)
        added, found = _train(host, paper, method, missing, seed)
        idle = found if idle is None else idle & found
        if not idle:
            break
    if idle:
        raise _Broken(f'every gradient in {min(idle)} is 0')
    _predict(host, paper)
    cfg, *_ = insert(host.cfg, method_cfg, init=None if method == 'SSIA' else 'identity')
    ours, _ = _attended(host, cfg)
    outs = host.run(ours)
    _finite('output', outs)
    if (method, host.backbone) not in NOT_PLAIN:
        _equal_to_plain(host, ours, outs)
    _round_trip(host, ours, outs)
    return added


def _equal_to_plain(host: Host, net: nn.Module, outs: list) -> None:
    """Compare the outputs; the maps in float64 where rounding grows too large on its way."""
    problem = 'at the identity start the output is not that of the plain'
    try:
        _equal(outs, host.outputs, problem)
    except _Broken:
        try:
            _equal(host.maps(net.double()), host.maps(host.net.double()), problem)
        finally:
            net.float(), host.net.float()


def _attended(host: Host, cfg: Config, seed: int = 0) -> tuple[nn.Module, list]:
    """Return a network with attention that holds the plain one's weights, and what these lack."""
    net = _build(cfg, seed)
    net.init_weights()
    result = net.load_state_dict(host.state, strict=False)
    gone = ('head.fc.', '.se.')  # what LearnToPayHead and TDMobileNetV3 take the place of
    unexpected = [key for key in result.unexpected_keys if not any(name in key for name in gone)]
    if unexpected:
        raise _Broken(f'the plain checkpoint has keys it lacks: {unexpected[:3]}')
    return net, result.missing_keys


def _predict(host: Host, net: nn.Module) -> None:
    try:
        host.settle(net)  # else untrained maps grow from layer to layer, past exp's range in YOLOX
        found = host.predict(net)
    except Exception:
        if 'predict' not in host.faults:
            raise
    else:
        _finite('prediction', found)


def _train(host: Host, net: nn.Module, method: str, missing: list, seed: int) -> tuple[int, set]:
    """Return the number of parameters added, and the parts that got only zeros as gradients."""
    plain = dict(host.net.named_parameters())
    names = {name for name in dict(net.named_parameters()) if name not in plain}
    if method in ('SimAM',):
        if not any(type(module).__name__ == method for module in net.modules()):
            raise _Broken('nothing was added')
    elif not names:
        raise _Broken('no parameter was added')
    own = dict(net.named_parameters())
    lacking = names & set(missing)  # the norms of TDAM's steps are copies of the plain ones
    frozen = sorted(name for name in lacking if not own[name].requires_grad)
    net.train()
    frozen += sorted(name for name in lacking if not own[name].requires_grad)
    if frozen:
        raise _Broken(f'new parameters are frozen: {frozen[:3]}')
    if 'loss' in host.faults:
        return sum(own[name].numel() for name in names), set()
    net.zero_grad()
    host.loss(net, seed)
    trains = {name for name in names if own[name].requires_grad}
    without = sorted(name for name in trains if own[name].grad is None)
    if without:
        raise _Broken(f'new parameters get no gradient: {without[:3]} ({len(without)} in all)')
    for name in trains:
        _finite(f'gradient of {name}', [own[name].grad])
    idle = set()
    for name, module in _roots(net).items():
        grads = [p.grad for key, p in module.named_parameters() if f'{name}.{key}' in trains]
        weight = plain.get(f'{name}.weight')  # of a convolution that is in the plain network
        also = weight is not None and (f'{name}.weight' in host.idle or not weight.any())
        if grads and not also and not any(grad.any() for grad in grads):
            idle.add(name)
    return sum(own[name].numel() for name in names), idle


def _roots(net: nn.Module) -> dict:
    """Return the outermost gates and convolutions of ours, by name."""
    found: dict = {}
    for name, module in net.named_modules():
        inside = name.startswith(tuple(f'{outer}.' for outer in found))
        if isinstance(module, (Gate, AWConv2d, AAConv2d)) and not inside:
            found[name] = module
    return found


def _finite(what: str, tensors: Iterable) -> None:
    if not all(tensor.isfinite().all() for tensor in tensors):
        raise _Broken(f'{what} is not finite')


def _equal(outs: list, expected: list, problem: str) -> None:
    if len(outs) != len(expected) or not outs:
        raise _Broken(f'{problem}: {len(outs)} tensors, {len(expected)} expected')
    worst = 0.0
    for ours, theirs in zip(outs, expected):
        if ours.shape != theirs.shape:
            raise _Broken(f'{problem}: {tuple(ours.shape)}, {tuple(theirs.shape)} expected')
        if theirs.numel():
            distance = (ours.double() - theirs.double()).norm()
            worst = max(worst, float(distance / theirs.double().norm().clamp(min=1e-6)))
    if not worst <= TOLERANCE:
        raise _Broken(f"{problem} network's ({worst:.1e} relative)")


def _round_trip(host: Host, net: nn.Module, outs: list) -> None:
    """Return a copy that went through pickle, forgot everything and loads the checkpoint."""
    if 'copy' in host.faults:
        return
    twin = pickle.loads(pickle.dumps(copy.deepcopy(net)))
    if type(twin) is not type(net):
        raise _Broken(f'pickle makes a {type(twin).__name__} of a {type(net).__name__}')
    with torch.no_grad():
        for tensor in twin.state_dict().values():
            tensor.zero_()
    twin.load_state_dict(net.state_dict(), strict=True)
    _equal(host.run(twin), outs, 'a copy with the checkpoint loaded gives not the output of the')
