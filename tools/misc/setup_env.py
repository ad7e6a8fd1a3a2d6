"""Make the environment that ``make demo`` and ``make test`` run in.

uv resolves, downloads, caches and installs. This script says in one sentence what is wrong, and
builds mmcv, which no registry has as a wheel; the wheel is kept for each version of torch.
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
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from subprocess import DEVNULL, PIPE, STDOUT

ROOT = Path(__file__).resolve().parents[2]
REQUIREMENTS = ROOT / 'requirements'
BUILT = [(REQUIREMENTS / name).read_text() for name in ('build.txt', 'mmcv.txt')]
PINS = dict(re.findall(r'^([\w-]+)==(\S+)', '\n'.join(BUILT), re.MULTILINE))
UV = '0.13.9'
PYTHON = sys.version_info[:2]  # of this process, which the environment is made from
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

    def version(self) -> str | None:
        """``'3.11'``, or None where there is no environment or its Python is gone."""
        config = self.path / 'pyvenv.cfg'
        if not (os.access(self.python, os.X_OK) and config.is_file()):
            return None
        return re.search(r'version\w* = (\d+\.\d+)', config.read_text())[1]

    def finished(self) -> str:
        """Return the state of an environment that has all that the requirements say now."""
        files = [*sorted(REQUIREMENTS.glob('*.txt')), ROOT / 'setup.py']
        return '\n'.join([f'{ROOT} {self.path} {self.version()}', *(f.read_text() for f in files)])

    def is_ready(self) -> bool:
        """Whether everything is installed as the requirements say now."""
        return self.state.is_file() and self.state.read_text() == self.finished()

    def installed(self, name: str) -> str | None:
        """Return the installed version of a distribution, or None."""
        pattern = f'lib/python*/site-packages/{name.replace("-", "_")}-*.dist-info'
        found = next(self.path.glob(pattern), None)
        return found and found.stem.rsplit('-', 1)[1]

    def quiet(self, *arguments: str) -> tuple[int, str]:
        """Run the environment's Python without a word; return exit code and output."""
        command = [str(self.python), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
        return done.returncode, (done.stdout + done.stderr).strip()

    def fault(self, check: str) -> str:
        """Return why the check's imports fail; empty where they do not."""
        code, output = self.quiet('-c', check)
        return (output or 'no message').splitlines()[-1] if code else ''

    def run(
        self, *arguments: object, show: Callable[[str], str] = str.strip, **variables: str
    ) -> None:
        """Run a module and print what ``show`` makes of its lines; a failure is one sentence."""
        command = [str(self.python), '-m', *map(str, arguments)]
        env = {**os.environ, 'PIP_USER': '0', **variables}
        pipes = dict(stdin=DEVNULL, stdout=PIPE, stderr=STDOUT, text=True, errors='replace')
        # a session of its own, so that stopping it stops its compilers too
        process = subprocess.Popen(command, env=env, cwd=ROOT, start_new_session=True, **pipes)
        lines = []
        try:
            with open(self.log, 'a', encoding='utf-8') as log:
                for line in process.stdout:
                    lines.append(line)
                    log.write(line)
                    if show(line):
                        print('  ' + show(line), flush=True)
            if process.wait():
                raise explain(''.join(lines), self.log)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)
                process.wait()

    def install(self, *arguments: object) -> None:
        """``uv pip install`` with the pinned versions and pip's own settings."""
        settings = {'UV_LINK_MODE': 'copy', 'UV_INDEX_STRATEGY': 'unsafe-best-match'}
        for line in self.quiet('-m', 'pip', 'config', 'list')[1].splitlines():
            key, _, value = line.partition('=')
            if variable := OF_PIP.get(key.rpartition('.')[2]):
                settings[variable] = value.strip('\'"').replace('\\n', ' ')
        pins = ['-c', 'requirements/constraints.txt']
        self.run('uv', 'pip', 'install', '--python', self.python, *pins, *arguments, **settings)


def explain(output: str, log: str | Path) -> SetupError:
    """Turn the output of a failed uv or pip into one sentence that says what to do."""
    for name, pattern in MESSAGES['patterns'].items():
        if found := re.search(pattern, output):
            return SetupError(name, log=log, **found.groupdict())
    errors = re.findall(r'^.*\w*(?:Error|error|python\S*): .+$', output, re.MULTILINE)
    return SetupError('failed', last=f' ({errors[-1].strip()})' if errors else '', log=log)


