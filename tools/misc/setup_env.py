"""Make the environment that ``make demo`` and ``make test`` run in.

uv resolves, downloads, caches, builds and installs. This script says in one sentence what is
wrong, and gives mmcv, which no registry has as a wheel, a cache for each version of torch.
Standard library only, readable by Python 3.8, so that a too old Python gets a sentence too.
"""

from __future__ import annotations

import argparse
import configparser
import fcntl
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from pathlib import Path
from subprocess import DEVNULL, PIPE, STDOUT

ROOT = Path(__file__).resolve().parents[2]
FILES = {file.stem: file.read_text() for file in sorted(ROOT.glob('requirements/*.txt'))}
PINS = dict(re.findall(r'^([\w-]+)==(\S+)', FILES['build'] + FILES['mmcv'], re.MULTILINE))
MMCV = PINS['onedl-mmcv']
PYTHON = sys.version_info[:2]  # of this process, which the environment is made from
CACHE = Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache')
KEPT = CACHE / 'mmattn' / f'torch-{PINS["torch"]}'  # uv's cache of what was built for this torch
BYTES = 12 * 1024**3  # the environment and what is unpacked on the way, measured on Linux
CHECK_MMCV = 'import torch, mmcv.ops; mmcv.ops.nms(torch.rand(1, 4), torch.ones(1), 0.5)'
CHECK_ALL = 'import mmcv.ops, mmdet.apis, mmpretrain, mmattn.registry'
OF_PIP = {  # pip's settings, and the variables by which uv takes the same
    'index-url': 'UV_DEFAULT_INDEX',
    'extra-index-url': 'UV_INDEX',
    'find-links': 'UV_FIND_LINKS',
    'cert': 'SSL_CERT_FILE',
}
MESSAGES = configparser.ConfigParser(interpolation=None)
MESSAGES.read(Path(__file__).with_suffix('.ini'), encoding='utf-8')


class SetupError(Exception):
    """One of the sentences: what is wrong and what to do."""

    def __init__(self, name: str, /, **values: object) -> None:
        super().__init__(' '.join(MESSAGES['sentences'][name].split()).format(**values))


