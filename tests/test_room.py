"""Memory that is counted ahead, what does not fit, stated cards, and real sets that are not here."""

import pytest
from test_line import LEARN, line, toy  # noqa: F401
from test_plan import words_of

from distill.effort import Allocations, peak_at
from distill.runs import room
from distill.runs.cards import card
from distill.runs.composed import compose
from distill.runs.imagined import imagined
from distill.runs.line import Line
from distill.runs.plan import left, parts
from distill.runs.progress import Shown
from distill.runs.rehearsed import Weight, Work


def work_of(arrow: str, *words: str) -> Work:
    return next(work for name, work in left(Line(compose(*words), Shown())) if name == arrow)


def test_memory_of_two_small_pieces_tells_that_of_the_step(tmp_path):
    words = words_of("mtt", tmp_path, "task=experts", "method.experts.recipe.batch=100")
    trial = work_of("experts", *words).trial
    found = [trial.piece(size) for size in (8, 24)]
    told = peak_at(1.0, *((piece.share, piece.weigh()) for piece in found))
    assert told == pytest.approx(max(trial.piece(100).weigh()), rel=0.01)


def test_all_steps_graphs_take_as_much_more_as_there_are_steps(tmp_path):
    words = words_of("mtt", tmp_path, "task=distill", "ipc=10")
    held = {
        (mode, steps): work_of("distill", *words, f"method.memory={mode}", f"method.student_steps={steps}").weight.bytes
        for mode, steps in (("full", 4), ("full", 8), ("recompute", 4), ("recompute", 8))
    }
    assert held["full", 8] / held["full", 4] == pytest.approx(2, rel=0.2)
    assert held["recompute", 8] / held["recompute", 4] < 1.3 and held["recompute", 4] < held["full", 4] / 2


@pytest.mark.parametrize(
    ("method", "task", "setting"),
    [
        ("mtt", "experts", "method.experts.recipe.batch"),
        ("mtt", "distill", "method.batch_syn"),
        ("dm", "distill", "method.batch_real"),
        ("sre2l", "distill", "method.together"),
    ],
)
def test_what_does_not_fit_names_a_setting_that_does(method, task, setting, tmp_path):
    words = words_of(method, tmp_path, f"task={task}", "ipc=10", "method.experts.recipe.batch=100" * (method == "mtt"))
    words = [word for word in words if word]
    work = work_of(task, *words)
    trial, weight = work.trial, work.weight
    small, whole = max(trial.piece(8).weigh()), weight.bytes
    memory = room.Memory("this card", work.resident + (small + whole) / 2, 0)
    told = memory.lacks(work, Weight(weight.fixed, weight.each, weight.images, 1) if weight.each else by_pieces(work))
    assert "this card has" in told and f"{setting}=" in told
    named = [word.rstrip(";") for word in told.split() if word.startswith("method.")]
    lighter = work_of(task, *words, *named)
    assert not memory.lacks(lighter, lighter.weight)


def by_pieces(work: Work) -> Weight:
    """As of a step too long to be weighed whole."""
    found = [(piece.share, piece.weigh()) for piece in (work.trial.piece(8), work.trial.piece(24))]
    fixed, whole = peak_at(0.0, *found), peak_at(1.0, *found)
    return Weight(fixed, (whole - fixed) / work.trial.images, work.trial.images, 1)


def test_a_run_that_cannot_fit_says_so_before_anything_is_trained(line, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setattr(room, "memory_of", lambda device: 2e5)
    monkeypatch.setattr(room, "held_bytes", lambda: 0)
    code, _, said = line(*toy("mtt"), "task=experts")
    assert code == 1 and "nothing was started: 2 experts of 4 epochs: about" in said and "recipe.batch=" in said
    assert not (tmp_path / "outputs").exists()


def test_a_disk_that_is_too_small_is_told_before(line, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setattr(room, "disk_usage", lambda path: type("", (), {"free": 1000}))
    code, _, said = line(*toy("mtt"), "task=experts")
    assert code == 1 and "fewer method.experts.count" in said and not (tmp_path / "outputs").exists()


def test_a_faster_card_is_faster_and_an_unknown_one_is_told(line):  # noqa: F811
    fast, slow = card("h200"), card("rtx4090")
    assert fast.seconds(1e15, 0, "bf16", True) < slow.seconds(1e15, 0, "bf16", True)
    assert fast.seconds(0, 1e6, "bf16", True) == slow.seconds(0, 1e6, "bf16", True)  # launches are the host's
    code, _, said = line("plan", "data=digits", "device=h1000")
    assert code == 1 and "did you mean h100" in said


def test_a_real_set_that_is_not_here_is_planned_without_making_the_synthetic_one(tmp_path):
    words = words_of("sre2l", tmp_path, "task=distill", "method.iterations=5", "method.steps=null")
    words = [word for word in words if not word.startswith("data=")]
    words += ["data=folder", "data.path=nowhere", "data.size=16", "data.lazy=true", "student.convnet.norm=batch"]
    most = []
    for ipc in (4, 400):
        run = compose(*words, f"ipc={ipc}")
        real = imagined(dict(run.cfg.data), train=50_000, test=100, classes=100, device="cpu")
        with Allocations() as held:
            found, lacking = parts(Line(run, Shown(), real))
        assert [part.units for part in found] == [ipc // 4] and not lacking  # stacks of four images of each class
        most.append(max(held.levels))
    assert most[1] < 2 * most[0]  # the set itself would be 123 MB beside 30


@pytest.mark.parametrize("method", LEARN)
def test_a_step_of_every_method_is_tried_out_before_anything_is_trained(method, tmp_path):
    for name, work in left(Line(compose(*words_of(method, tmp_path, "task=distill")), Shown())):
        assert name == "distill" and work.weight.bytes > 0
        assert work.trial.piece(8).time(0.0) > 0