def check(env: Environment, wheel_folder: str) -> None:
    """Refuse what cannot work before anything is done."""
    path, have, asked = env.path, env.version(), '.'.join(map(str, PYTHON))
    python = dict(exe=sys.executable, asked=asked)
    if not (3, 10) <= PYTHON <= (3, 12):
        raise SetupError('python', **python)
    if have not in (None, asked):
        raise SetupError('other python', path=path, have=have, **python)
    if wheel_folder and not find_wheel(wheel_folder):
        held = ', '.join(file.name for file in Path(wheel_folder).glob('*.whl')) or 'none'
        pin = PINS['onedl-mmcv']
        raise SetupError('wheels', folder=wheel_folder, pin=pin, asked=asked, held=held)
    if not env.state.exists() and path.is_dir():  # not made by us
        if have is None and any(path.iterdir()):
            raise SetupError('no environment', path=path)
        for name in filter(env.installed, ('mmcv', 'mmcv_full', 'mmdet')):
            raise SetupError('open-mmlab', path=path, name=name, python=env.python)
    path.parent.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(path.parent).free
    if env.installed('torch') is None and free < BYTES:
        raise SetupError('disk', need=BYTES >> 30, folder=path.parent, free=free / 2**30)
    if env.installed('onedl-mmcv') is None and not find_wheel(wheel_folder or kept_wheels()):
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


def kept_wheels() -> Path:
    """Return the folder that keeps the mmcv wheel built for the pinned torch."""
    cache = Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache')
    return cache / 'mmattn' / f'torch-{PINS["torch"]}'


def find_wheel(folder: str | Path) -> Path | None:
    """Return the pinned mmcv wheel for this Python in a folder, or None."""
    pattern = 'onedl_mmcv-{}-cp{}{}-*.whl'.format(PINS['onedl-mmcv'], *PYTHON)
    return next(Path(folder).glob(pattern), None)


def build_mmcv(env: Environment) -> Path:
    """Compile the wheel and keep it; return its path."""
    check_compiler()
    pinned, folder, start = f'onedl-mmcv=={PINS["onedl-mmcv"]}', kept_wheels(), time.monotonic()
    print(f'  {pinned} is compiled: 10 to 20 minutes on 2 cores. Ctrl-C is safe.', flush=True)

    def progress(line: str) -> str:
        found = re.match(r'\s*\[(\d+)/(\d+)\] ', line)
        if not found or int(found[1]) % 5:
            return ''
        done, total = map(int, found.groups())
        left = (time.monotonic() - start) * (total - done) / done / 60
        return f'mmcv: {done} of {total} files compiled, about {left:.0f} min left'

    memory = os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')
    jobs = os.environ.get('MAX_JOBS') or max(1, min(os.cpu_count() or 1, memory >> 31))
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as built:
        flags = ['-v', '--no-deps', '--no-cache-dir', '--no-build-isolation', '--wheel-dir', built]
        variables = dict(MMCV_WITH_OPS='1', MAX_JOBS=str(jobs))
        env.run('pip', 'wheel', *flags, pinned, show=progress, **variables)
        wheel = find_wheel(built)
        return wheel.replace(folder / wheel.name)


def set_up(env: Environment, wheel_folder: str) -> None:
    """Bring the environment to the pinned state; every step can be repeated."""
    print(f'Setting up {env.path} (log: {env.log})', flush=True)
    resumed = env.state.exists() and env.state.read_text() == 'unfinished'
    env.path.mkdir(exist_ok=True)
    env.state.write_text('unfinished')
    if env.version() is None:
        if subprocess.run([sys.executable, '-m', 'venv', '--clear', str(env.path)]).returncode:
            raise SetupError('no venv', base=sys.executable)
        env.state.write_text('unfinished')
    env.quiet('-m', 'ensurepip')  # an environment made by uv has no pip
    env.run('pip', 'install', '--no-input', f'uv=={UV}')
    files = [f'-rrequirements/{name}.txt' for name in ('build', 'hosts', 'dev', 'docs')]
    env.install(*files, *(['--reinstall'] if resumed else []))
    if env.installed('onedl-mmcv') != PINS['onedl-mmcv'] or env.fault(CHECK_MMCV):
        wheel = find_wheel(wheel_folder or kept_wheels()) or build_mmcv(env)
        env.install('--no-deps', '--reinstall', wheel)
        if why := env.fault(CHECK_MMCV):
            raise SetupError('wheel', wheel=wheel, why=why)
    env.install('--no-deps', '--no-build-isolation', '-e', ROOT)
    if why := env.fault(CHECK_ALL):
        raise SetupError('imports', path=env.path, why=why)
    env.state.write_text(env.finished())


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
    env = Environment(args.venv)
    try:
        check(env, args.mmcv_wheels)
        with open(__file__) as lock:  # one set-up of this checkout at a time
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                print(f'Another set-up in {ROOT} is at work; waiting for it.', flush=True)
                fcntl.flock(lock, fcntl.LOCK_EX)
            if not env.is_ready():
                set_up(env, args.mmcv_wheels)
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
