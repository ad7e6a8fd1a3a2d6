"""Configs as files: plain values from YAML, and the checkpoints a network starts from."""

import pytest
from mmengine.config import Config

from mmattn.core.config import forget_pretrained, read_config


def test_plain_yaml_with_a_base_is_read(tmp_path):
    (tmp_path / 'base.yaml').write_text('model: {type: A, depth: 18}\nlist: [1, 2]\n')
    (tmp_path / 'own.yml').write_text('_base_: base.yaml\nmodel: {depth: 50}\n')
    cfg = read_config(tmp_path / 'own.yml')
    assert cfg.model == dict(type='A', depth=50)
    assert cfg.list == [1, 2]


@pytest.mark.parametrize('where', ['itself', 'base of yaml', 'base of python'])
def test_a_tag_of_python_is_refused_and_never_run(tmp_path, where):
    attack = f'a: 1\nmodel: !!python/object/apply:os.mkdir ["{tmp_path}/ran"]\n'
    (tmp_path / 'bad.yaml').write_text(attack)
    (tmp_path / 'own.yaml').write_text('_base_: bad.yaml\n')
    (tmp_path / 'own.py').write_text("_base_ = 'bad.yaml'\n")
    file = {'itself': 'bad.yaml', 'base of yaml': 'own.yaml', 'base of python': 'own.py'}[where]
    with pytest.raises(
        ValueError,
        match=rf'config: .*{file} must hold plain values, got a tag in line 2 that builds',
    ):
        read_config(tmp_path / file)
    assert not (tmp_path / 'ran').exists()


@pytest.mark.parametrize(
    'name, text, match',
    [
        ('x.py', 'model = dict(', 'x.py cannot be read'),
        ('x.yaml', 'a: [1', 'x.yaml cannot be read'),
        ('x.txt', 'a', 'x.txt cannot be read: Only py/yml/yaml/json type are supported'),
        ('x.py', "_base_ = 'none.py'", 'x.py cannot be read'),
    ],
)
def test_what_is_no_config_is_named(tmp_path, name, text, match):
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=match):
        read_config(tmp_path / name)


def test_a_missing_config(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'no\.py does not exist \(looked from'):
        read_config(tmp_path / 'no.py')


def test_every_start_from_weights_is_dropped_and_every_other_rule_stays():
    kaiming = dict(type='Kaiming', layer='Conv2d')
    cfg = Config(
        dict(
            backbone=dict(init_cfg=dict(type='Pretrained', checkpoint='a.pth'), depth=50),
            neck=dict(init_cfg=kaiming),
            head=[dict(init_cfg=[kaiming, dict(type='mmengine.Pretrained', checkpoint='b.pth')])],
            old=dict(pretrained='torchvision://resnet50'),
            timm=dict(pretrained=True),
            pvt=dict(init_cfg=dict(checkpoint='c.pth')),
            own=dict(pretrained=False, checkpoint='kept.pth'),
        )
    )
    assert forget_pretrained(cfg) == ['a.pth', 'b.pth', 'torchvision://resnet50', 'True', 'c.pth']
    assert cfg.backbone == dict(init_cfg=None, depth=50)
    assert cfg.neck.init_cfg == kaiming
    assert cfg.head[0].init_cfg == [kaiming]
    assert cfg.old.pretrained is None and cfg.timm.pretrained is False
    assert cfg.own == dict(pretrained=False, checkpoint='kept.pth')
    assert forget_pretrained(cfg) == []


def test_the_name_of_a_config_that_comes_with_a_framework():
    pytest.importorskip('mmdet')
    name = 'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py'
    assert read_config(name).model.type == 'RetinaNet'
    with pytest.raises(FileNotFoundError, match=f"no config .*, did you mean '{name}'"):
        read_config(name.replace('r50_', 'r5_'))
