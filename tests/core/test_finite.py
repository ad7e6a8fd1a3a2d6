"""The sentence that ends a training whose loss is no number."""

from pathlib import Path

import pytest
import torch

from mmattn.core.finite import InvalidLossHook
from tests.core.toy import make_runner


def test_the_step_the_terms_and_the_layer_are_named_and_the_weights_stay(tmp_path):
    runner = make_runner(tmp_path, [InvalidLossHook()], bad_from=3)
    with pytest.raises(
        FloatingPointError,
        match=r'^loss_fit is (infinite|NaN), loss_size is (infinite|NaN) at step 4 \(epoch 1\); '
        r'the first bad layer is bad \(Bad\): it gives NaN or infinity for finite input; '
        r'\S+iter_3\.pth stays as it is; lower the learning rate',
    ):
        runner.train()
    assert all(torch.isfinite(p).all() for p in runner.model.parameters())
    assert sorted(path.name for path in Path(tmp_path).glob('*.pth')) == [
        *('iter_1.pth', 'iter_2.pth', 'iter_3.pth'),
    ]


def test_a_broken_weight_is_named(tmp_path):
    runner = make_runner(tmp_path, [InvalidLossHook()])
    runner.model.last.weight.data.fill_(float('inf'))
    with pytest.raises(
        FloatingPointError,
        match=r'the first bad layer is last: its last\.weight is no number; no checkpoint was '
        'saved',
    ):
        runner.train()


def test_a_bad_batch_is_named(tmp_path):
    runner = make_runner(tmp_path, [InvalidLossHook()])
    runner.train_dataloader.dataset.__class__ = type(
        'Nan', (type(runner.train_dataloader.dataset),), {'__getitem__': lambda *_: NAN}
    )
    with pytest.raises(FloatingPointError, match='the batch itself holds NaN or infinity'):
        runner.train()


NAN = {'x': torch.tensor([float('nan')])}


def test_a_loss_that_is_bad_by_itself_is_told_apart(tmp_path, monkeypatch):
    runner = make_runner(tmp_path, [InvalidLossHook()])
    forward = type(runner.model).forward

    def log_of_zero(self, x, mode='tensor'):
        losses = forward(self, x, mode)
        return {**losses, 'loss_log': torch.log(losses['loss_fit'] * 0)}

    monkeypatch.setattr(type(runner.model), 'forward', log_of_zero)
    with pytest.raises(
        FloatingPointError,
        match=r'^loss_log is infinite at step 1 .*every layer gives finite values, so the loss',
    ):
        runner.train()


def test_a_good_training_ends_without_a_hook_left(tmp_path):
    runner = make_runner(tmp_path, [InvalidLossHook()], steps=2)
    runner.train()
    assert not runner.model._forward_hooks
