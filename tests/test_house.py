"""Which room may import which: arrows run downward only, and the face is imported by nobody."""

import ast
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MM = {'mmdet', 'mmcv', 'mmpretrain'}  # mmengine is allowed everywhere
BELOW = 'all below'

Room = namedtuple('Room', 'floor imports frameworks reason')
# frameworks: those a module may import at its top; inside functions every room may.
ROOMS = {
    'core': Room(0, (), set(), 'the ground: what every room may use'),
    'registry': Room(1, ('core',), set(), 'mmengine imports <scope>.registry by itself'),
    'layers': Room(2, ('core', 'registry'), set(), 'gates, for people without a detector too'),
    'convs': Room(
        2, ('core', 'registry', 'layers'), set(), 'an attention convolution is made of gates'
    ),
    'data': Room(2, ('core', 'registry'), set(), 'one reader, for people without a detector too'),
    'localization': Room(3, ('core', 'data'), set(), 'any classifier, no framework around it'),
    'backbones': Room(
        4, ('core', 'registry', 'layers', 'convs'), MM, 'whole parts of mmdet and mmpretrain'
    ),
    'necks': Room(4, ('core', 'registry', 'layers', 'convs'), MM, 'as backbones'),
    'heads': Room(4, ('core', 'registry', 'layers', 'convs'), MM, 'as backbones'),
    'auxiliary': Room(4, ('core', 'registry', 'layers'), set(), 'losses of the training only'),
    'classifiers': Room(
        4,
        ('core', 'registry', 'localization', 'backbones'),
        MM,
        'classifiers that look at an image more than once',
    ),
    'evaluation': Room(4, ('core', 'registry', 'data'), MM, 'metrics, registered for mmdet'),
    'datasets': Room(
        4, ('core', 'registry', 'data'), MM, 'data sets of the frameworks, registered for a runner'
    ),
    'deploy': Room(4, ('core', 'layers', 'convs'), set(), 'changes any trained network'),
    'analysis': Room(
        4,
        ('core', 'registry', 'layers', 'convs', 'localization', 'backbones'),
        set(),
        "counts and watches any network, among them the papers' own",
    ),
    'insertion': Room(5, BELOW, MM, 'which method goes where in which network'),
    'testing': Room(5, BELOW, MM, 'the contract of a gate, for methods made elsewhere'),
    'study': Room(6, BELOW, MM, 'methods x seeds -> runs -> statistics -> report'),
    'cli': Room(6, BELOW, MM, 'what the command lines share'),
    'tools': Room(7, BELOW, MM, 'parses, calls, prints'),
    'benchmarks': Room(7, BELOW, MM, 'parses, calls, prints'),
}
Import = namedtuple('Import', 'room where target framework top')


def allowed(name):
    """The rooms that a room may import."""
    room = ROOMS[name]
    if room.imports == BELOW:
        return {other for other, its in ROOMS.items() if its.floor < room.floor}
    return set(room.imports)


def room_of(path, root):
    """``mmattn/core/text.py`` -> ``core``; the face is ``''``."""
    parts = path.relative_to(root).with_suffix('').parts
    if parts[0] != 'mmattn':
        return parts[0]
    return '' if parts[1] == '__init__' else parts[1]


