from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope

from mmattn.layers import CBAM, ECA, Sequence, SpatialGate
from mmattn.registry import MODELS
from mmattn.testing import randomise
from tests.reference.autoencoder import conv_autoencoder, linear_autoencoder
from tests.reference.cbam import spatial_gate
from tests.reference.eca import eca
from tests.values import check_values, image

CONFIGS = Path(__file__).parents[2] / 'configs' / 'attention_resnet'
HYBRID = [dict(type='mmattn.ECA', kernel_size=3), dict(type='mmattn.SpatialGate')]


# the report's second gates: options, reference, a map it works on
SECOND = {
    'spatial': (dict(type='mmattn.SpatialGate'), spatial_gate, (2, 5, 4, 3)),
    'conv': (dict(type='mmattn.ConvAutoencoderAttention'), conv_autoencoder, (1, 3, 8, 9)),
    'linear': (
        dict(type='mmattn.LinearAutoencoderAttention', width=4),
        lambda x, p, training: linear_autoencoder(x, p, training, 4),
        (1, 3, 2, 4),
    ),
}


def eca_first(second, training):
    """The hybrid of the report, written out: channel attention, then ``second``."""

    def reference(x, p):
        parts = [
            {k.removeprefix(f'gates.{i}.'): v for k, v in p.items() if k.startswith(f'gates.{i}.')}
            for i in range(2)
        ]
        return second(eca(x, parts[0], training), parts[1], training)

    return reference


@pytest.mark.parametrize('training', [True, False], ids=['train', 'eval'])
@pytest.mark.parametrize('kind', SECOND)
def test_values_of_the_hybrids(kind, training):
    cfg, second, shape = SECOND[kind]
    gate = Sequence(shape[1], [dict(type='mmattn.ECA', kernel_size=3), cfg])
    check_values(gate, eca_first(second, training), (image(*shape),), training)


@pytest.mark.parametrize('config, kind', [('eca-autoencoder', 'conv'), ('eca-spatial', 'spatial')])
def test_values_of_the_configs(config, kind):
    pytest.importorskip('mmdet', reason='the configs start from those of mmdet')
    cfg = Config.fromfile(CONFIGS / f'faster-rcnn_r50-{config}_fpn_1x_coco.py')
    (rule,) = cfg.model.backbone.attention
    _, second, shape = SECOND[kind]
    gate = MODELS.build(dict(rule.gate, in_channels=shape[1], init='paper'))
    check_values(gate, eca_first(second, True), (image(*shape),), True)


def test_order_matters():
    x = image(2, 5, 4, 3, grad=False).float()
    forward, backward = randomise(Sequence(5, HYBRID)), Sequence(5, HYBRID[::-1])
    backward.gates[0], backward.gates[1] = forward.gates[1], forward.gates[0]
    assert not torch.equal(forward(x), backward(x))


@pytest.mark.parametrize('scope', [None, 'mmdet'])
def test_scope_and_bare_names(scope):
    if scope:
        init_default_scope(scope)
    gates = [dict(type='SE'), dict(type='mmattn.NonLocal', norm_cfg=dict(type='BN'))]
    gate = MODELS.build(dict(type='mmattn.Sequence', in_channels=4, gates=gates))
    assert [type(g).__name__ for g in gate.gates] == ['SE', 'NonLocal']


def test_configs_are_left_alone():
    configs = [dict(type='mmattn.ECA')]
    Sequence(4, configs, init='identity')
    assert configs == [dict(type='mmattn.ECA')]


def test_identity_is_handed_on():
    gate = Sequence(4, [dict(type='ECA'), dict(type='CBAM', init='identity')], init='identity')
    assert gate.gamma is None
    assert [type(g) for g in gate.gates] == [ECA, CBAM]
    assert all(g.gamma is not None for g in gate.gates)
    x = torch.randn(2, 4, 3, 3)
    torch.testing.assert_close(gate(x), x, rtol=0, atol=0)


def test_gates_keep_their_own_init():
    gate = Sequence(4, [dict(type='ECA'), dict(type='SpatialGate', init='identity')])
    assert gate.gates[0].gamma is None
    assert gate.gates[1].gamma is not None and type(gate.gates[1]) is SpatialGate


@pytest.mark.parametrize(
    'options, error, match',
    [
        (dict(gates=[]), ValueError, 'gates must hold at least one config'),
        (dict(gates=['ECA']), TypeError, r"gates\[0\] must be a dict, got 'ECA'"),
        (dict(gates=[dict(type='ECAA')]), KeyError, "did you mean 'mmattn.ECA'"),
        (
            dict(gates=[dict(type='ECA', init='paper')], init='identity'),
            ValueError,
            r"gates\[0\] sets init='paper' in a sequence with init='identity'",
        ),
        (dict(gates=HYBRID, in_channels=0), ValueError, 'in_channels must be >= 1, got 0'),
    ],
    ids=['none', 'not a dict', 'misspelt', 'contradiction', 'no channels'],
)
def test_bad_options(options, error, match):
    with pytest.raises(error, match=match):
        Sequence(**{'in_channels': 4, **options})
