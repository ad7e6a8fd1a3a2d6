"""Make the environment that ``make demo`` and ``make test`` run in.

uv resolves, downloads, locks and installs. This script says in one sentence what is wrong, and
builds mmcv, which no registry has as a wheel; the wheel is kept for each version of torch.
Standard library only, readable by Python 3.8, so that a too old Python gets a sentence too.
"""

from __future__ import annotations

import argparse
import configparser
import contextlib
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
from pathlib import Path
from typing import Callable, Iterator, Mapping, Optional

ROOT = Path(__file__).resolve().parents[2]
REQUIREMENTS = ROOT / 'requirements'
PYTHON = sys.version_info[:2]  # of this process, which the environment is made from
UV = '0.13.9'
BYTES = 12 * 1024**3  # the environment and what is unpacked on the way, measured on Linux
CHECK_MMCV = 'import torch, mmcv.ops; mmcv.ops.nms(torch.rand(1, 4), torch.ones(1), 0.5)'
CHECK_ALL = 'import mmcv.ops, mmdet.apis, mmpretrain, mmattn.registry'
UV_NAMES = {  # pip's settings, and the variables by which uv takes the same
    'index-url': 'UV_DEFAULT_INDEX',
    'extra-index-url': 'UV_INDEX',
    'find-links': 'UV_FIND_LINKS',
    'cert': 'SSL_CERT_FILE',
}
PIPES = dict(stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
PIPES.update(text=True, errors='replace')
Show = Callable[[str], str]
Variables = Optional[Mapping[str, str]]
MESSAGES = configparser.ConfigParser(interpolation=None)
MESSAGES.read(Path(__file__).with_suffix('.ini'), encoding='utf-8')


class SetupError(Exception):
    """One sentence for the user: what is wrong and what to do."""


def sentence(name: str, /, **values: object) -> str:
    """Return one of the sentences, with its values."""
    return ' '.join(MESSAGES['sentences'][name].split()).format(**values)


def refuse(name: str, /, **values: object) -> None:
    """Raise one of the sentences."""
    raise SetupError(sentence(name, **values))


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
        found = os.access(self.python, os.X_OK) and config.is_file()
        return found and re.search(r'version\w* = (\d+\.\d+)', config.read_text())[1] or None

    def fingerprint(self) -> str:
        """Return a text that changes when the environment has to be brought up to date."""
        files = [*sorted(REQUIREMENTS.glob('*.txt')), ROOT / 'setup.py']
        return '\n'.join([f'{ROOT} {self.path} {self.version()}', *(f.read_text() for f in files)])

    def is_ready(self) -> bool:
        """Whether everything is installed as the requirements say now."""
        return self.state.is_file() and self.state.read_text() == self.fingerprint()

    def installed(self, name: str) -> str | None:
        """Return the installed version of a distribution, or None."""
        pattern = f'lib/python*/site-packages/{name.replace("-", "_")}-*.dist-info'
        found = next(self.path.glob(pattern), None)
        return found and found.stem.rsplit('-', 1)[1]

    def quiet(self, *arguments: object) -> tuple[int, str]:
        """Run the environment's Python without a word; return exit code and output."""
        command = [str(self.python), *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, cwd=str(ROOT))
        return done.returncode, (done.stdout + done.stderr).strip()

    def fault(self, check: str) -> str:
        """Return why the check's imports fail; empty where they do not."""
        code, output = self.quiet('-c', check)
        return (output or 'no message').splitlines()[-1] if code else ''

    def run(self, *arguments: object, show: Show = str.strip, env: Variables = None) -> None:
        """Run a module and print what ``show`` makes of its lines; a failure is one sentence."""
        lines = []
        process = subprocess.Popen(
            [str(self.python), '-m', *map(str, arguments)],
            env={**os.environ, 'PIP_USER': '0', **(env or {})},
            cwd=str(ROOT),
            start_new_session=True,  # so that stopping it stops its compilers too
            **PIPES,
        )
        try:
            with open(self.log, 'a', encoding='utf-8') as log:
                for line in process.stdout:
                    log.write(line)
                    lines.append(line)
                    if show(line):
                        print('  ' + show(line), flush=True)
            if process.wait():
                raise SetupError(explain(''.join(lines), self.log))
        finally:
            if process.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGTERM)
                process.wait()

    def install(self, *arguments: object) -> None:
        """``uv pip install`` with the pinned versions and pip's own settings."""
        settings = {'UV_LINK_MODE': 'copy', 'UV_INDEX_STRATEGY': 'unsafe-best-match'}
        for line in self.quiet('-m', 'pip', 'config', 'list')[1].splitlines():
            key, _, value = line.partition('=')
            if variable := UV_NAMES.get(key.rpartition('.')[2]):
                settings[variable] = value.strip('\'"').replace('\\n', ' ')
        pins = ['-c', REQUIREMENTS / 'constraints.txt']
        self.run('uv', 'pip', 'install', '--python', self.python, *pins, *arguments, env=settings)


def explain(output: str, log: str | Path) -> str:
    """Turn the output of a failed uv or pip into one sentence that says what to do."""
    for name in filter(lambda section: section.startswith('cause'), MESSAGES.sections()):
        if found := re.search(MESSAGES[name]['pattern'], output):
            advice = ' '.join(MESSAGES[name]['advice'].split()).format(**found.groupdict())
            return f'{advice} (full log: {log}).'
    errors = re.findall(r'^.*\w*(?:Error|error|python\S*): .+$', output, re.MULTILINE)
    return sentence('failed', last=f' ({errors[-1].strip()})' if errors else '', log=log)


