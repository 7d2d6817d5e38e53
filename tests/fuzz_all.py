"""All that test_fuzz.py tries a sample of: every setting of every group, each value. Run by ``make fuzz``."""

import pytest
from test_fuzz import LATER, VALUES, Base, attempt, bases, begin, hydra  # noqa: F401  # a fixture


@pytest.mark.parametrize("number", range(len(list(bases()))))
def test_all_values_get_one_line_or_can_begin(hydra, number):  # noqa: F811
    base, wrong = Base(*list(bases())[number]), []
    for path, before in base.leaves:
        for value in VALUES:
            try:
                if attempt(base, path, before, value) and not LATER & set(path):
                    begin(base, path, value)
            except BaseException as error:
                wrong.append(f"{'.'.join(map(str, path))}={value!r}: {type(error).__name__} {str(error)[:200]}")
    assert not wrong, "\n".join([f"{len(wrong)} of {len(base.leaves) * len(VALUES)}", *wrong])
