"""docs/reproduce.md is what its command prints, and complete."""

import re
from collections import Counter

import pytest
import yaml

from mmattn.analysis.reproduce import as_page, read_papers
from tests.commands import ROOT, printed_by, run_command

PAPERS = read_papers(ROOT / 'model-index.yml')
ROWS = [row for paper in PAPERS for table in paper.tables.values() for row in table.rows]
# folders whose READMEs repeat figures of their papers
FOLDERS = ('aw_classification', 'aw_fpn', 'ssia', 'tdam', 'autoencoder_report')


def test_the_page_is_what_the_command_prints():
    page = (ROOT / 'docs/reproduce.md').read_text()
    assert page == printed_by('analysis_tools/reproduce.py')


def test_a_page_that_cannot_be_written_ends_in_a_sentence(tmp_path, capsys):
    (tmp_path / 'file').touch()
    assert run_command('analysis_tools/reproduce.py', '--out', tmp_path / 'file/page.md') == 1
    assert capsys.readouterr().err.startswith('reproduce: ')


def test_the_five_documents_are_there():
    titles = ' '.join(paper.title for paper in PAPERS)
    for word in ('Attention Module', 'Implicit', 'TDAM', 'course report', 'survey'):
        assert word in titles


def test_every_row_has_a_config_and_a_command_or_a_reason():
    for row in ROWS:
        assert bool(row.config) == bool(row.command) != bool(row.why), row
        if row.config:
            assert (ROOT / row.config).is_file()
            assert row.config in row.command
            tool = re.search(r'tools/\S+', row.command)[0]
            assert (ROOT / tool).is_file()


def test_no_row_is_there_twice():
    for paper in PAPERS:
        for table in paper.tables.values():
            names = Counter(row.name for row in table.rows)
            assert max(names.values(), default=1) == 1, (table.name, names.most_common(1))


@pytest.mark.parametrize(
    'title, table, figures',
    [
        ('An Attention Module', 'Table 1', 17),
        ('An Attention Module', 'Table 2', 11),
        ('An Attention Module', 'Table 3', 6),
        ('Implicit', 'Table 3', 21),
        ('Implicit', 'Table 4', 6),
        ('Implicit', 'Table 5', 20),
        ('TDAM', 'ImageNet-V2', 5),
        ('TDAM', 'Weakly supervised localization', 8),
        ('course report', 'Table 1', 9),
    ],
)
def test_the_tables_have_all_their_figures(title, table, figures):
    (paper,) = (p for p in PAPERS if title in p.title)
    assert sum(bool(row.figure) for row in paper.tables[table].rows) == figures


@pytest.mark.parametrize('folder', FOLDERS)
def test_readmes_repeat_no_other_figures_than_the_metafiles(folder):
    text = (ROOT / f'configs/{folder}/README.md').read_text()
    cells = [
        cell for line in text.splitlines() if line.startswith('|') for cell in line.split('|')
    ]
    cells = [re.sub(r'\([\d.]+( M)?\)|\]\(\S+\)', ' ', cell) for cell in cells]  # counts, links
    shown = set(re.findall(r'(?<![\d.,])(?:\d\d\.\d\d|\.\d{3})(?!\d)', ' '.join(cells)))
    held = set(re.findall(r'[\d.]+', ' '.join(row.figure + row.name for row in ROWS)))
    assert shown
    assert shown - held == set()


def write(tmp_path, rows, tables=({'Name': 'Table 1', 'Text': 'top-1'},)):
    paper = dict(Name='A', Paper=dict(Title='Paper'), Tables=list(tables))
    model = dict({'Name': 'x', 'In Collection': 'A', 'Config': 'configs/x_4xb8_y.py'}, Rows=rows)
    (tmp_path / 'metafile.yml').write_text(yaml.dump(dict(Collections=[paper], Models=[model])))
    (tmp_path / 'index.yml').write_text('Import:\n  - metafile.yml\n')
    return tmp_path / 'index.yml'


def test_a_row_by_hand(tmp_path):
    row = dict(Table='Table 1', Row='ours', Figure='76.50', Measured='76.1')
    page = as_page(read_papers(write(tmp_path, [row])))
    assert page.endswith(
        '## Paper\n\n### Table 1: top-1\n\n| row | paper | config | command | measured |\n'
        '|---|---|---|---|---|\n| ours | 76.50 | [config](../configs/x_4xb8_y.py) | '
        '`bash tools/dist_train.sh configs/x_4xb8_y.py 4` | 76.1 |\n'
    )


@pytest.mark.parametrize(
    'row, message',
    [
        (dict(Table='Table 2', Row='a'), r"'a' is of no table 'Table 2', did you mean 'Table 1'"),
        (dict(Table='Table 1', Row='a', Figur='1'), r"no key 'Figur', did you mean 'Figure'"),
    ],
)
def test_a_wrong_row_is_refused(tmp_path, row, message):
    with pytest.raises(ValueError, match=message):
        read_papers(write(tmp_path, [row]))
