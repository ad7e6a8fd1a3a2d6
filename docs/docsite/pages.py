"""The sources of the site: the project's Markdown in one folder, its links brought along."""

import json
import re
import shutil
from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import Path

from docsite.api import api_page
from docsite.methods import method_pages

__all__ = ['SECTIONS', 'lay_out', 'sections']

# caption in the sidebar -> pages, as patterns; what no pattern names is under "More"
SECTIONS = {
    'Get started': ['install', 'first_detector', 'first_localizer'],
    'How to': [
        'data',
        'does_attention_help',
        'pretrained',
        'map_fell',
        'backbones',
        'own_method',
        'deploy',
        'visualization',
        'training',
        'compatibility',
        'reliability',
        'tools',
        'notebooks/*',
    ],
    'Methods': ['methods', 'tdam', 'ssia'],
    'Localization': ['localization'],
    'Reproduce': ['reproduce', 'datasets', 'costs', 'bccd', 'studies/index', 'configs/*'],
    'Reference': ['api', 'performance', 'faq', 'benchmarks', 'contributing', 'changelog'],
}
_LINK = re.compile(r'(\]\()([^)\s#:]*)((?:#[^)\s]*)?\))')


def lay_out(root: Path, source: Path) -> dict[Path, Path]:
    """Write the sources of the site; returns the page of every Markdown file.

    Args:
        root: the folder of the project.
        source: the folder to write; it must not exist.
    """
    pages = find_pages(root)
    texts = {}
    for file, page in pages.items():
        if file.suffix == '.ipynb':
            copy(file, source / page.with_suffix('.ipynb'))
        text = from_notebook(file) if file.suffix == '.ipynb' else None
        texts[page] = bring_links(root, file, page, pages, source, text)
    names = {}
    for name, text in method_pages(root).items():
        page, where = Path('methods', f'{name}.md'), root / 'docs' / 'methods' / f'{name}.md'
        texts[page] = bring_links(root, where, page, pages, source, text)
        names[name] = re.match('# (.+)', text)[1]
    listed = [f'methods/{name}' for name in names]
    texts[Path('methods.md')] += '\n## A page for each\n' + toctree('', listed, hidden=False)
    texts[Path('api.md')] = api_page(names)
    for caption, listed in sections(page.with_suffix('').as_posix() for page in texts).items():
        texts[Path('index.md')] += toctree(caption, listed)
    for page, text in texts.items():
        (source / page).parent.mkdir(parents=True, exist_ok=True)
        (source / page).write_text(text, encoding='utf-8')
    return pages


def find_pages(root: Path) -> dict[Path, Path]:
    """``{Markdown file or notebook of the project: page of the site}``."""
    docs = root / 'docs'
    pages = {file: file.relative_to(docs) for file in sorted(docs.glob('*.md'))}
    for file in sorted(docs.glob('notebooks/*.ipynb')):
        pages[file] = Path('notebooks', f'{file.stem}.md')
    for file in sorted(docs.glob('studies/**/*.md')):
        page = 'index' if file.parent.name == 'studies' else file.parent.name
        pages[file] = Path('studies', f'{page}.md')
    for file in sorted(root.glob('configs/*/README.md')):
        pages[file] = Path('configs', f'{file.parent.name}.md')
    pages[root / 'benchmarks' / 'README.md'] = Path('benchmarks.md')
    pages[root / 'CHANGELOG.md'] = Path('changelog.md')
    pages[root / 'CONTRIBUTING.md'] = Path('contributing.md')
    return pages


def bring_links(
    root: Path, file: Path, page: Path, pages: dict, source: Path, text: str | None = None
) -> str:
    """Return the text of a file with its links as they are from its page.

    A link to a page becomes one to the page, one to another file of the project takes the file
    along. One to a folder without a page is left out, its words stay.
    """
    text = file.read_text(encoding='utf-8') if text is None else text

    def replace(found: re.Match) -> str:
        opening, target, end = found.groups()
        if not target:
            return found[0]
        wanted = (file.parent / target).resolve()
        if wanted == root / 'README.md':
            wanted, end = root / 'docs' / ('methods.md' if 'methods' in end else 'index.md'), ')'
        if wanted.is_dir() and wanted / 'README.md' in pages:
            wanted = wanted / 'README.md'
        if wanted in pages:
            return opening + up(page) + pages[wanted].as_posix() + end
        if wanted.is_file() and root in wanted.parents:
            kept = Path('images', wanted.name) if wanted.suffix in ('.png', '.webp') else None
            kept = kept or Path('files', wanted.relative_to(root))
            copy(wanted, source / kept)
            return opening + up(page) + kept.as_posix() + end
        return f']({up(page)}index.md)'

    return _LINK.sub(replace, text)


def up(page: Path) -> str:
    """Return the way from a page to the top of the site."""
    return '../' * (len(page.parts) - 1)


def copy(file: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(file, target)


def sections(names: Iterable[str]) -> dict[str, list[str]]:
    """``{caption: pages}`` of every page but the first one and those of single methods."""
    left = [n for n in sorted(names) if n != 'index' and not n.startswith('methods/')]
    found = {}
    for caption, patterns in SECTIONS.items():
        found[caption] = []
        for pattern in patterns:
            fitting = [name for name in left if fnmatchcase(name, pattern)]
            found[caption] += fitting
            left = [name for name in left if name not in fitting]
    studies = [name for name in left if name.startswith('studies/')]
    found['Reproduce'] += studies
    found['More'] = [name for name in left if name not in studies]
    return {caption: listed for caption, listed in found.items() if listed}


def toctree(caption: str, names: Iterable[str], hidden: bool = True) -> str:
    """Return a table of contents for Sphinx."""
    options = ':hidden:\n' if hidden else ':maxdepth: 1\n'
    title = f':caption: {caption}\n' if caption else ''
    return f'\n```{{toctree}}\n{title}{options}\n' + '\n'.join(names) + '\n```\n'


def from_notebook(file: Path) -> str:
    """Return a notebook as Markdown: its words, its code and what the code printed."""
    parts = []
    for cell in json.loads(file.read_text(encoding='utf-8'))['cells']:
        text = ''.join(cell['source'])
        if cell['cell_type'] == 'markdown':
            parts.append(text)
            continue
        parts.append(f'```python\n{text}\n```')
        shown = [''.join(out['text']) for out in cell['outputs'] if 'text' in out]
        parts += [f'```text\n{out.rstrip()}\n```' for out in shown]
    # in a role of Sphinx, which a link to this page would not be: the file itself
    return '\n\n'.join([*parts, f'{{download}}`The notebook <{file.name}>`']) + '\n'
