"""What reaches a wheel, an sdist and an editable install, and that the pins are pins."""

import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
PACKED = ('configs', 'tools', 'model-index.yml')
CODE = 'from setuptools import build_meta; print(build_meta.{hook}({folder!r}))'


def names_under(folder, *parts):
    """Every file below the parts, relative to the folder, without compiled Python."""
    files = set()
    for part in parts:
        path = folder / part
        found = path.rglob('*') if path.is_dir() else [path]
        files |= {file.relative_to(folder).as_posix() for file in found if file.is_file()}
    return {name for name in files if '__pycache__' not in name}


@pytest.fixture(scope='module')
def tree(tmp_path_factory):
    """A copy of what a clone holds, for a build may write into its tree."""
    tree = tmp_path_factory.mktemp('clone') / 'mmattn'
    ignore = shutil.ignore_patterns('.*', '__pycache__', 'work_dirs', 'build', '*.egg-info')
    shutil.copytree(ROOT, tree, ignore=ignore)
    return tree


def build(tree, hook):
    """Call one of setuptools' PEP 517 hooks, as pip does; returns the file it made."""
    pytest.importorskip('setuptools', minversion='64')
    folder = tree.parent / hook
    code = CODE.format(hook=hook, folder=str(folder))
    folder.mkdir(exist_ok=True)
    done = subprocess.run([sys.executable, '-c', code], cwd=tree, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / done.stdout.splitlines()[-1]


@pytest.fixture(scope='module')
def editable(tree):
    build(tree, 'build_editable')
    build(tree, 'build_editable')  # again, over the links of the first time
    return tree


@pytest.fixture(scope='module')
def wheel(editable):
    """Built with pip in the tree that has an editable install's links, the harder case."""
    out = editable.parent / 'wheel'
    command = [sys.executable, '-m', 'pip', 'wheel', '.', '--no-deps', '--no-build-isolation']
    done = subprocess.run(
        [*command, '--no-index', '-w', str(out)], cwd=editable, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (file,) = out.iterdir()
    with zipfile.ZipFile(file) as opened:
        yield opened


def test_the_wheel_holds_the_package_and_what_mim_reads(wheel, tree):
    listed = {name for name in wheel.namelist() if '.dist-info/' not in name}
    package = {name for name in names_under(tree, 'mmattn') if '/.mim/' not in name}
    mim = {f'mmattn/.mim/{name}' for name in names_under(tree, *PACKED)}
    assert 'mmattn/.mim/model-index.yml' in mim
    assert 'mmattn/.mim/configs/aw_fpn/metafile.yml' in mim
    assert 'mmattn/.mim/tools/train.py' in mim
    assert listed == package | mim
    assert len(wheel.namelist()) == len(set(wheel.namelist()))


def test_the_wheel_requires_no_host(wheel):
    (metadata,) = (name for name in wheel.namelist() if name.endswith('/METADATA'))
    text = wheel.read(metadata).decode()
    required = re.findall(r'^Requires-Dist: ([\w-]+)(?!.*extra ==).*$', text, re.MULTILINE)
    assert sorted(required) == ['numpy', 'pycocotools', 'torch', 'torchvision']
    extras = re.findall(r'^Provides-Extra: (\w+)$', text, re.MULTILINE)
    assert sorted(extras) == [
        *('cls', 'demo', 'dev', 'docs', 'localization', 'onedl', 'openmmlab', 'study')
    ]


def test_the_version_is_the_packages(wheel):
    import mmattn

    assert f'mmattn-{mmattn.__version__}.dist-info/METADATA' in wheel.namelist()


def test_an_editable_install_links_what_mim_reads(editable):
    for name in PACKED:
        link = editable / 'mmattn' / '.mim' / name
        assert link.is_symlink()
        assert link.resolve() == (editable / name).resolve()
        assert not Path(os.readlink(link)).is_absolute()  # the folder can be moved
    config = editable / 'configs' / 'aw_fpn' / 'metafile.yml'
    linked = editable / 'mmattn' / '.mim' / 'configs' / 'aw_fpn' / 'metafile.yml'
    config.write_text(config.read_text() + '# edited\n')
    assert linked.read_text().endswith('# edited\n')


def test_the_sdist_can_build_the_same_wheel(editable):
    with tarfile.open(build(editable, 'build_sdist')) as opened:
        names = {name.split('/', 1)[-1] for name in opened.getnames()}
    for name in names_under(editable, *PACKED):
        assert name in names
    assert not any('.mim' in name for name in names)


def test_the_model_index_lists_every_metafile():
    listed = yaml.safe_load((ROOT / 'model-index.yml').read_text())['Import']
    there = [path.relative_to(ROOT).as_posix() for path in ROOT.glob('configs/*/metafile.yml')]
    assert sorted(listed) == sorted(there)


def pins(name):
    """``{distribution: {marker: version}}`` of a requirements file."""
    found = {}
    for line in (ROOT / 'requirements' / f'{name}.txt').read_text().splitlines():
        if not line.strip() or line.startswith('#'):
            continue
        match = re.fullmatch(r'([\w.-]+)==([\w.]+)(?:; (python_version [<>=]+ "3\.11"))?', line)
        assert match, f'not an exact pin in {name}.txt: {line}'
        package, version, marker = match.groups()
        markers = found.setdefault(re.sub(r'[-_.]+', '-', package).lower(), {})
        assert marker not in markers, f'{package} is pinned twice in {name}.txt'
        markers[marker] = version
    return found


def test_every_requirement_is_pinned_in_one_place():
    files = {name: pins(name) for name in ('build', 'mmcv', 'hosts', 'dev', 'docs', 'constraints')}
    packages = [package for found in files.values() for package in found]
    assert sorted(packages) == sorted(set(packages))
    # mmcv 2.3.6 is known to build and run with this pair
    assert files['build']['torch'] == {None: '2.8.0'}
    assert files['build']['torchvision'] == {None: '0.23.0'}


def test_make_help_lists_every_target():
    if shutil.which('make') is None:
        pytest.skip('no make')
    text = (ROOT / 'Makefile').read_text()
    targets = re.search(r'^\.PHONY: (.+)$', text, re.MULTILINE).group(1).split()
    assert set(targets) >= {
        *('help', 'setup', 'demo', 'test', 'test-slow', 'test-browser'),
        *('chromium', 'check', 'bench', 'docs'),
    }
    done = subprocess.run(['make'], cwd=ROOT, capture_output=True, text=True, check=True)
    for target in targets:
        assert re.search(rf'^  make {target} +\S', done.stdout, re.MULTILINE), target
    for variable in ('VENV', 'PYTHON', 'MMCV_WHEELS', 'ARGS'):
        assert f'  {variable}=' in done.stdout


@pytest.mark.parametrize('value', ['/nonexistent/python', ''])
def test_make_without_python_is_one_sentence(value, tmp_path):
    make = shutil.which('make')
    if make is None:
        pytest.skip('no make')
    (tmp_path / 'sh').symlink_to(shutil.which('sh'))
    done = subprocess.run(
        [make, 'setup', f'VENV={tmp_path / "venv"}', *([f'PYTHON={value}'] if value else [])],
        cwd=ROOT,
        env={'PATH': str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode != 0
    assert done.stderr.startswith(f'error: no Python found (PYTHON="{value}"): install Python 3.1')


@pytest.mark.parametrize(
    ('broken', 'expected'),
    [('', 0), ('test', 1), ('demo', 1), ('test-browser', 1), ('chromium', 0)],
)
def test_ci_runs_every_command_and_fails_when_one_fails(tmp_path, broken, expected):
    bash = shutil.which('bash')
    if bash is None:
        pytest.skip('no bash')
    ci = ROOT / '.ci' / 'run'
    assert os.access(ci, os.X_OK)
    make = tmp_path / 'make'
    make.write_text(f'#!{bash}\necho "make $*"\n[ "$1" != "{broken}" ]\n')
    make.chmod(0o755)
    path = f'{tmp_path}{os.pathsep}{os.environ["PATH"]}'
    done = subprocess.run(
        [bash, str(ci)],
        env={**os.environ, 'PATH': path},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    commands = ['make chromium', 'make test-browser', 'make test', 'make demo']
    assert done.stdout.splitlines() == commands
    assert done.returncode == expected


@pytest.mark.parametrize(
    ('path', 'ignored'),
    [
        ('work_dirs/README.md', False),
        ('work_dirs/demo/summary.json', True),
        ('.venv/pyvenv.cfg', True),
        ('mmattn/.mim/configs', True),
        ('mmattn/__init__.py', False),
        ('configs/aw_fpn/metafile.yml', False),
    ],
)
def test_git_keeps_sources_and_no_run_output(path, ignored):
    if shutil.which('git') is None or not (ROOT / '.git').exists():
        pytest.skip('not a git clone')
    done = subprocess.run(['git', 'check-ignore', '--no-index', '-q', path], cwd=ROOT)
    assert (done.returncode == 0) is ignored
