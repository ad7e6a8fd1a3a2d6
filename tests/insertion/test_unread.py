"""Gates on maps that no neck reads are named before the training."""

import pytest

pytest.importorskip('mmdet')

from mmattn.cli.training import check_gates
from mmattn.insertion import add_attention, unread_gates
from tests.insertion.networks import narrow

SE = dict(type='mmattn.SE')


def config(*rules):
    cfg = narrow('retinanet')  # its neck has start_level=1
    cfg.model.backbone.update(type='mmattn.Attend', wrapped='ResNet', attention=list(rules))
    return cfg


@pytest.mark.parametrize(
    'rule, unread',
    [
        (dict(gate=SE), '(0,)'),
        (dict(gate=SE, levels=(0, 3)), '(0,)'),
        (dict(gate=SE, levels=(1, 2, 3)), None),
        (dict(gate=SE, after='layer1'), None),
    ],
    ids=['no levels', 'one too low', 'those that are read', 'seen by the next stage'],
)
def test_maps_that_the_neck_does_not_read(rule, unread):
    found = unread_gates(config(rule))
    assert bool(found) == (unread is not None)
    if found:
        assert f'mmattn.SE stands on the output maps {unread}, which the neck does' in found[0]
        assert 'set levels=(1, 2, 3)' in found[0]


def test_what_the_call_adds_is_read():
    for cfg in (narrow('retinanet'), config()):
        assert unread_gates(add_attention(cfg, 'SE', position='outputs')) == []


def test_a_classifier_without_a_neck_reads_its_last_map():
    pytest.importorskip('mmpretrain')
    assert unread_gates(narrow('resnet')) == []


def test_several_processes_do_not_start(capsys):
    cfg = config(dict(gate=SE))
    check_gates(cfg)
    assert 'note: model.backbone: mmattn.SE stands on' in capsys.readouterr().err
    cfg.launcher = 'pytorch'
    with pytest.raises(ValueError, match='distributed training would stop'):
        check_gates(cfg)
    cfg.find_unused_parameters = True
    check_gates(cfg)
