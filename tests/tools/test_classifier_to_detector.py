"""From a classifier to a detector as a user does it: train one, convert, train the other."""

import pytest
import torch

from mmattn.core.checkpoint import find_state, load_checkpoint
from mmattn.data.digits import make_digits
from tests.commands import run_command
from tests.insertion.one_digit import write_configs

pytest.importorskip('mmdet')


@pytest.mark.slow
def test_a_detector_starts_from_a_classifier(train, tmp_path, monkeypatch, capfd):
    pytest.importorskip('mmpretrain', reason='the classifier is one of its')
    monkeypatch.chdir(tmp_path)
    make_digits('data/one_digit', train=40, val=10, size=32, one_digit=True)
    make_digits('work_dirs/demo/digits', train=20, val=10, size=96)
    two = ['train_cfg.max_iters=2', 'train_cfg.val_interval=2']
    classifier, detector = write_configs(tmp_path)
    options = [*two, 'default_hooks.checkpoint.interval=2', 'train_dataloader.batch_size=8']
    assert train([classifier, '--work-dir', 'cls', '--cfg-options', *options]) == 0

    capfd.readouterr()
    words = ['cls/iter_2.pth', detector, 'start.pth', '--out', 'mine.py']
    assert run_command('model_converters/classifier_to_detector.py', *words) == 0
    said = capfd.readouterr().out
    assert 'checkpoint of mmpretrain; backbone: 200 of' in said and 'note:' not in said

    assert train(['mine.py', '--work-dir', 'det', '--cfg-options', *two]) == 0
    assert 'keys fit' in ''.join(capfd.readouterr())
    start, trained = (
        find_state(load_checkpoint(file)) for file in ('start.pth', 'cls/iter_2.pth')
    )
    assert len(start) == 200
    for key, value in start.items():
        torch.testing.assert_close(value, trained[key], rtol=0, atol=0)
