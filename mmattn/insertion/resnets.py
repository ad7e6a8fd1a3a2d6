"""mmdet's ResNet family: AttentionResNet in its place, and back into rules of Attend."""

import inspect

from mmengine.config import ConfigDict

from mmattn.core.hosts import host_problem
from mmattn.insertion.networks import Network, class_of, is_attend
from mmattn.insertion.request import Request, exchange, refuse_twice

__all__ = ['as_attend_rules', 'becomes_attention_resnet', 'conv_in_resnet', 'from_mmpretrain']
__all__ += ['gate_in_resnet']

# classes of mmdet that AttentionResNet stands for, and what that takes
FAMILY = {'ResNet': {}, 'ResNetV1d': dict(deep_stem=True, avg_down=True), 'ResNeXt': {}}
DEPTHS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
DEPTHS[152] = (3, 8, 36, 3)
BASIC = (18, 34)  # depths with basic blocks


def becomes_attention_resnet(network: Network, request: Request) -> bool:
    """Make the backbone an AttentionResNet where one can stand for it and do what is asked."""
    part = network.part('backbone')
    if is_attend(part) or request.pattern or request.position == 'outputs':
        return False
    kind = network.kind('backbone')
    if kind.__name__ == 'AttentionResNet':
        return True
    host = kind.__module__.partition('.')[0]
    if host == 'mmdet' and kind.__name__ in FAMILY:
        changes = FAMILY[kind.__name__]
    elif host == 'mmpretrain' and kind.__name__ in ('ResNet', 'ResNeXt'):
        if host_problem('mmdet'):
            return False
        changes = from_mmpretrain(kind, part)
    else:
        return False
    if changes is None:
        return False
    exchange(part, 'mmattn.AttentionResNet', changes)
    return True


def from_mmpretrain(kind: type, part: ConfigDict) -> dict | None:
    """Return what mmdet's ResNet needs to be mmpretrain's; ``None`` where it cannot."""
    if part.get('drop_path_rate') or part.get('expansion') or part.get('deep_stem'):
        return None
    for key in ('drop_path_rate', 'expansion'):
        part.pop(key, None)
    changes = {}
    if kind.__name__ == 'ResNeXt':
        changes['groups'] = part.pop('groups', 32)
        changes['base_width'] = part.pop('width_per_group', 4)
    theirs = inspect.signature(class_of('mmpretrain.ResNet', 'mmpretrain').__init__).parameters
    ours = inspect.signature(class_of('mmdet.ResNet', 'mmdet').__init__).parameters
    for name, parameter in theirs.items():
        default = parameter.default
        known = name in ours and name != 'init_cfg' and default is not inspect.Parameter.empty
        if known and name not in part and default != ours[name].default:
            changes[name] = default
    return changes


def gate_in_resnet(network: Network, request: Request) -> None:
    """Return a rule of AttentionResNet for a gate."""
    part = network.part('backbone')
    number = part.get('num_stages', 4)
    position = request.position or request.method.position
    if position == 'branch':
        position = 'after_conv2' if part['depth'] in BASIC else 'after_conv3'
    rule: dict = dict(gate=request.cfg, position=position)
    stages = request.chosen_stages(number, 'the backbone')
    block = request.method.block if request.position is None else None
    if block is not None:
        depths = DEPTHS[part['depth']]
        rule['blocks'] = {stage: [max(block, -depths[stage])] for stage in stages}
    elif len(stages) < number:
        rule['stages'] = tuple(stages)
    rules = list(part.get('attention') or [])
    for old in rules:
        refuse_twice(old, rule, 'backbone')
    part['attention'] = [*rules, rule]


def conv_in_resnet(network: Network, request: Request) -> None:
    """Return the convolution that AttentionResNet puts in the place of its 3x3.

    Raises:
        ValueError: they are exchanged already or deformable; another than AWConv2d is asked for
            where they have groups or are of a kind of their own.
    """
    part = network.part('backbone')
    if part.get('conv2') is not None:
        raise ValueError(
            f'{request.name} cannot be added: the 3x3 convolutions of the backbone are '
            f'{part["conv2"]["type"]} already; gates can still stand there'
        )
    if request.kind == 'AAConv2d' and part.get('groups', 1) > 1:
        raise ValueError(
            f'{request.name} cannot stand in the backbone: its 3x3 convolutions have '
            f'groups={part["groups"]}, which self-attention has not; AWConv2d and gates can stand '
            'there'
        )
    own = (part.get('conv_cfg') or {}).get('type')
    if request.kind != 'AWConv2d' and own not in (None, 'Conv', 'Conv2d'):
        raise ValueError(
            f'{request.name} cannot stand in the backbone: its convolutions are {own}; AWConv2d '
            'and gates can stand there'
        )
    number = part.get('num_stages', 4)
    stages = request.chosen_stages(number, 'the backbone')
    if part.get('dcn'):
        deformed = part.get('stage_with_dcn', (False,) * number)
        stages = [stage for stage in stages if not deformed[stage]]
        if not stages:
            raise ValueError(
                f'{request.name} cannot stand in the backbone: its 3x3 convolutions are '
                'deformable (dcn); gates can stand there'
            )
    part['conv2'] = request.cfg
    if len(stages) < number:
        part['conv2_stages'] = tuple(stages)


def as_attend_rules(part: ConfigDict) -> list[dict]:
    """Take an AttentionResNet's rules out of its config and say them in Attend's words.

    What is left in ``part`` is the config of the plain network, of type ``mmdet.ResNet`` or
    ``mmdet.ResNeXt``.
    """
    number = part.get('num_stages', 4)
    found = []
    for rule in part.pop('attention', None) or []:
        position = rule['position']
        blocks = rule.get('blocks')
        if not isinstance(blocks, dict):
            blocks = dict.fromkeys(_indices(rule.get('stages'), number), blocks)
        for stage, chosen in blocks.items():
            count = DEPTHS[part['depth']][stage]
            indices = range(count) if chosen is None else [index % count for index in chosen]
            after = [rf'layer{stage + 1}\.{index}' for index in indices]
            if chosen is None:
                after = rf'layer{stage + 1}\.\d+'
            if position == 'after_stage':
                found.append(dict(gate=rule['gate'], after=f'layer{stage + 1}'))
            else:
                found.append(dict(gate=rule['gate'], after=after, position=position))
    conv2, stages = part.pop('conv2', None), part.pop('conv2_stages', None)
    basic = part.pop('basic_convs', (1, 2))
    part.pop('attention_norm_eval', None)
    if conv2 is not None:
        numbers = '|'.join(str(stage + 1) for stage in _indices(stages, number))
        convs = '|'.join(map(str, basic)) if part['depth'] in BASIC else '2'
        found.append(dict(conv=conv2, replace=rf'layer({numbers})\.\d+\.conv({convs})'))
    part['type'] = 'mmdet.ResNeXt' if part.get('groups', 1) > 1 else 'mmdet.ResNet'
    return found


def _indices(stages: tuple | None, number: int) -> list[int]:
    if stages is None:
        return list(range(number))
    if all(isinstance(stage, bool) for stage in stages):
        return [stage for stage, wanted in enumerate(stages) if wanted]
    return list(stages)
