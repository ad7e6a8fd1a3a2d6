"""Boxes for images that have none, with the command as a user runs it."""

import csv
import io
import json

import pytest
from PIL import Image

import mmattn
from mmattn.localization.annotations import load_annotations
from mmattn.localization.localizer import Settings
from mmattn.localization.progress import ResultProgress
from mmattn.localization.structures import ImageResult
from tests.commands import run_command
from tests.localization.data import image
from tests.localization.test_tool import NET

NAMES = ['dog', 'cat', 'red panda', 'hen']


def call(*args):
    return run_command('localize.py', *args)


@pytest.fixture
def photos(tmp_path):
    """Three images in two folders, and one file that is none."""
    for number, name in enumerate(('a.png', 'b.jpg', 'in/c.png')):
        image(tmp_path / 'photos' / name, 40 + 7 * number, 30, number)
    (tmp_path / 'photos/broken.png').write_bytes(b'nothing')
    return tmp_path / 'photos'


def test_a_folder_without_annotations(tmp_path, photos, capsys):
    out = tmp_path / 'out'
    options = ['--images', photos, '--work-dir', out, '--workers', 0, '--classes', *NAMES]
    assert call(NET, *options) == 1  # one image cannot be read
    said = capsys.readouterr().out
    assert '3 boxes in 3 images\n1 images could not be read\n' in said
    assert f'boxes: {out}/boxes.json\nreport: {out}/report.html\n' in said
    coco = json.loads((out / 'boxes.json').read_text())
    assert [i['file_name'] for i in coco['images']] == ['a.png', 'b.jpg', 'in/c.png']
    assert [c['name'] for c in coco['categories']] == NAMES
    expected = mmattn.localize(NET, photos)
    by_file = {i['id']: i['file_name'] for i in coco['images']}
    for found in coco['annotations']:
        same = next(i for i in expected if i.path == photos / by_file[found['image_id']])
        x, y, w, h = found['bbox']
        assert (x, y) == same.boxes_xyxy[0][:2]
        assert (x + w, y + h) == pytest.approx(same.boxes_xyxy[0][2:], abs=0.011)
        assert found['category_id'] == same.label + 1
        assert found['score'] == pytest.approx(same.score, abs=1e-6)
        assert found['area'] == pytest.approx(w * h, abs=0.5)
    lines = (out / 'per_image.jsonl').read_text().splitlines()
    assert not any(json.loads(line)['sweep'] for line in lines)  # there is nothing to hit
    rows = list(csv.DictReader((out / 'boxes.csv').open(newline='')))
    assert [row['image'] for row in rows] == ['a.png', 'b.jpg', 'broken.png', 'in/c.png']
    assert rows[0]['class'] in NAMES
    assert 'cannot decode' in rows[2]['error']
    drawn = sorted(
        p.relative_to(out / 'overlays').as_posix() for p in out.rglob('overlays/**/*.png')
    )
    assert drawn == ['a.png.png', 'b.jpg.png', 'in/c.png.png']
    assert Image.open(out / 'overlays/a.png.png').size == (2 * 300 + 8, 225)
    page = (out / 'report.html').read_text()
    assert page.count('<figure class="card"') == 3
    for word in ('boxes.csv', 'cannot decode', 'id="threshold"', 'score'):
        assert word in page
    for word in ('gt_known', 'IoU&nbsp;', 'id="box"', 'bootstrap'):
        assert word not in page
    assert call(NET, *options) == 2
    assert 'continue them with --resume' in capsys.readouterr().err
    assert call(NET, *options, '--resume') == 1


def test_what_it_writes_is_an_annotation_file(tmp_path, photos):
    (photos / 'broken.png').unlink()
    out = tmp_path / 'out'
    assert call(NET, '--images', photos, '--work-dir', out, '--workers', 0, '--overlays', 0) == 0
    assert not (out / 'overlays').exists()
    found = load_annotations(out / 'boxes.json', photos, num_classes=4)
    assert found.problems == ()
    assert len(found.images) == 3
    scored = mmattn.localize(NET, photos, out / 'boxes.json')
    assert [image.iou for image in scored] == pytest.approx([1] * 3, abs=1e-3)
    assert scored.metrics['top1_cls'] == 1


def test_files_globs_and_one_class(tmp_path, photos):
    out = tmp_path / 'out'
    given = ['--images', photos / '[ab].*', photos / 'in/c.png', photos / 'a.png']
    options = ['--label', 2, '--overlays', 1, '--work-dir', out, '--workers', 0]
    assert call(NET, *given, *options) == 0
    coco = json.loads((out / 'boxes.json').read_text())
    assert [i['file_name'] for i in coco['images']] == ['a.png', 'b.jpg', 'in/c.png']
    assert {a['category_id'] for a in coco['annotations']} == {3}
    assert [p.name for p in (out / 'overlays').iterdir()] == ['a.png.png']


