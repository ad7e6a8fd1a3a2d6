"""tools/localize.py as a user runs it."""

import json
import sys

import pytest
from mmengine.logging import MMLogger
from PIL import Image

from mmattn.localization import api
from tests.commands import ROOT, run_command
from tests.localization.data import boxes_json, image

NET = 'python:tests.localization.nets:tiny'
MMLogger.get_current_instance()  # made here, it does not write to a stream that capsys closes


def call(*args):
    return run_command('localize.py', *args)


def basic(tmp_path, *extra, model=(NET,)):
    images, path = boxes_json(tmp_path, 6)
    options = ['--images', images, '--annotations', path, '--work-dir', tmp_path / 'out']
    return call(*model, *options, '--workers', 0, *extra)


def test_a_run(tmp_path, capsys):
    assert basic(tmp_path, '--batch-size', 4) == 0
    out = capsys.readouterr().out
    assert 'top1_loc' in out
    assert 'centre box' in out
    assert f'report: {tmp_path}/out/report.html' in out
    summary = json.loads((tmp_path / 'out/summary.json').read_text())
    assert summary['images'] == 6
    assert summary['rule']['name'] == 'gradcam-0.15'
    assert summary['preprocess']['mean'] == [127, 127, 127]
    names = {p.name for p in (tmp_path / 'out').iterdir()}
    assert {'summary.json', 'per_image.jsonl', 'curves.png', 'report.html'} <= names


def test_resume_and_forgotten_resume(tmp_path, capsys):
    assert basic(tmp_path) == 0
    assert basic(tmp_path) == 2
    assert 'continue them with --resume' in capsys.readouterr().err
    assert basic(tmp_path, '--resume') == 0


def test_beside_another_run(tmp_path, capsys):
    first = tmp_path / 'first'
    assert basic(tmp_path, '--work-dir', first) == 0
    assert basic(tmp_path, '--rule', 'cam-0.20', '--compare', first) == 0
    assert f'in {first}, the same 6 images:' in capsys.readouterr().out
    run = json.loads((first / 'run.json').read_text())
    (first / 'run.json').write_text(json.dumps(dict(run, images=5)))
    other = tmp_path / 'other'
    assert basic(tmp_path, '--work-dir', other, '--compare', first) == 2
    assert 'images is 5, here it is 6' in capsys.readouterr().err
    assert not other.exists()  # said before the run, not after it


def test_all_options(tmp_path):
    flags = '--cam layercam --rule cam-0.30 --target-layer 3 --steps mean --maps top5'
    flags += ' --iou-thr 0.4 --sweep-step 0 --input-size 40 48 --mean 1 2 3 --std 4 5 6'
    flags += ' --interpolation bicubic --crop-from 56 --batch-size 5 --device cpu'
    assert basic(tmp_path, *flags.split()) == 0
    summary = json.loads((tmp_path / 'out/summary.json').read_text())
    assert summary['cam'] == 'layercam'
    assert summary['target_layer'] == ['3']
    assert summary['closed_form'] is False
    assert summary['rule']['threshold'] == 0.30
    assert summary['iou_thr'] == 0.4
    assert summary['max_box_acc'] is None
    assert summary['preprocess'] == dict(
        input_size=[40, 48],
        mean=[1, 2, 3],
        std=[4, 5, 6],
        channels='rgb',
        interpolation='bicubic',
        crop_from=56,
        steps=[],
    )


def test_fused_norms_change_nothing(tmp_path, monkeypatch):
    networks, evaluate = [], api.evaluate

    def keep(classifier, *args):
        networks.append([type(module).__name__ for module in classifier.model])
        return evaluate(classifier, *args)

    monkeypatch.setattr(api, 'evaluate', keep)
    assert basic(tmp_path) == 0
    plain = (tmp_path / 'out/per_image.jsonl').read_text().splitlines()
    (tmp_path / 'out/per_image.jsonl').unlink()
    assert basic(tmp_path, '--fuse') == 0
    assert ['BatchNorm2d' in types for types in networks] == [True, False]
    fused = (tmp_path / 'out/per_image.jsonl').read_text().splitlines()
    for before, after in zip(plain, fused):
        before, after = json.loads(before), json.loads(after)
        assert after['iou'] == pytest.approx(before['iou'], abs=0.02)
        assert after['top5'] == before['top5']
    assert json.loads((tmp_path / 'out/summary.json').read_text())['fused'] is True


def test_config_with_an_own_rule(tmp_path):
    config = tmp_path / 'c.py'
    config.write_text("rule = dict(base='clova-v1', threshold=0.4, name='mine')\nbatch_size = 2\n")
    assert basic(tmp_path, '--config', config, '--batch-size', 3) == 0
    saved = json.loads((tmp_path / 'out/run.json').read_text())['settings']
    assert (saved['rule']['name'], saved['rule']['threshold']) == ('mine', 0.4)
    assert saved['batch_size'] == 3  # the command line wins


