"""What the plot of a study shows."""

import pytest

from mmattn.study import plots


def row(label, latency, difference=None, **cell):
    figures = {'AP': {} if difference is None else dict(difference=difference, **cell)}
    return dict(
        label=label, cost={} if latency is None else dict(latency=latency), figures=figures
    )


def test_methods_are_numbered_from_the_largest_gain_on(tmp_path, monkeypatch):
    drawn = []
    make = plots._figure
    monkeypatch.setattr(plots, '_figure', lambda *size: drawn.append(make(*size)) or drawn[-1])
    alike = dict(verdict='no difference', low=-1.0, high=3.0)
    rows = [
        row('plain', 1.0),
        row('SE', 1.1, 1.0, **alike),
        row('CBAM', 1.3, 2.0, verdict='better', low=0.5, high=3.5),
        row('SSIA', 1.0, -2.0, verdict='worse'),
        row('not timed', None, 3.0, **alike),
    ]
    assert plots.draw_pareto(dict(figure='AP', rows=rows), tmp_path / 'pareto.png')
    assert (tmp_path / 'pareto.png').stat().st_size > 5000
    (legend,), (axes,) = drawn[0].legends, drawn[0].axes
    names = [text.get_text() for text in legend.get_texts()]
    assert names == ['plain', '1  CBAM', '2  SE', '3  SSIA']
    places = {text.get_text(): text.xy for text in axes.texts}
    assert places == {'1': (1.3, 2.0), '2': (1.1, 1.0), '3': (1.0, -2.0)}


@pytest.mark.parametrize('rows', [[row('plain', 1.0)], [row('plain', None), row('SE', None, 1.0)]])
def test_nothing_to_draw(rows, tmp_path):
    assert not plots.draw_pareto(dict(figure='AP', rows=rows), tmp_path / 'pareto.png')
    assert not (tmp_path / 'pareto.png').exists()
