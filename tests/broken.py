"""Work that goes wrong on the way, as that of an interrupted or a failing run does."""

from distill.runs import suite


def stop(monkeypatch, where, name, call):
    """Let the ``call``-th call of ``where.name`` raise a RuntimeError, and no other."""
    whole, left = getattr(where, name), [call]

    def stops(*arguments):
        left[0] -= 1
        if not left[0]:
            raise RuntimeError("stopped")
        return whole(*arguments)

    monkeypatch.setattr(where, name, stops)


def unlucky_cells(monkeypatch, word):
    """Let cells of a suite that are told ``word`` fail, as long as it stands in the list that comes back."""
    whole, broken = suite.carry_out, [word]

    def breaks(run, real, arrows):
        if broken and set(broken) <= set(run.stated) and "judge" in arrows:
            raise ValueError("out of luck")
        return whole(run, real, arrows)

    monkeypatch.setattr(suite, "carry_out", breaks)
    return broken
