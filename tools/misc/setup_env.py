"""Make the environment that ``make demo`` and ``make test`` run in.

uv resolves, downloads, locks and installs. This script says in one sentence what is wrong, and
builds mmcv, which no registry has as a wheel; the wheel is kept for each version of torch.
Standard library only, readable by Python 3.8, so that a too old Python gets a sentence too.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
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

ROOT = Path(__file__).resolve().parents[2]
PYTHON = sys.version_info[:2]  # of this process, which the environment is made from
UV = 'uv==0.13.9'
BYTES = 12 * 1024**3  # the environment and what is unpacked on the way, measured on Linux
CHECK_MMCV = 'import torch, mmcv.ops; mmcv.ops.nms(torch.rand(1, 4), torch.ones(1), 0.5)'
CHECK_ALL = 'import mmcv.ops, mmdet.apis, mmpretrain, mmattn.registry'
# pip's settings, and the variables by which uv takes the same
SETTINGS = {
    'index-url': 'UV_DEFAULT_INDEX',
    'extra-index-url': 'UV_INDEX',
    'find-links': 'UV_FIND_LINKS',
    'cert': 'SSL_CERT_FILE',
}
# (pattern in the output of uv or pip, what to do); the first match counts
CAUSES = (
    (
        'No space left on device|os error 28',
        'The disk is full: free some space, or use another one with make VENV=PATH setup',
    ),
    (
        'Killed signal terminated|fatal error: Killed|cannot allocate memory',
        'The compiler ran out of memory: run MAX_JOBS=1 make setup',
    ),
    (
        'Failed to fetch|error sending request|dns error|timed out|Connection refused|SSLError'
        '|NewConnectionError|ProxyError|name resolution|Name or service not known',
        'The package registry cannot be reached: check the network and the proxy, or name a '
        'registry with PIP_INDEX_URL=ADDRESS make setup',
    ),
    (
        r'(?:no version of|Because(?! there)|distribution found for) (?P<what>[A-Za-z][^\s,]+)',
        'The package registry has no {what} for this Python and machine: check PIP_INDEX_URL, or '
        'try make PYTHON=python3.11 setup',
    ),
)


class SetupError(Exception):
    """One sentence for the user: what is wrong and what to do."""


class Environment:
    """The virtual environment; its state file says what was finished, its log everything."""

    def __init__(self, path):
        self.path = Path(os.path.abspath(path))
        self.python = self.path / 'bin' / 'python'
        self.state = self.path / 'mmattn-setup.state'
        self.log = self.path / 'mmattn-setup.log'

    def version(self):
        """``'3.11'``, or None where there is no environment or its Python is gone."""
        config = self.path / 'pyvenv.cfg'
        found = os.access(self.python, os.X_OK) and config.is_file()
        return found and re.search(r'version\w* = (\d+\.\d+)', config.read_text())[1] or None

    def fingerprint(self):
        """Return a text that changes when the environment has to be brought up to date."""
        files = [*sorted((ROOT / 'requirements').glob('*.txt')), ROOT / 'setup.py']
        content = b''.join(file.read_bytes() for file in files)
        return hashlib.sha256(
            f'{ROOT} {self.path} {self.version()}'.encode() + content
        ).hexdigest()

    def is_ready(self):
        return self.state.is_file() and self.state.read_text() == self.fingerprint()

    def installed(self, name):
        """Return the installed version of a distribution, or None."""
        pattern = f'lib/python*/site-packages/{name.replace("-", "_")}-*.dist-info'
        found = next(self.path.glob(pattern), None)
        return found and found.stem.rsplit('-', 1)[1]

    def quiet(self, *arguments):
        """Run the environment's Python without a word; returns (exit code, output)."""
        command = [str(self.python), *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, cwd=str(ROOT))
        return done.returncode, (done.stdout + done.stderr).strip()

    def works(self, check):
        """Return an empty string, or why the check's imports fail."""
        code, output = self.quiet('-c', check)
        return (output or 'no message').splitlines()[-1] if code else ''

    def run(self, *arguments, show=str.strip, env=None):
        """Run a module and print what ``show`` makes of its lines; a failure is one sentence."""
        lines = []
        process = subprocess.Popen(
            [str(self.python), '-m', *map(str, arguments)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors='replace',
            env={**os.environ, 'PIP_USER': '0', **(env or {})},
            cwd=str(ROOT),
            start_new_session=True,  # so that stopping it stops its compilers too
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

    def install(self, *arguments):
        """``uv pip install`` with the pinned versions and pip's own settings."""
        settings = {'UV_LINK_MODE': 'copy', 'UV_INDEX_STRATEGY': 'unsafe-best-match'}
        for line in self.quiet('-m', 'pip', 'config', 'list')[1].splitlines():
            key, _, value = line.partition('=')
            if variable := SETTINGS.get(key.rpartition('.')[2]):
                settings[variable] = value.strip('\'"').replace('\\n', ' ')
        pins = ['-c', ROOT / 'requirements' / 'constraints.txt']
        self.run('uv', 'pip', 'install', '--python', self.python, *pins, *arguments, env=settings)


def explain(output, log):
    """Turn the output of a failed uv or pip into one sentence that says what to do."""
    for pattern, advice in CAUSES:
        if found := re.search(pattern, output):
            return f'{advice.format(**found.groupdict())} (full log: {log}).'
    errors = re.findall(r'^.*\w*(?:Error|error|python\S*): .+$', output, re.MULTILINE)
    last = f' ({errors[-1].strip()})' if errors else ''
    return f'The installation failed{last}: read {log}, then run make setup again; it resumes.'


def check(env, wheel_folder):
    """Refuse what cannot work before anything is done."""
    have, asked = env.version(), '.'.join(map(str, PYTHON))
    if not (3, 10) <= PYTHON <= (3, 12):
        raise SetupError(
            f'mmattn is set up with Python 3.10, 3.11 or 3.12, and {sys.executable} is {asked}: '
            'install one of them (Debian: apt-get install python3 python3-venv python3-dev) and '
            'name it with make PYTHON=/path/to/python3.11 setup.'
        )
    if have not in (None, asked):
        raise SetupError(
            f'VENV={env.path} is made with Python {have}, and PYTHON={sys.executable} is {asked}: '
            f'remove it with rm -r {env.path}, or name another folder with make VENV=PATH setup.'
        )
    if wheel_folder and not find_wheel(wheel_folder):
        held = ', '.join(path.name for path in Path(wheel_folder).glob('*.whl')) or 'none'
        raise SetupError(
            f'MMCV_WHEELS={wheel_folder} must be a folder with onedl_mmcv-{pin("onedl-mmcv")} for '
            f'Python {asked}, its wheels are: {held}; leave MMCV_WHEELS out to build mmcv.'
        )
    if not env.state.exists() and env.path.is_dir():  # not made by us
        if have is None and any(path.is_file() for path in env.path.rglob('*')):
            raise SetupError(f'VENV={env.path} exists and is no environment: name another.')
        for name in filter(env.installed, ('mmcv', 'mmcv_full', 'mmdet')):
            raise SetupError(
                f'VENV={env.path} has the open-mmlab packages ({name}), which the pinned ones '
                f'would overwrite: use it as it is with {env.python} -m pip install -e . or name '
                'another folder with make VENV=PATH setup.'
            )
    env.path.parent.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(env.path.parent).free
    if env.installed('torch') is None and free < BYTES:
        raise SetupError(
            f'Not enough disk: the set-up needs {BYTES >> 30} GiB at {env.path.parent} and '
            f'{free / 2**30:.1f} GiB are free; free some, or use make VENV=PATH setup.'
        )
    if env.installed('onedl-mmcv') is None and not find_wheel(wheel_folder or kept_wheels()):
        check_compiler()  # before any download


def check_compiler():
    """Raise the sentence for what the mmcv build lacks."""
    names = [os.environ['CXX']] if os.environ.get('CXX') else ['c++', 'g++', 'clang++']
    header = Path(sysconfig.get_path('include'), 'Python.h')
    fix = ''
    if not any(shutil.which(name.split()[0]) for name in names):
        fix = f'no C++ compiler was found (looked for {", ".join(names)}): apt-get install g++'
    elif not header.is_file():
        fix = f'the Python headers are missing ({header}): apt-get install python3-dev'
    if fix:
        raise SetupError(
            f'mmcv has to be compiled and {fix} (Debian; macOS: xcode-select --install), or name '
            'a folder with a built wheel with make MMCV_WHEELS=PATH setup.'
        )


def pin(name):
    """``'2.3.6'``, as the requirements pin it."""
    texts = (ROOT / 'requirements' / f'{file}.txt' for file in ('build', 'mmcv'))
    found = (re.search(rf'^{name}==(\S+)', text.read_text(), re.MULTILINE) for text in texts)
    return next(filter(None, found))[1]


def kept_wheels():
    """Return the folder that keeps the mmcv wheel built for the pinned torch."""
    cache = Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache')
    return cache / 'mmattn' / f'torch-{pin("torch")}'


def find_wheel(folder):
    """Return the pinned mmcv wheel for this Python in a folder, or None."""
    pattern = 'onedl_mmcv-{}-cp{}{}-*.whl'.format(pin('onedl-mmcv'), *PYTHON)
    return next(Path(folder).glob(pattern), None)


def build_mmcv(env):
    """Compile the wheel and keep it; returns its path."""
    check_compiler()
    pinned, folder, start = f'onedl-mmcv=={pin("onedl-mmcv")}', kept_wheels(), time.monotonic()
    print(
        f'  {pinned} is compiled: 10 to 20 minutes on 2 cores, once. Ctrl-C is safe.', flush=True
    )

    def progress(line):
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


def set_up(env, wheel_folder):
    """Bring the environment to the pinned state; every step can be repeated."""
    print(f'Setting up {env.path} (log: {env.log})', flush=True)
    resumed = env.state.exists() and env.state.read_text() == 'unfinished'
    if env.version() is None:
        env.path.mkdir(exist_ok=True)
        env.state.write_text('unfinished')
        base = getattr(sys, '_base_executable', None) or sys.executable
        if subprocess.run([base, '-m', 'venv', '--clear', str(env.path)]).returncode:
            raise SetupError(
                f'{base} cannot make virtual environments: install the missing part (Debian: '
                'apt-get install python3-venv) and run make setup again.'
            )
    env.state.write_text('unfinished')
    if env.quiet('-m', 'uv', '--version')[1].split()[1:2] != [UV.partition('==')[2]]:
        env.run('ensurepip', '--upgrade', show=lambda line: '')
        env.run('pip', 'install', '--no-input', UV)
    names = ('build', 'hosts', 'dev', 'docs')
    files = [part for name in names for part in ('-r', ROOT / 'requirements' / f'{name}.txt')]
    env.install(*(['--reinstall'] if resumed else []), *files)
    if env.installed('onedl-mmcv') != pin('onedl-mmcv') or env.works(CHECK_MMCV):
        wheel = find_wheel(wheel_folder or kept_wheels()) or build_mmcv(env)
        env.install('--no-deps', '--reinstall', wheel)
        if reason := env.works(CHECK_MMCV):
            raise SetupError(
                f'{wheel} does not load with the pinned torch ({reason}): remove it and run make '
                'setup again, or name another folder with make MMCV_WHEELS=PATH setup.'
            )
    env.install('--no-deps', '--no-build-isolation', '-e', ROOT)
    if reason := env.works(CHECK_ALL):
        raise SetupError(
            f'Everything is installed and does not import ({reason}): remove the environment with '
            f'rm -r {env.path} and run make setup again.'
        )
    env.state.write_text(env.fingerprint())


@contextlib.contextmanager
def only_one(folder):
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


def main(argv=None):
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
