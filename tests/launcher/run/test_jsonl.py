from __future__ import annotations

from pathlib import Path

from launcher.run.jsonl import append_line, read_lines


def test_half_a_line_of_a_killed_start_harms_no_other(tmp_path: Path) -> None:
    path = tmp_path / "starts.jsonl"
    assert read_lines(path) == []
    append_line(path, {"step": 1})
    with path.open("a", encoding="utf-8") as file:
        file.write('{"step": ')
    append_line(path, {"step": 3})
    append_line(path, {"step": 4})
    assert [row["step"] for row in read_lines(path)] == [1, 3, 4]
