"""Sentences for mistakes that a host answers with a name of its own, or none."""

import pytest
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.runner import Runner

from mmattn.cli.command_line import start_processes
from mmattn.cli.failures import explain


@pytest.mark.parametrize(
    'cfg, wrong, meant',
    [
        (dict(type='AWFPN'), 'AWFPN', 'AWFPN'),
        (dict(type='mmatn.SE'), 'SE', 'SE'),
        (dict(type='mmattn.AWFPN', gate_cfg=dict(type='CBAM')), 'CBAM', 'CBAM'),
    ],
    ids=['no scope', 'misspelt scope', 'inside'],
)
def test_a_name_without_its_scope(cfg, wrong, meant):
    cfg = dict(cfg, in_channels=[8], out_channels=8, num_outs=1)
    with pytest.raises((KeyError, RuntimeError)) as caught:
        MODELS.build(cfg)
    sentence = explain(caught.value, Config(dict(model=dict(neck=cfg))))
    assert sentence == f"type '{wrong}' is not known to the host: did you mean 'mmattn.{meant}'?"


@pytest.mark.parametrize(
    'cfg, sentence',
    [
        (
            dict(type='FPN', conv_cfg=dict(type='mmattn.AWConv2d', reducton=4)),
            "AWConv2d has no argument 'reducton', did you mean 'reduction'?",
        ),
        (
            dict(type='mmattn.Attend', wrapped='FPN', attenton=[]),
            "FPN has no argument 'attenton'; it has in_channels, out_channels, num_outs, ",
        ),
        (
            dict(type='FPN', zzz=1),
            "the config gives FPN an argument it does not have: 'zzz'",
        ),
    ],
    ids=['inside conv_cfg', 'handed on', 'like none'],
)
def test_a_misspelt_option(cfg, sentence):
    cfg = dict(cfg, in_channels=[8], out_channels=8, num_outs=1)
    with pytest.raises(TypeError) as caught:
        MODELS.build(cfg)
    assert explain(caught.value, Config(dict(model=dict(neck=cfg)))).startswith(sentence)


def test_a_misspelt_seed():
    with pytest.raises(TypeError) as caught:
        Runner.set_randomness(None, sed=0)
    said = explain(caught.value)
    assert said == "randomness of the config has no key 'sed', did you mean 'seed'?"


def test_a_name_of_nobody_is_left_to_the_host():
    assert explain(KeyError('Zzz is not in the mmdet::model registry.')) is None


def test_sync_bn_on_cpus(monkeypatch):
    monkeypatch.setattr('mmengine.device.get_device', lambda: 'cpu')
    neck = dict(type='mmattn.AWFPN', conv_cfg=dict(type='mmattn.AWConv2d', norm='SyncBN'))
    with pytest.raises(ValueError, match="norm='SyncBN' .* needs a GPU in every process"):
        start_processes(Config(dict(launcher='pytorch', model=dict(neck=neck), env_cfg=dict())))
