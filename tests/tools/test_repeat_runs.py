"""repeat_runs: which runs are started, resumed or kept, and the table, without training."""

import json

import pytest

from .conftest import load_tool

tool = load_tool('analysis_tools/repeat_runs.py')

CONFIG = 'train_dataloader = dict(batch_size=1)\ntest_dataloader = dict(batch_size=1)\n'


@pytest.fixture
def setup(tmp_path, monkeypatch):
    """Two configs, and tools that leave what a training and a test would leave."""
    calls = []

    def pretend(command, log, threads):
        words = [str(word) for word in command]
        calls.append((words, threads))
        folder = tmp_path / 'out' / words[1].split('/')[-1][:-3]
        seed = next(w for w in words if w.startswith('randomness.seed=')).split('=')[1]
        folder = folder / f'seed_{seed}'
        if words[0].endswith('train.py'):
            (folder / 'last_checkpoint').write_text('/elsewhere/epoch_1.pth')
        else:
            path = folder / 'test' / 'now' / 'now.json'
            path.parent.mkdir(parents=True)
            path.write_text(json.dumps({'coco/bbox_mAP': 0.1 * (1 + int(seed)), 'time': 1.0}))

    monkeypatch.setattr(tool, 'call', pretend)
    for name in 'ab':
        (tmp_path / f'{name}.py').write_text(CONFIG)
    args = [str(tmp_path / 'a.py'), str(tmp_path / 'b.py'), '--work-dir', str(tmp_path / 'out')]
    return tmp_path / 'out', [*args, '--metrics', 'bbox_mAP'], calls


def test_every_config_runs_with_every_seed_and_the_table_is_written(setup, capsys):
    out, args, calls = setup
    assert tool.main([*args, '--seeds', '0', '2', '--data-root', 'd/', '--threads', '3']) == 0
    assert len(calls) == 8
    words, threads = calls[0]
    assert threads == 3
    for word in ('randomness.seed=0', 'train_dataloader.dataset.data_root=d/'):
        assert word in words
    assert not any(word.startswith('val_dataloader') for word in words)  # the config has none
    assert calls[1][0][2] == str(out / 'a' / 'seed_0' / 'epoch_1.pth')
    text = (out / 'table.md').read_text()
    assert '| a | 0.200 ± 0.141 (0.100, 0.300) |\n| b | 0.200 ± 0.141 (0.100, 0.300) |' in text
    assert 'seeds 0, 2' in text
    assert text in capsys.readouterr().out


def test_finished_runs_are_kept_and_interrupted_ones_resumed(setup, capsys):
    out, args, calls = setup
    done, half = out / 'a' / 'seed_0', out / 'b' / 'seed_0'
    for folder in (done, half):
        folder.mkdir(parents=True)
    (done / 'result.json').write_text('{"coco/bbox_mAP": 0.7}')
    (half / 'last_checkpoint').write_text('epoch_3.pth')
    assert tool.main([*args, '--seeds', '0']) == 0
    assert len(calls) == 2
    assert '--resume' in calls[0][0]
    assert '| a | 0.700 (0.700) |' in (out / 'table.md').read_text()
    assert 'finished earlier' in capsys.readouterr().out


def test_a_failed_run_ends_with_its_last_words(tmp_path, capsys):
    config = tmp_path / 'bad.py'
    config.write_text('modle = dict()')
    args = [str(config), '--work-dir', str(tmp_path / 'out'), '--seeds', '0']
    assert tool.main(args) == 1
    said = capsys.readouterr().err
    assert said.startswith('repeat_runs: ')
    assert 'run.log: train: config: ' in said
    assert "has no model; it has 'modle'" in said


def test_an_unknown_figure_names_the_known_ones(setup, capsys):
    _, args, _ = setup
    assert tool.main([*args[:-1], 'mAP', '--seeds', '0']) == 1
    assert "no figure 'mAP'; there are coco/bbox_mAP, time" in capsys.readouterr().err


@pytest.mark.parametrize(
    'args, message',
    [(['no.py'], 'no.py does not exist'), ([__file__, '--parallel', '0'], 'must be >= 1, got 0')],
    ids=['config', 'parallel'],
)
def test_wrong_usage(args, message, capsys):
    with pytest.raises(SystemExit, match='2'):
        tool.parse_args(args)
    assert message in capsys.readouterr().err
