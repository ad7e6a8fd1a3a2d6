"""Every classification config trains: a step of the model, two steps of tools/train.py."""

from pathlib import Path

import pytest
import torch
from mmengine.registry import MODELS

pytest.importorskip('mmpretrain', reason='classifiers')

from mmattn.core.checkpoint import load_checkpoint
from tests.commands import run_command
from tests.narrow_classifiers import PATHS, input_size, read_narrow, samples, use_tiny_data


def name(path):
    return f'{path.parent.name}/{path.stem}'


@pytest.mark.parametrize('path', PATHS, ids=name)
def test_trains_a_step(path):
    cfg = read_narrow(path)
    model = MODELS.build(cfg.model)
    model.init_weights()
    model.train()
    size = input_size(cfg)
    losses = model(torch.randn(2, 3, size, size), samples(cfg), mode='loss')
    total = sum(loss for key, loss in losses.items() if 'loss' in key)
    total.backward()
    assert total.isfinite()
    idle = [key for key, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert [key for key in idle if not key.startswith('backbone.stage3')] == []
    assert bool(idle) == ('idle-stage' in path.stem)  # published like this


@pytest.mark.slow
@pytest.mark.parametrize('path', PATHS, ids=name)
def test_two_steps_of_a_run(path, tmp_path, monkeypatch):
    cfg = read_narrow(path)
    use_tiny_data(tmp_path / 'data', cfg)
    if 'max_iters' in cfg.train_cfg:
        cfg.train_cfg.update(max_iters=2, val_interval=2)
        cfg.default_hooks.checkpoint.interval = 2
    else:
        whole, cfg.train_cfg.max_epochs = cfg.train_cfg.max_epochs, 1
        schedulers = cfg.get('param_scheduler') or []
        for scheduler in schedulers if isinstance(schedulers, list) else [schedulers]:
            if scheduler.get('by_epoch', True):
                scheduler.setdefault('end', whole)  # else the one epoch, before a later begin
    cfg.optim_wrapper.pop('loss_scale', None)
    cfg.optim_wrapper.type = 'OptimWrapper'
    cfg.work_dir = str(tmp_path / 'run')
    cfg.dump(tmp_path / 'config.py')
    monkeypatch.chdir(tmp_path)
    assert run_command('train.py', tmp_path / 'config.py') == 0
    (saved,) = Path(tmp_path, 'run').glob('[ei]*_[12].pth')  # no best_*
    assert load_checkpoint(saved)['meta']['iter'] == 2
