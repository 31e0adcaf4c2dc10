"""What tests of objectives with a state share."""

import pytest

from vitdyn.dynamics import Runtime
from vitdyn.dynamics.simulate import simulate
from vitdyn.objectives import contract


@pytest.fixture
def interrupted(monkeypatch):
    """Begin a run that leaves a checkpoint at each step, and interrupt it in step ``at``."""

    def begin(training, path, at):
        after, done = contract.next_state, []

        def failing(*given):
            done.append(None)
            if len(done) == at:
                raise KeyboardInterrupt
            return after(*given)

        with monkeypatch.context() as patched:
            patched.setattr("vitdyn.dynamics.steppers.next_state", failing)
            with pytest.raises(KeyboardInterrupt):
                simulate(training, checkpoint=path, runtime=Runtime(checkpoint_seconds=0))

    return begin
