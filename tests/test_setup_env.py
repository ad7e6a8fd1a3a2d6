"""tools/misc/setup_env.py with a simulated pip: no network, no compiler, no real packages."""

import importlib.util
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
PYTHON = sys.version_info[:2]


def load_script():
    spec = importlib.util.spec_from_file_location('setup_env', SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def setup_env(monkeypatch):
    module = load_script()
    monkeypatch.setattr(module, 'PYTHON', (3, 11))
    monkeypatch.setattr(module, 'check_disk', lambda env: None)
    monkeypatch.setattr(module, 'compiler', lambda: 'c++')
    monkeypatch.setattr(signal, 'signal', lambda number, handler: None)
    return module


class Machine:
    """What pip and the environment's Python would do; remembers the commands.

    Attributes:
        fail: ``{part of a command: exception}``, raised when such a command runs.
        working_builds: which builds of mmcv load with torch, in order; the last one repeats.
        kept_wheel: whether pip's cache has an mmcv wheel.
    """

    def __init__(self, setup_env, path):
        self.script, self.env = setup_env, setup_env.Environment(path)
        self.commands, self.fail, self.working_builds = [], {}, [True]
        self.kept_wheel, self.mmcv_loads, self.everything_imports = False, False, True

    def main(self, *arguments):
        return self.script.main(['--venv', str(self.env.path), *arguments])

    def make(self, base=(3, 11)):
        """A working virtual environment that somebody else made."""
        self.env.python.parent.mkdir(parents=True, exist_ok=True)
        self.env.python.write_text('')
        self.env.python.chmod(0o755)
        (self.env.path / 'pyvenv.cfg').write_text('version = {}.{}.7\n'.format(*base))
        self.package('pip', '23.2')

    def package(self, name, version, whole=True):
        info = self.env.site_packages / f'{name}-{version}.dist-info'
        info.mkdir(parents=True, exist_ok=True)
        for file in ('METADATA', 'RECORD', 'INSTALLER')[: 3 if whole else 1]:
            (info / file).write_text('')

    def run(self, command, label, log, env=None, timeout=None):
        line = ' '.join(map(str, command))
        self.commands.append(line)
        for part, error in self.fail.items():
            if part in line:
                raise error
        if '-m venv' in line:
            self.make()
        elif line.endswith('build.txt'):
            self.package('torch', '2.8.0')
        elif 'onedl-mmcv==' in line:
            self.package('onedl_mmcv', '2.3.6')
            first, *later = self.working_builds
            self.mmcv_loads, self.working_builds = first, later or [first]
        return ''

    def quiet(self, *arguments):
        line = ' '.join(map(str, arguments))
        if line.startswith('-m pip cache list'):
            return 0, f' - onedl_mmcv-2.3.6-cp{311}-linux.whl' if self.kept_wheel else 'empty'
        if line.startswith('-m pip cache remove'):
            self.kept_wheel = False
            self.commands.append(line)
            return 0, ''
        if line == '-m pip --version':
            return (0 if self.env.installed('pip') else 1), ''
        if line == f'-c {self.script.CHECK_MMCV}':
            return (0, '') if self.mmcv_loads else (1, 'ImportError: undefined symbol: _ZN3c10')
        assert line == f'-c {self.script.CHECK_ALL}'
        return (0, '') if self.everything_imports else (1, 'ImportError: no mmdet')

    def ran(self, part):
        return [command for command in self.commands if part in command]


@pytest.fixture
def machine(setup_env, tmp_path, monkeypatch):
    machine = Machine(setup_env, tmp_path / 'venv')
    monkeypatch.setattr(setup_env, 'run', machine.run)
    monkeypatch.setattr(
        setup_env.Environment, 'quiet', lambda self, *arguments: machine.quiet(*arguments)
    )
    return machine


# ---------------------------------------------------------------- the order of things


def test_torch_comes_before_the_mmcv_build_and_the_state_comes_last(machine, capsys):
    assert machine.main() == 0
    steps = ['-m venv', 'build.txt', 'hosts.txt', 'onedl-mmcv==2.3.6', f'-e {ROOT}']
    assert len(machine.commands) == len(steps)
    for command, step in zip(machine.commands, steps):
        assert step in command
    assert machine.env.is_ready()
    build = machine.ran('onedl-mmcv==')[0]
    assert '--no-build-isolation' in build
    assert '--no-deps' in build
    assert '10 to 20 minutes on 2 cores' in capsys.readouterr().out


def test_a_finished_environment_is_left_alone(machine):
    machine.main()
    machine.commands.clear()
    assert machine.main() == 0
    assert machine.commands == []


def test_changed_requirements_bring_it_up_to_date_without_a_second_build(
    machine, setup_env, tmp_path, monkeypatch
):
    pins = tmp_path / 'requirements'
    pins.mkdir()
    for file in (ROOT / 'requirements').glob('*.txt'):
        (pins / file.name).write_bytes(file.read_bytes())
    monkeypatch.setattr(setup_env, 'REQUIREMENTS', pins)
    machine.main()
    machine.commands.clear()
    with open(pins / 'dev.txt', 'a') as file:
        file.write('tabulate==0.9.0\n')
    assert not machine.env.is_ready()
    assert machine.main() == 0
    assert machine.ran('dev.txt')
    assert not machine.ran('onedl-mmcv==')
    assert machine.env.is_ready()


@pytest.mark.parametrize('step', ['-m venv', 'build.txt', 'hosts.txt', 'onedl-mmcv==', '-e /'])
def test_interrupted_anywhere_it_is_not_whole_and_the_next_run_goes_on(machine, step, capsys):
    machine.fail = {step: KeyboardInterrupt()}
    assert machine.main() == 130
    assert 'make setup goes on from here' in capsys.readouterr().err
    assert not machine.env.is_ready()
    machine.fail = {}
    assert machine.main() == 0
    assert machine.env.is_ready()


def test_what_pip_was_unpacking_is_installed_again(machine):
    machine.fail = {'hosts.txt': KeyboardInterrupt()}
    machine.main()
    machine.package('scipy', '1.17.1', whole=False)
    (machine.env.site_packages / '~umpy').mkdir()
    machine.fail = {}
    machine.main()
    assert machine.env.installed('scipy') is None  # so that the real pip installs it
    assert machine.env.installed('torch') == '2.8.0'
    assert not (machine.env.site_packages / '~umpy').exists()


def test_an_environment_without_pip_is_repaired_when_we_made_it(machine):
    machine.fail = {'-m venv': KeyboardInterrupt()}
    machine.main()
    machine.env.python.parent.mkdir(parents=True)
    machine.env.python.symlink_to(sys.executable)
    (machine.env.path / 'pyvenv.cfg').write_text('version = 3.11.7\n')
    machine.fail = {}
    assert machine.main() == 0
    assert len(machine.ran('-m venv')) == 2


def test_an_environment_whose_python_was_removed_is_not_whole(machine):
    machine.main()
    machine.env.python.unlink()
    machine.env.python.symlink_to('/nonexistent/python3.11')
    assert not machine.env.is_ready()
    assert machine.main() == 0
    assert len(machine.ran('-m venv')) == 2
    assert machine.env.is_ready()


def test_a_state_file_cut_short_counts_as_unfinished(machine):
    machine.main()
    machine.env.state_file.write_text('{"sta')
    assert machine.env.state() == 'unfinished'
    assert not machine.env.is_ready()


def test_an_environment_that_does_not_import_is_not_whole(machine, capsys):
    machine.everything_imports = False
    assert machine.main() == 1
    assert 'does not import (ImportError: no mmdet)' in capsys.readouterr().err
    assert not machine.env.is_ready()


# ---------------------------------------------------------------- mmcv


def test_the_wheel_that_pip_kept_needs_no_compiler(machine, setup_env, monkeypatch):
    monkeypatch.setattr(setup_env, 'compiler', lambda: pytest.fail('looked for a compiler'))
    machine.kept_wheel = True
    assert machine.main() == 0


def test_a_stale_wheel_is_dropped_and_built_again_once(machine, capsys):
    machine.kept_wheel, machine.working_builds = True, [False, True]
    assert machine.main() == 0
    order = [c for c in machine.commands if 'onedl-mmcv==' in c or 'cache' in c]
    assert ['cache remove' in command for command in order] == [False, True, False]
    assert 'was built for another torch: building it again' in capsys.readouterr().out


def test_mmcv_that_never_loads_is_one_sentence(machine, capsys):
    machine.kept_wheel, machine.working_builds = True, [False]
    assert machine.main() == 1
    assert len(machine.ran('onedl-mmcv==')) == 2
    message = capsys.readouterr().err
    assert 'pip cache remove onedl_mmcv and then make setup again' in message
    assert 'undefined symbol' in message


def test_installed_mmcv_that_stopped_loading_is_installed_again(machine):
    machine.main()
    machine.mmcv_loads = False  # as after a change of torch
    machine.env.write_state('unfinished')
    machine.commands.clear()
    assert machine.main() == 0
    assert '--force-reinstall' in machine.ran('onedl-mmcv==')[0]


@pytest.fixture
def wheels(tmp_path):
    folder = tmp_path / 'wheels'
    folder.mkdir()
    (folder / 'onedl_mmcv-2.3.6-cp311-cp311-linux_x86_64.whl').write_text('')
    return folder


def test_a_named_wheel_is_used_and_nothing_is_built(machine, setup_env, wheels, monkeypatch):
    monkeypatch.setattr(setup_env, 'compiler', lambda: pytest.fail('looked for a compiler'))
    assert machine.main('--mmcv-wheels', str(wheels)) == 0
    (command,) = machine.ran('onedl-mmcv==')
    assert f'--no-index --find-links {wheels} --only-binary onedl-mmcv' in command


def test_a_folder_with_the_wrong_wheel_names_the_right_one(machine, wheels, capsys):
    wheel = next(wheels.iterdir())
    wheel.rename(wheel.with_name('onedl_mmcv-2.3.6-cp312-cp312-linux_x86_64.whl'))
    assert machine.main('--mmcv-wheels', str(wheels)) == 1
    message = capsys.readouterr().err
    assert 'must hold onedl_mmcv-2.3.6-cp311-*.whl and holds onedl_mmcv-2.3.6-cp312' in message


def test_a_named_wheel_for_another_torch_is_one_sentence(machine, wheels, capsys):
    machine.working_builds = [False]
    assert machine.main('--mmcv-wheels', str(wheels)) == 1
    message = capsys.readouterr().err
    assert 'does not load with the pinned torch' in message
    assert 'undefined symbol' in message


def test_a_wheel_folder_that_is_none_is_refused_before_any_work(machine, capsys):
    assert machine.main('--mmcv-wheels', '/nonexistent') == 1
    assert "must be a folder with an mmcv wheel, got '/nonexistent'" in capsys.readouterr().err
    assert machine.commands == []


@pytest.mark.parametrize(
    ('version', 'platform', 'tries'),
    [((3, 10), 'linux', 1), ((3, 12), 'linux', 1), ((3, 11), 'linux', 0), ((3, 12), 'darwin', 0)],
)
def test_mim_is_tried_where_wheels_are_published(
    setup_env, tmp_path, monkeypatch, version, platform, tries
):
    monkeypatch.setattr(setup_env, 'PYTHON', version)
    monkeypatch.setattr(setup_env.sys, 'platform', platform)
    machine = Machine(setup_env, tmp_path / 'venv')
    monkeypatch.setattr(setup_env, 'run', machine.run)
    monkeypatch.setattr(setup_env.Environment, 'quiet', lambda self, *args: machine.quiet(*args))
    assert setup_env.install_mmcv_with_mim(machine.env, ['onedl-mmcv==2.3.6']) is (tries == 1)
    assert len(machine.ran('-m mim install --only-binary onedl-mmcv')) == tries
    assert not (machine.env.path / 'mim-tool').exists()


@pytest.mark.parametrize('part', ['onedl-mim==', '-m mim install'])
def test_without_a_wheel_from_mim_it_is_built(machine, setup_env, monkeypatch, part, capsys):
    monkeypatch.setattr(setup_env, 'PYTHON', (3, 12))
    monkeypatch.setattr(setup_env, 'check_same_python', lambda env: None)
    machine.env = setup_env.Environment(machine.env.path)
    machine.fail = {part: setup_env.CommandError('no such host')}
    assert setup_env.install_mmcv(machine.env, '') is None
    assert 'No built mmcv wheel can be had here, so it is compiled' in capsys.readouterr().out
    assert machine.ran('--no-build-isolation')


# ---------------------------------------------------------------- sentences


@pytest.mark.parametrize(
    ('output', 'sentence'),
    [
        ('OSError: [Errno 28] No space left on device', 'The disk is full'),
        ('c++: fatal error: Killed signal terminated program cc1plus', 'MAX_JOBS=1 make setup'),
        (
            'WARNING: Retrying after connection broken by NewConnectionError\n'
            'ERROR: No matching distribution found for torch==2.8.0',
            'The package registry cannot be reached',
        ),
        (
            'ERROR: Could not find a version\nERROR: No matching distribution found for ruff==9',
            'has no ruff==9 for this Python',
        ),
        (
            'FileNotFoundError: README.md\nerror: metadata-generation-failed',
            'pip failed (FileNotFoundError: README.md)',
        ),
        ('nothing to see', 'pip failed: read '),
    ],
    ids=['disk', 'memory', 'network', 'package', 'cause', 'unknown'],
)
def test_a_failure_of_pip_becomes_one_sentence(machine, setup_env, output, sentence, capsys):
    machine.fail = {'hosts.txt': setup_env.CommandError(output)}
    assert machine.main() == 1
    message = capsys.readouterr().err.strip()
    assert sentence in message
    assert str(machine.env.log) in message
    assert len(message.splitlines()) == 1
    assert not machine.env.is_ready()


@pytest.mark.parametrize('version', [(3, 9), (3, 13), (2, 7)])
def test_wrong_python(machine, setup_env, monkeypatch, version, capsys):
    monkeypatch.setattr(setup_env, 'PYTHON', version)
    assert machine.main() == 1
    message = capsys.readouterr().err
    assert 'Python 3.10, 3.11 or 3.12, and ' in message
    assert f' is {version[0]}.{version[1]}: install one' in message
    assert not machine.env.path.exists()


def test_another_python_than_the_environments_is_refused(machine, capsys):
    machine.make(base=(3, 12))
    assert machine.main() == 1
    assert 'is made with Python 3.12, and PYTHON=' in capsys.readouterr().err
    assert machine.commands == []


def test_no_venv_module(machine, setup_env, capsys):
    machine.fail = {'-m venv': setup_env.CommandError('ensurepip is not available')}
    assert machine.main() == 1
    assert 'apt-get install python3.11-venv' in capsys.readouterr().err


def test_a_folder_that_is_no_environment_is_not_touched(machine, capsys):
    machine.env.path.mkdir()
    precious = machine.env.path / 'thesis.tex'
    precious.write_text('42')
    assert machine.main() == 1
    assert 'exists and is no virtual environment' in capsys.readouterr().err
    assert [*machine.env.path.iterdir()] == [precious]


@pytest.mark.parametrize('name', ['mmcv', 'mmdet'])
def test_an_environment_with_open_mmlab_packages_is_not_touched(machine, name, capsys):
    machine.make()
    machine.package(name, '2.1.0')
    assert machine.main() == 1
    assert f'has the open-mmlab packages ({name})' in capsys.readouterr().err
    assert machine.commands == []
    assert machine.env.state() is None


def test_an_environment_of_the_users_is_used_and_nothing_in_it_is_dropped(machine):
    machine.make()
    machine.package('by_hand', '1.0', whole=False)
    assert machine.main() == 0
    assert not machine.ran('-m venv')
    assert machine.env.installed('by-hand') == '1.0'


def test_no_compiler(monkeypatch):
    script = load_script()
    monkeypatch.delenv('CXX', raising=False)
    monkeypatch.setenv('PATH', '/nonexistent')
    with pytest.raises(script.SetupError, match=r'looked for c\+\+, g\+\+, clang\+\+.*apt-get'):
        script.compiler()


def test_no_compiler_stops_before_any_download(machine, setup_env, monkeypatch, capsys):
    def missing():
        raise setup_env.SetupError('no compiler')

    monkeypatch.setattr(setup_env, 'compiler', missing)
    assert machine.main() == 1
    assert 'error: no compiler' in capsys.readouterr().err
    assert not machine.ran('pip install')


def test_no_python_headers(tmp_path, monkeypatch):
    script = load_script()
    monkeypatch.setenv('CXX', sys.executable)
    monkeypatch.setattr(script.sysconfig, 'get_path', lambda name: str(tmp_path))
    with pytest.raises(script.SetupError, match=r'Python headers are missing.*python3\.\d+-dev'):
        script.compiler()


def test_not_enough_disk(tmp_path, monkeypatch):
    script = load_script()
    monkeypatch.setattr(script, 'VENV_BYTES', 10**18)
    with pytest.raises(script.SetupError, match=r'needs \d+ GiB at .* GiB are free'):
        script.check_disk(script.Environment(tmp_path / 'venv'))


# ---------------------------------------------------------------- real processes


def test_the_output_goes_to_the_log_and_ninja_lines_become_progress(tmp_path, capsys, monkeypatch):
    script = load_script()
    progress = script.Progress('mmcv')
    progress.start, progress.printed, progress.every = 0, 0, 0
    with monkeypatch.context() as clock:
        clock.setattr(time, 'monotonic', lambda: 120)
        progress.read('  [1/78] c++ -MMD')
        progress.show()
        assert capsys.readouterr().out == '  mmcv: 1/78 files compiled (2 min 0 s)\n'
        progress.read('  [26/78] c++ -MMD')
        progress.show()
        out = capsys.readouterr().out
        assert out == '  mmcv: 26/78 files compiled, about 4 min 0 s left (2 min 0 s)\n'
    output = script.run([sys.executable, '-c', 'print("hello")'], 'greet', tmp_path / 'log')
    assert output == 'hello\n'
    assert 'hello\n' in (tmp_path / 'log').read_text()
    assert '  greet: done after ' in capsys.readouterr().out


@pytest.mark.parametrize(
    ('code', 'timeout', 'message'),
    [
        ('print("no good"); raise SystemExit(3)', None, 'no good'),
        ('import time; time.sleep(60)', 1, 'timed out after 1 s'),
    ],
)
def test_a_command_that_fails_or_hangs(tmp_path, code, timeout, message):
    script = load_script()
    start = time.monotonic()
    with pytest.raises(script.CommandError, match=message):
        script.run([sys.executable, '-c', code], 'x', tmp_path / 'log', timeout=timeout)
    assert time.monotonic() - start < 30


def alive(pid):
    """Whether a process runs; a zombie does not."""
    try:
        return Path(f'/proc/{pid}/stat').read_text().rsplit(')', 1)[1].split()[0] != 'Z'
    except FileNotFoundError:
        return False


@pytest.mark.skipif(not Path('/proc/self/stat').exists(), reason='reads /proc')
def test_stopping_the_script_stops_the_compilers_of_pip(tmp_path):
    pids = tmp_path / 'pids'
    code = textwrap.dedent(f"""
        import importlib.util, signal, sys
        spec = importlib.util.spec_from_file_location('setup_env', {str(SCRIPT)!r})
        script = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(script)
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        command = ['sh', '-c', 'sleep 60 & echo $! > {pids}; wait']
        script.run(command, 'build', {str(tmp_path / 'log')!r})
    """)
    process = subprocess.Popen([sys.executable, '-c', code], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 30
    while not (pids.exists() and pids.read_text().strip()) and time.monotonic() < deadline:
        time.sleep(0.05)
    compiler = int(pids.read_text())
    assert alive(compiler)
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) != 0
    while alive(compiler) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not alive(compiler)


def test_two_set_ups_of_one_environment_take_turns(tmp_path):
    script = load_script()
    code = (
        f'import sys; sys.path.insert(0, {str(SCRIPT.parent)!r}); import pathlib, setup_env\n'
        f'with setup_env.only_one(pathlib.Path({str(tmp_path / "venv")!r})): print("mine")'
    )
    with script.only_one(tmp_path / 'venv'):
        second = subprocess.Popen(
            [sys.executable, '-B', '-c', code], stdout=subprocess.PIPE, text=True
        )
        assert 'is at work; waiting' in second.stdout.readline()
        time.sleep(0.3)
        assert second.poll() is None
    assert second.communicate(timeout=30)[0] == 'mine\n'


def test_a_registry_out_of_reach(tmp_path):
    """The whole script, for real, against a port that nobody listens on."""
    if not (3, 10) <= PYTHON <= (3, 12):
        pytest.skip('the set-up itself needs Python 3.10 to 3.12')
    script = load_script()
    try:
        script.check_disk(script.Environment(tmp_path / 'venv'))
    except script.SetupError as error:
        pytest.skip(str(error))
    (tmp_path / 'wheels').mkdir()  # so that no compiler is asked for
    pip = {'PIP_CONFIG_FILE': os.devnull, 'PIP_INDEX_URL': 'http://127.0.0.1:9/simple'}
    pip.update(PIP_RETRIES='1', PIP_NO_CACHE_DIR='1', PIP_DEFAULT_TIMEOUT='5')
    clean = {key: value for key, value in os.environ.items() if not key.startswith('PIP_')}
    done = subprocess.run(
        [
            sys.executable,
            SCRIPT,
            '--venv',
            tmp_path / 'venv',
            '--mmcv-wheels',
            tmp_path / 'wheels',
        ],
        env={**clean, **pip},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert 'error: The package registry cannot be reached' in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    env = script.Environment(tmp_path / 'venv')
    assert env.state() == 'unfinished'
    assert not env.is_ready()
