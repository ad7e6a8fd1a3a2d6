"""What the README shows runs, and every page it links to is there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob('*.md'), *ROOT.glob('docs/*.md'), *ROOT.glob('configs/*/README.md')])


def test_the_call_runs_and_prints_what_the_readme_shows(capsys):
    pytest.importorskip('mmdet')
    text = (ROOT / 'README.md').read_text()
    (code,) = re.findall(r'```python\n(.+?)```', text, re.DOTALL)
    (shown,) = re.findall(r'```\n(CBAM: init.+?)```', text, re.DOTALL)
    exec(code, {})
    lines = capsys.readouterr().out
    assert lines[lines.index('CBAM: ') :] == shown


@pytest.mark.parametrize('page', PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    links = re.findall(r'\]\(([^)#:]+)(?:#[^)]*)?\)', page.read_text())
    missing = [link for link in links if not (page.parent / link).exists()]
    assert not missing


def test_every_page_is_reachable_from_the_readme():
    seen, todo = set(), [ROOT / 'README.md']
    while todo:
        page = todo.pop()
        seen.add(page)
        for link in re.findall(r'\]\(([^)#:]+)', page.read_text()):
            target = (page.parent / link).resolve()
            if target.suffix == '.md' and target not in seen:
                todo.append(target)
    assert set(PAGES) - seen - {ROOT / 'README.md'} == set()
