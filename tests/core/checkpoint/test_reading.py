"""Checkpoints are read as tensors and plain values, or refused in one sentence."""

import argparse
import codecs
import os
import pickle
from collections import OrderedDict

import numpy as np
import pytest
import torch
from mmengine.logging.history_buffer import HistoryBuffer
from mmengine.runner.checkpoint import CheckpointLoader
from mmengine.runner.checkpoint import load_checkpoint as host_load
from torch import nn

from mmattn.core.checkpoint import find_state, guarded_loading, load_checkpoint, reading


class Attack:
    """Makes a folder when it is read without care."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


class OwnClass:
    pass


def content():
    history = HistoryBuffer([1.0, 2.0], [1, 1])
    history.update(3.0)
    return {
        'state_dict': nn.BatchNorm1d(2).state_dict(),
        'meta': {
            'iter': 3,
            'score': np.float64(0.5),
            'palette': np.zeros((2, 3), np.uint8),
            'args': argparse.Namespace(lr=0.1),
            'names': {'a', 'b'},
            'dataset_meta': {'classes': ('a', 'b')},
        },
        'message_hub': {'log_scalars': {'loss': history}},
    }


@pytest.fixture(params=['torch', 'own'])
def reader(request, monkeypatch):
    """Both restricted readers: torch's and ours for a torch before 2.5."""
    if request.param == 'own':
        monkeypatch.delattr(torch.serialization, 'safe_globals', raising=False)


@pytest.mark.parametrize('zipped', [True, False])
def test_what_a_training_saves_is_read(tmp_path, reader, zipped):
    torch.save(content(), tmp_path / 'x.pth', _use_new_zipfile_serialization=zipped)
    found = load_checkpoint(tmp_path / 'x.pth')
    assert list(found['state_dict']) == list(content()['state_dict'])
    meta, history = found['meta'], found['message_hub']['log_scalars']['loss']
    assert (meta['iter'], meta['score'], meta['args'].lr) == (3, 0.5, 0.1)
    assert meta['palette'].shape == (2, 3)
    assert history.mean() == 2 and history.current() == 3


def test_the_names_of_numpy_1_are_known(tmp_path, reader):
    torch.save(content(), tmp_path / 'x.pth', _use_new_zipfile_serialization=False)
    data = (tmp_path / 'x.pth').read_bytes()
    names = b'numpy._core.multiarray', b'numpy.core.multiarray'
    old = data.replace(names[0], names[1])
    new = old.replace(names[1], names[0])
    assert names[1] in old and names[0] in new
    for i, variant in enumerate((old, new)):
        (tmp_path / f'{i}.pth').write_bytes(variant)
        assert load_checkpoint(tmp_path / f'{i}.pth')['meta']['score'] == 0.5


class Encoded:
    """Pickles as a call of ``codecs.encode``, as bytes do before pickle protocol 3."""

    def __init__(self, encoding):
        self.encoding = encoding

    def __reduce__(self):
        return codecs.encode, ('caf\u00e9', self.encoding)


@pytest.mark.parametrize('encoding, read', [('latin1', True), ('rot13', False)])
def test_bytes_of_older_pickles_are_read_and_nothing_else_is_encoded(
    tmp_path, monkeypatch, encoding, read
):
    monkeypatch.delattr(torch.serialization, 'safe_globals', raising=False)
    known = {'collections.OrderedDict': OrderedDict}  # as little as torch 2.1 knows
    monkeypatch.setattr('torch._weights_only_unpickler._get_allowed_globals', lambda: known)
    torch.save({'state_dict': {}, 'meta': Encoded(encoding)}, tmp_path / 'x.pth')
    if read:
        assert load_checkpoint(tmp_path / 'x.pth')['meta'] == b'caf\xe9'
    else:
        with pytest.raises(ValueError, match='would call _codecs.encode, which may run any code'):
            load_checkpoint(tmp_path / 'x.pth')


