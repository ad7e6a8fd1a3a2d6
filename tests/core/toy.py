"""The smallest training that mmengine's runner runs: a linear layer on numbers."""

import sys

import torch
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import nn


class Toy(BaseModel):
    """Gives two losses; the layer ``bad`` turns a 7 in the input into infinity."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(1, 2)
        self.bad = Bad()
        self.last = nn.Linear(2, 1)

    def forward(self, x, mode='tensor'):
        out = self.last(self.bad(self.first(x), x))
        if mode == 'loss':
            return {'loss_fit': (out - x).square().mean(), 'loss_size': [out.mean() * 0.1]}
        return out


class Bad(nn.Module):
    def forward(self, out, x):
        return out / (x != 7)


class Numbers(torch.utils.data.Dataset):
    def __init__(self, bad_from=None):
        self.bad_from = bad_from

    def __len__(self):
        return 6

    def __getitem__(self, index):
        bad = self.bad_from is not None and index >= self.bad_from
        return {'x': torch.tensor([7.0 if bad else index / 6])}


def make_runner(work_dir, hooks=(), keep=-1, steps=6, bad_from=None, interval=1, **options):
    """A training of one step for each number, in their order."""
    import mmengine.runner.runner as module

    module.collect_env = lambda: {'sys.platform': sys.platform}  # seconds of compilers' versions
    torch.manual_seed(0)
    return Runner(
        Toy(),
        str(work_dir),
        train_dataloader=dict(
            dataset=Numbers(bad_from),
            batch_size=1,
            num_workers=0,
            collate_fn=dict(type='default_collate'),
            sampler=dict(type='DefaultSampler', shuffle=False),
        ),
        train_cfg=dict(by_epoch=False, max_iters=steps),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.01)),
        default_hooks=dict(
            checkpoint=dict(
                type='CheckpointHook', interval=interval, by_epoch=False, max_keep_ckpts=keep
            )
        ),
        custom_hooks=list(hooks),
        experiment_name=f'toy_{id(hooks)}_{work_dir}'.replace('/', '_'),
        **options,
    )
