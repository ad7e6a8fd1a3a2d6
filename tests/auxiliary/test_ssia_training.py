"""SSIA under mmengine's runner: checkpoints, resuming, averaged weights, several processes."""

import copy
import os
import socket

import pytest
import torch
import torch.multiprocessing
from mmengine.config import Config
from mmengine.model import MMDistributedDataParallel
from mmengine.registry import MODELS
from mmengine.runner import Runner
from torch.utils.data import Dataset

from .models import OPTIONS, TOY, batch, build


class Images(Dataset):
    metainfo = dict(classes=list('abcde'))

    def __init__(self):
        self.inputs, self.labels = batch(8)

    def __len__(self):
        return 8

    def __getitem__(self, index):
        return dict(inputs=self.inputs[index], data_samples=self.labels[index])


def train(work_dir, steps, resume=False, hooks=(), model=None, name='a'):
    cfg = dict(
        model=copy.deepcopy(model or dict(OPTIONS, model=TOY)),
        work_dir=str(work_dir),
        train_dataloader=dict(
            batch_size=4,
            num_workers=0,
            dataset=Images(),
            collate_fn=dict(type='default_collate'),
            sampler=dict(type='DefaultSampler', shuffle=False),
        ),
        train_cfg=dict(by_epoch=True, max_epochs=steps),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.05, momentum=0.9)),
        default_hooks=dict(checkpoint=dict(type='CheckpointHook', interval=1)),
        custom_hooks=[dict(type='mmattn.SSIAHook'), *hooks],
        resume=resume,
        randomness=dict(seed=0),
        default_scope='mmengine',
        experiment_name=f'{work_dir.name}_{name}',
    )
    runner = Runner(**cfg, cfg=Config())
    runner.train()
    return runner


@pytest.fixture(autouse=True)
def _no_compiler_versions(monkeypatch):
    monkeypatch.setattr('mmengine.runner.runner.collect_env', dict)


EMA = dict(type='EMAHook', momentum=0.3)


@pytest.mark.parametrize('hooks', [(), (EMA,)], ids=['plain', 'ema'])
def test_a_resumed_training_is_the_uninterrupted_one(tmp_path, hooks):
    whole = train(tmp_path / 'whole', 4, hooks=hooks).model
    train(tmp_path / 'parts', 2, hooks=hooks)
    again = train(tmp_path / 'parts', 4, resume=True, hooks=hooks, name='b')
    for name, p in whole.named_parameters():
        assert torch.equal(p, dict(again.model.named_parameters())[name]), name
    assert int(again.model.ssia.iteration) == 8
    ours = torch.load(tmp_path / 'whole' / 'epoch_4.pth', weights_only=False)
    theirs = torch.load(tmp_path / 'parts' / 'epoch_4.pth', weights_only=False)
    for part in ('state_dict', 'ssia', *(['ema_state_dict'] if hooks else [])):
        assert list(ours[part]) == list(theirs[part])
        for key, value in ours[part].items():
            assert torch.equal(value, theirs[part][key]), (part, key)


@pytest.mark.parametrize('hooks', [(), (EMA,)], ids=['plain', 'ema'])
def test_the_checkpoint_is_the_plain_models(tmp_path, hooks):
    model = train(tmp_path, 1, hooks=hooks).model.eval()
    saved = torch.load(tmp_path / 'epoch_1.pth', weights_only=False)
    plain = MODELS.build(TOY).eval()
    plain.load_state_dict(saved['state_dict'], strict=True)
    assert not [key for key in saved.get('ema_state_dict', ()) if 'ssia' in key]
    assert set(saved['ssia']) == set(model.ssia.state_dict())
    inputs, labels = batch()
    same = torch.equal(plain(inputs, mode='tensor'), model(inputs, labels, mode='tensor'))
    assert same == (not hooks)  # with EMA the saved weights are the averaged ones


def test_other_predictors_start_anew(tmp_path, caplog):
    train(tmp_path, 1)
    saved = torch.load(tmp_path / 'epoch_1.pth', weights_only=False)
    hook = train(tmp_path / 'other', 1, model=dict(OPTIONS, model=TOY, hidden=8))._hooks
    (hook,) = [h for h in hook if type(h).__name__ == 'SSIAHook']

    class Run:
        model, _ = build(hidden=8)

    before = copy.deepcopy(Run.model.ssia.state_dict())
    for checkpoint in (saved, {}):
        hook.after_load_checkpoint(Run, checkpoint)
        after = Run.model.ssia.state_dict()
        assert all(torch.equal(value, after[key]) for key, value in before.items())
    Run.model, _ = build(seed=5)
    hook.after_load_checkpoint(Run, saved)
    after = Run.model.ssia.state_dict()
    assert all(torch.equal(value, after[key]) for key, value in saved['ssia'].items())


def test_the_hook_needs_the_wrapper(tmp_path):
    with pytest.raises(ValueError, match="SSIAHook needs a model of type 'mmattn.SSIA', got ToyC"):
        train(tmp_path, 1, model=TOY)


def _process(rank, port, folder):
    os.environ.update(MASTER_ADDR='127.0.0.1', MASTER_PORT=str(port))
    torch.distributed.init_process_group('gloo', rank=rank, world_size=2)
    model, _ = build(warmup=1)
    parallel = MMDistributedDataParallel(model, broadcast_buffers=False)
    optim = torch.optim.SGD(parallel.parameters(), lr=0.1)
    for _ in range(3):  # a parameter without a gradient would stop the second step
        inputs, labels = batch(4, seed=rank)
        optim.zero_grad()
        sum(parallel(inputs, labels, mode='loss').values()).backward()
        optim.step()
        assert len(parallel(inputs, labels, mode='predict')) == 4
    torch.save([p.detach() for p in parallel.parameters()], f'{folder}/{rank}.pth')
    torch.distributed.destroy_process_group()


def test_two_processes_over_gloo(tmp_path):
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        port = s.getsockname()[1]
    # new processes: a copy of one whose threads have run may wait for them for ever
    torch.multiprocessing.spawn(_process, (port, str(tmp_path)), nprocs=2)
    first, second = (torch.load(tmp_path / f'{rank}.pth') for rank in (0, 1))
    start, _ = build()
    for (name, value), one, other in zip(start.named_parameters(), first, second):
        assert torch.equal(one, other), name
        if 'ssia' not in name or 'weight' in name:
            assert not torch.equal(one, value), name
