"""ResNet with attention at any position of any block."""

import warnings
from collections.abc import Sequence
from functools import partial

from mmcv.cnn import build_conv_layer
from mmdet.models.backbones import resnext
from mmdet.models.backbones.resnet import BasicBlock, Bottleneck, ResNet
from mmdet.models.layers import ResLayer
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmattn.backbones._insert import (
    AddedParts,
    build_gate,
    check_keys,
    check_rules,
    gate_input,
    gate_output,
    replace_conv,
    unused_name,
)
from mmattn.core.names import listed
from mmattn.registry import MODELS

__all__ = ['AttentionResNet', 'add_to_block', 'positions_in']

_IN_BLOCK = {
    BasicBlock: ('after_conv1', 'before_norm2', 'after_conv2', 'after_add'),
    Bottleneck: ('after_conv1', 'before_norm2', 'after_conv2', 'after_conv3', 'after_add'),
}


@MODELS.register_module()
class AttentionResNet(AddedParts, ResNet):
    """mmdet's ResNet or ResNeXt with gates, and another convolution for its 3x3, where you say.

    Papers: the positions are those of SE (arXiv 1709.01507), CBAM (1807.06521), BAM (1807.06514),
    SimAM (ICML 2021) and AW-convolution (2108.08205); docs/backbones.md draws them.

    Differs from the host: nothing until a rule says so. A checkpoint of the plain network loads
    with exactly the new parameters missing. ``norm_eval`` is mmdet's, True unless you say
    otherwise: a classifier trained from scratch needs ``norm_eval=False``, or every norm of the
    plain network keeps its initial statistics (a warning says so, once). New parameters are not
    frozen by ``frozen_stages``, and the norms of gates and convolutions are not kept in eval mode
    by ``norm_eval``. With ``groups > 1`` the blocks are ResNeXt's, and ``zero_init_residual`` acts
    on them too (the host's ResNeXt ignores it).

    Every rule of ``attention`` is a dict of

    - ``gate``: config of a gate, ``dict(type='mmattn.SE')``; it gets ``in_channels`` from here.
    - ``position``: ``'after_conv1'``, ``'after_conv2'`` (after norm and ReLU),
      ``'after_conv3'`` (after the norm, before the addition; SE, CBAM, ECA), ``'before_norm2'``
      (between the second convolution and its norm; SimAM), ``'after_add'`` (after the addition
      and the last ReLU; Non-local), ``'after_stage'`` (after a whole stage; BAM, DANet). A basic
      block (depth 18, 34) has no third convolution: its ``'after_conv2'`` is after the norm and
      before the addition.
    - ``stages``: indices from 0 or a bool for each; default all.
    - ``blocks``: indices in each of these stages (from 0; -1 is the last), or a dict
      ``{stage: indices or None}`` in place of ``stages``; default all.

    Rules at one place run in their order. A gate's name in a checkpoint is its ``_abbr_``
    (``layer1.0.se.fc1.weight`` as in the host's plugins, ``layer3_bam``), the second of that name
    in a block ``se_2``.

    Args:
        depth: 18, 34, 50, 101 or 152.
        attention: the rules.
        conv2: config of the convolution that replaces the 3x3 of the blocks, such as
            ``dict(type='mmattn.AWConv2d')``; it starts with the weights of the plain one. Where
            ``conv_cfg`` standardises weights (``ConvWS``), an AW-convolution attends to the
            standardised ones.
        conv2_stages: as ``stages`` above.
        basic_convs: which of the two 3x3 convolutions of a basic block ``conv2`` replaces.
        groups: of the 3x3 in a bottleneck (ResNeXt).
        base_width: of a group, when ``groups > 1``.
        cifar_stem: a 3x3 convolution without stride and no max-pooling, for images of 32 x 32.
        attention_norm_eval: keep the new norms in eval mode, as ``norm_eval`` does the others.
        kwargs: every other argument of mmdet's ResNet. Its ``plugins`` (GCNet's configs) stay
            where they are and run before a gate of ``attention`` at the same position; gates and
            convolutions of mmattn that come by ``plugins`` or ``conv_cfg`` are new parameters
            too and not frozen.

    Shape: ``(N, in_channels, H, W)`` -> tuple of ``(N, C_i, H_i, W_i)``, one for each entry of
    ``out_indices``.

    Raises:
        ValueError: an unknown position or key, a stage or block out of range, a position a basic
            block does not have, a gate that changes the shape, ``plugins`` or ``groups`` with
            basic blocks, ``conv2`` where a deformable or another special convolution is, a type
            without its scope.
        TypeError: a rule, a gate or ``conv2`` is no dict.
    """

    _warned = False

    def __init__(
        self,
        depth: int,
        attention: Sequence = (),
        conv2: dict | None = None,
        conv2_stages: Sequence | None = None,
        basic_convs: Sequence = (1, 2),
        groups: int = 1,
        base_width: int = 4,
        cifar_stem: bool = False,
        attention_norm_eval: bool = False,
        **kwargs,
    ) -> None:
        if depth not in self.arch_settings:
            raise ValueError(f'depth must be one of {sorted(self.arch_settings)}, got {depth!r}')
        if kwargs.get('plugins') is None:
            kwargs.pop('plugins', None)
        elif self.arch_settings[depth][0] is BasicBlock:
            raise ValueError(
                f'plugins must be left out at depth {depth}, whose basic blocks have no slot for '
                'them: write attention=[dict(gate=..., position=...)]'
            )
        if groups > 1 and self.arch_settings[depth][0] is BasicBlock:
            raise ValueError(f'groups must be 1 for depth {depth}, got {groups}')
        self._cifar_stem = cifar_stem
        self._groups = dict(groups=groups, base_width=base_width) if groups > 1 else {}
        super().__init__(depth, **kwargs)
        self.attention_norm_eval = attention_norm_eval
        plain = self._names()
        self._adopt()
        if conv2 is not None:
            self._replace_3x3(conv2, _stages('conv2_stages', conv2_stages, self), basic_convs)
        check_rules(attention)
        for rule in attention:
            self._add(rule)
        self._remember(plain)

    def _make_stem_layer(self, in_channels: int, stem_channels: int) -> None:
        super()._make_stem_layer(in_channels, stem_channels)
        if self._cifar_stem:
            options = dict(kernel_size=3, padding=1, bias=False)
            self.conv1 = build_conv_layer(self.conv_cfg, in_channels, stem_channels, **options)
            self.maxpool = nn.Identity()

    def train(self, mode: bool = True) -> 'AttentionResNet':
        super().train(mode)
        if mode and not self._warned and self._trains_with_fixed_norms():
            self._warned = True
            norms = [module for module in self.modules() if isinstance(module, _BatchNorm)]
            still = sum(not norm.training for norm in norms)
            warnings.warn(
                f'{still} of the {len(norms)} norms stay in eval mode, since norm_eval is True '
                "(mmdet's default): set norm_eval=False to train a classifier from scratch",
                stacklevel=2,
            )
        return self

    def _trains_with_fixed_norms(self) -> bool:
        """Tell a classifier's backbone (one output map) that is trained whole, but for its
        norms.
        """
        return self.norm_eval and self.frozen_stages < 0 and len(self.out_indices) == 1

    def make_res_layer(self, block: type, **kwargs) -> ResLayer:
        if block is BasicBlock:
            return ResLayer(block=_BasicBlock, **kwargs)
        if self._groups:
            width = dict(base_channels=self.base_channels, **self._groups)
            return ResLayer(block=resnext.Bottleneck, **width, **kwargs)
        return ResLayer(block=block, **kwargs)

    def _replace_3x3(self, cfg: dict, stages: list, basic_convs: Sequence) -> None:
        listed = isinstance(basic_convs, Sequence) and len(basic_convs) > 0
        if not listed or not set(basic_convs) <= {1, 2}:
            raise ValueError(f'basic_convs must be a list of 1, 2 or both, got {basic_convs!r}')
        names = [f'conv{i}' for i in basic_convs] if self.block is BasicBlock else ['conv2']
        for stage in stages:
            if self.dcn is not None and self.stage_with_dcn[stage]:
                raise ValueError(f'conv2_stages must not meet stage_with_dcn, got stage {stage}')
            for block in self._stage(stage):
                for name in names:
                    replace_conv(block, [name], cfg, 'conv2')

    def _add(self, rule: dict) -> None:
        check_keys(rule, ('gate', 'position', 'stages', 'blocks'), 'gate')
        position, blocks = rule.get('position'), rule.get('blocks')
        allowed = (*_IN_BLOCK[self.block], 'after_stage')
        if position not in allowed:
            kind = self.block.__name__
            hint = (
                ' (its last convolution is the second: after_conv2)'
                if (kind, position) == ('BasicBlock', 'after_conv3')
                else ''
            )
            raise ValueError(
                f'position must be one of {listed(position, allowed)} '
                f'in a {kind} network, got {position!r}{hint}'
            )
        if position == 'after_stage':
            if blocks is not None:
                raise ValueError(f"blocks has no meaning with 'after_stage', got {blocks!r}")
            for stage in _stages('stages', rule.get('stages'), self):
                self._add_after_stage(stage, rule['gate'])
            return
        for stage, indices in _places(rule.get('stages'), blocks, self).items():
            for index in indices:
                add_to_block(self._stage(stage)[index], position, rule['gate'])

    def _stage(self, stage: int) -> ResLayer:
        return getattr(self, self.res_layers[stage])

    def _add_after_stage(self, stage: int, cfg: dict) -> None:
        name, gate = build_gate(cfg, _out_channels(self._stage(stage)[-1]))
        self.add_module(unused_name(self, f'{self.res_layers[stage]}_{name}'), gate)
        self._stage(stage).register_forward_hook(partial(gate_output, gate))