def check(env: Environment, wheel_folder: str) -> None:
    """Refuse what cannot work before anything is done."""
    path, have, asked = env.path, env.version(), '.'.join(map(str, PYTHON))
    if not (3, 10) <= PYTHON <= (3, 12):
        refuse('python', exe=sys.executable, asked=asked)
    if have not in (None, asked):
        refuse('other python', path=path, have=have, exe=sys.executable, asked=asked)
    if wheel_folder and not find_wheel(wheel_folder):
        held = ', '.join(file.name for file in Path(wheel_folder).glob('*.whl')) or 'none'
        refuse('wheels', folder=wheel_folder, pin=pin('onedl-mmcv'), asked=asked, held=held)
    if not env.state.exists() and path.is_dir():  # not made by us
        if have is None and any(file.is_file() for file in path.rglob('*')):
            refuse('no environment', path=path)
        for name in filter(env.installed, ('mmcv', 'mmcv_full', 'mmdet')):
            refuse('open-mmlab', path=path, name=name, python=env.python)
    path.parent.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(path.parent).free
    if env.installed('torch') is None and free < BYTES:
        refuse('disk', need=BYTES >> 30, folder=path.parent, free=free / 2**30)
    if env.installed('onedl-mmcv') is None and not find_wheel(wheel_folder or kept_wheels()):
        check_compiler()  # before any download


def check_compiler() -> None:
    """Raise the sentence for what the mmcv build lacks."""
    names = [os.environ['CXX']] if os.environ.get('CXX') else ['c++', 'g++', 'clang++']
    header = Path(sysconfig.get_path('include'), 'Python.h')
    if not any(shutil.which(name.split()[0]) for name in names):
        lack = f'no C++ compiler was found (looked for {", ".join(names)}): apt-get install g++'
        refuse('build', lack=lack)
    if not header.is_file():
        lack = f'the Python headers are missing ({header}): apt-get install python3-dev'
        refuse('build', lack=lack)


def pin(name: str) -> str:
    """``'2.3.6'``, as the requirements pin it."""
    text = ''.join((REQUIREMENTS / f'{file}.txt').read_text() for file in ('build', 'mmcv'))
    return re.search(rf'^{name}==(\S+)', text, re.MULTILINE)[1]


def kept_wheels() -> Path:
    """Return the folder that keeps the mmcv wheel built for the pinned torch."""
    cache = Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache')
    return cache / 'mmattn' / f'torch-{pin("torch")}'


def find_wheel(folder: str | Path) -> Path | None:
    """Return the pinned mmcv wheel for this Python in a folder, or None."""
    pattern = 'onedl_mmcv-{}-cp{}{}-*.whl'.format(pin('onedl-mmcv'), *PYTHON)
    return next(Path(folder).glob(pattern), None)


def build_mmcv(env: Environment) -> Path:
    """Compile the wheel and keep it; return its path."""
    check_compiler()
    pinned, folder, start = f'onedl-mmcv=={pin("onedl-mmcv")}', kept_wheels(), time.monotonic()
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
    with tempfile.TemporaryDirectory(dir=str(folder)) as built:
        flags = ['-v', '--no-deps', '--no-cache-dir', '--no-build-isolation', '--wheel-dir', built]
        variables = {'MMCV_WITH_OPS': '1', 'MAX_JOBS': str(jobs)}
        env.run('pip', 'wheel', *flags, pinned, show=progress, env=variables)
        wheel = find_wheel(built)
        os.replace(wheel, folder / wheel.name)
    return folder / wheel.name


def set_up(env: Environment, wheel_folder: str) -> None:
    """Bring the environment to the pinned state; every step can be repeated."""
    print(f'Setting up {env.path} (log: {env.log})', flush=True)
    resumed = env.state.exists() and env.state.read_text() == 'unfinished'
    env.path.mkdir(exist_ok=True)
    env.state.write_text('unfinished')
    if env.version() is None:
        base = getattr(sys, '_base_executable', None) or sys.executable
        if subprocess.run([base, '-m', 'venv', '--clear', str(env.path)]).returncode:
            refuse('no venv', base=base)
        env.state.write_text('unfinished')
    if env.installed('uv') != UV:
        env.run('ensurepip', '--upgrade', show=lambda line: '')
        env.run('pip', 'install', '--no-input', f'uv=={UV}')
    names = ('build', 'hosts', 'dev', 'docs')
    files = [part for name in names for part in ('-r', REQUIREMENTS / f'{name}.txt')]
    env.install(*(['--reinstall'] if resumed else []), *files)
    if env.installed('onedl-mmcv') != pin('onedl-mmcv') or env.fault(CHECK_MMCV):
        wheel = find_wheel(wheel_folder or kept_wheels()) or build_mmcv(env)
        env.install('--no-deps', '--reinstall', wheel)
        if why := env.fault(CHECK_MMCV):
            refuse('wheel', wheel=wheel, why=why)
    env.install('--no-deps', '--no-build-isolation', '-e', ROOT)
    if why := env.fault(CHECK_ALL):
        refuse('imports', path=env.path, why=why)
    env.state.write_text(env.fingerprint())


@contextlib.contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Let one set-up of a folder run at a time; the second waits for the first."""
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            print(f'Another set-up in {folder} is at work; waiting for it.', flush=True)
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


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
        if not env.is_ready():
            with only_one(env.path.parent):
                if not env.is_ready():  # the one we waited for may have done it
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
