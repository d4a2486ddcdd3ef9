"""A table of scores goes on after its last whole line, whatever stopped the run."""

import csv

import pytest

from pixelprior.score_table import COLUMNS, ScoreTable, line

NAMES = ["a/1.png", 'odd "name", of\ntwo lines.png', "b/2.png", "b/3.png"]


@pytest.fixture
def table(tmp_path):
    return ScoreTable(tmp_path / "scores.csv", NAMES)


def rows(count, start=0):
    return [
        line(name, score=str(number), p_value="0.5", flagged="0", flagged_share="0.1")
        for number, name in enumerate(NAMES[start : start + count], start=start)
    ]


def test_lines_are_read_as_they_were_written(table):
    assert table.resume() == []
    table.add(rows(3))
    table.add([line(NAMES[3], problem="b/3.png (broken)")])
    table.finish()
    with table.path.open(encoding="utf-8", newline="") as file:
        read = list(csv.DictReader(file))
    assert [tuple(each) for each in read] == [COLUMNS] * 4
    assert read[:3] == rows(3) and read[3]["problem"] == "b/3.png (broken)"
    assert [each.name for each in table.path.parent.iterdir()] == ["scores.csv"]


def test_a_run_goes_on_after_the_last_whole_line_wherever_it_was_cut(table):
    table.resume()
    table.add(rows(4))
    whole = table.unfinished.read_bytes()
    ends = []  # of the lines, one of which has a line break in its name
    for number in range(4):
        table.start()
        table.add(rows(number + 1))
        ends.append(table.unfinished.stat().st_size)
    for cut in range(len(whole) + 1):
        table.unfinished.write_bytes(whole[:cut])
        kept = table.resume()
        expected = sum(end <= cut for end in ends)
        assert kept == rows(expected), cut
        table.add(rows(4 - expected, start=expected))
        assert table.unfinished.read_bytes() == whole


def test_lines_of_other_images_are_not_taken_over(table, tmp_path):
    table.start()
    table.add(rows(4))
    others = ScoreTable(tmp_path / "scores.csv", [*NAMES[:2], "c/4.png"])
    assert others.resume() == rows(2)
    fewer = ScoreTable(tmp_path / "scores.csv", NAMES[:1])
    assert fewer.resume() == rows(1)


def test_a_finished_table_is_opened_again(table):
    table.start()
    table.add(rows(4))
    table.finish()
    assert table.resume() == rows(4) and not table.path.exists()
