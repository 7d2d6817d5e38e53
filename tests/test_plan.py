"""The plan of a command: what is left, counted and timed; nothing is trained and nothing is written."""

import pytest
from test_line import line, succeeds, toy  # noqa: F401

from distill.cli.results import again_of
from distill.evaluation.trial import Trial
from distill.runs.composed import compose
from distill.runs.line import Line
from distill.runs.plan import Part, notes, plan
from distill.runs.plan import left as works
from distill.runs.plan import parts as parts_and_lacking
from distill.runs.progress import Shown


def words_of(method, tmp_path, *more):
    own = [each for each in toy(method) if not each.startswith("task=")]
    return [*own, "device=cpu", f"out={tmp_path / 'outputs'}", *more]


def parts(planned):
    found, lacking = parts_and_lacking(planned)
    assert not lacking
    return found


def test_a_plan_counts_what_is_left_of_each_arrow(line, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.chdir(tmp_path)
    words = words_of("mtt", tmp_path, "method.experts.count=2", "syntheses=3", "protocol.students=2", "draws=4")

    def left(task):
        return [(arrow, work.units) for arrow, work in works(Line(compose(*words, f"task={task}"), Shown()))]

    # Two rates and the learned one are tried, three snapshots of each set compared; then come the students themselves.
    judged = [("evaluate", 3 + 3 * 3 + 6), ("evaluate", 2 + 8)]
    assert left("all") == [("experts", 2), ("distill", 3), *judged]
    assert left("experts") == [("experts", 2)]
    assert not (tmp_path / "outputs").exists()
    succeeds(line("task=experts", *words))
    assert left("all") == [("distill", 3), *judged]
    trained, run = [], Trial.run
    monkeypatch.setattr(Trial, "run", lambda self, *how: trained.extend(self.students) or run(self, *how))
    succeeds(line("task=all", *words))
    assert len(trained) == sum(units for _, units in judged)
    assert left("all") == [] and plan(Line(compose(*words), Shown()), [1]).notes == [
        "Nothing is left: all of it is there."
    ]


def test_work_is_counted_from_the_networks_passes(tmp_path):
    words = words_of("mtt", tmp_path, "method.experts.count=2", "task=experts")
    (two,), (four,) = (
        parts(Line(compose(*words, f"method.experts.recipe.epochs={epochs}"), Shown())) for epochs in (2, 4)
    )
    assert four.images == pytest.approx(2 * two.images) and four.operations == pytest.approx(2 * two.operations)
    assert two.operations / two.images == pytest.approx(four.operations / four.images) and two.disk < four.disk


def test_a_protocol_that_counts_steps_has_a_time_too(tmp_path):
    words = words_of("dm", tmp_path, "protocol.recipe.epochs=null", "protocol.recipe.extra_epochs=0", "baselines=[]")
    (part,) = parts(Line(compose(*words, "protocol=dcb-dsa", "protocol.recipe.steps=30", "task=all"), Shown()))[-1:]
    assert part.arrow == "evaluate" and part.seconds[0] > 0


def test_arrows_wait_for_each_other_and_no_unit_is_divided():
    found = [Part("experts", 0, "", 10, 0.0, 1e12, [100.0], 0.0, 10**9), Part("distill", -1, "", 1, 0.0, 1e12, [60.0])]
    told = notes(found, [1, 4])[0]
    assert "2 TFLOP and 1 GB" in told and "1 in 2 min 40 s, 4 in 1 min 30 s" in told
    assert told.endswith("any number takes 1 min 10 s.")


def test_what_has_no_plan_is_told(line):  # noqa: F811
    code, _, said = line("task=plan", "task=report")
    assert code == 1 and "task" in said


def test_a_plan_takes_all_words_of_its_run_those_of_a_group_within_a_method_and_added_ones_too(line, tmp_path):  # noqa: F811
    more = ["engine=slurm", "+engine.more.account=me", "experts@method.experts=ast"]
    words = words_of("mtt", tmp_path)
    plain, ast = (line("plan", "experts", *words, *each)[1] for each in ([], more))
    assert "TFLOP" in plain and "TFLOP" in ast and plain != ast  # a gradient penalty is paid for
    cfg = compose(*again_of(["mtt_cifar10_ipc1", *more])[0].words).cfg
    assert cfg.engine.more.account == "me" and cfg.method.experts.name == "ast"
    code, _, said = line("plan", *words, "~protocol.students")
    assert code == 1 and "'~protocol.students' is no word of this task" in said
