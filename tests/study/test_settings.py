"""Schedules shortened, configs compared."""

import pytest
from mmengine.config import Config

from mmattn.study.settings import (
    canonical,
    differences,
    schedule,
    shorten_schedule,
    write_config,
)


def config(**changes):
    base = dict(
        model=dict(type='Net', depth=18),
        train_cfg=dict(by_epoch=True, max_epochs=12, val_interval=4),
        param_scheduler=[
            dict(type='LinearLR', begin=0, end=500, by_epoch=False),
            dict(type='MultiStepLR', begin=0, end=12, by_epoch=True, milestones=[8, 11]),
        ],
        train_dataloader=dict(
            batch_size=4,
            num_workers=2,
            dataset=dict(data_root='a/b', ann_file='a/b/x.json', indices=list(range(60))),
        ),
    )
    return Config({**base, **changes})


def test_a_shorter_schedule_keeps_its_shape():
    cfg = config()
    shorten_schedule(cfg, epochs=3)
    assert schedule(cfg) == ('epochs', 3)
    assert cfg.train_cfg.val_interval == 1
    assert cfg.param_scheduler[0].end == 500  # a warm-up in iterations
    assert cfg.param_scheduler[1].milestones == [2, 3]
    assert cfg.param_scheduler[1].end == 3


def test_iterations_and_a_cosine():
    cfg = config(
        train_cfg=dict(type='IterBasedTrainLoop', max_iters=1000),
        param_scheduler=[
            dict(type='LinearLR', begin=0, end=50, by_epoch=False),
            dict(type='CosineAnnealingLR', begin=50, end=1000, T_max=950, by_epoch=False),
        ],
    )
    shorten_schedule(cfg, iters=100)
    assert schedule(cfg) == ('iters', 100)
    assert cfg.param_scheduler[0].end == 50  # a warm-up
    assert (cfg.param_scheduler[1].T_max, cfg.param_scheduler[1].end) == (95, 100)


@pytest.mark.parametrize(
    'given, message',
    [
        (dict(epochs=1, iters=1), 'exclude each other'),
        (dict(iters=5), r'this config trains by epochs \(12\); use --epochs'),
        (dict(epochs=0), '--epochs must be >= 1, got 0'),
    ],
)
def test_wrong_lengths(given, message):
    with pytest.raises(ValueError, match=message):
        shorten_schedule(config(), **given)


def test_folders_and_machines_are_no_difference():
    one = config(work_dir='here', launcher='none')
    other = config(work_dir='there', launcher='pytorch', default_hooks=dict(a=1))
    other.train_dataloader.num_workers = 0
    other.train_dataloader.dataset.data_root = '/elsewhere/'
    other.train_dataloader.dataset.ann_file = '/elsewhere/x.json'
    assert differences(canonical(one), canonical(other)) == {}


def test_what_a_result_depends_on_is_a_difference():
    other = config()
    other.model.depth = 34
    other.train_dataloader.batch_size = 8
    other.train_dataloader.dataset.indices = list(range(1, 61))
    changed = differences(canonical(config()), canonical(other))
    assert changed['model.depth'] == (18, 34)
    assert changed['train_dataloader.batch_size'] == (4, 8)
    assert len(changed) == 3


def test_a_checkpoint_is_its_content(tmp_path):
    for name, content in (('a.pth', b'1'), ('b.pth', b'1'), ('c.pth', b'2')):
        (tmp_path / name).write_bytes(content)
    a, b, c = (canonical(config(load_from=str(tmp_path / f'{n}.pth'))) for n in 'abc')
    assert differences(a, b) == {}
    assert list(differences(a, c)) == ['load_from']


def test_a_written_config_is_the_config(tmp_path):
    cfg = config(lr=1e-3, scale=(3, 4), classes=('a', 'b'), nothing=None)
    write_config(cfg, tmp_path / 'config.py')
    assert Config.fromfile(tmp_path / 'config.py').to_dict() == cfg.to_dict()
