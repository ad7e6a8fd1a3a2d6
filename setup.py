"""Packaging; tool settings are in pyproject.toml, the pinned environment in requirements/."""

import re
import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
MIM_RESOURCES = ('configs', 'tools', 'model-index.yml')


class BuildPyWithMim(build_py):
    """Put what ``mim`` reads (configs, tools, model index) into ``mmattn/.mim``.

    A wheel gets copies, made in the build folder. An editable install gets links in the source
    tree (git ignores them), so that an edited config is the one that ``mim`` uses.
    """

    def run(self) -> None:
        super().run()
        editable = getattr(self, 'editable_mode', False)
        mim = (ROOT if editable else Path(self.build_lib)) / 'mmattn' / '.mim'
        if mim.exists():
            shutil.rmtree(mim)
        mim.mkdir(parents=True)
        for name in MIM_RESOURCES:
            if editable:
                link_or_copy(ROOT / name, mim / name)
            else:
                copy(ROOT / name, mim / name)


def copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns('__pycache__', '*.py[cod]'))
    else:
        shutil.copy2(source, target)


def link_or_copy(source: Path, target: Path) -> None:
    try:
        target.symlink_to(Path('..', '..', source.name), target_is_directory=source.is_dir())
    except OSError:  # a file system or a user without symbolic links
        copy(source, target)


def version() -> str:
    """Read, not imported: a build has no torch."""
    text = (ROOT / 'mmattn' / 'core' / 'version.py').read_text(encoding='utf-8')
    return re.search(r"^__version__ = '([^']+)'", text, re.MULTILINE).group(1)


setup(
    name='mmattn',
    version=version(),
    description='Attention methods for MMDetection 3.x, as config lines',
    long_description=(ROOT / 'README.md').read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    keywords='computer vision, object detection, attention',
    classifiers=[
        'Development Status :: 3 - Alpha',
        'Operating System :: OS Independent',
        'Programming Language :: Python :: 3',
        'Topic :: Scientific/Engineering :: Artificial Intelligence',
    ],
    packages=find_packages(include=['mmattn', 'mmattn.*']),
    include_package_data=True,
    python_requires='>=3.10',
    # No mmengine, mmcv or mmdet here: two distributions (OneDL, open-mmlab) provide the same
    # import names and overwrite each other. mmattn uses the one that is installed; the extras
    # are for an environment that has neither.
    install_requires=['torch>=2.1', 'torchvision', 'numpy', 'pycocotools'],
    extras_require={
        'onedl': ['onedl-mmengine>=0.10.10', 'onedl-mmcv>=2.3', 'onedl-mmdetection>=3.5'],
        'openmmlab': ['mmengine>=0.10', 'mmcv>=2.0.1,<2.2', 'mmdet>=3.2', 'numpy<2'],
        'localization': ['onedl-mmengine>=0.10.10', 'opencv-python-headless', 'jinja2'],
        'cls': ['onedl-mmpretrain>=1.3'],
        'study': ['hotcoco>=1.3', 'submitit', 'scipy', 'rich', 'matplotlib', 'jinja2'],
        'demo': ['scikit-learn', 'matplotlib'],
        'dev': [
            *(
                'pytest',
                'pytest-xdist',
                'hypothesis',
                'ruff',
                'coverage',
                'pre-commit',
                'playwright',
            ),
            *('onnx', 'onnxscript', 'onnxruntime', 'grad-cam'),  # tests of exports and score maps
        ],
        'docs': ['sphinx>=8', 'myst-parser', 'furo'],
    },
    cmdclass={'build_py': BuildPyWithMim},
    zip_safe=False,
)
