"""Whole studies of a tiny classifier: what runs, what is kept, what is refused and written."""

import json
import re
import shutil

import pytest

from mmattn.study.summary import next_command
from tests.commands import run_command

pytest.importorskip('mmpretrain', reason='the studied classifier is one of mmpretrain')
from . import classifier  # noqa: E402


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp('data')
    classifier.make_images(root)
    return root


@pytest.fixture
def launcher(monkeypatch):
    monkeypatch.setattr('mmengine.runner.runner.collect_env', lambda: {'sys.platform': 'test'})
    here = classifier.Here()
    monkeypatch.setattr('mmattn.study.launch.make_launcher', lambda *args: here)
    return here


@pytest.fixture
def config(tmp_path, data):
    return classifier.write_config(tmp_path, data)


def run(config, tmp_path, *words):
    shared = ['--work-dir', tmp_path / 'out', '--cost-rounds', 0]
    return run_command('study.py', config, *shared, *words)


def test_a_study_from_the_command_to_the_page(config, tmp_path, launcher, capsys):
    words = ['--methods', 'SE', 'ECA:init=identity', '--seeds', '0', '1', '--epochs', '1']
    assert run(config, tmp_path, *words) == 0
    assert launcher.started == [
        (label, seed) for seed in (0, 1) for label in ('plain', 'SE', 'ECA-init-identity')
    ]
    out = tmp_path / 'out'
    found = json.loads((out / 'study.json').read_text())
    assert [row['label'] for row in found['rows']] == ['plain', 'SE', 'ECA-init-identity']
    assert (found['images'], found['missing'], found['schedule']) == (12, 0, '1 epochs')
    cell = found['rows'][1]['figures']['top-1']
    values, plain = cell['values'], found['rows'][0]['figures']['top-1']['values']
    mean = sum(values[s] - plain[s] for s in '01') / 2
    assert cell['difference'] == pytest.approx(mean, abs=1e-4)
    assert cell['low'] <= cell['difference'] <= cell['high']
    result = json.loads((out / 'results' / 'SE' / 'seed_1.json').read_text())
    assert result['figures']['accuracy/top1'] == pytest.approx(values['1'], abs=1e-4)
    text = (out / 'study.md').read_text()
    assert re.search(r'\| SE \| \d+\.\d \(.*\) \| [+-]\d', text)
    assert re.search(r'times in five: \d+\.\d with 3, .* with 20 seeds each\.', text)
    assert len((out / 'study.csv').read_text().splitlines()) == 1 + 3
    page = (out / 'report.html').read_text()
    assert 'ECA-init-identity' in page
    launcher.started.clear()
    (out / 'study.md').unlink()
    assert run(config, tmp_path, '--tables-only', *words[:-2], '5', *words[-2:]) == 0
    assert launcher.started == []  # seed 5 waits
    text = (out / 'study.md').read_text()
    assert '**Unfinished: 3 runs are to come' in text
    assert '--tables-only' not in text  # the command there trains what is missing
    assert 'data:image/png;base64,' in page  # the learning curves
    assert not re.search(r'(src|href)="http', page)
    assert not list(out.glob('runs/**/*.pth'))  # the disk is not filled
    said = capsys.readouterr()
    last = said.out.strip().splitlines()[-1]
    assert last.startswith('python tools/study.py')
    assert '--seeds' in last


@pytest.mark.slow
def test_one_seed_is_said_to_be_one(config, tmp_path, launcher, capsys):
    assert run(config, tmp_path, '--methods', 'ECA', '--seeds', '3', '--epochs', '1') == 0
    text = (tmp_path / 'out' / 'study.md').read_text()
    assert 'intervals hold the chance of the test images alone' in text
    assert '1 epochs' in text


