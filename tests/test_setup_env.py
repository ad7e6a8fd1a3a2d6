"""tools/misc/setup_env.py with simulated installs: no network, no compiler, no real packages.

It runs before there is an environment, so it is the one script whose parts are no part of the
package; it is imported by its name below the root.
"""

import fcntl
import importlib
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = ROOT / 'tools' / 'misc' / 'setup_env.py'
BUILD = 'onedl-mmcv==2.3.6'  # in a command that has uv build mmcv
WHEEL = 'onedl_mmcv-2.3.6-cp311-cp311-linux_x86_64.whl'
LOAD = f"""
import pathlib, signal, sys
sys.path.insert(0, {str(ROOT)!r})
from tools.misc import setup_env as script
"""


@pytest.fixture
def script(monkeypatch, tmp_path):
    module = importlib.import_module('tools.misc.setup_env')
    monkeypatch.setattr(module, 'PYTHON', (3, 11))
    monkeypatch.setattr(signal, 'signal', lambda number, handler: None)
    monkeypatch.setattr(module, 'KEPT', tmp_path / 'cache' / 'torch-2.8.0')
    return module


class Machine:
    """What uv, pip and the environment's Python would do; remembers the commands.

    Attributes:
        fail: ``{part of a command: exception}``, raised when such a command runs.
        mmcv_loads: whether mmcv's operators load with torch.
        imports: whether everything imports at the end.
    """

    def __init__(self, script, path):
        self.script, self.env = script, script.Environment(path)
        self.commands, self.fail, self.mmcv_loads, self.imports = [], {}, True, True

    def main(self, *arguments):
        return self.script.main(['--venv', str(self.env.path), *arguments])

    def make(self, base='3.11'):
        """A working virtual environment that somebody else made."""
        self.env.python.parent.mkdir(parents=True, exist_ok=True)
        self.env.python.write_text('')
        self.env.python.chmod(0o755)
        (self.env.path / 'pyvenv.cfg').write_text(f'version = {base}.7\n')

    def package(self, name, version):
        site = self.env.path / 'lib' / 'python3.11' / 'site-packages'
        (site / f'{name}-{version}.dist-info').mkdir(parents=True, exist_ok=True)

    def make_venv(self, command):
        self.note(' '.join(command))
        self.make()
        return subprocess.CompletedProcess(command, 0)

    def is_ready(self):
        return self.env.left() == self.env.finished

    def note(self, line):
        self.commands.append(line)
        for part, error in self.fail.items():
            if part in line:
                raise error

    def run(self, *arguments, **variables):
        line = ' '.join(map(str, arguments))
        self.note(line)
        if 'hosts.txt' in line:
            self.package('torch', '2.8.0')
        elif BUILD in line:  # uv keeps what it builds in the cache that it is given
            cache = arguments[arguments.index('--cache-dir') + 1]
            wheel = cache / 'sdists-v9/pypi/onedl-mmcv/2.3.6/id' / WHEEL
            wheel.parent.mkdir(parents=True)
            wheel.write_text('')
        if '--reinstall --cache-dir' in line:
            self.package('onedl_mmcv', '2.3.6')

    def ask(self, *arguments):
        line = ' '.join(map(str, arguments))
        if line == f'-c {self.script.CHECK_MMCV}':
            return (0, '') if self.mmcv_loads else (1, 'ImportError: undefined symbol: _ZN3c10')
        if line == f'-c {self.script.CHECK_ALL}':
            return (0, '') if self.imports else (1, 'ImportError: no mmdet')
        if 'config list' in line:
            return 0, "global.extra-index-url='file:///a\\nfile:///b'\n:env:.index-url='http://c'"
        return 1, 'No module named uv'

    def ran(self, part):
        return [command for command in self.commands if part in command]


@pytest.fixture
def machine(script, tmp_path, monkeypatch):
    machine = Machine(script, tmp_path / 'venv')
    monkeypatch.setattr(script.Environment, 'run', lambda self, *a, **o: machine.run(*a, **o))
    monkeypatch.setattr(script.Environment, 'ask', lambda self, *a: machine.ask(*a))
    monkeypatch.setattr(script.subprocess, 'run', machine.make_venv)
    monkeypatch.setattr(script, 'check_compiler', lambda: None)
    monkeypatch.setattr(script, 'BYTES', 0)
    return machine


# ---------------------------------------------------------------- the order of things


