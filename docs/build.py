"""Build the site of the documentation, from the Markdown of the project: no network is needed.

    python docs/build.py                     # into build/docs, warnings are errors
    python docs/build.py --out /tmp/site

The pages are laid out in OUT/source (docs, configs and changelog as they stand, a page for each
method, the notebooks as text) and built with Sphinx into OUT/html.
"""

import argparse
import shutil
import sys
from pathlib import Path

from sphinx.cmd.build import build_main

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / 'docs')]

from docsite.pages import lay_out  # noqa: E402  (it lies beside this file)


def main(argv: list[str] | None = None) -> int:
    """Run the tool; returns the exit code: 0 when there was no warning."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--out', type=Path, default=ROOT / 'build' / 'docs', help='(%(default)s)')
    args = parser.parse_args(argv)
    source, html = args.out / 'source', args.out / 'html'
    shutil.rmtree(source, ignore_errors=True)
    shutil.rmtree(html, ignore_errors=True)
    pages = lay_out(ROOT, source)
    print(f'{len(pages)} pages')
    options = ['-W', '--keep-going', '-q', '-b', 'html', '-d', str(args.out / 'doctrees')]
    code = build_main([*options, '-E', '-c', str(ROOT / 'docs'), str(source), str(html)])
    if code == 0:
        print(f'open {html / "index.html"}')
    return code


if __name__ == '__main__':
    sys.exit(main())
