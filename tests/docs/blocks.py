"""The blocks of code on the pages, each with what a test does to it."""

import json
import re
import textwrap
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob('*.md'), *ROOT.glob('docs/*.md'), *ROOT.glob('configs/*/README.md')])
BLOCK = re.compile(
    r'(?:^ *<!-- not run: (?P<reason>.+?) -->\n)?^(?P<indent> *)```(?P<kind>\w*)\n'
    r'(?P<code>.*?)^ *```$',
    re.MULTILINE | re.DOTALL,
)


class Block(NamedTuple):
    """A block: its page, its language, its text, and why it is not run, where it is not."""

    page: Path
    kind: str
    code: str
    reason: str | None
    line: int

    @property
    def id(self):
        return f'{self.page.relative_to(ROOT)}:{self.line}'


def blocks(kind, pages=None):
    """Every block of a language, in the order of the pages."""
    found = []
    for page in PAGES if pages is None else pages:
        text = page.read_text()
        for match in BLOCK.finditer(text):
            line = text.count('\n', 0, match.start('code'))
            code = textwrap.dedent(match['code'])
            if match['kind'] == kind:
                found.append(Block(page, kind, code, match['reason'], line))
    return found


def reader(folder):
    """What a page takes for granted in the reader's folder: images and their boxes."""
    folder = Path(folder)
    (folder / 'photos').mkdir(parents=True)
    random, entries = np.random.default_rng(0), []
    for name in ('a.png', 'b.png'):
        cv2.imwrite(str(folder / 'photos' / name), random.integers(0, 255, (48, 64, 3), 'uint8'))
        entries.append(dict(file=name, label=0, width=64, height=48, boxes=[[8, 8, 40, 40]]))
    (folder / 'boxes.json').write_text(json.dumps(entries))


def commands(code):
    """The commands of a shell block, each a line, without comments."""
    joined = code.replace('\\\n', ' ')
    lines = (line.strip() for line in joined.splitlines())
    return [line for line in lines if line and not line.startswith('#')]