class Environment:
    """The virtual environment; its state file says what was finished, its log everything."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(os.path.abspath(path))
        self.python = self.path / 'bin' / 'python'
        self.state = self.path / 'mmattn-setup.state'
        self.log = self.path / 'mmattn-setup.log'
        made_for = '{} {} {}.{}'.format(ROOT, self.path, *PYTHON)
        self.finished = '\n'.join([made_for, *FILES.values(), (ROOT / 'setup.py').read_text()])

    def version(self) -> str | None:
        """``'3.11'``, or None where there is no environment or its Python is gone."""
        config = self.path / 'pyvenv.cfg'
        if os.access(self.python, os.X_OK) and config.is_file():
            return re.search(r'version\w* = (\d+\.\d+)', config.read_text())[1]
        return None

    def left(self) -> str:
        """Return the state that the last set-up left: ``finished``, 'unfinished', or older."""
        return self.state.read_text() if self.version() and self.state.is_file() else ''

    def has(self, name: str) -> bool:
        """Whether a distribution is installed, in the version that is pinned if one is."""
        name = f'{name.replace("-", "_")}-{PINS.get(name, "")}*'
        return any(self.path.glob(f'lib/python*/site-packages/{name}.dist-info'))

    def ask(self, *arguments: str) -> tuple[int, str]:
        """Run the environment's Python without a word; return exit code and output."""
        command = [str(self.python), *arguments]
        done = subprocess.run(command, stdout=PIPE, stderr=STDOUT, text=True, cwd=ROOT)
        return done.returncode, done.stdout.strip()

    def fault(self, check: str) -> str:
        """Return why the check's imports fail; empty where they do not."""
        code, output = self.ask('-c', check)
        return (output or 'no message').splitlines()[-1] if code else ''

    def run(self, *arguments: object, **variables: str) -> None:
        """Run a module and show how far it is; a failure is one sentence."""
        command = [str(self.python), '-m', *map(str, arguments)]
        env = {**os.environ, 'PIP_USER': '0', **variables}
        pipes = dict(stdin=DEVNULL, stdout=PIPE, stderr=STDOUT, text=True, errors='replace')
        start, output = time.monotonic(), ''
        # a session of its own, so that stopping it stops its compilers too
        process = subprocess.Popen(command, env=env, cwd=ROOT, start_new_session=True, **pipes)
        try:
            with open(self.log, 'a', encoding='utf-8') as log:
                for line in process.stdout:
                    output += line
                    log.write(line)
                    if text := shown(line, time.monotonic() - start):
                        print('  ' + text, flush=True)
            if process.wait():
                raise explain(output, self.log)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)
                process.wait()

    def install(self, *arguments: object, **variables: str) -> None:
        """``uv pip install`` with the pinned versions and pip's own settings."""
        variables.update(UV_LINK_MODE='copy', UV_INDEX_STRATEGY='unsafe-best-match')
        for line in self.ask('-m', 'pip', 'config', 'list')[1].splitlines():
            key, _, value = line.partition('=')
            if variable := OF_PIP.get(key.rpartition('.')[2]):
                variables[variable] = value.strip('\'"').replace('\\n', ' ')
        pins = ['-c', 'requirements/constraints.txt', '--python', self.python]
        self.run('uv', 'pip', 'install', *pins, *arguments, **variables)

    def install_mmcv(self, wheels: Path) -> None:
        """Install the kept wheel, else let uv build it and keep it."""
        wheel = find_wheel(wheels)
        if wheel is None:
            check_compiler()
            cost = '10 to 20 minutes on 2 cores. Ctrl-C is safe.'
            print(f'  onedl-mmcv=={MMCV} is compiled: {cost}', flush=True)
        memory = os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')
        jobs = os.environ.get('MAX_JOBS') or max(1, min(os.cpu_count() or 1, memory >> 31))
        flags = ['-v', '--no-deps', '--no-build-isolation', '--reinstall', '--cache-dir', KEPT]
        what = wheel or f'onedl-mmcv=={MMCV}'
        self.install(*flags, what, MMCV_WITH_OPS='1', MAX_JOBS=str(jobs))
        if why := self.fault(CHECK_MMCV):
            raise SetupError('wheel', wheel=wheel or KEPT, why=why)


def shown(line: str, seconds: float) -> str:
    """Return what the user sees of a line of uv's: of its debug lines, how far the compiler is."""
    if found := re.match(r'DEBUG \[(\d+)/(\d+)\] ', line):
        done, total = map(int, found.groups())
        left = f'about {seconds * (total - done) / done / 60:.0f} min left'
        return '' if done % 5 else f'mmcv: {done} of {total} files compiled, {left}'
    # what is indented deeper is the whole output of a build that failed
    return line.strip() if re.match(r' {0,3}(?!DEBUG)\S', line) else ''


def explain(output: str, log: str | Path) -> SetupError:
    """Turn the output of a failed uv or pip into one sentence that says what to do."""
    for name, pattern in MESSAGES['patterns'].items():
        if found := re.search(pattern, output):
            return SetupError(name, log=log, **found.groupdict())
    errors = re.findall(r'^.*\w*(?:Error|error|python\S*): .+$', output, re.MULTILINE)
    return SetupError('failed', last=f' ({errors[-1].strip()})' if errors else '', log=log)


