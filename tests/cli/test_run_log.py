"""Curves read back from a work dir, and files written in one piece."""

import json
import os

import pytest

from mmattn.cli.run_log import child_environment, read_scalars, write_json


def write_log(folder, name, lines):
    path = folder / name / 'vis_data' / 'scalars.json'
    path.parent.mkdir(parents=True)
    path.write_text('\n'.join(lines))


def test_the_parts_of_a_resumed_run_become_one_curve(tmp_path):
    first = [json.dumps(dict(step=s, loss=10.0 - s)) for s in (1, 2, 3)]
    second = [json.dumps(dict(step=s, loss=20.0 - s)) for s in (3, 4)]
    write_log(tmp_path, '20240101_000000', [*first, '{"step": 4, "lo'])  # killed while writing
    write_log(tmp_path, '20240101_000100', second)
    assert read_scalars(tmp_path) == {'loss': [(1, 9.0), (2, 8.0), (3, 17.0), (4, 16.0)]}


def test_a_work_dir_without_curves_gives_none(tmp_path):
    assert read_scalars(tmp_path) == {}


def test_merging_keeps_other_keys_and_replaces_its_own(tmp_path):
    path = tmp_path / 'deep' / 'summary.json'
    write_json(path, {'a': 1, 'b': 2})
    assert write_json(path, {'b': 3}, merge=True) == {'a': 1, 'b': 3}
    assert json.loads(path.read_text()) == {'a': 1, 'b': 3}
    write_json(path, {'c': 4})
    assert json.loads(path.read_text()) == {'c': 4}


def test_a_damaged_file_is_replaced_when_merging(tmp_path):
    path = tmp_path / 'summary.json'
    path.write_text('{"a": ')
    assert write_json(path, {'b': 1}, merge=True) == {'b': 1}


def test_content_that_cannot_be_written_leaves_the_old_file(tmp_path):
    path = tmp_path / 'summary.json'
    write_json(path, {'a': 1})
    with pytest.raises(TypeError, match='not JSON serializable'):
        write_json(path, {'a': object()})
    assert json.loads(path.read_text()) == {'a': 1}
    assert os.listdir(tmp_path) == ['summary.json']


def test_a_child_finds_this_mmattn_first():
    import mmattn

    environment = child_environment(ANSWER='42')
    first = environment['PYTHONPATH'].split(os.pathsep)[0]
    assert os.path.dirname(os.path.dirname(mmattn.__file__)) == first
    assert environment['ANSWER'] == '42'