def test_a_file_that_would_run_code_is_refused_unless_trusted(tmp_path, reader):
    torch.save({'state_dict': {}, 'meta': Attack(tmp_path / 'ran')}, tmp_path / 'x.pth')
    with pytest.raises(
        ValueError,
        match=r'x\.pth holds more than weights: reading it would call posix\.mkdir, .* --trust',
    ):
        load_checkpoint(tmp_path / 'x.pth')
    assert not (tmp_path / 'ran').exists()
    load_checkpoint(tmp_path / 'x.pth', trust=True)
    assert (tmp_path / 'ran').exists()


@pytest.mark.parametrize('of', [(set, 'pop'), (HistoryBuffer, '__init__')])
def test_what_the_message_hub_needs_opens_no_door(tmp_path, reader, of):
    class Call:
        def __reduce__(self):
            return getattr, of

    torch.save({'a': torch.ones(1), 'b': Call()}, tmp_path / 'x.pth')
    with pytest.raises(ValueError, match=r'x\.pth holds more than weights'):
        load_checkpoint(tmp_path / 'x.pth')


def test_a_whole_network_is_refused_and_loaded_as_its_weights_if_trusted(tmp_path):
    torch.save(nn.Linear(2, 2), tmp_path / 'x.pth')
    with pytest.raises(ValueError, match=r'would call torch\.nn\.modules\.linear\.Linear'):
        load_checkpoint(tmp_path / 'x.pth')
    assert list(load_checkpoint(tmp_path / 'x.pth', trust=True)['state_dict']) == [
        'weight',
        'bias',
    ]
    torch.save({'model': nn.Linear(2, 2)}, tmp_path / 'y.pth')
    assert len(find_state(load_checkpoint(tmp_path / 'y.pth', trust=True))) == 2


def test_a_newer_pickle_protocol_is_read(tmp_path, reader):
    torch.save({'a': torch.ones(1)}, tmp_path / 'x.pth', pickle_protocol=4)
    assert load_checkpoint(tmp_path / 'x.pth')['a'] == 1
    torch.save({'a': Attack(tmp_path / 'ran')}, tmp_path / 'y.pth', pickle_protocol=4)
    with pytest.raises(ValueError, match='would call posix.mkdir'):
        load_checkpoint(tmp_path / 'y.pth')
    assert not (tmp_path / 'ran').exists()


def half(path):
    torch.save({'a': torch.ones(1000)}, path)
    path.write_bytes(path.read_bytes()[:2000])


def half_legacy(path):
    torch.save({'a': torch.ones(1000)}, path, _use_new_zipfile_serialization=False)
    path.write_bytes(path.read_bytes()[:-50])


@pytest.mark.parametrize(
    'write, match',
    [
        (lambda path: None, 'the checkpoint .*x.pth does not exist'),
        (lambda path: path.mkdir(), 'checkpoint must be a file, got the folder .*x.pth'),
        (lambda path: path.write_bytes(b''), 'x.pth cannot be read, its file is empty'),
        (half, r'x\.pth cannot be read, its file is damaged or was not written to the end'),
        (half_legacy, r'x\.pth cannot be read, its file is damaged or was not written to the end'),
        (lambda path: path.write_text('<!DOCTYPE html>'), 'is no checkpoint but a web page'),
        (
            lambda path: path.write_text('version https://git-lfs.github.com/spec/v1'),
            "is no checkpoint but Git LFS's note of a file",
        ),
        (lambda path: path.write_text('hello'), 'is no checkpoint: neither torch nor pickle'),
        (
            lambda path: torch.jit.save(torch.jit.script(nn.Linear(1, 1)), path),
            'is a TorchScript archive, no checkpoint',
        ),
        (lambda path: torch.save([1], path), 'must hold a dict, got list'),
    ],
    ids=[
        'none',
        'folder',
        'empty',
        'torn',
        'torn legacy',
        'html',
        'lfs',
        'text',
        'script',
        'list',
    ],
)
@pytest.mark.filterwarnings('ignore:.*torch.load.*received a zip file')
def test_what_is_no_checkpoint_is_named(tmp_path, write, match, reader):
    write(tmp_path / 'x.pth')
    with pytest.raises((ValueError, FileNotFoundError), match=match) as caught:
        load_checkpoint(tmp_path / 'x.pth')
    assert '\n' not in str(caught.value)


