"""The ResNets of CBAM's and BAM's authors from their state dicts: shapes, names and arithmetic.

Written from their public code (``MODELS/model_resnet.py``, ``cbam.py``, ``bam.py``). A state dict
is generated, since none of their files may be had here.
"""

import torch
import torch.nn.functional as F

BLOCKS = {18: (2, 2, 2, 2), 50: (3, 4, 6, 3)}


class _State(dict):
    def __init__(self, generator):
        super().__init__()
        self.generator = generator

    def weights(self, name, *shape, bias=False):
        fan_in = torch.tensor(shape[1:]).prod().item()
        self[f'{name}.weight'] = torch.randn(*shape, generator=self.generator) / fan_in**0.5
        if bias:
            self[f'{name}.bias'] = 0.3 * torch.randn(shape[0], generator=self.generator)

    def norm(self, name, width):
        self[f'{name}.weight'] = 0.5 + torch.rand(width, generator=self.generator)
        self[f'{name}.bias'] = 0.2 * torch.randn(width, generator=self.generator)
        self[f'{name}.running_mean'] = 0.2 * torch.randn(width, generator=self.generator)
        self[f'{name}.running_var'] = 0.5 + torch.rand(width, generator=self.generator)
        self[f'{name}.num_batches_tracked'] = torch.tensor(7)


