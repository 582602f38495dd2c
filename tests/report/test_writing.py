"""report.html is written at the end of every run, and again from what the run directory keeps."""

from __future__ import annotations

import ast
import errno
import json
import shlex
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import da3stream
from da3stream import load_config
from da3stream.cli import cli
from da3stream.disk import folder_bytes
from da3stream.errors import RunCorruptError, RunIncompleteError, StoreError
from da3stream.pipeline import align, export
from da3stream.report import write_report
from da3stream.report.facts import Facts
from da3stream.report.page import page_of
from da3stream.report.sections import costs, loops, origin, submaps
from da3stream.report.verdict import verdicts
from da3stream.store import open_existing
from da3stream.synthetic.capture import SimulatedSource
from tests.faults.capture import CONFIG, capture, reconstruct
from tests.faults.doubles import DyingFileSystem, FailingFileSystem, Killed, WatchedFileSystem
from tests.pipeline.doubles import CountingEstimator
from tests.pipeline.revisits import two_laps
from tests.report.test_html import HOSTILE, Seen

SECTIONS = (
    "verdict", "summary", "path", "frames", "loops", "submaps", "speed", "resources", "warnings", "files",
    "reproduce",
)  # fmt: skip
MOST_BYTES = 3_000_000


def report_of(folder: Path) -> str:
    return (folder / "report.html").read_text()


def page_again(folder: Path, **changes: Any) -> str:
    """The page that the run directory gives if run.json said otherwise."""
    run = open_existing(folder)
    try:
        run.manifest = {**run.manifest, **changes}
        return page_of(Facts(run))
    finally:
        run.close()


def interrupted(folder: Path, fail_at: int) -> None:
    """Begin a run; it ends in the middle of a chunk."""
    world = capture()
    estimator = CountingEstimator(world, level=1.0, fail_at=fail_at)
    with pytest.raises(KeyboardInterrupt):
        reconstruct(world, folder, WatchedFileSystem(), estimator=estimator)