@pytest.mark.slow
def test_finished_runs_stay_and_failed_ones_stop_nothing(config, tmp_path, launcher, monkeypatch):
    from mmattn.study import runs

    whole = runs._execute

    def breaks(run, *args):
        if (run.label, run.seed) == ('ECA', 0):
            raise RuntimeError('out of luck')
        return whole(run, *args)

    monkeypatch.setattr(runs, '_execute', breaks)
    words = ['--methods', 'ECA', '--seeds', '0', '1', '--epochs', '1']
    assert run(config, tmp_path, *words) == 0
    found = json.loads((tmp_path / 'out' / 'study.json').read_text())
    assert found['failed'] == {'ECA, seed 0': 'RuntimeError: out of luck'}
    assert found['rows'][1]['seeds'] == [1]
    assert found['next'] == found['command']
    monkeypatch.setattr(runs, '_execute', whole)
    launcher.started.clear()
    assert run(config, tmp_path, *words) == 0
    assert launcher.started == [('ECA', 0)]
    assert json.loads((tmp_path / 'out' / 'study.json').read_text())['failed'] == {}


@pytest.mark.slow
def test_an_interrupted_run_resumes(config, tmp_path, launcher, monkeypatch):
    from mmengine.hooks import RuntimeInfoHook

    words = ['--methods', 'ECA', '--seeds', '0']
    whole = RuntimeInfoHook.before_train_epoch

    def stop(self, runner):
        if runner.epoch == 1:
            raise KeyboardInterrupt
        whole(self, runner)

    with monkeypatch.context() as patch:
        patch.setattr(RuntimeInfoHook, 'before_train_epoch', stop)
        assert run(config, tmp_path, *words) == 130
    started = []
    monkeypatch.setattr(
        RuntimeInfoHook,
        'before_train_epoch',
        lambda self, runner: (started.append(runner.epoch), whole(self, runner)),
    )
    assert run(config, tmp_path, *words) == 0
    assert started == [1, 0, 1]  # plain from its second epoch, then the method


@pytest.mark.slow
def test_results_go_on_on_another_machine(config, tmp_path, data, launcher):
    words = ['--methods', 'ECA', '--seeds', '0', '--epochs', '1']
    assert run(config, tmp_path, *words) == 0
    kept = tmp_path / 'kept'
    shutil.copytree(tmp_path / 'out', kept, ignore=shutil.ignore_patterns('runs', '.lock'))
    launcher.started.clear()
    moved = shutil.copytree(data, tmp_path / 'elsewhere')
    again = [str(config), *words, '--data-root', str(moved), '--cost-rounds', '0']
    again[again.index('--seeds') + 1 : again.index('--seeds') + 2] = ['0', '1']
    again += ['--work-dir', str(tmp_path / 'fresh'), '--out', str(kept)]
    assert run_command('study.py', *again) == 0
    assert launcher.started == [('plain', 1), ('ECA', 1)]


def test_results_of_other_settings_are_refused(config, tmp_path, data, launcher, capsys):
    words = ['--methods', 'ECA', '--seeds', '0', '--epochs', '1']
    assert run(config, tmp_path, *words) == 0
    classifier.write_config(tmp_path, data, 'train_dataloader["batch_size"] = 2')
    assert run(config, tmp_path, *words) == 1
    said = capsys.readouterr().err
    assert (
        'holds runs of plain with other settings: train_dataloader.batch_size was 4, is 2' in said
    )
    assert 'choose another --work-dir' in said


@pytest.mark.slow
def test_configs_of_one_name_in_two_folders_are_two(config, tmp_path, data, launcher):
    own = [
        classifier.write_config(
            tmp_path / folder, data, f'\noptim_wrapper["clip_grad"] = dict({c})'
        )
        for folder, c in (('one', 'max_norm=1'), ('two', 'max_norm=2'))
    ]
    words = ['--methods', *map(str, own), '--seeds', '0', '--epochs', '1']
    assert run(config, tmp_path, *words) == 0
    found = json.loads((tmp_path / 'out' / 'study.json').read_text())
    assert [row['label'] for row in found['rows']] == ['plain', 'one-plain', 'two-plain']
    assert len(launcher.started) == 3
    assert found['rows'][2]['changes'] == ['optim_wrapper.clip_grad.max_norm 2 (plain: None)']