def test_a_missing_module_is_named(tmp_path, monkeypatch):
    torch.save({'a': OwnClass()}, tmp_path / 'x.pth')
    monkeypatch.setattr(OwnClass, '__module__', 'gone')
    torch.save({'a': torch.ones(1)}, tmp_path / 'y.pth')

    def load(*args, **kwargs):
        raise ModuleNotFoundError("No module named 'gone'", name='gone')

    monkeypatch.setattr(reading.torch, 'load', load)
    with pytest.raises(ValueError, match=r"y\.pth needs the module 'gone', which is not there"):
        load_checkpoint(tmp_path / 'y.pth', trust=True)


def test_safetensors(tmp_path):
    save_file = pytest.importorskip('safetensors.torch').save_file
    save_file({'a': torch.ones(2)}, tmp_path / 'x.safetensors')
    assert load_checkpoint(tmp_path / 'x.safetensors')['a'].tolist() == [1, 1]
    (tmp_path / 'y.safetensors').write_bytes(b'\0' * 20)
    with pytest.raises(ValueError, match=r'y\.safetensors cannot be read, it is damaged'):
        load_checkpoint(tmp_path / 'y.safetensors')


# -------------------------------------------------------------------- what mmengine reads itself


def test_mmengine_reads_the_same_way_inside_the_guard_only(tmp_path):
    net = nn.Linear(1, 1)
    torch.save({**net.state_dict(), 'meta': Attack(tmp_path / 'ran')}, tmp_path / 'x.pth')
    before = dict(CheckpointLoader._schemes)
    with guarded_loading(), pytest.raises(ValueError, match='would call posix.mkdir'):
        host_load(net, str(tmp_path / 'x.pth'))
    assert not (tmp_path / 'ran').exists()
    assert dict(CheckpointLoader._schemes) == before
    assert reading._ONLY_WEIGHTS not in os.environ
    with guarded_loading(trust=True):
        host_load(net, str(tmp_path / 'x.pth'))
    assert (tmp_path / 'ran').exists()


def test_what_mmengine_downloads_is_guarded_too(tmp_path, monkeypatch):
    torch.save({'meta': Attack(tmp_path / 'ran')}, tmp_path / 'x.pth')

    def download(filename, *args, **kwargs):  # what torch.hub does with a cached file
        return torch.load(tmp_path / 'x.pth', weights_only=False)

    monkeypatch.setattr('mmengine.runner.checkpoint.load_url', download)
    with pytest.raises(ValueError, match=r'https://a\.b/x\.pth holds more than weights: .*mkdir'):
        load_checkpoint('https://a.b/x.pth')
    assert not (tmp_path / 'ran').exists()


@pytest.mark.parametrize(
    'name, error, match',
    [
        (
            'torchvision://resnet51',
            None,
            'there is no checkpoint torchvision://resnet51 .*resnet51',
        ),
        (
            'https://a.b/x.pth',
            OSError('no route to host'),
            'https://a.b/x.pth cannot be downloaded .no route to host.: download it where',
        ),
    ],
)
def test_an_address_that_gives_nothing_is_a_sentence(monkeypatch, name, error, match):
    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr('mmengine.runner.checkpoint.load_url', fail)
    with pytest.raises(ValueError, match=match):
        load_checkpoint(name)


def test_plain_pickles_are_no_checkpoints(tmp_path):
    (tmp_path / 'x.pkl').write_bytes(pickle.dumps({'a': 1}))
    with pytest.raises(ValueError, match=r'x\.pkl'):
        load_checkpoint(tmp_path / 'x.pkl')


def test_the_state_of_a_one_cycle_schedule_is_read(tmp_path):
    from mmengine.optim import OneCycleLR

    weight = torch.nn.Parameter(torch.zeros(2))
    schedule = OneCycleLR(torch.optim.SGD([weight], lr=0.1), eta_max=0.2, total_steps=5)
    saved = dict(state_dict=dict(weight=weight.data), param_schedulers=[schedule.state_dict()])
    torch.save(saved, tmp_path / 'one_cycle.pth')
    found = load_checkpoint(tmp_path / 'one_cycle.pth')
    assert found['param_schedulers'][0].keys() == saved['param_schedulers'][0].keys()