def authors_state(depth, kind, seed=0, classes=10):
    """A state dict as their training saves it (``module.`` in front); ``kind``: CBAM or BAM."""
    state = _State(torch.Generator().manual_seed(seed))
    expansion = 4 if depth >= 50 else 1
    state.weights('conv1', 64, 3, 7, 7)
    state.norm('bn1', 64)
    if kind == 'BAM':
        for stage in (1, 2, 3):
            _bam_state(state, f'bam{stage}', 32 * 2**stage * expansion)
    inplanes = 64
    for stage, count in enumerate(BLOCKS[depth], 1):
        planes = 32 * 2**stage
        out = planes * expansion
        for index in range(count):
            name = f'layer{stage}.{index}'
            shapes = [(planes, inplanes, 1), (planes, planes, 3), (out, planes, 1)]
            if expansion == 1:
                shapes = [(planes, inplanes, 3), (planes, planes, 3)]
            for k, (width, before, kernel) in enumerate(shapes, 1):
                state.weights(f'{name}.conv{k}', width, before, kernel, kernel)
                state.norm(f'{name}.bn{k}', width)
            if index == 0 and (stage > 1 or inplanes != out):
                state.weights(f'{name}.downsample.0', out, inplanes, 1, 1)
                state.norm(f'{name}.downsample.1', out)
            if kind == 'CBAM':
                mlp = f'{name}.cbam.ChannelGate.mlp'
                state.weights(f'{mlp}.1', out // 16, out, bias=True)
                state.weights(f'{mlp}.3', out, out // 16, bias=True)
                state.weights(f'{name}.cbam.SpatialGate.spatial.conv', 1, 2, 7, 7)
                state.norm(f'{name}.cbam.SpatialGate.spatial.bn', 1)
            inplanes = out
    state.weights('fc', classes, inplanes, bias=True)
    return {f'module.{key}': value for key, value in state.items()}


def _bam_state(state, name, width):
    hidden = width // 16
    channel, spatial = f'{name}.channel_att.gate_c', f'{name}.spatial_att.gate_s'
    state.weights(f'{channel}.gate_c_fc_0', hidden, width, bias=True)
    state.norm(f'{channel}.gate_c_bn_1', hidden)
    state.weights(f'{channel}.gate_c_fc_final', width, hidden, bias=True)
    state.weights(f'{spatial}.gate_s_conv_reduce0', hidden, width, 1, 1, bias=True)
    state.norm(f'{spatial}.gate_s_bn_reduce0', hidden)
    for k in (0, 1):
        state.weights(f'{spatial}.gate_s_conv_di_{k}', hidden, hidden, 3, 3, bias=True)
        state.norm(f'{spatial}.gate_s_bn_di_{k}', hidden)
    state.weights(f'{spatial}.gate_s_conv_final', 1, hidden, 1, 1, bias=True)


def authors_maps(state, x):
    """The maps after the four stages, in evaluation."""
    state = {key.removeprefix('module.'): value.to(x.dtype) for key, value in state.items()}
    x = F.relu(_norm(state, 'bn1', F.conv2d(x, state['conv1.weight'], stride=2, padding=3)))
    x = F.max_pool2d(x, 3, 2, 1)
    maps = []
    for stage in (1, 2, 3, 4):
        index = 0
        while f'layer{stage}.{index}.conv1.weight' in state:
            stride = 2 if stage > 1 and index == 0 else 1
            x = _block(state, f'layer{stage}.{index}', x, stride)
            index += 1
        if f'bam{stage}.channel_att.gate_c.gate_c_fc_0.weight' in state:
            x = _bam(state, f'bam{stage}', x)
        maps.append(x)
    return maps


def _block(state, name, x, stride):
    out = x
    convs = [k for k in (1, 2, 3) if f'{name}.conv{k}.weight' in state]
    strided = 2 if len(convs) == 3 else 1  # the 3x3 of a bottleneck, the first of a basic block
    for k in convs:
        weight = state[f'{name}.conv{k}.weight']
        step = stride if k == strided else 1
        out = F.conv2d(out, weight, stride=step, padding=weight.shape[-1] // 2)
        out = _norm(state, f'{name}.bn{k}', out)
        if k < convs[-1]:
            out = F.relu(out)
    if f'{name}.downsample.0.weight' in state:
        x = F.conv2d(x, state[f'{name}.downsample.0.weight'], stride=stride)
        x = _norm(state, f'{name}.downsample.1', x)
    if f'{name}.cbam.ChannelGate.mlp.1.weight' in state:
        out = _cbam(state, f'{name}.cbam', out)
    return F.relu(out + x)


def _cbam(state, name, x):
    def mlp(pooled):
        hidden = F.relu(_linear(state, f'{name}.ChannelGate.mlp.1', pooled.flatten(1)))
        return _linear(state, f'{name}.ChannelGate.mlp.3', hidden)

    size = x.shape[2:]
    logits = mlp(F.avg_pool2d(x, size)) + mlp(F.max_pool2d(x, size))
    x = x * torch.sigmoid(logits)[:, :, None, None]
    both = torch.stack((x.max(1)[0], x.mean(1)), 1)
    spatial = f'{name}.SpatialGate.spatial'
    logits = F.conv2d(both, state[f'{spatial}.conv.weight'], padding=3)
    return x * torch.sigmoid(_norm(state, f'{spatial}.bn', logits))


def _bam(state, name, x):
    channel, spatial = f'{name}.channel_att.gate_c.gate_c', f'{name}.spatial_att.gate_s.gate_s'
    pooled = F.avg_pool2d(x, x.shape[2], stride=x.shape[2]).flatten(1)  # square maps only
    hidden = F.relu(_norm(state, f'{channel}_bn_1', _linear(state, f'{channel}_fc_0', pooled)))
    by_channel = _linear(state, f'{channel}_fc_final', hidden)[:, :, None, None]
    out = _conv(state, f'{spatial}_conv_reduce0', x)
    out = F.relu(_norm(state, f'{spatial}_bn_reduce0', out))
    for k in (0, 1):
        out = _conv(state, f'{spatial}_conv_di_{k}', out, padding=4, dilation=4)
        out = F.relu(_norm(state, f'{spatial}_bn_di_{k}', out))
    by_place = _conv(state, f'{spatial}_conv_final', out)
    return x * (1 + torch.sigmoid(by_channel * by_place))


def _linear(state, name, x):
    return F.linear(x, state[f'{name}.weight'], state[f'{name}.bias'])


def _conv(state, name, x, **options):
    return F.conv2d(x, state[f'{name}.weight'], state[f'{name}.bias'], **options)


def _norm(state, name, x):
    parts = (state[f'{name}.{part}'] for part in ('running_mean', 'running_var', 'weight', 'bias'))
    return F.batch_norm(x, *parts)
