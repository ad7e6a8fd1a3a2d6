"""What the README shows runs, and every page it links to is there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob('*.md'), *ROOT.glob('docs/*.md'), *ROOT.glob('configs/*/README.md')])


def test_the_ten_lines_run(monkeypatch, capsys):
    (code,) = re.findall(r'```python\n(.+?)```', (ROOT / 'README.md').read_text(), re.DOTALL)
    monkeypatch.chdir(ROOT)
    space = {}
    exec(code, space)
    gates = [m for m in space['model'].modules() if type(m).__name__ == 'CBAM']
    assert len(gates) == 13  # 4 + 6 + 3 blocks
    assert type(space['model'].neck).__name__ == 'AWFPN'
    assert int(capsys.readouterr().out.split()[-1]) > 40e6


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