def imported(node):
    """The full names that an import statement asks for."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        base = '.' * node.level + (node.module or '')
        return [f'{base}.{alias.name}' for alias in node.names]
    return []


def walk(root):
    """Every import of the house."""
    for folder in ('mmattn', 'tools', 'benchmarks'):
        for path in sorted((root / folder).rglob('*.py')):
            if '.mim' in path.parts:  # links to tools and configs, made by an installation
                continue
            tree = ast.parse(path.read_text(encoding='utf-8'))
            inside = {
                child
                for node in ast.walk(tree)
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
                for child in ast.walk(node)
            }
            for node in ast.walk(tree):
                for name in imported(node):
                    first, *rest = name.split('.')
                    yield Import(
                        room_of(path, root),
                        f'{path.relative_to(root)}:{node.lineno}',
                        (rest[0] if rest else '') if first == 'mmattn' else None,
                        first,
                        node not in inside,
                    )


def offences(root):
    """A sentence for every import that the table does not allow."""
    found = []
    for entry in walk(root):
        if entry.room == '':  # the face names what is public
            if entry.target not in (None, *ROOMS):
                found.append(f'{entry.where}: the face imports {entry.target!r}, no room')
            continue
        if entry.room not in ROOMS:
            found.append(f'{entry.where}: {entry.room!r} is no room of the table')
            continue
        if entry.framework == '':
            found.append(f'{entry.where}: a relative import')
        elif entry.target is not None and entry.target not in ROOMS:
            if entry.room not in ('tools', 'benchmarks'):
                found.append(f'{entry.where}: {entry.room} imports the face of mmattn')
        elif entry.target not in (None, entry.room, *allowed(entry.room)):
            found.append(f'{entry.where}: {entry.room} may not import {entry.target}')
        if entry.framework in {'tools', 'benchmarks', 'tests'} and (
            entry.room not in ('tools', 'benchmarks')
        ):
            found.append(f'{entry.where}: {entry.room} imports {entry.framework}')
        if entry.top and entry.framework in MM - ROOMS[entry.room].frameworks:
            found.append(f'{entry.where}: {entry.room} imports {entry.framework} at its top')
    return found


def test_no_import_of_the_house_breaks_the_table():
    assert offences(ROOT) == []


def test_the_walk_sees_the_house():
    seen = {(entry.room, entry.target) for entry in walk(ROOT)}
    assert {('layers', 'core'), ('backbones', 'registry'), ('tools', 'cli'), ('', 'core')} <= seen


@pytest.mark.parametrize('name', ROOMS)
def test_arrows_of_the_table_run_downward(name):
    room = ROOMS[name]
    assert room.reason
    for other in allowed(name):
        assert ROOMS[other].floor <= room.floor
        assert name not in allowed(other), f'{name} and {other} import each other'


@pytest.mark.parametrize(
    'file, code, expected',
    [
        ('mmattn/core/x.py', 'import mmattn.layers.se', 'core may not import layers'),
        (
            'mmattn/core/x.py',
            'def f():\n    from mmattn.data import y',
            'core may not import data',
        ),
        ('mmattn/layers/x.py', 'from mmattn.convs import aw', 'layers may not import convs'),
        ('mmattn/layers/x.py', 'from mmcv.cnn import y', 'layers imports mmcv at its top'),
        ('mmattn/layers/x.py', 'def f():\n    import mmcv', None),
        ('mmattn/layers/x.py', 'if True:\n    import mmcv', 'layers imports mmcv at its top'),
        ('mmattn/localization/x.py', 'import mmpretrain', 'localization imports mmpretrain at'),
        ('mmattn/localization/x.py', 'from mmengine import y', None),
        ('mmattn/cli/x.py', 'from mmattn import fuse', 'cli imports the face of mmattn'),
        ('mmattn/cli/x.py', 'import mmattn', 'cli imports the face of mmattn'),
        ('mmattn/cli/x.py', 'from mmattn import data', None),
        ('mmattn/cli/x.py', 'from . import y', 'a relative import'),
        ('mmattn/cli/x.py', 'import tools.train', 'cli imports tools'),
        ('mmattn/cli/x.py', 'from mmattn.study import y', 'cli may not import study'),
        ('mmattn/attic/x.py', 'import os', "'attic' is no room of the table"),
        ('mmattn/attic.py', 'import os', "'attic' is no room of the table"),
        ('tools/x.py', 'from mmattn import localize', None),
    ],
)
def test_what_is_found(tmp_path, file, code, expected):
    path = tmp_path / file
    path.parent.mkdir(parents=True)
    path.write_text(code)
    found = offences(tmp_path)
    if expected is None:
        assert found == []
    else:
        assert len(found) == 1 and expected in found[0]


def test_import_mmattn_is_light(tmp_path):
    code = (
        'import sys, mmattn\n'
        "heavy = {'mmdet', 'mmcv', 'mmpretrain', 'mmengine', 'torch'} & set(sys.modules)\n"
        'assert not heavy, heavy\n'
    )
    result = subprocess.run(
        [sys.executable, '-c', code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env={'PYTHONPATH': ':'.join(sys.path), 'PATH': ''},
    )
    assert result.returncode == 0, result.stderr


def test_no_test_loads_a_tool_by_its_path():
    """They import the package, or run a command line: ``tests/commands.py``."""
    words = 'spec_from_file' + '_location'
    assert [path for path in ROOT.glob('tests/**/*.py') if words in path.read_text()] == []
