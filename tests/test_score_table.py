"""A table of scores goes on after its last whole line, whatever stopped the run."""

import csv

import pytest

from pixelprior.anomalies.score_table import COLUMNS, ScoreTable, line

NAMES = ["a/1.png", 'odd "name", of\ntwo lines\r.png', "b/2.png", "b/3.png"]


@pytest.fixture
def table(tmp_path):
    return ScoreTable(tmp_path / "scores.csv", NAMES)


def rows(count, start=0):
    lines = [
        line(name, score=str(number), p_value="0.5", flagged="0", flagged_share="0.1")
        for number, name in enumerate(NAMES)
    ]
    lines[2] = line(NAMES[2], problem='b/2.png (broken,\r\n"in two lines")')
    return lines[start : start + count]


def test_lines_are_read_as_they_were_written(table):
    assert table.resume() == []
    table.add(rows(3))
    table.add(rows(1, start=3))
    table.finish()
    with table.path.open(encoding="utf-8", newline="") as file:
        read = list(csv.DictReader(file))
    assert [tuple(each) for each in read] == [COLUMNS] * 4
    assert read == rows(4)
    assert [each.name for each in table.path.parent.iterdir()] == ["scores.csv"]


def test_a_run_goes_on_after_the_last_whole_line_wherever_it_was_cut(table):
    table.resume()
    table.add(rows(4))
    full = table.unfinished.read_bytes()
    ends = []  # of the lines, one of which has a line break in its name
    for number in range(4):
        table.start()
        table.add(rows(number + 1))
        ends.append(table.unfinished.stat().st_size)
    for cut in range(len(full) + 1):
        table.unfinished.write_bytes(full[:cut])
        kept = table.resume()
        # A line without its end is taken for cut short, though no text is missing.
        expected = sum(end <= cut for end in ends)
        assert kept == rows(expected), cut
        table.add(rows(4 - expected, start=expected))
        assert table.unfinished.read_bytes() == full


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


@pytest.mark.parametrize(
    "content",
    [b"\xef\xbb\xbfpath;score\na/1.png;1\n", b"path,score\ra/1.png,1\r", b'"path" x\n'],
)
def test_a_file_of_another_kind_is_named_and_left_as_it_is(table, content):
    table.path.write_bytes(content)
    with pytest.raises(ValueError, match="does not begin with the columns path, score"):
        table.resume()
    assert table.path.read_bytes() == content and not table.unfinished.exists()


def test_a_full_disk_is_named_and_leaves_the_table(table, monkeypatch):
    table.start()
    table.add(rows(2))
    before = table.unfinished.read_bytes()

    def full(*_arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.open", full)
    with pytest.raises(OSError, match=r"No space.*; go on with --resume") as error:
        table.add(rows(1, start=2))
    assert error.value.errno == 28
    monkeypatch.undo()
    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    table.names[1] = "another.png"  # so that a line has to be removed
    with pytest.raises(OSError, match="No space"):
        table.resume()
    assert table.unfinished.read_bytes() == before