def check(env: Environment, wheels: Path) -> None:
    """Refuse what cannot work before anything is done."""
    path, have, asked = env.path, env.version(), '.'.join(map(str, PYTHON))
    python = dict(exe=sys.executable, asked=asked)
    if not (3, 10) <= PYTHON <= (3, 12):
        raise SetupError('python', **python)
    if have not in (None, asked):
        raise SetupError('other python', path=path, have=have, **python)
    if wheels != KEPT and not find_wheel(wheels):
        held = ', '.join(file.name for file in wheels.glob('*.whl')) or 'none'
        raise SetupError('wheels', folder=wheels, pin=MMCV, asked=asked, held=held)
    if not env.state.exists() and path.is_dir():  # not made by us
        if have is None and any(path.iterdir()):
            raise SetupError('no environment', path=path)
        for name in filter(env.has, ('mmcv', 'mmcv_full', 'mmdet')):
            raise SetupError('open-mmlab', path=path, name=name, python=env.python)
    path.parent.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(path.parent).free
    if not env.has('torch') and free < BYTES:
        raise SetupError('disk', need=BYTES >> 30, folder=path.parent, free=free / 2**30)
    if not env.has('onedl-mmcv') and not find_wheel(wheels):
        check_compiler()  # before any download


def check_compiler() -> None:
    """Raise the sentence for what the mmcv build lacks."""
    names = [os.environ['CXX']] if os.environ.get('CXX') else ['c++', 'g++', 'clang++']
    header = Path(sysconfig.get_path('include'), 'Python.h')
    if not any(shutil.which(name.split()[0]) for name in names):
        lack = f'no C++ compiler was found (looked for {", ".join(names)}): apt-get install g++'
    elif not header.is_file():
        lack = f'the Python headers are missing ({header}): apt-get install python3-dev'
    else:
        return
    raise SetupError('build', lack=lack)


def find_wheel(folder: Path) -> Path | None:
    """Return the pinned mmcv wheel for this Python in a folder or in uv's cache there, or None."""
    name = 'onedl_mmcv-{}-cp{}{}-*.whl'.format(MMCV, *PYTHON)
    return next(iter([*folder.glob(name), *folder.glob(f'sdists-*/**/{name}')]), None)


def set_up(env: Environment, wheels: Path) -> None:
    """Bring the environment to the pinned state; every step can be repeated."""
    print(f'Setting up {env.path} (log: {env.log})', flush=True)
    resumed = env.left() == 'unfinished'
    venv = [sys.executable, '-m', 'venv', '--clear', str(env.path)]
    if env.version() is None and subprocess.run(venv).returncode:
        raise SetupError('no venv', base=sys.executable)
    env.state.write_text('unfinished')
    env.ask('-m', 'ensurepip')  # an environment made by uv has no pip
    env.run('pip', 'install', '--no-input', 'uv==0.13.9')
    files = [f'-rrequirements/{name}.txt' for name in ('build', 'hosts', 'dev', 'docs')]
    env.install(*files, *(['--reinstall'] if resumed else []))
    if not env.has('onedl-mmcv') or env.fault(CHECK_MMCV):
        env.install_mmcv(wheels)
    env.install('--no-deps', '--no-build-isolation', '-e', ROOT)
    if why := env.fault(CHECK_ALL):
        raise SetupError('imports', path=env.path, why=why)
    env.state.write_text(env.finished)


def main(argv: list[str] | None = None) -> int:
    """Run the set-up; return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        epilog='example: make VENV=PATH setup, or python tools/misc/setup_env.py --venv PATH',
    )
    parser.add_argument('--venv', default='.venv', help='folder of the environment')
    parser.add_argument('--mmcv-wheels', default='', help='folder with a built mmcv wheel')
    args = parser.parse_args(argv)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    env, wheels = Environment(args.venv), Path(args.mmcv_wheels or KEPT)
    try:
        check(env, wheels)
        with open(__file__) as lock:  # one set-up of this checkout at a time
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                print(f'Another set-up in {ROOT} is at work; waiting for it.', flush=True)
                fcntl.flock(lock, fcntl.LOCK_EX)
            if env.left() != env.finished:
                set_up(env, wheels)
        print(f'Environment ready: {env.path}', flush=True)
    except SetupError as error:
        print(f'\nerror: {error}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print('\nStopped; make setup resumes from here.', file=sys.stderr)
        return 130
    return 0


if __name__ == '__main__':
    sys.exit(main())