def test_torch_comes_before_the_mmcv_build_and_the_state_comes_last(machine):
    assert machine.main() == 0
    steps = ['-m venv', 'uv==', 'hosts.txt', BUILD, f'-e {ROOT}']
    assert len(machine.commands) == len(steps)
    for command, step in zip(machine.commands, steps):
        assert step in command
    assert machine.is_ready()
    (build,) = machine.ran(BUILD)
    assert '--no-build-isolation' in build
    assert build.endswith('onedl-mmcv==2.3.6')


def test_a_finished_environment_is_left_alone(machine):
    machine.main()
    machine.commands.clear()
    assert machine.main() == 0
    assert machine.commands == []


def test_changed_requirements_bring_it_up_to_date_without_a_second_build(machine, monkeypatch):
    machine.main()
    machine.commands.clear()
    machine.env.state.write_text('other requirements')
    assert machine.main() == 0
    assert machine.ran('hosts.txt')
    assert not machine.ran('mmcv==')
    assert not machine.ran('--reinstall')
    assert machine.is_ready()


@pytest.mark.parametrize('step', ['-m venv', 'uv==', 'hosts.txt', BUILD, '-e /'])
def test_interrupted_anywhere_it_is_not_whole_and_the_next_run_resumes(machine, step, capsys):
    machine.fail = {step: KeyboardInterrupt()}
    assert machine.main() == 130
    assert 'make setup resumes from here' in capsys.readouterr().err
    assert not machine.is_ready()
    machine.fail = {}
    machine.commands.clear()
    assert machine.main() == 0
    assert machine.is_ready()
    (install,) = machine.ran('hosts.txt')
    cut_short = step != '-m venv'  # what was cut short is installed again
    assert ('--reinstall' in install) == cut_short


def test_an_environment_whose_python_was_removed_is_made_again(machine):
    machine.main()
    machine.env.python.unlink()
    assert not machine.is_ready()
    assert machine.main() == 0
    assert len(machine.ran('-m venv')) == 2


def test_an_environment_that_does_not_import_is_not_whole(machine, capsys):
    machine.imports = False
    assert machine.main() == 1
    assert 'does not import (ImportError: no mmdet)' in capsys.readouterr().err
    assert not machine.is_ready()


def test_uv_asks_the_registries_that_pip_asks(script, tmp_path, monkeypatch):
    machine, settings = Machine(script, tmp_path / 'venv'), {}
    monkeypatch.setattr(script.Environment, 'ask', lambda self, *a: machine.ask(*a))
    monkeypatch.setattr(script.Environment, 'run', lambda self, *a, **env: settings.update(env))
    machine.env.install('x')
    assert settings['UV_INDEX'] == 'file:///a file:///b'
    assert settings['UV_DEFAULT_INDEX'] == 'http://c'


# ---------------------------------------------------------------- mmcv


def test_the_kept_wheel_of_this_torch_is_used(machine, script):
    machine.main()
    assert script.find_wheel(script.KEPT).name == WHEEL
    second = Machine(script, machine.env.path.with_name('second'))
    machine.env, machine.commands = second.env, []
    assert machine.main() == 0
    assert not machine.ran(BUILD)
    assert machine.ran(WHEEL)


def test_a_wheel_beside_uvs_cache_is_used(machine, script, monkeypatch):
    monkeypatch.setattr(script, 'check_compiler', lambda: pytest.fail('looked for a compiler'))
    script.KEPT.mkdir(parents=True)
    (script.KEPT / WHEEL).write_text('')
    assert machine.main() == 0
    assert machine.ran(f'{script.KEPT / WHEEL}')


def test_a_wheel_that_uv_did_not_finish_is_not_used(script):
    for folder in ('builds-v0/.tmpXYZ', 'archive-v0/x'):
        (script.KEPT / folder).mkdir(parents=True)
        (script.KEPT / folder / WHEEL).write_text('')
    assert script.find_wheel(script.KEPT) is None


@pytest.mark.parametrize(
    ('line', 'expected'),
    [
        ('DEBUG [20/78] c++ -MMD\n', 'mmcv: 20 of 78 files compiled, about 3 min left'),
        ('DEBUG [21/78] c++ -MMD\n', ''),
        ('DEBUG Building: onedl-mmcv==2.3.6\n', ''),
        ('   Building onedl-mmcv==2.3.6\n', 'Building onedl-mmcv==2.3.6'),
        (' + six==1.17.0\n', '+ six==1.17.0'),
        ('         copying mmcv/version.py\n', ''),
        ('\n', ''),
    ],
    ids=['each fifth file', 'between', 'debug', 'step', 'package', 'output of a failure', 'empty'],
)
def test_of_uvs_lines_the_user_sees_the_progress(script, line, expected):
    assert script.shown(line, seconds=60) == expected