class _BasicBlock(BasicBlock):
    """The host's block with a place after its second norm; the host's has no slot at all.

    The norm is looked up by its name in every call, so it may be exchanged (SyncBN, fusing).
    """

    after_conv2_plugin_names: tuple = ()

    @property
    def norm2(self):
        norm = getattr(self, self.norm2_name)
        gates = [getattr(self, name) for name in self.after_conv2_plugin_names]
        return _NormThenGates(norm, gates) if gates else norm


class _NormThenGates:
    """Calls a norm and then gates; for everything else (initial values) it is the norm."""

    def __init__(self, norm: nn.Module, gates: list) -> None:
        self.norm, self.gates = norm, gates

    def __call__(self, x: Tensor) -> Tensor:
        x = self.norm(x)
        for gate in self.gates:
            x = gate(x)
        return x

    def __getattr__(self, name: str):
        return getattr(self.norm, name)


def _out_channels(block: nn.Module) -> int:
    return (block.conv2 if isinstance(block, BasicBlock) else block.conv3).out_channels


def positions_in(block: nn.Module) -> tuple[str, ...]:
    """Return the positions a block has for :func:`add_to_block`, whatever network it is in.

    Blocks derived from mmdet's (Res2Net, RegNet, ResNeSt, HRNet, ...) have them where they kept
    the convolution in question; a block of another kind has none.
    """
    widths = {i: hasattr(getattr(block, f'conv{i}', None), 'out_channels') for i in (1, 2, 3)}
    if isinstance(block, Bottleneck):
        inside = [f'after_conv{i}' for i in (1, 2, 3) if widths[i]]
        if widths[2] and not hasattr(block, 'trident_dilations'):
            inside.insert(1, 'before_norm2')
    elif isinstance(block, BasicBlock):
        inside = ['after_conv1', 'before_norm2']
        inside += ['after_conv2'] if type(block) in (BasicBlock, _BasicBlock) else []
    else:
        return ()
    return (*inside, 'after_add')


