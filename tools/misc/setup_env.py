"""Make the environment that ``make demo`` and ``make test`` run in.

``make setup`` calls this with the Python that the environment is made from. Every step can be
repeated, and a file written last (``mmattn-setup.json`` in the environment) says what was
finished: an interrupted set-up goes on where it stopped, a finished one is left alone until the
requirements change. Standard library only; Python 3.8 can read it, so that a too old Python gets
a sentence and not a syntax error.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
REQUIREMENTS = ROOT / 'requirements'
MIM = 'onedl-mim==0.5.1'
PYTHON = sys.version_info[:2]  # of this process, which the environment is made from
GIB = 1024**3
# Measured on Linux with Python 3.11: the environment itself, and what pip unpacks on the way.
VENV_BYTES, TEMP_BYTES = 8 * GIB, 4 * GIB

# Imports every compiled symbol that mmcv.ops names and runs one of them.
CHECK_MMCV = (
    'import torch, mmcv.ops; '
    'mmcv.ops.nms(torch.tensor([[0.0, 0.0, 1.0, 1.0]]), torch.ones(1), 0.5)'
)
CHECK_ALL = 'import mmcv.ops, mmdet.apis, mmpretrain, mmattn.registry'

# (pattern in pip's output, what to do), the first match counts
CAUSES = (
    (
        r'No space left on device|Errno 28',
        'The disk is full: free some space, or keep the environment on another disk with '
        'make VENV=PATH setup.',
    ),
    (
        r'Killed signal terminated|fatal error: Killed|cannot allocate memory',
        'The compiler ran out of memory: run MAX_JOBS=1 make setup.',
    ),
    (
        r'NewConnectionError|Failed to establish a new connection|Connection refused'
        r'|Temporary failure in name resolution|Name or service not known|ConnectTimeoutError'
        r'|ReadTimeoutError|timed out|ProxyError|SSLError|Connection broken|IncompleteRead'
        r'|Could not fetch URL',
        'The package registry cannot be reached: check the network and the proxy, or name a '
        'registry with PIP_INDEX_URL=ADDRESS make setup.',
    ),
    (
        r'No matching distribution found for (?P<what>\S+)',
        'The package registry has no {what} for this Python and machine, or does not answer: '
        'check the network, PIP_INDEX_URL and PIP_NO_INDEX, or try make PYTHON=python3.11 setup.',
    ),
)


class SetupError(Exception):
    """One sentence for the user: what is wrong and what to do."""


class CommandError(Exception):
    """A command failed; carries its output."""

    def __init__(self, output):
        super().__init__(output)
        self.output = output


# ---------------------------------------------------------------- running commands


def duration(seconds):
    """``75`` -> ``'1 min 15 s'``."""
    minutes, seconds = divmod(int(seconds), 60)
    return f'{minutes} min {seconds} s' if minutes else f'{seconds} s'


class Progress:
    """One line that says what a step is doing and for how long.

    On a terminal the line rewrites itself; elsewhere (a log, CI) a new one comes every 20 s.
    """

    def __init__(self, label):
        self.label, self.start, self.note = label, time.monotonic(), ''
        self.tty = sys.stdout.isatty()
        self.every = 0.5 if self.tty else 20.0
        self.printed = self.start

    def read(self, line):
        """Take a note from one line of pip's or ninja's output."""
        line = line.strip()
        compiled = re.match(r'\[(\d+)/(\d+)\] ', line)
        if compiled:
            done, total = map(int, compiled.groups())
            self.note = f'{done}/{total} files compiled'
            if done * 10 >= total:  # fewer say little
                left = (time.monotonic() - self.start) * (total - done) / done
                self.note += f', about {duration(left)} left'
        elif 'Retrying (' in line:
            self.note = 'no answer from the package registry, trying again'
        elif line.startswith('Installing collected packages'):
            self.note = f'installing {line.count(",") + 1} packages'
        elif re.match(r'(Collecting|Downloading|Building) ', line):
            self.note = line.split(' (from ')[0]

    def show(self):
        now = time.monotonic()
        if now - self.printed >= self.every:
            self.printed = now
            self._write(f'{self.note or "working"} ({duration(now - self.start)})', last=False)

    def finish(self, how='done'):
        self._write(f'{how} after {duration(time.monotonic() - self.start)}', last=True)

    def _write(self, text, last):
        line = f'  {self.label}: {text}'
        if self.tty:
            width = shutil.get_terminal_size().columns - 1
            print('\r' + line[:width].ljust(width), end='\n' if last else '', flush=True)
        else:
            print(line, flush=True)


def run(command, label, log, env=None, timeout=None):
    """Run a command with its output in the log file and its progress on one line.

    Args:
        command: list of arguments.
        label: what the user reads while it runs.
        log: path of the log file; the output is appended.
        env: variables to set for the command.
        timeout: seconds after which the command is stopped and counts as failed.

    Returns:
        The output as text.

    Raises:
        CommandError: the command failed or took too long.
    """
    progress, lines = Progress(label), []
    deadline = time.monotonic() + timeout if timeout else None
    with open(log, 'a', encoding='utf-8') as file:
        file.write('\n$ ' + ' '.join(map(str, command)) + '\n')
        process = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors='replace',
            env={**os.environ, **(env or {})},
            cwd=str(ROOT),
            start_new_session=True,  # so that stopping it stops its compilers too
            pass_fds=_held_locks,  # a command that outlives us keeps the lock
        )
        output = queue.Queue()
        thread = threading.Thread(target=_pump, args=(process.stdout, output), daemon=True)
        thread.start()
        try:
            while True:
                try:
                    line = output.get(timeout=0.5)
                except queue.Empty:
                    line = ''
                if line is None:
                    break
                if line:
                    file.write(line)
                    lines.append(line)
                    progress.read(line)
                progress.show()
                if deadline and time.monotonic() > deadline:
                    lines.append(f'timed out after {timeout} s\n')
                    break
            code = 1 if deadline and time.monotonic() > deadline else process.wait()
        finally:
            if process.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGTERM)
                process.wait()
    progress.finish('done' if code == 0 else 'failed')
    if code != 0:
        raise CommandError(''.join(lines))
    return ''.join(lines)


def _pump(stream, output):
    for line in stream:
        output.put(line)
    output.put(None)


# ---------------------------------------------------------------- the environment


def version_text(version):
    """``(3, 11)`` -> ``'3.11'``."""
    return '.'.join(map(str, version))


class Environment:
    """The virtual environment, its state file and its log."""

    def __init__(self, path):
        self.path = Path(os.path.abspath(path))
        self.python = self.path / 'bin' / 'python'
        self.site_packages = self.path / 'lib' / f'python{version_text(PYTHON)}' / 'site-packages'
        self.state_file = self.path / 'mmattn-setup.json'
        self.log = self.path / 'mmattn-setup.log'

    def __str__(self):
        return str(self.path)

    def version(self):
        """``'3.11'``, or None where there is no environment or its Python is gone."""
        if not os.access(self.python, os.X_OK):
            return None
        with contextlib.suppress(OSError):
            text = (self.path / 'pyvenv.cfg').read_text(encoding='utf-8')
            found = re.search(r'^version(?:_info)?\s*=\s*(\d+\.\d+)', text, re.MULTILINE)
            if found:
                return found.group(1)
        return None

    def fingerprint(self):
        """Changes when the environment has to be brought up to date."""
        digest = hashlib.sha256(f'{ROOT}\n{self.path}\n{self.version()}\n'.encode())
        for file in [*sorted(REQUIREMENTS.glob('*.txt')), ROOT / 'setup.py']:
            digest.update(file.name.encode() + b'\0' + file.read_bytes() + b'\0')
        return digest.hexdigest()

    def state(self):
        """The fingerprint of a finished set-up, ``'unfinished'``, or None: not made by us."""
        try:
            return json.loads(self.state_file.read_text(encoding='utf-8'))['state']
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError):
            return 'unfinished'

    def is_ready(self):
        return self.version() is not None and self.state() == self.fingerprint()

    def write_state(self, state):
        temporary = self.state_file.with_suffix('.tmp')
        temporary.write_text(json.dumps({'state': state}) + '\n', encoding='utf-8')
        os.replace(temporary, self.state_file)

    def pip(self, arguments, label, env=None, **options):
        """Run pip in the environment; a failure becomes one sentence."""
        command = [self.python, '-m', 'pip', *arguments]
        env = {'PIP_USER': '0', **(env or {})}
        try:
            return run(command, label, self.log, env, **options)
        except CommandError as error:
            raise SetupError(explain(error.output, self.log)) from None

    def install(self, arguments, label, **options):
        flags = ['install', '--no-input', '--disable-pip-version-check', '--progress-bar', 'off']
        pins = ['-c', REQUIREMENTS / 'constraints.txt']
        return self.pip([*flags, *pins, *arguments], label, **options)

    def quiet(self, *arguments):
        """Run the environment's Python; returns (exit code, output)."""
        done = subprocess.run(
            [str(self.python), *map(str, arguments)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors='replace',
            cwd=str(ROOT),
        )
        return done.returncode, done.stdout

    def installed(self, name):
        """The installed version of a distribution, or None."""
        for found in self.site_packages.glob(name.replace('-', '_') + '-*.dist-info'):
            return found.name[: -len('.dist-info')].rsplit('-', 1)[1]
        return None


def explain(output, log):
    """Turn the output of a failed pip into one sentence that says what to do."""
    for pattern, advice in CAUSES:
        found = re.search(pattern, output, re.IGNORECASE)
        if found:
            return advice.format(**found.groupdict()) + f' (full log: {log})'
    # The cause is named before pip's own summary ("error: metadata-generation-failed").
    errors = re.findall(r'^.*\w*Error: .+$|^.*\berror: .* .*$', output, re.MULTILINE)
    last = f' ({errors[-1].strip()})' if errors else ''
    return f'pip failed{last}: read {log}, then run make setup again; it goes on from here.'


_held_locks = ()


@contextlib.contextmanager
def only_one(path):
    """Let one set-up of a folder run at a time; the second waits for the first."""
    global _held_locks
    import fcntl

    path.parent.mkdir(parents=True, exist_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            print(f'Another set-up in {path.parent} is at work; waiting for it.', flush=True)
            fcntl.flock(folder, fcntl.LOCK_EX)
        _held_locks = (folder,)
        yield
    finally:
        _held_locks = ()
        os.close(folder)


# ---------------------------------------------------------------- checks before any work


def check_python():
    if not (3, 10) <= PYTHON <= (3, 12):
        raise SetupError(
            f'mmattn is set up with Python 3.10, 3.11 or 3.12, and {sys.executable} is '
            f'{version_text(PYTHON)}: install one of them (Debian: apt-get install python3 '
            'python3-venv python3-dev) and name it with make PYTHON=/path/to/python3.11 setup.'
        )


def check_same_python(env):
    have, asked = env.version(), version_text(PYTHON)
    if have not in (None, asked):
        raise SetupError(
            f'VENV={env} is made with Python {have}, and PYTHON={sys.executable} is {asked}: '
            f'remove it with rm -r {env}, or name another folder with make VENV=PATH setup.'
        )


def check_platform():
    if os.name != 'posix':
        raise SetupError(
            'make setup works on Linux and macOS: on Windows use WSL, or pip install -e . in an '
            'environment that has mmdet.'
        )


def check_wheel_folder(folder):
    if folder and not Path(folder).is_dir():
        raise SetupError(
            f'MMCV_WHEELS must be a folder with an mmcv wheel, got {folder!r}: name an existing '
            'folder, or leave MMCV_WHEELS out to build mmcv.'
        )


def check_disk(env):
    """Enough room for the environment, and for what pip unpacks on the way."""
    needed = {}
    for path, size in ((env.path.parent, VENV_BYTES), (Path(tempfile.gettempdir()), TEMP_BYTES)):
        device = os.stat(path).st_dev
        needed[device] = (path, needed.get(device, (path, 0))[1] + size)
    for path, size in needed.values():
        free = shutil.disk_usage(path).free
        if free < size:
            raise SetupError(
                f'Not enough disk: the set-up needs {size / GIB:.0f} GiB at {path} and '
                f'{free / GIB:.1f} GiB are free; free some, or use another disk with '
                'TMPDIR=PATH make VENV=PATH setup.'
            )


def compiler():
    """The C++ compiler for the mmcv build; raises the sentence for what is missing."""
    names = [os.environ['CXX']] if os.environ.get('CXX') else ['c++', 'g++', 'clang++']
    found = next((name for name in names if shutil.which(name.split()[0])), None)
    if found is None:
        raise SetupError(
            f'mmcv has to be compiled and no C++ compiler was found (looked for '
            f'{", ".join(names)}): install one (Debian: apt-get install g++, macOS: '
            'xcode-select --install), or name a folder with a built wheel with '
            'make MMCV_WHEELS=PATH setup.'
        )
    header = Path(sysconfig.get_path('include'), 'Python.h')
    if not header.is_file():
        raise SetupError(
            f'mmcv has to be compiled and the Python headers are missing ({header}): install '
            f'them (Debian: apt-get install python{version_text(PYTHON)}-dev), '
            'or name a folder with a built wheel with make MMCV_WHEELS=PATH setup.'
        )
    return found


# ---------------------------------------------------------------- steps


def make_venv(env):
    """Create the environment, or check that the one that is there can be used."""
    have = env.version()
    ours = env.state() is not None
    if env.path.exists() and not ours and have is None and not is_empty(env.path):
        raise SetupError(
            f'VENV={env} exists and is no virtual environment: name a new folder or an '
            'environment.'
        )
    if have is not None and not ours:
        for name in ('mmcv', 'mmcv_full', 'mmdet'):
            if env.installed(name):
                raise SetupError(
                    f'VENV={env} has the open-mmlab packages ({name}), which the pinned ones '
                    f'would overwrite: use it as it is with {env.python} -m pip install -e . '
                    'or name another folder with make VENV=PATH setup.'
                )
    if env.installed('torch') is None:
        check_disk(env)
    if have is not None and env.quiet('-m', 'pip', '--version')[0] == 0:
        return
    if have is not None and not ours:
        raise SetupError(
            f'VENV={env} has no pip: add it with {env.python} -m ensurepip, or name another '
            'folder with make VENV=PATH setup.'
        )
    # From here on: nothing there yet, half made, or its Python was removed.
    for link in (env.path / 'bin').glob('python*'):
        link.unlink()
    for part in [*env.site_packages.glob('pip'), *env.site_packages.glob('pip-*.dist-info')]:
        shutil.rmtree(part)
    env.path.mkdir(parents=True, exist_ok=True)
    env.write_state('unfinished')
    base = getattr(sys, '_base_executable', None) or sys.executable
    try:
        run([base, '-m', 'venv', env.path], f'virtual environment {env}', env.log)
    except CommandError:
        raise SetupError(
            f'{base} cannot make virtual environments: install the missing part (Debian: '
            f'apt-get install python{version_text(PYTHON)}-venv) and run make setup again '
            f'(log: {env.log}).'
        ) from None


def is_empty(folder):
    return folder.is_dir() and not any(path.is_file() for path in folder.rglob('*'))


def drop_half_installed(env):
    """Make pip install again what it was installing when it was stopped.

    pip writes a package's files first and its INSTALLER last, but takes a package for installed
    as soon as its METADATA is there.
    """
    for info in env.site_packages.glob('*.dist-info'):
        if not (info / 'INSTALLER').is_file() or not (info / 'RECORD').is_file():
            print(f'  {info.name} was interrupted: installing it again', flush=True)
            shutil.rmtree(info)
    for leftover in env.site_packages.glob('~*'):  # what pip was removing
        shutil.rmtree(leftover, ignore_errors=True)


def mmcv_pin():
    """``('onedl-mmcv', '2.3.6')``, from requirements/mmcv.txt."""
    text = (REQUIREMENTS / 'mmcv.txt').read_text(encoding='utf-8')
    return re.search(r'^([\w-]+)==(\S+)$', text, re.MULTILINE).groups()


def mmcv_works(env):
    """Whether the pinned mmcv is installed and its operators load with this torch."""
    name, version = mmcv_pin()
    return env.installed(name) == version and env.quiet('-c', CHECK_MMCV)[0] == 0


def has_built_wheel(env):
    """Whether pip kept a wheel from an earlier build for this Python."""
    code, output = env.quiet('-m', 'pip', 'cache', 'list', mmcv_pin()[0].replace('-', '_'))
    tag = '-cp{}{}-'.format(*PYTHON)
    return code == 0 and any(tag in line for line in output.splitlines())


def install_mmcv(env, wheel_folder):
    """Install mmcv with its compiled operators: a wheel where there is one, else a build."""
    name, version = mmcv_pin()
    pinned = f'{name}=={version}'
    flags = ['--no-deps', '--force-reinstall']
    if wheel_folder:
        install_mmcv_from_folder(env, wheel_folder, [*flags, pinned])
        return
    cached = has_built_wheel(env)
    if not cached and install_mmcv_with_mim(env, [*flags, pinned]):
        return
    build_mmcv(env, [*flags, pinned], cached)
    if mmcv_works(env):
        return
    if cached:
        print('  The mmcv wheel that pip kept was built for another torch: building it again.')
        env.quiet('-m', 'pip', 'cache', 'remove', name.replace('-', '_'))
        build_mmcv(env, [*flags, pinned], cached=False)
        if mmcv_works(env):
            return
    raise SetupError(
        'mmcv was installed and its operators do not load, as after a change of torch: run '
        f'{env.python} -m pip cache remove {name.replace("-", "_")} and then make setup again '
        f'({last_line(env.quiet("-c", CHECK_MMCV)[1])}).'
    )


def install_mmcv_from_folder(env, folder, arguments):
    name, version = mmcv_pin()
    pattern = f'{name.replace("-", "_")}-{version}-cp{{}}{{}}-*.whl'.format(*PYTHON)
    wheels = sorted(Path(folder).glob(pattern))
    if not wheels:
        held = ', '.join(sorted(path.name for path in Path(folder).glob('*.whl'))) or 'no wheel'
        raise SetupError(
            f'MMCV_WHEELS={folder} must hold {pattern} and holds {held}: add it, or leave '
            'MMCV_WHEELS out to build mmcv.'
        )
    flags = ['--no-index', '--find-links', folder, '--only-binary', name]
    env.install([*flags, *arguments], f'mmcv {version} from {folder}')
    if not mmcv_works(env):
        raise SetupError(
            f'{wheels[-1]} does not load with the pinned torch, so it was built for another one '
            f'({last_line(env.quiet("-c", CHECK_MMCV)[1])}): name another wheel, or leave '
            'MMCV_WHEELS out to build mmcv.'
        )


def install_mmcv_with_mim(env, arguments):
    """Try the wheels that the OneDL project publishes; returns whether one works."""
    if PYTHON not in ((3, 10), (3, 12)) or not sys.platform.startswith('linux'):
        return False  # none are published
    name, version = mmcv_pin()
    tool = env.path / 'mim-tool'  # beside the environment's packages: mim brings its own numpy
    quick = {'PIP_DEFAULT_TIMEOUT': '15', 'PIP_RETRIES': '0', 'PYTHONPATH': str(tool)}
    try:
        env.pip(
            ['install', '-q', '--no-input', '--target', tool, MIM],
            'mim, to look for a built mmcv',
            timeout=180,
        )
        command = [env.python, '-m', 'mim', 'install', '--only-binary', name, *arguments]
        run(command, f'mmcv {version} as a built wheel', env.log, env=quick, timeout=300)
    except (SetupError, CommandError):
        print('  No built mmcv wheel can be had here, so it is compiled.', flush=True)
        return False
    finally:
        shutil.rmtree(tool, ignore_errors=True)
    if mmcv_works(env):
        return True
    print('  The built mmcv wheel does not load with this torch, so it is compiled.', flush=True)
    return False


def build_mmcv(env, arguments, cached):
    name, version = mmcv_pin()
    if cached:
        build_env, label = {}, f'mmcv {version}, from the wheel that pip kept'
    else:
        build_env = {'CXX': compiler(), 'MAX_JOBS': os.environ.get('MAX_JOBS') or str(jobs())}
        label = f'mmcv {version}'
        print(
            f'  mmcv {version} is compiled now: 10 to 20 minutes on 2 cores, once; pip keeps the '
            'wheel. Stopping with Ctrl-C is safe.',
            flush=True,
        )
    flags = ['-v', '--no-build-isolation']
    env.install([*flags, *arguments], label, env={'MMCV_WITH_OPS': '1', **build_env})


def jobs():
    """Compilers at a time: one a core, and 2 GiB of memory for each."""
    memory = os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')
    return max(1, min(os.cpu_count() or 1, memory // (2 * GIB)))


def last_line(output):
    lines = output.strip().splitlines()
    return lines[-1] if lines else 'no message'


def set_up(env, wheel_folder):
    """Bring the environment to the pinned state, step by step."""
    start = time.monotonic()
    print(f'Setting up {env} (log: {env.log})', flush=True)
    make_venv(env)
    if env.state() == 'unfinished':
        drop_half_installed(env)
    env.write_state('unfinished')
    will_compile = PYTHON == (3, 11) and not wheel_folder
    if will_compile and env.installed(mmcv_pin()[0]) is None and not has_built_wheel(env):
        compiler()  # before any download
    env.install(['-r', REQUIREMENTS / 'build.txt'], 'torch and build tools (4 GB the first time)')
    env.install(
        [
            part
            for name in ('build', 'hosts', 'dev')
            for part in ('-r', REQUIREMENTS / f'{name}.txt')
        ],
        'mmdet, mmengine, mmpretrain and test tools',
    )
    if not mmcv_works(env):
        install_mmcv(env, wheel_folder)
    env.install(['--no-deps', '--no-build-isolation', '-e', ROOT], 'mmattn')
    code, output = env.quiet('-c', CHECK_ALL)
    if code != 0:
        raise SetupError(
            f'Everything is installed and does not import ({last_line(output)}): remove the '
            f'environment with rm -r {env} and run make setup again.'
        )
    env.write_state(env.fingerprint())
    print(f'Set up after {duration(time.monotonic() - start)}.', flush=True)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--venv', default='.venv', help='folder of the environment')
    parser.add_argument('--mmcv-wheels', default='', help='folder with a built mmcv wheel')
    args = parser.parse_args(argv)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    env = Environment(args.venv)
    try:
        check_platform()
        check_python()
        check_same_python(env)
        check_wheel_folder(args.mmcv_wheels)
        if not env.is_ready():
            with only_one(env.path):
                if not env.is_ready():  # the one we waited for may have done it
                    set_up(env, args.mmcv_wheels)
        print(f'Environment ready: {env}', flush=True)
    except SetupError as error:
        print(f'\nerror: {error}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print('\nStopped; make setup goes on from here.', file=sys.stderr)
        return 130
    return 0


if __name__ == '__main__':
    sys.exit(main())
