"""A run that is killed, or that finds the disk full, keeps a checkpoint and resumes from it."""

import errno
import os
import shutil
from pathlib import Path

import pytest
import torch
from mmengine.hooks import CheckpointHook

from mmattn.core.checkpoint import SafeCheckpointHook, load_checkpoint, newest_checkpoint, saving
from mmattn.core.checkpoint.saving import WholeFileBackend
from tests.core.checkpoint.kills import fill, kill
from tests.core.toy import make_runner


class Killed(BaseException):
    """Stands for a kill: nothing in the program catches it."""


def files(folder):
    return sorted(path.name for path in Path(folder).glob('*.pth*'))


@pytest.mark.parametrize('moment', ['writing', 'renaming'])
def test_a_kill_at_the_second_checkpoint_leaves_the_first(tmp_path, monkeypatch, moment):
    calls = []

    def kill(original):
        def called(*args, **kwargs):
            calls.append(args)
            if len(calls) == 2:
                raise Killed
            return original(*args, **kwargs)

        return called

    name = 'fsync' if moment == 'writing' else 'replace'
    monkeypatch.setattr(saving.os, name, kill(getattr(os, name)))
    with pytest.raises(Killed):
        make_runner(tmp_path, [SafeCheckpointHook()], keep=1).train()
    assert files(tmp_path) == ['iter_1.pth']
    assert newest_checkpoint(tmp_path) == str(tmp_path / 'iter_1.pth')


def test_mmengine_alone_loses_both(tmp_path, monkeypatch):
    """What the hook is for; should this fail one day, the hook has lost its purpose."""
    put = saving.LocalBackend.put

    def kill(self, content, path):
        if '2' in Path(path).name:
            Path(path).write_bytes(content[:100])
            raise Killed
        put(self, content, path)

    monkeypatch.setattr(saving.LocalBackend, 'put', kill)
    with pytest.raises(Killed):
        make_runner(tmp_path, keep=1).train()
    assert newest_checkpoint(tmp_path, say=False) is None


def test_old_checkpoints_go_after_the_new_one_is_there(tmp_path, monkeypatch):
    removed = []
    remove = saving.LocalBackend.remove

    def note(self, path):
        removed.append((Path(path).name, files(tmp_path)))
        remove(self, path)

    monkeypatch.setattr(saving.LocalBackend, 'remove', note)
    runner = make_runner(tmp_path, [SafeCheckpointHook()], keep=2, steps=4)
    runner.train()
    assert removed == [
        ('iter_1.pth', ['iter_1.pth', 'iter_2.pth', 'iter_3.pth']),
        ('iter_2.pth', ['iter_2.pth', 'iter_3.pth', 'iter_4.pth']),
    ]
    assert files(tmp_path) == ['iter_3.pth', 'iter_4.pth']
    hook = next(hook for hook in runner.hooks if isinstance(hook, CheckpointHook))
    assert hook.file_backend.__class__ is WholeFileBackend


def test_a_run_goes_on_from_what_a_kill_left(tmp_path):
    make_runner(tmp_path / 'whole', steps=4).train()
    make_runner(tmp_path / 'run', steps=2).train()
    last = tmp_path / 'run' / 'iter_3.pth.x.unfinished'
    last.write_bytes(b'torn')
    start = newest_checkpoint(tmp_path / 'run')
    runner = make_runner(
        tmp_path / 'run', [SafeCheckpointHook()], steps=4, load_from=start, resume=True
    )
    runner.train()
    assert not last.exists()
    whole = load_checkpoint(tmp_path / 'whole' / 'iter_4.pth')
    found = load_checkpoint(tmp_path / 'run' / 'iter_4.pth')
    assert found['meta']['iter'] == 4
    assert whole['meta']['iter'] == 4


def test_a_full_disk_leaves_the_old_file_and_no_rest(tmp_path, monkeypatch):
    target = tmp_path / 'x.pth'
    WholeFileBackend().put(b'old', target)

    def full(handle):
        raise OSError(errno.ENOSPC, 'No space left on device')

    monkeypatch.setattr(saving.os, 'fsync', full)
    with pytest.raises(OSError, match=r'No space left on device: .*x\.pth'):
        WholeFileBackend().put(b'new', target)
    assert target.read_bytes() == b'old'
    assert os.listdir(tmp_path) == ['x.pth']


@pytest.mark.parametrize('mask, mode', [(0o022, 0o644), (0o077, 0o600)])
def test_files_get_the_usual_rights(tmp_path, mask, mode):
    before = os.umask(mask)
    try:
        WholeFileBackend().put(b'x', tmp_path / 'x.pth')
    finally:
        os.umask(before)
    assert (tmp_path / 'x.pth').stat().st_mode & 0o777 == mode


def test_weights_that_are_no_numbers_are_not_saved(tmp_path):
    runner = make_runner(tmp_path, [SafeCheckpointHook(), Spoil(after=2)], keep=1)
    with pytest.raises(
        FloatingPointError,
        match=r'the weights hold NaN or infinity at step 2 .*2 tensors: '
        r'first\.weight, first\.bias; they are not saved; \S+iter_1\.pth stays as it is; '
        r'lower the learning rate',
    ):
        runner.train()
    assert files(tmp_path) == ['iter_1.pth']


