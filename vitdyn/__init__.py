"""vitdyn: the training dynamics of self-supervised Vision Transformers, as running, checked simulation."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("vitdyn")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0+unknown"