@pytest.mark.parametrize(
    'extra, words, message',
    [
        (
            'del test_evaluator',
            ['--methods', 'SE'],
            'has no test_evaluator and no validation either',
        ),
        ('', ['--methods', 'SE', '--best', 'accuracy/top1'], 'this config has no validation'),
        ('', ['--methods', 'SE', 'SE'], 'SE asked for more than once'),
        ('', ['--methods', 'Sea'], "cannot stand in this network: Sea: .*'?Sea"),
        ('', ['--methods', 'AWFPN'], 'cannot stand in this network: AWFPN: .*has no neck|AWFPN'),
        ('', ['--methods', 'SE:reduction'], "'reduction' is no option; write NAME:OPTION=VALUE"),
        ('', ['--methods', 'SE', '--iters', '5'], 'trains by epochs .2.; use --epochs'),
        ('', ['--methods', 'SE', '--checkpoint', 'no.pth'], '--checkpoint: no.pth does not exist'),
        ('', ['--methods', 'SE', '--data-root', '/no/where'], '/no/where'),
    ],
    ids=[
        *('evaluator', 'validation', 'twice', 'unknown', 'place', 'option', 'iters', 'checkpoint'),
        'data',
    ],
)
def test_one_sentence_before_anything_trains(
    extra, words, message, tmp_path, data, launcher, capsys
):
    config = classifier.write_config(tmp_path, data, extra)
    assert run(config, tmp_path, *words, '--seeds', '0') == 1
    assert launcher.started == []
    said = capsys.readouterr().err
    assert re.search(message, said), said
    assert said.strip().splitlines()[-1].startswith('study: ')


def test_a_checkpoint_of_another_network(config, tmp_path, launcher, capsys):
    import torch

    path = tmp_path / 'other.pth'
    torch.save(dict(state_dict={'layer.weight': torch.zeros(3, 3)}), path)
    assert run(config, tmp_path, '--methods', 'SE', '--checkpoint', str(path)) == 1
    assert 'is of another network than the config: 0 of the model' in capsys.readouterr().err
    assert launcher.started == []


def test_a_full_disk(config, tmp_path, launcher, capsys, monkeypatch):
    usage = type('Usage', (), dict(free=1000))
    monkeypatch.setattr('shutil.disk_usage', lambda path: usage)
    assert run(config, tmp_path, '--methods', 'SE', '--seeds', '0') == 1
    assert 'GB of checkpoints are to come and 0.0 GB are free' in capsys.readouterr().err
    assert launcher.started == []


def test_two_studies_in_one_folder(config, tmp_path, launcher, capsys):
    from mmattn.study.study import lock

    held = lock(tmp_path / 'out')
    assert run(config, tmp_path, '--methods', 'SE') == 1
    held.close()
    assert 'another study runs there' in capsys.readouterr().err


@pytest.mark.parametrize(
    'words, message',
    [(['--seeds', '0', '0'], 'must be different integers'), (['--parallel', '0'], 'must be >= 1')],
)
def test_wrong_usage(words, message, capsys):
    shared = ['c.py', '--methods', 'SE', '--work-dir', 'w']
    assert run_command('study.py', *shared, *words) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    'verdict, difference, seeds',
    [('better', 4.0, [3, 4, 5]), ('no difference', 2.0, [*range(3, 15)]), ('worse', -3.0, None)],
)
def test_the_next_command_takes_the_best_method_and_seeds_it_was_not_chosen_by(
    verdict, difference, seeds
):
    def row(label, asked, value, verdict):
        return dict(
            label=label,
            asked=asked,
            figures={'AP': dict(difference=value, visible=8.0, verdict=verdict)},
        )

    rows = [
        dict(label='plain'),
        row('SE-reduction-8', 'SE:reduction=8', difference, verdict),
        row('ECA', 'ECA', -2.5, 'no difference'),
    ]
    found = dict(failed={}, missing=0, figure='AP', seeds=[0, 1, 2], rows=rows)
    words = (
        'study.py C.py --methods SE:reduction=8 ECA --seeds 0 1 2 --work-dir w --out o --epochs 3'
    )
    method = 'ECA' if seeds is None else 'SE:reduction=8'
    asked = ' '.join(map(str, seeds or range(3, 15)))
    wanted = f'study.py C.py --work-dir w-next --epochs 3 --methods {method} --seeds {asked}'
    assert next_command(found, words.split()) == wanted
