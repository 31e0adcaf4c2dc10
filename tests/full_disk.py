"""A disk that takes no more, for tests of what is then said and kept."""

import resource
from contextlib import contextmanager


@contextmanager
def largest_file(size):
    """Refuse what makes a file larger, as a full disk or a quota does; in this process, for this while."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