def test_a_broken_image_shows_in_the_exit_code(tmp_path, capsys):
    images, path = boxes_json(tmp_path, 6)
    (images / 'p2.png').write_bytes(b'nothing')
    options = ['--images', images, '--annotations', path, '--work-dir', tmp_path / 'out']
    assert call(NET, *options, '--workers', 0) == 1
    assert 'unreadable             1' in capsys.readouterr().out


@pytest.mark.parametrize(
    'error', [OSError(5, 'broken'), RuntimeError('broken'), KeyError('broken')]
)
def test_a_failure_is_never_taken_for_a_broken_image(tmp_path, capsys, monkeypatch, error):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr('mmattn.localization.localizer.ScoreMaps.__call__', fail)
    assert basic(tmp_path) == 2
    assert 'broken' in capsys.readouterr().err


def test_mismatches_end_the_run_unless_allowed(tmp_path, capsys):
    images, path = boxes_json(tmp_path, 6)
    (images / 'p2.png').unlink()
    image(images / 'more.png', 9, 9)
    options = ['--images', images, '--annotations', path, '--work-dir', tmp_path / 'out']
    assert call(NET, *options, '--workers', 0) == 2
    err = capsys.readouterr().err
    assert '1 x missing file: p2.png: no such image in the folder, the nearest is p5.png' in err
    listed = tmp_path / 'out/problems.txt'
    assert f'{path} and {images} do not match (1 x missing file, 1 x image without boxes' in err
    assert f'all in {listed}); correct them' in err
    assert listed.read_text().splitlines() == [
        'missing file\tp2.png\tno such image in the folder, the nearest is p5.png',
        'image without boxes\tmore.png\tnot in the annotations',
    ]
    assert call(NET, *options, '--workers', 0, '--allow-missing') == 0
    summary = json.loads((tmp_path / 'out/summary.json').read_text())
    assert summary['images'] == 5
    assert summary['problems'] == {'missing file': 1, 'image without boxes': 1}


@pytest.mark.parametrize(
    ('extra', 'message'),
    [
        (['--rule', 'x'], "rule must be one of gradcam-0.15, .* got 'x'"),
        (['--target-layer', 'conv9'], "no layer 'conv9'; candidates: "),
        (['--target-layer', '7'], "'7' gives no spatial map"),
        (['--cam', 'cam', '--target-layer', '0'], 'cam needs global average pooling'),
        (['--batch-size', '0'], 'batch size must be at least 1, got 0'),
        (['--std', '0', '1', '1'], 'std above 0'),
        (['--input-size', '1', '2', '3'], r'one or two numbers, got \[1, 2, 3\]'),
        (['--crop-from', '8'], 'crop-from must be at least the input size 32, got 8'),
        (['--device', 'tpu9'], "device: 'tpu9' is not known to torch"),
        (['--device', 'meta'], 'device: meta holds no values'),
        (['--device', 'xla'], 'device: xla is not there; use cpu'),
        (['--workers', '-1'], 'workers must be 0 or more, got -1'),
        (['--config', 'nope.py'], 'config nope.py does not exist'),
        (['--steps', 'all'], "steps must be 'last' or 'mean'"),
        (['--synsets', 'nope.txt'], 'synsets: nope.txt does not exist'),
        (['--format', 'coco'], 'must hold an object as COCO does'),
    ],
)
def test_bad_input_is_one_sentence(tmp_path, capsys, extra, message):
    import re

    assert basic(tmp_path, *extra) == 2
    err = capsys.readouterr().err.strip()
    assert err.startswith('localize: ')
    assert '\n' not in err
    assert re.search(message, err)


@pytest.mark.parametrize(
    ('model', 'message'),
    [
        (('resnet50',), 'model must be one of'),
        ((NET, 'a', 'b'), 'a model and at most one checkpoint'),
        (('torchvision:resnet18', 'nope.pth'), "that exists, got 'nope.pth'"),
        (('timm:resnet18', 'nope.pth'), 'checkpoint nope.pth does not exist'),
        (('python:tests.localization.nets:tiny_nan',), 'weights hold NaN'),
        (('python:tests.localization.nets:mlp_net', '2'), 'has label 2'),
    ],
)
def test_bad_models(tmp_path, capsys, model, message):
    if model[0].startswith('timm'):
        pytest.importorskip('timm', reason='timm is not installed')
    if model[-1] == '2':  # two classes for four labels
        file = tmp_path / 'two.py'
        file.write_text('from tests.localization.nets import gap_net\nmake = lambda: gap_net(2)\n')
        model = (f'python:{file}:make',)
    assert basic(tmp_path, model=model) == 2
    assert message in capsys.readouterr().err