@pytest.fixture
def wheels(tmp_path):
    folder = tmp_path / 'wheels'
    folder.mkdir()
    (folder / WHEEL).write_text('')
    return folder


def test_a_named_wheel_is_used_and_nothing_is_built(machine, script, wheels, monkeypatch):
    monkeypatch.setattr(script, 'check_compiler', lambda: pytest.fail('looked for a compiler'))
    assert machine.main('--mmcv-wheels', str(wheels)) == 0
    (command,) = machine.ran(WHEEL)
    assert str(wheels) in command


def test_a_folder_with_the_wrong_wheel_names_the_right_one(machine, wheels, capsys):
    wheel = next(wheels.iterdir())
    wheel.rename(wheel.with_name('onedl_mmcv-2.3.6-cp312-cp312-linux_x86_64.whl'))
    assert machine.main('--mmcv-wheels', str(wheels)) == 1
    message = capsys.readouterr().err
    assert 'onedl_mmcv-2.3.6 for Python 3.11, its wheels are: onedl_mmcv-2.3.6-cp312' in message
    assert machine.commands == []


def test_a_wheel_for_another_torch_is_one_sentence(machine, wheels, capsys):
    machine.mmcv_loads = False
    assert machine.main('--mmcv-wheels', str(wheels)) == 1
    assert 'does not load with the pinned torch (ImportError: undef' in capsys.readouterr().err


# ---------------------------------------------------------------- sentences


@pytest.mark.parametrize(
    ('output', 'sentence'),
    [
        ('error: failed to write: No space left on device (os error 28)', 'The disk is full'),
        ('c++: fatal error: Killed signal terminated program cc1plus', 'MAX_JOBS=1 make setup'),
        ('error: Failed to fetch: `torch`\n  dns error', 'The package registry cannot be reached'),
        ('Because there is no version of ruff==9 and', 'has no ruff==9 for this Python'),
        ('Because nonsuch was not found in the', 'has no nonsuch for this Python'),
        ('error: metadata-generation-failed', 'failed (error: metadata-generation-failed)'),
        ('nothing to see', 'The installation failed: read '),
    ],
    ids=['disk', 'memory', 'network', 'version', 'package', 'cause', 'unknown'],
)
def test_a_failed_installation_becomes_one_sentence(script, output, sentence):
    message = str(script.explain(output, '/venv/log'))
    assert sentence in message
    assert '/venv/log' in message
    assert len(message.splitlines()) == 1


@pytest.mark.parametrize('version', [(3, 9), (3, 13), (2, 7)])
def test_wrong_python(machine, script, monkeypatch, version, capsys):
    monkeypatch.setattr(script, 'PYTHON', version)
    assert machine.main() == 1
    message = capsys.readouterr().err
    assert 'Python 3.10, 3.11 or 3.12, and ' in message
    assert f' is {version[0]}.{version[1]}: install one' in message
    assert not machine.env.path.exists()


def test_another_python_than_the_environments_is_refused(machine, capsys):
    machine.make(base='3.12')
    assert machine.main() == 1
    assert 'is made with Python 3.12, and PYTHON=' in capsys.readouterr().err
    assert machine.commands == []


def test_no_venv_module(machine, script, monkeypatch, capsys):
    failed = subprocess.CompletedProcess([], 1)
    monkeypatch.setattr(script.subprocess, 'run', lambda command: failed)
    assert machine.main() == 1
    assert 'apt-get install python3-venv' in capsys.readouterr().err


def test_a_folder_that_is_no_environment_is_not_touched(machine, capsys):
    machine.env.path.mkdir()
    precious = machine.env.path / 'thesis.tex'
    precious.write_text('42')
    assert machine.main() == 1
    assert 'exists and is no environment' in capsys.readouterr().err
    assert [*machine.env.path.iterdir()] == [precious]


@pytest.mark.parametrize('name', ['mmcv', 'mmdet'])
def test_an_environment_with_open_mmlab_packages_is_not_touched(machine, name, capsys):
    machine.make()
    machine.package(name, '2.1.0')
    assert machine.main() == 1
    assert f'has the open-mmlab packages ({name})' in capsys.readouterr().err
    assert machine.commands == []
    assert not machine.env.state.exists()


def test_an_environment_of_the_users_is_used(machine):
    machine.make()
    assert machine.main() == 0
    assert not machine.ran('-m venv')


