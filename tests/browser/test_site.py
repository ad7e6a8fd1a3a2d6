"""The site of the documentation and the README in a real browser, at a desk and on a phone."""

from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
WIDTHS = (1300, 390)
# Enough of how GitHub shows a README: its column, its letters, its tables and blocks of code.
COLUMN = 836
GITHUB = f"""<!doctype html><meta charset="utf-8"><style>
body {{ width: {COLUMN}px; margin: 0; font: 16px/1.5 "Noto Sans", Helvetica, Arial, sans-serif }}
table {{ display: block; width: max-content; max-width: 100%; overflow: auto }}
td, th {{ padding: 6px 13px; border: 1px solid }}
code {{ font: 85% monospace; padding: .2em .4em }}
pre {{ padding: 16px; overflow: auto; margin: 0 }} pre code {{ padding: 0 }}
img {{ max-width: 100% }}
</style>"""


@pytest.fixture(scope='module')
def site(tmp_path_factory):
    """The built site: a warning of Sphinx fails here."""
    for name in ('sphinx', 'myst_parser', 'furo'):
        pytest.importorskip(name, reason=f'{name} is not installed (requirements/docs.txt)')
    from docs import build

    out = tmp_path_factory.mktemp('site')
    assert build.main(['--out', str(out)]) == 0
    return out / 'html'


@pytest.fixture
def open_page(browser):
    """``open_page(file, width)``: the page, and the list its faults are written to."""
    pages = []

    def open_page(file, width):
        page = browser.new_page(viewport=dict(width=width, height=900))
        pages.append(page)
        faults = []
        page.on('pageerror', lambda error: faults.append(str(error)))
        page.on('console', lambda said: faults.append(said.text) if said.type == 'error' else None)
        page.on('request', lambda asked: faults.extend(remote(asked.url)))
        page.goto(Path(file).as_uri())
        return page, faults

    yield open_page
    for page in pages:
        page.close()


def remote(url):
    return [] if url.startswith(('file:', 'data:')) else [f'asks the network for {url}']


@pytest.mark.parametrize('width', WIDTHS)
def test_no_page_of_the_site_has_a_fault(site, open_page, width):
    files = sorted(site.rglob('*.html'))
    assert len(files) > 50
    page, faults = open_page(files[0], width)
    for file in files:
        page.goto(file.as_uri())
        faults.extend(faults_of(page, width))
        assert not faults, file


def faults_of(page, width):
    """What a person at this width would stumble over."""
    wide = page.evaluate('document.documentElement.scrollWidth')
    if wide > width:
        yield f'{wide} pixels wide'
    drawn = 'svg:not(svg svg):not(.sphinx-hidden):not([aria-hidden]):not(symbol svg)'
    yield from page.evaluate(
        """drawn => [
            ...[...document.images].filter(i => !i.alt).map(i => 'no alternative text: ' + i.src),
            ...[...document.images].filter(i => !i.naturalWidth).map(i => 'broken: ' + i.src),
            ...[...document.querySelectorAll('article ' + drawn)]
                .filter(i => !i.getAttribute('aria-label'))
                .map(i => 'a drawing without words: ' + i.outerHTML.slice(0, 60)),
        ]""",
        drawn,
    )


def test_a_method_is_found_from_the_first_page(site, open_page):
    """By the links a reader has: sidebar, table of methods, the method's page."""
    page, faults = open_page(site / 'index.html', 1300)
    page.click('.sidebar-tree a:text-is("Methods")')
    page.click('article a:text-is("CBAM")')
    assert page.title().startswith('CBAM')
    for heading in ('What it computes', 'Where it sits', 'In one line', 'Cost', 'Accuracy'):
        assert page.is_visible(f'article h2:has-text("{heading}")')
    assert not faults


def test_search_needs_no_server(site, open_page):
    page, faults = open_page(site / 'search.html', 390)
    page.goto((site / 'search.html').as_uri() + '?q=localization')
    page.wait_for_selector('#search-results li a')
    assert not faults


def test_no_table_and_no_code_of_the_readme_scrolls_sideways(tmp_path, open_page):
    markdown = pytest.importorskip('markdown_it', reason='markdown-it-py is not installed')
    text = (ROOT / 'README.md').read_text()
    html = markdown.MarkdownIt('commonmark').enable('table').render(text)
    (tmp_path / 'page.html').write_text(GITHUB + html)
    page, _ = open_page(tmp_path / 'page.html', COLUMN)
    wide = page.evaluate(
        """() => [...document.querySelectorAll('table, pre')]
            .filter(part => part.scrollWidth > part.clientWidth)
            .map(part => part.scrollWidth + ': ' + part.innerText.slice(0, 80))"""
    )
    assert not wide
