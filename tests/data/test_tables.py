"""Tables as spreadsheets and editors save them: byte order marks, other delimiters and columns."""

import pytest

from mmattn.core.text import read_lines
from mmattn.data.tables import kaggle_entries

ROWS = [['ImageId', 'PredictionString'], ['a', 'cat 1 2 10 12'], ['b', 'dog 5 5 20 20']]


def save(tmp_path, delimiter=',', encoding='utf-8', end='\n', rows=ROWS):
    path = tmp_path / 'loc.csv'
    path.write_bytes(''.join(delimiter.join(row) + end for row in rows).encode(encoding))
    return path


@pytest.mark.parametrize('delimiter', [',', ';', '\t', '|'])
@pytest.mark.parametrize('encoding', ['utf-8', 'utf-8-sig'])
@pytest.mark.parametrize('end', ['\n', '\r\n'])
def test_every_way_to_save_it_reads_alike(tmp_path, delimiter, encoding, end):
    found = kaggle_entries(save(tmp_path, delimiter, encoding, end))
    assert [entry.key for entry in found.entries] == ['a', 'b']
    assert found.faults == ()


@pytest.mark.parametrize(
    'first, message',
    [
        (['ImageID', 'PredictionString'], r"it has 'ImageID', 'PredictionString', did you mean"),
        (['ImageId', 'Boxes'], r"ImageId and PredictionString, it has 'ImageId', 'Boxes'"),
        ([], 'it has nothing'),
    ],
)
def test_a_missing_column_is_named(tmp_path, first, message):
    path = save(tmp_path, rows=[first, *ROWS[1:]])
    with pytest.raises(ValueError, match=f'loc.csv: the first line must name the .*{message}'):
        kaggle_entries(path)


def test_another_encoding_is_named_with_its_line(tmp_path):
    path = save(tmp_path, encoding='latin-1', rows=[*ROWS, ['ü', 'cat 1 2 3 4']])
    with pytest.raises(ValueError, match='loc.csv.* line 4'):
        kaggle_entries(path)


def test_a_class_list_of_notepad(tmp_path):
    path = tmp_path / 'synsets.txt'
    path.write_bytes('red\r\nblue\r\n'.encode('utf-8-sig'))
    assert read_lines(path) == ['red', 'blue']
