"""Runs notebooks without Jupyter: their cells in order, in one session."""

import contextlib
import io


def run_notebook(notebook):
    """Run every cell of code; yields ``(cell, what it printed)``."""
    names = {'__name__': '__main__'}
    for number, cell in enumerate(notebook['cells']):
        if cell['cell_type'] == 'code':
            code = compile(''.join(cell['source']), f'cell {number}', 'exec')
            with contextlib.redirect_stdout(io.StringIO()) as said:
                exec(code, names)
            yield cell, said.getvalue()