class Spoil(SafeCheckpointHook):
    """Puts NaN into the first layer after some steps; the loss sees it one step later."""

    priority = 'NORMAL'

    def __init__(self, after):
        self.after = after

    def before_train(self, runner):
        pass

    def after_train_iter(self, runner, *args, **kwargs):
        if runner.iter + 1 == self.after:
            for parameter in runner.model.first.parameters():
                parameter.data.fill_(float('nan'))


# --------------------------------------------------------------------------- which one is newest


def save(path, whole=True, time=None, optimizer=True):
    content = {'state_dict': {'a': torch.ones(9)}, 'meta': {'iter': 1}}
    if optimizer:
        content['optimizer'] = {}
    torch.save(content, path)
    if not whole:
        path.write_bytes(path.read_bytes()[:300])
    if time is not None:
        os.utime(path, (time, time))


@pytest.mark.parametrize(
    'there, last, expected',
    [
        ({'iter_2': {}, 'iter_10': {}}, None, 'iter_10'),
        ({'iter_2': {}, 'iter_10': dict(whole=False)}, 'iter_10.pth', 'iter_2'),
        ({'iter_2': dict(time=1), 'iter_4': dict(time=2)}, 'iter_2.pth', 'iter_4'),
        ({'iter_2': dict(time=2), 'iter_12': dict(time=1)}, 'iter_2.pth', 'iter_2'),
        ({'iter_2': {}}, '/elsewhere/iter_2.pth', 'iter_2'),
        ({'iter_2': {}}, 'C:\\runs\\iter_2.pth', 'iter_2'),
        ({'iter_2': {}}, '', 'iter_2'),
        ({'epoch_1': {}, 'best_coco_bbox_mAP_epoch_3': {}}, None, 'epoch_1'),
        ({'epoch_1': {}, 'epoch_2': dict(optimizer=False)}, None, 'epoch_1'),
        ({'iter_2': dict(whole=False)}, 'iter_2.pth', None),
        ({}, 'iter_2.pth', None),
    ],
    ids=[
        *('by number', 'torn one skipped', 'later than last_checkpoint', 'longer run before'),
        *('copied', 'copied from Windows', 'empty last_checkpoint', 'best one left out'),
        *('weights alone', 'none whole', 'none'),
    ],
)
def test_the_newest_whole_checkpoint_is_found(tmp_path, there, last, expected):
    for name, how in there.items():
        save(tmp_path / f'{name}.pth', **how)
    if last is not None:
        (tmp_path / 'last_checkpoint').write_text(last)
    found = newest_checkpoint(tmp_path)
    assert found == (expected and str(tmp_path / f'{expected}.pth'))


def test_a_skipped_checkpoint_is_said(tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr(saving, 'print_log', lambda text, **_: said.append(text))
    save(tmp_path / 'iter_1.pth')
    save(tmp_path / 'iter_2.pth', whole=False)
    newest_checkpoint(tmp_path)
    (line,) = said
    assert line.startswith('--resume skips a checkpoint: ')
    assert 'iter_2.pth cannot be read, its file is damaged' in line


def test_checkpoints_in_a_folder_of_their_own_are_found(tmp_path):
    (tmp_path / 'run').mkdir()
    save(tmp_path / 'iter_3.pth')
    (tmp_path / 'run' / 'last_checkpoint').write_text(str(tmp_path / 'iter_3.pth'))
    assert newest_checkpoint(tmp_path / 'run') == str(tmp_path / 'iter_3.pth')


def test_a_copied_run_leaves_the_best_checkpoint_of_the_other_alone(tmp_path):
    make_runner(tmp_path / 'run', steps=2).train()
    best = tmp_path / 'run' / 'best_score_iter_2.pth'
    save(best)
    state = torch.load(tmp_path / 'run' / 'iter_2.pth', weights_only=False)
    state['message_hub']['runtime_info'].update(best_ckpt=str(best), best_score=0.1)
    state['message_hub']['resumed_keys'].update(best_ckpt=True, best_score=True)
    torch.save(state, tmp_path / 'run' / 'iter_2.pth')
    shutil.copytree(tmp_path / 'run', tmp_path / 'copy')
    start = newest_checkpoint(tmp_path / 'copy')
    runner = make_runner(
        tmp_path / 'copy', [SafeCheckpointHook()], steps=3, load_from=start, resume=True
    )
    hook = next(hook for hook in runner.hooks if isinstance(hook, CheckpointHook))
    hook.save_best, hook.key_indicators = 'score', ['score']
    runner.train()
    assert hook.best_ckpt_path == str(tmp_path / 'copy' / best.name)


# ---------------------------------------------------------------------------------- real kills

KILLS = 20


@pytest.mark.slow
def test_no_kill_loses_everything(tmp_path):
    """A run of ``max_keep_ckpts=1``, killed again and again, resumes from a later one each."""
    steps = [kill(tmp_path, tmp_path / 'run', seed) for seed in range(KILLS)]
    assert all(before < after for before, after in steps)


@pytest.mark.slow
@pytest.mark.parametrize('megabytes', [9, 12, 15])  # a checkpoint has 8
def test_a_full_disk_is_said_and_the_run_resumes(tmp_path, megabytes):
    try:
        said, kept, end = fill(tmp_path, megabytes)
    except OSError as error:
        pytest.skip(str(error))
    assert 'Traceback' not in said
    assert said.splitlines()[-1].startswith('train: ')
    assert 'full' in said.splitlines()[-1]
    assert 0 < kept < end == 200