@pytest.mark.parametrize(
    ('extra', 'message'),
    [
        (['--images', 'nowhere'], 'images: nowhere is no file, no folder and matches no image'),
        (['--label', '9'], 'label must be 0 to 3, got 9'),
        (['--classes', 'cat', 'dog'], 'classes names 2 classes and the classifier has 4'),
        (
            ['--classes', 'cat', '--synsets', 'x'],
            'with --synsets or with --classes, not with both',
        ),
        (['--compare', 'x'], '--compare needs --annotations'),
        (['--format', 'coco'], '--format needs --annotations'),
        (['--steps', 'all'], '--steps all needs --annotations or --show'),
        (['--overlays', '-1'], 'overlays must be 0 or more, got -1'),
        (['--annotations', 'x', '--label', '1'], '--label is for images without annotations'),
        (['--annotations', 'x', '--images', 'a', 'b'], '--images must be one folder'),
    ],
)
def test_bad_input_is_one_sentence(tmp_path, photos, capsys, extra, message):
    assert call(NET, '--images', photos, '--work-dir', tmp_path / 'out', *extra) == 2
    err = capsys.readouterr().err.strip()
    assert message in err
    assert '\n' not in err


def test_a_file_of_python_is_a_model(tmp_path, photos):
    net = tmp_path / 'my_net.py'
    net.write_text(
        'from tests.localization.nets import gap_net\n'
        'def make():\n'
        "    return gap_net(2), dict(input_size=(32, 32), classes=('ant', 'bee'))\n"
    )
    out = tmp_path / 'out'
    options = ['--images', photos / 'a.png', '--work-dir', out, '--workers', 0]
    assert call(f'python:{net}:make', *options) == 0
    assert list(json.loads((out / 'summary.json').read_text())['classes'])[0] in ('ant', 'bee')


def test_show_has_the_names_of_the_command_line(tmp_path, photos, capsys):
    options = ['--label', 2, '--work-dir', tmp_path / 'out']
    assert call(NET, '--show', photos / 'a.png', '--classes', *NAMES, *options) == 0
    assert 'a_gradcam.png: red panda (' in capsys.readouterr().out
    assert call(NET, '--show', photos / 'a.png', '--classes', 'cat', *options) == 2
    assert 'classes names 1 classes and the classifier has 4' in capsys.readouterr().err


def test_several_classes_in_an_image_are_scored_one_by_one(tmp_path, photos, capsys):
    boxes = [[1, 2, 10, 10], [5, 5, 20, 20], [0, 0, 9, 9]]
    found = [
        dict(image_id=1, category_id=c, bbox=[x, y, u - x, v - y])
        for c, (x, y, u, v) in zip((3, 1, 3), boxes)
    ]
    data = dict(
        images=[dict(id=1, file_name='a.png', width=40, height=30)],
        annotations=found,
        categories=[dict(id=i, name=name) for i, name in enumerate(NAMES, 1)],
    )
    (tmp_path / 'coco.json').write_text(json.dumps(data))
    for name in ('b.jpg', 'broken.png', 'in/c.png'):
        (photos / name).unlink()
    out = tmp_path / 'out'
    options = ['--images', photos, '--annotations', tmp_path / 'coco.json', '--workers', 0]
    assert call(NET, *options, '--work-dir', out) == 0
    assert 'images                 2' in capsys.readouterr().out
    lines = [json.loads(line) for line in (out / 'per_image.jsonl').read_text().splitlines()]
    assert [(line['key'], line['label']) for line in lines] == [
        ('a.png (red panda)', 2),
        ('a.png (dog)', 0),
    ]
    assert sum(line['label'] in line['top5'][:1] for line in lines) <= 1
    assert (out / 'report.html').read_text().count('<figure class="card"') == 2


class Terminal(io.StringIO):
    def isatty(self):
        return True


RESULTS = [
    [ImageResult('a', 1, (1,), 0.9)],
    [ImageResult('b', 1, (2,), 0.9), ImageResult('c', 1, error='x')],
]


@pytest.mark.parametrize(
    ('screen', 'processes', 'bar'),
    [(Terminal(), 1, True), (Terminal(), 2, False), (io.StringIO(), 1, False)],
    ids=['terminal', 'terminal, several processes', 'log'],
)
def test_a_bar_on_a_terminal_and_lines_in_a_log(monkeypatch, screen, processes, bar):
    pytest.importorskip('rich')
    lines = []
    monkeypatch.setattr('sys.stderr', screen)
    monkeypatch.setattr('mmattn.core.progress.get_dist_info', lambda: (0, processes))
    monkeypatch.setattr(
        'mmattn.localization.progress.print_log', lambda text, _: lines.append(text)
    )
    monkeypatch.setenv('TERM', 'xterm')
    monkeypatch.setenv('COLUMNS', '160')
    with ResultProgress(3, Settings()) as progress:
        for results in RESULTS:
            progress.add(results)
    shown = screen.getvalue() if bar else '\n'.join(lines)
    assert '3/3' in shown
    assert ' images/s' in shown
    assert 'gt_known 1.000  1 unreadable' in shown
    assert (screen.getvalue() != '') == bar
    assert (lines == []) == bar


def test_no_metrics_without_true_boxes(monkeypatch):
    lines = []
    monkeypatch.setattr(
        'mmattn.localization.progress.print_log', lambda text, _: lines.append(text)
    )
    ResultProgress(1, Settings(), judged=False, every=0).add([ImageResult('a', 1, (1,))])
    assert lines[0].startswith('[1/1] ')
    assert lines[0].endswith(' left')