@pytest.mark.parametrize("made", ["run_directory", "prior_run_directory"])
def test_the_page_at_the_end_of_a_run_is_the_one_that_the_command_writes(
    made: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """The first is made with the finished map, the second without optimising anything."""
    folder: Path = request.getfixturevalue(made)
    shutil.copytree(folder, tmp_path / "run")
    run = open_existing(tmp_path / "run")
    try:
        write_report(run)
    finally:
        run.close()
    assert report_of(tmp_path / "run") == report_of(folder)
    assert (tmp_path / "run" / "run.json").read_bytes() == (folder / "run.json").read_bytes()


def test_with_priors_the_path_before_loops_lies_where_they_do(prior_run_directory: Path) -> None:
    run = open_existing(prior_run_directory)
    try:
        facts = Facts(run)
        before, after = facts.positions_before, facts.positions_after
    finally:
        run.close()
    assert before is not None
    assert after is not None
    assert np.linalg.norm(after, axis=1).min() > 500
    length = np.linalg.norm(np.diff(after, axis=0), axis=1).sum()
    assert np.linalg.norm(before - after, axis=1).max() < 0.1 * length


def test_it_has_all_sections_and_is_small(run_directory: Path) -> None:
    page = report_of(run_directory)
    positions = [page.index(f'<section id="{name}"') for name in SECTIONS]
    assert positions == sorted(positions)
    assert len(page) < MOST_BYTES


def test_all_its_links_lead_to_files_of_the_run_or_into_the_page(run_directory: Path) -> None:
    page = report_of(run_directory)
    values = [value for value in Seen(page).values if value]
    inside = {value[1:] for value in values if value.startswith("#") and value[1:].isalpha()}
    assert {"loops", "submaps"} <= inside <= {*SECTIONS}
    files = [value.split('"')[0] for value in page.split('href="')[1:] if not value.startswith("#")]
    assert "pcd/combined_pcd.ply" in files
    assert "colmap" in files
    assert [file for file in files if not (run_directory / file).exists()] == []
    assert not any(value.startswith(("http:", "https:", "//", "/")) for value in values)


def test_the_page_allows_itself_nothing_but_pictures_and_style(run_directory: Path) -> None:
    """Before it says anything of the run; wherever it is opened."""
    page = page_again(run_directory, input="http://h/x</title><script>alert(1)")
    policy = page.index('<meta http-equiv="Content-Security-Policy" content="default-src \'none\';')
    assert policy < page.index("<title>")
    assert "<title>http://h/x&lt;/title&gt;&lt;script&gt;alert(1) · da3stream report</title>" in page
    assert page.count("</title>") == page.count("<title>")
    for rule in ("base-uri 'none'", "form-action 'none'"):
        assert rule in page[policy : page.index("<title>")]
    assert "script-src" not in page
    assert "<script" not in page


def test_text_of_the_run_is_no_markup(run_directory: Path) -> None:
    page = page_again(
        run_directory,
        input=f"/private/folder/{HOSTILE.replace('/', '')}.mp4",
        warnings=[HOSTILE],
        model=HOSTILE,
        weights={"x": HOSTILE},
    )
    seen = Seen(page)
    assert "script" not in seen.tags
    assert seen.text.count("<script>") >= 6
    assert "/private/folder" not in page


def test_what_there_is_too_much_of_is_cut_and_the_page_says_so(
    run_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = open_existing(run_directory)
    try:
        facts = Facts(run)
        accepted = [loop for loop in facts.loops if loop.is_accepted]
        assert len(facts.seams) == 8
        facts.loops = [
            *accepted * 200,
            *[replace(accepted[0], reason=f"only {n} fit", chunk=None) for n in range(90)],
        ]
        facts.manifest = {**run.manifest, "warnings": [f"warning {number}" for number in range(500)]}
        monkeypatch.setattr(submaps, "OPEN_ROWS", 2)
        monkeypatch.setattr(submaps, "MOST_ROWS", 3)
        page = page_of(facts)
    finally:
        run.close()
    assert "<summary>1 more</summary>" in page
    assert "5 more fit better than these" in page
    assert page.count('class="card"') == loops.MOST_PICTURES + loops.MOST_REJECTED_PICTURES
    assert f"{500 - origin.MOST_WARNINGS} more are in run.json" in page
    assert "only N fit" in page
    assert len(page) < MOST_BYTES


def test_the_worst_joins_come_first(run_directory: Path) -> None:
    run = open_existing(run_directory)
    try:
        facts = Facts(run)
        worst = max(facts.seams, key=lambda seam: seam.residual or 0)
        page = submaps.submaps_section(facts)
    finally:
        run.close()
    cells = page.split("<tbody>")[1].split("</td>")
    assert cells[0].endswith(f">{worst.chunk}")
    assert cells[3].endswith(f">{worst.residual:.2%}")


def test_a_join_by_poses_alone_is_first_and_called_untrusted(run_directory: Path) -> None:
    run = open_existing(run_directory)
    try:
        facts = Facts(run)
        seams = facts.seams
        facts.seams = [
            *seams[:-1],
            replace(seams[-1], residual=None, inlier_ratio=None, problem="too few points"),
        ]
        page = page_of(facts)
    finally:
        run.close()
    assert "7 of 8 joins between consecutive chunks fit." in page
    assert f"Not trusted: chunk {seams[-1].chunk}, because too few points" in page
    assert page.split('id="submaps"')[1].split("<tbody>")[1].index("no: too few points") < 700


def test_an_unfinished_run_has_a_page_that_says_so(tmp_path: Path) -> None:
    interrupted(tmp_path, fail_at=4)
    assert not (tmp_path / "report.html").exists()
    page = page_again(tmp_path)
    assert "The run has not finished: this page shows its first" in page
    assert "chain of chunks, without any correction" in page
    assert all(f'<section id="{name}"' in page for name in SECTIONS)


def test_a_run_without_a_chunk_has_none(tmp_path: Path) -> None:
    interrupted(tmp_path, fail_at=0)
    run = open_existing(tmp_path)
    with pytest.raises(RunIncompleteError, match="no finished chunk yet"):
        write_report(run)
    run.close()


def test_a_run_that_keeps_nothing_has_its_page_and_the_command_leaves_it(tmp_path: Path) -> None:
    reconstruct(capture(), tmp_path, WatchedFileSystem(), keep="none")
    page = report_of(tmp_path)
    assert page.count("data:image/jpeg") > 20
    run = open_existing(tmp_path)
    with pytest.raises(RunIncompleteError, match="--keep none"):
        write_report(run)
    run.close()
    assert report_of(tmp_path) == page
    assert "Not kept" in page_again(tmp_path)
    assert "da3stream align" not in page, "it could not"
    assert f"da3stream eval {tmp_path.name} --gt FILE" in Seen(page).text


def test_what_was_kept_and_is_lost_cannot_be_read(run_directory: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(run_directory, folder)
    shutil.rmtree(folder / "submaps")
    page = page_again(folder)
    assert "Not kept" not in page
    assert "Cannot be read: the frames" in page
    assert "Cannot be read: the submaps" in page_again(folder, status="running")
    run = open_existing(folder)
    with pytest.raises(RunIncompleteError, match="lost its submaps") as refused:
        write_report(run)
    run.close()
    assert "keep none" not in str(refused.value)
    reconstruct(capture(), folder, WatchedFileSystem())
    assert "cannot be read" not in page_again(folder).lower()


def test_packages_are_called_as_they_are_and_frames_have_their_time(run_directory: Path) -> None:
    page = report_of(run_directory)
    for name in json.loads((run_directory / "run.json").read_text())["measured"]["environment"]:
        assert f">{name}<" in page
    assert "ms/frame" in page


def test_a_finished_run_that_lost_its_page_gets_it_back_when_resumed(
    run_directory: Path, tmp_path: Path
) -> None:
    shutil.copytree(run_directory, tmp_path / "run")
    (tmp_path / "run" / "report.html").unlink()
    reconstruct(capture(), tmp_path / "run", WatchedFileSystem())
    assert report_of(tmp_path / "run") == report_of(run_directory)


def test_killed_or_without_room_at_any_moment_while_the_page_is_written(
    run_directory: Path, tmp_path: Path
) -> None:
    """There is the whole page or none, and resuming writes it."""
    world, expected = capture(), report_of(run_directory)
    lost = tmp_path / "lost"
    shutil.copytree(run_directory, lost)
    (lost / "report.html").unlink()
    watched = WatchedFileSystem()
    shutil.copytree(lost, tmp_path / "watched")
    reconstruct(world, tmp_path / "watched", watched)
    assert "replace" in watched.names
    for at in range(watched.calls):
        for number, filesystem in enumerate((DyingFileSystem(at), FailingFileSystem(at, errno.ENOSPC))):
            folder = tmp_path / f"{at}_{number}" / run_directory.name  # which the page says
            shutil.copytree(lost, folder)
            with pytest.raises((Killed, StoreError)):
                reconstruct(world, folder, filesystem)
            assert not (folder / "report.html").exists() or report_of(folder) == expected
            reconstruct(world, folder, WatchedFileSystem())
            assert report_of(folder) == expected


def test_a_changed_page_is_no_damage(run_directory: Path, tmp_path: Path) -> None:
    shutil.copytree(run_directory, tmp_path / "run")
    (tmp_path / "run" / "report.html").write_text("changed")
    run = open_existing(tmp_path / "run")
    assert run.changed_outputs == []
    run.close()


def test_what_the_run_took_is_recorded_with_every_chunk_also_over_an_interruption(tmp_path: Path) -> None:
    interrupted(tmp_path, fail_at=4)
    reconstruct(capture(), tmp_path, WatchedFileSystem())
    run = open_existing(tmp_path)
    try:
        facts = Facts(run)
        samples = facts.samples
        page = page_of(facts)
    finally:
        run.close()
    assert len(samples) == len(run.chunks) + 1
    assert facts.is_resumed
    assert "since the run was resumed" in page
    assert "ms/frame" not in page
    for began in {sample.began_s for sample in samples}:
        disk = [sample.disk_bytes for sample in samples if sample.began_s == began]
        assert disk == sorted(disk)
    assert all(sample.rss_bytes is None or sample.rss_bytes > 10_000_000 for sample in samples)
    before_the_report = folder_bytes(tmp_path) - (tmp_path / "report.html").stat().st_blocks * 512
    assert samples[-1].disk_bytes == pytest.approx(before_the_report, abs=60_000)


def test_after_align_and_export_the_page_is_of_what_there_is_now(run_directory: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(run_directory, folder)
    assert "arbitrary unit" in report_of(folder)
    align(folder, scale=2.0)
    aligned = report_of(folder)
    assert "Lengths are in metres (set by hand)." in aligned
    assert page_again(folder) == aligned
    export(folder, ("k",))
    assert 'href="K.txt"' in report_of(folder)


def test_the_page_says_how_the_world_and_outputs_were_chosen(run_directory: Path, tmp_path: Path) -> None:
    """Its commands, typed at a copy of the run, give the same world and options."""
    folder, again = tmp_path / "run", tmp_path / "again"
    shutil.copytree(run_directory, folder)
    shutil.copytree(run_directory, again)
    assert "set by hand" not in report_of(folder)
    align(folder, up="gravity", scale=1 / 3)
    export(folder, ("k", "tum"))
    export(folder, ("pcd",), options={"max_points": 1000, "confidence_percentile": 12.5})
    text = Seen(report_of(folder)).text
    assert text.count("turned upright by gravity, scaled by 0.333333") == 2
    assert "da3stream align run --up gravity --scale 0.3333333333333333" in text
    run = open_existing(folder)
    try:
        lines = origin.later_commands(Facts(run))
        manifest = run.manifest
    finally:
        run.close()
    for line in lines:
        words = [str(again) if word == "run" else word for word in shlex.split(line)]
        assert CliRunner().invoke(cli, words[1:], catch_exceptions=False).exit_code == 0
    made = json.loads((again / "run.json").read_text())
    assert made["alignment"] == manifest["alignment"]
    assert made["output_options"] == manifest["output_options"]


def test_a_world_that_was_only_turned_is_not_scaled(run_directory: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(run_directory, folder)
    align(folder, up="gravity")
    assert "turned upright by gravity, not scaled" in report_of(folder)
    assert "<code>da3stream align run --up gravity</code>" in report_of(folder)


def test_the_peak_of_a_resumed_run_is_that_of_its_last_process(run_directory: Path) -> None:
    """The chart shows the samples of all processes, and calls the largest one so."""
    run = open_existing(run_directory)
    try:
        facts = Facts(run)
        measured = {**run.manifest["measured"], "peak_rss_bytes": 3_000_000_000}
        facts.manifest = {**run.manifest, "measured": measured}
        first, last = facts.samples[0], facts.samples[-1]
        alone = page_of(facts)
        before = replace(first, began_s=first.began_s - 9, time_s=first.time_s - 5, rss_bytes=7_000_000_000)
        facts = Facts(run)
        facts.manifest = {**run.manifest, "measured": measured}
        facts.samples = [before, last]
        resumed = page_of(facts)
    finally:
        run.close()
    assert '3 GB</dd><dd class="more">without child processes' in alone
    assert '3 GB</dd><dd class="more">of the last process, without its children' in resumed
    assert "Memory of the process: largest sample 7 GB" in resumed


def test_one_chunk_has_neither_joins_nor_a_path_before(tmp_path: Path) -> None:
    world = two_laps(10, 40)
    reconstruct(world, tmp_path, WatchedFileSystem(), loop=False, coarse=0)
    text = Seen(report_of(tmp_path)).text
    assert "One chunk: 10 frames." in text
    assert "that share" not in text
    assert "pose graph" not in text
    assert "before loops and optimisation" not in text
    assert 'class="before"' not in report_of(tmp_path)


def test_a_path_that_moved_is_drawn_before_and_after(run_directory: Path) -> None:
    page = report_of(run_directory)
    assert page.count('class="before"') == 1
    assert "before loops and optimisation" in page
    assert "The pose graph of" in page


def test_the_command_says_where_the_page_is(run_directory: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(run_directory, folder)
    (folder / "report.html").unlink()
    done = CliRunner().invoke(cli, ["report", str(folder)])
    assert done.output.strip() == str(folder / "report.html")
    assert report_of(folder) == report_of(run_directory)
    with pytest.raises(StoreError, match="is no run directory"):
        CliRunner().invoke(cli, ["report", str(tmp_path)], catch_exceptions=False)


def test_time_in_which_nothing_ran_does_not_count() -> None:
    moments = [(100.0, 101.0), (100.0, 104.0), (900.0, 902.0), (900.0, 905.0)]
    assert costs._active_seconds(moments) == [1, 4, 6, 9]


def command_of(folder: Path, **changes: Any) -> str:
    """The command of a run whose run.json is changed."""
    run = open_existing(folder)
    try:
        run.manifest = {**run.manifest, **changes}
        return origin.command_line(Facts(run))
    finally:
        run.close()


def test_the_command_line_gives_the_same_options(run_directory: Path) -> None:
    config = load_config(None, CONFIG)
    words = shlex.split(command_of(run_directory, input="/private/it's <b> drive.mp4"))
    assert words[:5] == ["da3stream", "run", "it's <b> drive.mp4", "-o", "run"]
    given = dict(zip(words[5::2], words[6::2], strict=True))
    parsed = {name[2:].replace("-", "_"): value for name, value in given.items()}
    assert load_config(None, parsed) == config


def test_commands_name_the_run_without_its_folders(run_directory: Path, tmp_path: Path) -> None:
    """Typed in the folder that it lies in, also after both were moved."""
    folder = tmp_path / "my street"
    shutil.copytree(run_directory, folder)
    align(folder, up="gravity")
    export(folder, ("pcd",), options={"max_points": 1000})
    page = Seen(page_again(folder, input="walk.mp4")).text
    assert "RUN" not in page
    assert str(tmp_path) not in page
    assert "da3stream run walk.mp4 -o 'my street' --" in page
    assert "da3stream align 'my street' --up gravity" in page
    assert "da3stream export 'my street' --to pcd --max-points 1000" in page
    page = Seen(page_again(folder, status="running")).text
    assert "RUN" not in page
    assert "Go on with: da3stream resume 'my street'" in page
    page = Seen(page_again(run_directory)).text
    for words in ("align run --known-distance A B METRES", "align run --up plane", "eval run --gt FILE"):
        assert f"da3stream {words}" in page
    assert f"da3stream.reconstruct(source, {run_directory.name!r}, config=" in page


def test_folders_of_the_machine_are_not_told(run_directory: Path) -> None:
    config = {**load_config(None, CONFIG).model_dump(mode="json"), "poses": "/private/of a user/poses.txt"}
    line = command_of(run_directory, input="/private/drive.mp4", config=config)
    assert "--poses poses.txt" in line
    assert "private" not in line


def test_a_run_that_cannot_be_drawn_is_finished_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def damaged(*_: object) -> Path:
        raise RunCorruptError("a file is damaged")

    monkeypatch.setattr("da3stream.session.write_report", damaged)
    said: list[str | None] = []
    da3stream.reconstruct(
        SimulatedSource(capture()),
        tmp_path,
        config=load_config(None, {**CONFIG, "keep": "none"}),
        estimator=CountingEstimator(capture()),
        progress=lambda progress: said.append(progress.message),
    )
    assert "there is no report: a file is damaged" in said
    assert not (tmp_path / "submaps").exists()


def test_of_a_source_object_it_is_a_line_of_python(run_directory: Path) -> None:
    line = command_of(run_directory)
    options = ast.literal_eval(line[line.index("{") : line.index("}") + 1])
    assert load_config(None, options) == load_config(None, CONFIG)


def test_a_metric_run_has_the_path_before_loops_in_metres(tmp_path: Path) -> None:
    """The chain that is placed anew has the unit that the finished map settled on."""
    world = capture()
    estimator = CountingEstimator(world, level=1.0)
    estimator.is_metric = True
    inner = estimator.estimate
    estimator.estimate = lambda *given, **named: replace(inner(*given, **named), is_metric=True)  # type: ignore[method-assign]
    config = load_config(None, {**CONFIG, "loop": False, "coarse": 0})
    result = da3stream.reconstruct(SimulatedSource(world), tmp_path, config=config, estimator=estimator)
    run = open_existing(tmp_path)
    try:
        facts = Facts(run)
        before = facts.positions_before
    finally:
        run.close()
    after = result.trajectory.world_from_cam[:, :3, 3]
    assert facts.is_metric
    assert before is not None
    steps = [np.linalg.norm(np.diff(path, axis=0), axis=1).sum() for path in (before, after)]
    assert steps[0] == pytest.approx(steps[1], rel=0.05)
    assert json.loads((tmp_path / "run.json").read_text())["optimisation"]["world_from_chain"]["scale"] != 1


@pytest.mark.parametrize(("residual", "mark"), [(0.004, "good"), (0.08, "look")])
def test_a_large_residual_is_to_be_looked_at(run_directory: Path, residual: float, mark: str) -> None:
    run = open_existing(run_directory)
    try:
        facts = Facts(run)
        facts.seams = [replace(seam, residual=residual, problem=None) for seam in facts.seams]
        found = [
            verdict for verdict in verdicts(facts, []) if "between consecutive chunks fit" in verdict.text
        ]
    finally:
        run.close()
    assert [verdict.mark for verdict in found] == [mark]
    assert ("is a lot" in found[0].text) == (mark == "look")