def add_to_block(block: nn.Module, position: str, cfg: dict) -> None:
    """Build a gate for one position of a block and see to it that it runs.

    Args:
        block: one of mmdet's, or of a class derived from it.
        position: one of :func:`positions_in`.
        cfg: the gate's config.
    """
    if type(block) is BasicBlock:
        block.__class__ = _BasicBlock
    if position == 'after_add':
        channels = _out_channels(block)
    else:
        channels = getattr(block, f'conv{position[-1]}').out_channels
    name, gate = build_gate(cfg, channels)
    name = unused_name(block, name)
    block.add_module(name, gate)
    if position == 'after_add':
        block.register_forward_hook(partial(gate_output, gate))
    elif position == 'before_norm2':
        block.conv2.register_forward_hook(partial(gate_output, gate))
    elif isinstance(block, Bottleneck):  # the host's own slot
        if not block.with_plugins:
            block.with_plugins = True
            for i in (1, 2, 3):
                setattr(block, f'after_conv{i}_plugin_names', [])
        getattr(block, f'{position}_plugin_names').append(name)
    elif position == 'after_conv1':
        block.conv2.register_forward_pre_hook(partial(gate_input, gate))
    else:
        block.after_conv2_plugin_names = (*block.after_conv2_plugin_names, name)


def _stages(argument: str, stages: Sequence | None, net: ResNet) -> list:
    """Stage indices from indices, a bool for each stage, or ``None`` for all."""
    number = net.num_stages
    if stages is None:
        return list(range(number))
    if isinstance(stages, Sequence):
        flags = [isinstance(stage, bool) for stage in stages]
        if len(stages) == number and all(flags):
            return [stage for stage, chosen in enumerate(stages) if chosen]
        if not any(flags) and all(stage in range(number) for stage in stages):
            return list(stages)
    raise ValueError(
        f'{argument} must be a list of {number} booleans or of indices from 0 to {number - 1}, '
        f'got {stages!r}'
    )


def _places(stages: Sequence | None, blocks: object, net: ResNet) -> dict:
    """``{stage: block indices}`` of a rule."""
    if isinstance(blocks, dict):
        if stages is not None:
            raise ValueError('stages must be left out when blocks is a dict, which names them')
        wanted = {stage: blocks[stage] for stage in _stages('blocks', tuple(blocks), net)}
    else:
        wanted = dict.fromkeys(_stages('stages', stages, net), blocks)
    return {stage: _indices(stage, chosen, net) for stage, chosen in wanted.items()}


def _indices(stage: int, blocks: Sequence | None, net: ResNet) -> list:
    number = net.stage_blocks[stage]
    if blocks is None:
        return list(range(number))
    for index in blocks if isinstance(blocks, Sequence) else [None]:
        if index not in range(-number, number):
            raise ValueError(
                f'blocks of stage {stage} must be a list of indices from 0 to {number - 1} (or '
                f'from the end, -{number} to -1), got {blocks!r}'
            )
    return sorted({index % number for index in blocks})
