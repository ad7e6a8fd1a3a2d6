import pytest
import torch
from torch import nn

from mmattn.layers import BAM
from tests.reference.bam import bam
from tests.values import check_gate, image


@pytest.mark.parametrize('training', [True, False], ids=['train', 'eval'])
@pytest.mark.parametrize('size', [(5, 7), (2, 3)], ids=['wider than a tap', 'small'])
def test_values(size, training):
    check_gate(
        lambda init: BAM(4, reduction=2, init=init),
        lambda x, p: bam(x, p, training),
        image(2, 4, *size),
        training,
    )


def test_parameters_after_three_stages_of_resnet50():
    added = sum(p.numel() for c in (256, 512, 1024) for p in BAM(c).parameters())
    assert added == 358_067  # printed as 0.36 M


def test_refuses_to_train_on_one_image():
    gate = BAM(4, reduction=2)
    x = image(1, 4, 3, 3, grad=False).float()
    with pytest.raises(ValueError, match='BAM cannot train on one image'):
        gate(x)
    assert gate.eval()(x).shape == x.shape
    gate.train()
    for module in gate.modules():  # as a host's norm_eval does
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    assert torch.isfinite(gate(x)).all()


def test_bad_options():
    with pytest.raises(ValueError, match='reduction must be >= 1, got 0'):
        BAM(4, reduction=0)
