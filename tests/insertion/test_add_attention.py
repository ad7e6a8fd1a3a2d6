"""Every method in its natural place; identity is the plain network; sentences."""

import copy

import pytest
import torch

pytest.importorskip('mmdet')
pytest.importorskip('mmpretrain')

import mmattn
from mmattn.insertion.methods import METHODS
from tests.insertion.networks import CLASSIFIERS, DETECTORS, build, narrow, outputs

GATES = {'Sequence': dict(gates=[dict(type='ECA'), dict(type='SpatialGate')])}
NOT_IN = {  # a pair that cannot be -> a part of the sentence
    **{('TDConvNeXt', name): 'TDResNet' for name in ('faster_rcnn', 'retinanet', 'resnet')},
    **{('TDMobileNetV3', name): 'TDAM has twins of' for name in (*DETECTORS, *CLASSIFIERS)},
    **{('TDResNet', name): 'TDAM has twins of' for name in ('yolox', 'convnext')},
    ('TDConvNeXt', 'yolox'): 'TDAM has twins of',
    **{('LearnToPayHead', name): 'detectors take LearnToPayGate' for name in DETECTORS},
    ('AWFPN', 'resnet'): 'cannot stand in the neck',
    ('AWFPN', 'convnext'): 'has no neck',
}


@pytest.mark.parametrize('name', ['faster_rcnn', 'yolox', 'resnet'])
@pytest.mark.parametrize('method', ['CBAM', 'AWConv2d', 'TDAM', 'SSIA', 'BAM'])
def test_identity_gives_the_plain_output(name, method):
    if (name, method) == ('yolox', 'TDAM'):
        pytest.skip('no twin of CSPDarknet')
    cfg = narrow(name)
    before = copy.deepcopy(cfg)
    new = mmattn.add_attention(cfg, method, **({} if method == 'SSIA' else dict(init='identity')))
    assert cfg == before or cfg.to_dict() == before.to_dict()
    plain, attended = build(cfg), build(new, seed=1)
    missing, unexpected = attended.load_state_dict(plain.state_dict(), strict=False)
    assert not unexpected
    if method != 'SSIA':
        assert missing
    for ours, theirs in zip(outputs(attended, name), outputs(plain, name), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_every_registered_method_has_a_row():
    names = {method.name for method in METHODS}
    mmattn.register_all_modules()
    from mmattn.layers._gate import Gate
    from mmattn.registry import MODELS

    gates = {k for k, v in MODELS.module_dict.items() if issubclass(v, (Gate, torch.nn.Conv2d))}
    assert gates <= names