def test_no_compiler_stops_before_any_download(script, tmp_path, monkeypatch, capsys):
    monkeypatch.delenv('CXX', raising=False)
    monkeypatch.setenv('PATH', '/nonexistent')
    monkeypatch.setattr(script, 'BYTES', 0)
    assert script.main(['--venv', str(tmp_path / 'venv')]) == 1
    message = capsys.readouterr().err
    assert 'looked for c++, g++, clang++): apt-get install g++' in message
    assert not (tmp_path / 'venv').exists()


def test_no_python_headers(script, tmp_path, monkeypatch):
    monkeypatch.setenv('CXX', sys.executable)
    monkeypatch.setattr(script.sysconfig, 'get_path', lambda name: str(tmp_path))
    with pytest.raises(script.SetupError, match='Python headers are missing .*python3-dev'):
        script.check_compiler()


def test_not_enough_disk(script, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(script, 'BYTES', 10**18)
    assert script.main(['--venv', str(tmp_path / 'venv')]) == 1
    assert 'GiB are free; free some' in capsys.readouterr().err


# ---------------------------------------------------------------- real processes


@pytest.fixture
def here(script, tmp_path):
    """An environment whose Python is this one."""
    env = script.Environment(tmp_path)
    env.python = sys.executable
    return env


def test_the_output_goes_to_the_log_and_to_the_user(here, capsys):
    here.run('platform')
    assert capsys.readouterr().out.strip() in here.log.read_text()


def test_a_command_that_fails_raises_the_sentence(script, here):
    with pytest.raises(script.SetupError, match='installation failed.*No module named nonsuch'):
        here.run('nonsuch')


def alive(pid):
    """Whether a process runs; a zombie does not."""
    try:
        return Path(f'/proc/{pid}/stat').read_text().rsplit(')', 1)[1].split()[0] != 'Z'
    except FileNotFoundError:
        return False


@pytest.mark.skipif(not Path('/proc/self/stat').exists(), reason='reads /proc')
def test_stopping_the_script_stops_the_compilers(tmp_path):
    pids = tmp_path / 'pids'
    (tmp_path / 'slow.py').write_text(
        'import pathlib, subprocess\n'
        'child = subprocess.Popen(["sleep", "60"])\n'
        f'pathlib.Path({str(pids)!r}).write_text(str(child.pid))\n'
        'print("waits", flush=True)\n'
        'child.wait()\n'
    )
    code = LOAD + textwrap.dedent(f"""
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        env = script.Environment({str(tmp_path)!r})
        env.python = sys.executable
        env.run('slow', PYTHONPATH={str(tmp_path)!r})
    """)
    process = subprocess.Popen([sys.executable, '-c', code], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 30
    while not (pids.exists() and pids.read_text()) and time.monotonic() < deadline:
        time.sleep(0.05)
    compiler = int(pids.read_text())
    assert alive(compiler)
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) != 0
    while alive(compiler) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not alive(compiler)


def test_two_set_ups_take_turns(tmp_path):
    code = LOAD + textwrap.dedent(f"""
        script.check = lambda env, wheels: None
        script.set_up = lambda env, wheels: print('mine')
        script.main(['--venv', {str(tmp_path / 'venv')!r}])
    """)
    command = [sys.executable, '-B', '-u', '-c', code]
    with open(SCRIPT) as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        second = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert 'is at work; waiting' in second.stdout.readline()
        time.sleep(0.3)
        assert second.poll() is None
    assert second.communicate(timeout=30)[0].startswith('mine\n')


@pytest.mark.skipif(not (3, 10) <= sys.version_info[:2] <= (3, 12), reason='set up with 3.10-3.12')
def test_a_registry_out_of_reach(script, tmp_path):
    """The whole script, for real, against a port that nobody listens on."""
    wheels = tmp_path / 'wheels'  # so that no compiler is asked for
    wheels.mkdir()
    name = 'onedl_mmcv-2.3.6-cp{}{}-none.whl'.format(*sys.version_info[:2])
    (wheels / name).write_text('')
    pip = {'PIP_CONFIG_FILE': os.devnull, 'PIP_INDEX_URL': 'http://127.0.0.1:9/simple'}
    pip.update(PIP_RETRIES='1', PIP_NO_CACHE_DIR='1', PIP_DEFAULT_TIMEOUT='5')
    clean = {key: value for key, value in os.environ.items() if not key.startswith('PIP_')}
    done = subprocess.run(
        [sys.executable, SCRIPT, '--venv', tmp_path / 'venv', '--mmcv-wheels', wheels],
        env={**clean, **pip},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    if 'Not enough disk' in done.stderr:
        pytest.skip(done.stderr)
    assert 'error: The package registry cannot be reached' in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert script.Environment(tmp_path / 'venv').left() == 'unfinished'
