"""task=list and names that are not there."""

from importlib import import_module

import pytest

from distill.cli.listing import listing
from distill.cli.main import HOMES, main
from distill.presets import options, unknown
from distill.runs.pipeline import OF_THEIR_OWN_WORDS


def test_every_choice_is_listed_once():
    blocks = listing([]).split("\n\n")
    assert [block.partition("=")[0] for block in blocks] == [
        "method",
        "protocol",
        "suite",
        "robustness",
        "data",
        "student",
        "kind",
        "experiment",
    ]
    for block in blocks:
        heading, *lines = block.splitlines()
        group = heading.partition("=")[0]
        cells_alone = [name for name in options(group) if group != "experiment" or "_ipc" in name]
        assert sorted(line.split()[0] for line in lines) == cells_alone
        assert all(len(line.split()) > 1 for line in lines), "each says what it is"


def test_words_filter_whole_words_in_any_case_and_cells_show_number_and_source():
    heading, *cells = listing(["CIFAR10", "datm"]).splitlines()
    assert "± is a standard deviation" in heading
    assert [cell.split()[0] for cell in cells] == [f"datm_cifar10_ipc{ipc}" for ipc in (1, 10, 50, 500, 1000)]
    assert "66.8 ± 0.2" in cells[1] and "arXiv:2310.05773" in cells[1] and "the table of PAD" in cells[1]


def test_a_word_that_nothing_has_is_told_its_neighbour():
    with pytest.raises(ValueError, match="unknown word 'cifr10': did you mean cifar10"):
        listing(["cifr10"])
    with pytest.raises(ValueError, match="nothing has all of the words rded, svhn"):
        listing(["rded", "svhn"])


def test_every_task_with_words_of_its_own_is_known_and_carried_out():
    assert {*HOMES, "list"} == set(OF_THEIR_OWN_WORDS)
    assert all(callable(import_module(home).TASKS[task]) for task, home in HOMES.items())


def test_a_bare_first_word_is_the_task(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["distill", "list", "rs2-ipc"])
    main()
    assert capsys.readouterr().out.splitlines() == listing(["rs2-ipc"]).splitlines()
    monkeypatch.setattr("sys.argv", ["distill", "evalute", "synset=x"])
    with pytest.raises(SystemExit, match="unknown task 'evalute': did you mean evaluate"):
        main()


def test_of_many_names_only_the_nearest_are_told():
    many = [f"mtt_set{i}_ipc1" for i in range(117)]
    assert unknown("experiment", "mtt_st7_ipc1", many).startswith(
        "unknown experiment 'mtt_st7_ipc1': did you mean mtt_set7_ipc1"
    )
    assert len(unknown("experiment", "x", many)) < 100
    assert unknown("task", "destill", ["distill", "all"]) == (
        "unknown task 'destill': did you mean distill? one of distill, all"
    )


def test_the_list_reads_a_setting_as_a_word(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["run.py", "task=list", "data=cifar10", "rded"])
    main()
    assert capsys.readouterr().out.count("rded_cifar10_ipc") == 3