def test_a_config_may_give_one_value_for_a_list(tmp_path):
    config = tmp_path / 'c.py'
    config.write_text('input_size = 24\n')
    assert basic(tmp_path, '--config', config) == 0
    found = json.loads((tmp_path / 'out/summary.json').read_text())
    assert found['preprocess']['input_size'] == [24, 24]


def test_missing_arguments(capsys, tmp_path):
    assert call(NET) == 2
    assert '--images is needed (or --show IMAGE' in capsys.readouterr().err
    config = tmp_path / 'c.py'
    config.write_text('batchsize = 3\n')
    assert call(NET, '--config', config) == 2
    assert 'config sets batchsize; it can set allow_missing, annotations, batch_size' in (
        capsys.readouterr().err
    )
    config.write_text('batch_size = (\n')
    assert call(NET, '--config', config) == 2
    assert f'config {config} cannot be read: ' in capsys.readouterr().err
    assert call() == 2
    assert 'the following arguments are required: MODEL' in capsys.readouterr().err


def test_show(tmp_path, capsys):
    path = image(tmp_path / 'x.png', 60, 40)
    assert call(NET, '--show', path, '--label', 2, '--work-dir', tmp_path / 'out') == 0
    out = capsys.readouterr().out
    assert f'{tmp_path}/out/x_gradcam.png: class 2 (' in out
    drawn = Image.open(tmp_path / 'out/x_gradcam.png')
    assert drawn.size == (2 * 300 + 8, 200)
    left, right = drawn.crop((0, 0, 300, 200)), drawn.crop((308, 0, 608, 200))
    assert left.tobytes() != right.tobytes()
    assert call(NET, '--show', path, '--label', 4, '--work-dir', tmp_path / 'out') == 2
    assert 'label must be 0 to 3, got 4' in capsys.readouterr().err
    assert call(NET, '--show', tmp_path / 'no.png', '--work-dir', tmp_path / 'out') == 2
    assert 'cannot decode' in capsys.readouterr().err


def test_show_with_the_names_of_a_file(tmp_path, capsys):
    path = image(tmp_path / 'x.png', 60, 40)
    names = tmp_path / 'names.txt'
    names.write_text('n01 tench\nn02 goldfish\nn03 great white shark\nn04 hen\n')
    options = ['--synsets', names, '--work-dir', tmp_path / 'out']
    assert call(NET, '--show', path, '--label', 2, *options) == 0
    assert 'x_gradcam.png: great white shark (' in capsys.readouterr().out
    names.write_text('n01 tench\n')
    assert call(NET, '--show', path, *options) == 2
    assert 'names.txt names 1 classes and the classifier has 4' in capsys.readouterr().err
    assert call(NET, '--show', path, '--synsets', tmp_path / 'no.txt') == 2
    assert 'no.txt does not exist' in capsys.readouterr().err


def test_show_every_step(tmp_path, capsys):
    file = tmp_path / 'rec.py'
    file.write_text('from tests.localization.nets import Recurrent as make\n')
    path = image(tmp_path / 'x.png', 60, 40)
    flags = ['--target-layer', 'step', '--steps', 'all', '--work-dir', tmp_path / 'out']
    assert call(f'python:{file}:make', '--show', path, *flags) == 0
    assert [p.name for p in (tmp_path / 'out').iterdir()] == ['x_steps_gradcam.png']
    assert Image.open(tmp_path / 'out/x_steps_gradcam.png').size == (4 * 308 - 8, 200)


def test_the_file_runs_as_a_script(tmp_path):
    import os
    import subprocess

    env = dict(os.environ, PYTHONPATH=str(ROOT))
    done = subprocess.run(
        [sys.executable, ROOT / 'tools/localize.py', 'resnet50', '--show', 'x.png'],
        capture_output=True,
        text=True,
        env=env,
    )
    assert done.returncode == 2
    assert done.stderr.strip().splitlines()[-1].startswith('localize: model must be one of')
    assert 'Traceback' not in done.stderr


def test_show_wants_a_classifier(tmp_path, capsys):
    image(tmp_path / 'a.png', 40, 40)
    assert call('python:torch.nn:Identity', '--show', tmp_path / 'a.png') == 2
    assert 'must return scores of shape (N, classes), got (1, 3, ' in capsys.readouterr().err


def test_drawings_of_one_stem_do_not_overwrite_each_other(tmp_path, capsys):
    files = [image(tmp_path / folder / name, 40, 30) for folder, name in SAME_STEM]
    assert call(NET, '--show', *files, '--work-dir', tmp_path / 'out') == 0
    drawn = {path.name for path in (tmp_path / 'out').glob('*.png')}
    assert drawn == {'x_a.png_gradcam.png', 'y_a.png_gradcam.png', 'a.jpg_gradcam.png'}


SAME_STEM = [('x', 'a.png'), ('y', 'a.png'), ('x', 'a.jpg')]
