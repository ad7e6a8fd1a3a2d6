"""Everything a study leaves to read: tables, plots and one page."""

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2

from mmattn.core.text import write_text
from mmattn.study.plots import draw_curves, draw_pareto
from mmattn.study.summary import write_tables

__all__ = ['write_report']


def write_report(found: Mapping[str, Any], out: Path) -> None:
    """Write tables, ``pareto.png``, ``curves.png`` and ``report.html``.

    Args:
        found: What :func:`.summarize` gave.
        out: The folder.
    """
    out.mkdir(parents=True, exist_ok=True)
    write_tables(found, out)
    if not found['rows']:
        return
    images = {}
    for name, draw in (('pareto', draw_pareto), ('curves', draw_curves)):
        path = out / f'{name}.png'
        if draw(found, path):
            data = base64.b64encode(path.read_bytes()).decode()
            images[name] = f'data:image/png;base64,{data}'
    main = found['figure']
    ends = [
        abs(row['figures'][main][end])
        for row in found['rows']
        for end in ('low', 'high')
        if main in row['figures'] and row['figures'][main].get(end) is not None
    ]
    template = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True
    ).get_template('report.html.j2')
    page = template.render(
        found=found,
        scale=60 / max([*ends, 1e-9]),
        names=[name for name in found.get('figures', ()) if name != main],
        **images,
    )
    write_text(out / 'report.html', page)
