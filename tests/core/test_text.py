import os

import pytest

from mmattn.core import text
from mmattn.core.text import read_json, read_lines, read_text, write_text


@pytest.mark.parametrize(
    'data, lines',
    [
        (b'a\nb\n', ['a', 'b']),
        (b'\xef\xbb\xbfa\r\nb', ['a', 'b']),
        ('é\u2028x\n\n'.encode(), ['é\u2028x', '']),
        (b'', []),
    ],
    ids=['plain', 'mark and Windows line ends', 'only line feeds end lines', 'empty'],
)
def test_lines(tmp_path, data, lines):
    (tmp_path / 'file.txt').write_bytes(data)
    assert read_lines(tmp_path / 'file.txt') == lines


def test_line_ends_are_kept_on_request(tmp_path):
    (tmp_path / 'file.csv').write_bytes(b'\xef\xbb\xbfa,b\r\n')
    assert read_text(tmp_path / 'file.csv', newline='') == 'a,b\r\n'


@pytest.mark.parametrize(
    'data, match',
    [
        (b'a\nb\n\xe9t\xe9\n', r'file\.txt: line 3 is not UTF-8 text \(byte 0xe9\)'),
        ('a\nb'.encode('utf-16'), r'file\.txt is UTF-16 text'),
    ],
)
@pytest.mark.parametrize('read', [read_text, read_lines, read_json])
def test_other_encodings_are_named(tmp_path, data, match, read):
    (tmp_path / 'file.txt').write_bytes(data)
    with pytest.raises(ValueError, match=match):
        read(tmp_path / 'file.txt')


def test_json(tmp_path):
    file = tmp_path / 'file.json'
    file.write_bytes(b'\xef\xbb\xbf{"a": "\xc3\xa9"}')
    assert read_json(file) == {'a': 'é'}
    file.write_text('{"a": 1,\n "b": }')
    with pytest.raises(ValueError, match=r'file\.json is not JSON: line 2, column 7: Expecting'):
        read_json(file)
    file.write_text('[' * 200000)
    with pytest.raises(ValueError, match=r'file\.json: its JSON is nested too deeply'):
        read_json(file)


def test_a_missing_file_stays_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'gone\.txt'):
        read_text(tmp_path / 'gone.txt')


def test_written_in_one_piece(tmp_path, monkeypatch):
    file = tmp_path / 'new' / 'file.txt'
    write_text(file, 'é\n')
    assert file.read_bytes() == 'é\n'.encode()

    def fail(source, target):
        raise OSError('No space left on device')

    monkeypatch.setattr(text.os, 'replace', fail)
    with pytest.raises(OSError, match='No space left'):
        write_text(file, 'x' * 100)
    assert file.read_text(encoding='utf-8') == 'é\n'
    assert os.listdir(file.parent) == ['file.txt']


def test_names_that_are_not_utf8_are_written_as_they_are(tmp_path):
    write_text(tmp_path / 'list.txt', os.fsdecode(b'caf\xe9.jpg'))
    assert (tmp_path / 'list.txt').read_bytes() == b'caf\xe9.jpg'


def test_a_file_is_replaced_in_one_step(tmp_path, monkeypatch):
    file = tmp_path / 'run.json'
    write_text(file, 'old')

    def full(*_):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(os, 'fsync', full)
    with pytest.raises(OSError, match='No space left'):
        write_text(file, 'new')
    assert [p.name for p in tmp_path.iterdir()] == ['run.json']
    assert file.read_text() == 'old'
