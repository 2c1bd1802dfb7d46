"""The desk while something fails or many work at once: nothing is lost, and nothing is stored twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer

from bloodcell.settings import Settings
from bloodcell.storage.embedded import EmbeddedPostgres, embedded_database
from bloodcell.storage.migrations import upgrade
from tests.laboratory import at_once
from tests.review.desk import Reader, RunningDesk, Slide, free_port, new_desk, new_keys
from tests.storage.conftest import until

READERS = ("anna", "ben", "clara", "dora")


def insist(reader: Reader, slide: Slide, cell: int, key: str, failures: Counter[object]) -> None:
    """Sends a label again and again until it is stored, as a page does; counts what went wrong before."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            answer = reader.ask_label(slide, {cell: "ig"}, keys=[key])
        except httpx.TransportError as error:
            failures[type(error).__name__] += 1
            time.sleep(0.1)
            continue
        if answer.status_code == 200:
            assert answer.json()["outcomes"][0]["outcome"] == "stored"
            return
        failures[answer.json()["error"]["code"]] += 1
        time.sleep(0.1)
    raise TimeoutError(cell)


@pytest.fixture(scope="module")
def own_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    """A server that nobody else uses, which a test may stop."""
    server = embedded_database(Settings(data_dir=tmp_path_factory.mktemp("own")))
    upgrade(server.url())
    yield server
    server.stop()


@contextmanager
def away(server: EmbeddedPostgres) -> Iterator[None]:
    """Stops a server at once, as a restart of the machine does, and starts it again at the end."""
    process = psutil.Process(server.server.get_pid())
    process.send_signal(signal.SIGINT)
    until(lambda: not process.is_running() or process.status() == psutil.STATUS_ZOMBIE)
    try:
        yield
    finally:
        server.ensure_running()


@pytest.mark.slow
def test_labels_sent_while_the_database_is_away_are_stored_once(own_server: EmbeddedPostgres, tmp_path: Path) -> None:
    with new_desk(tmp_path / "data", own_server.url()) as desk, desk.client("anna") as anna:
        slide = desk.slide({"neutrophil": 30})
        keys, failures = dict(zip(slide.all_cells, new_keys(30), strict=True)), Counter[object]()

        def label() -> None:
            for cell, key in keys.items():
                insist(anna, slide, cell, key, failures)

        thread = threading.Thread(target=label)
        thread.start()
        until(lambda: len(desk.labels(slide)) > 4)
        with away(own_server), desk.stranger() as stranger:
            started = time.monotonic()
            until(lambda: failures["away"] > 0)  # the desk itself waits three seconds before it tells
            assert time.monotonic() - started < 12
            assert stranger.get("/healthz").status_code == 200
            stranger.cookies.set("bloodcell_desk", "x", domain="127.0.0.1")
            page = stranger.get("/")
            assert page.status_code == 503
            assert page.json()["error"]["code"] == "away"
            assert own_server.server.postgres_user not in page.json()["error"]["text"]
        thread.join()
        for cell, key in keys.items():  # once more, as if every answer had been lost
            insist(anna, slide, cell, key, failures)
        assert sorted(cell for cell, _, _ in desk.labels(slide)) == slide.all_cells
        assert set(failures) == {"away"}
        anna.open(slide)


@contextmanager
def desk_process(settings: Settings) -> Iterator[subprocess.Popen[bytes]]:
    """Runs `bloodcell desk` as a process of its own until it is ready, and stops it at the end."""
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("BLOODCELL_")},
        "BLOODCELL_DATA_DIR": str(settings.data_dir),
        "BLOODCELL_DATABASE_URL": str(settings.plain_database_url),
        "BLOODCELL_DESK_URL": settings.desk_url,
    }
    process = subprocess.Popen([sys.executable, "-m", "bloodcell", "desk"], env=environment)

    def is_ready() -> bool:
        assert process.poll() is None
        with suppress(httpx.TransportError):
            return httpx.get(f"{settings.desk_url}/healthz").status_code == 200
        return False

    try:
        until(is_ready, timeout_s=90)
        yield process
    finally:
        process.terminate()
        process.wait(20)


@pytest.fixture
def other_process(running_desk: RunningDesk) -> Settings:
    """Settings of a second desk with the same database and data folder, on a port of its own."""
    with free_port() as (_, port):
        return running_desk.settings.model_copy(update={"desk_url": f"http://127.0.0.1:{port}"})


def moved_to(reader: Reader, settings: Settings) -> None:
    """Lets a person go on at another process."""
    reader.http.base_url = httpx.URL(settings.desk_url)
    reader.http.headers["origin"] = settings.desk_url


@pytest.mark.slow
def test_a_desk_that_is_killed_and_one_beside_it_lose_nothing(
    running_desk: RunningDesk, other_process: Settings
) -> None:
    slide = running_desk.slide({"neutrophil": 40})
    keys, failures = dict(zip(slide.all_cells, new_keys(40), strict=True)), Counter[object]()
    with running_desk.client("anna") as anna, running_desk.client("ben") as ben:
        moved_to(anna, other_process)
        with desk_process(other_process) as process:
            assert anna.hold(slide)["is_mine"]
            assert ben.open(slide)["lease"]["holder"] == "anna", "a second process knows who has the slide"

            def label() -> None:
                for cell, key in keys.items():
                    insist(anna, slide, cell, key, failures)

            thread = threading.Thread(target=label)
            thread.start()
            until(lambda: len(running_desk.labels(slide)) > 10)
            process.send_signal(signal.SIGKILL)
            process.wait()
        assert ben.ask_label(slide, {slide.all_cells[0]: "monocyte"}).status_code == 409, (
            "anna's lease outlives the desk"
        )
        with desk_process(other_process):
            thread.join()
            assert anna.hold(slide)["is_mine"], "the session survives"
            sprite = str(anna.open(slide)["sprites"][0]["url"])
            with counting(running_desk.settings.data_dir / "desk" / "sprites") as made:
                people = [anna, ben] * 5
                pictures = set()
                assert at_once(10, lambda: pictures.add(people.pop().http.get(sprite).content)) == []
                assert len(pictures) == 1
            assert made[Path(sprite).name] == 1, "two processes make a sprite once"
    assert sorted(cell for cell, _, _ in running_desk.labels(slide)) == slide.all_cells
    assert set(failures) <= {"ConnectError", "ReadError", "RemoteProtocolError", "WriteError"}
    assert failures


class _Counter(FileSystemEventHandler):
    def __init__(self) -> None:
        self.made: Counter[str] = Counter()

    def on_created(self, event: FileSystemEvent) -> None:
        self.made[Path(os.fsdecode(event.src_path)).name] += 1

    def on_moved(self, event: FileSystemEvent) -> None:
        self.made[Path(os.fsdecode(event.dest_path)).name] += 1


@contextmanager
def counting(folder: Path) -> Iterator[Counter[str]]:
    """Counts how often a file of each name comes to be in a folder; it is complete at the end."""
    folder.mkdir(parents=True, exist_ok=True)
    handler, observer = _Counter(), Observer()
    observer.schedule(handler, str(folder))
    observer.start()
    try:
        yield handler.made
        last = folder / f"{new_keys(1)[0]}.end"
        last.touch()
        until(lambda: handler.made[last.name])
        last.unlink()
    finally:
        observer.stop()
        observer.join()


def test_a_sprite_is_made_once_for_twenty_who_ask_first(running_desk: RunningDesk) -> None:
    slide = running_desk.slide({"neutrophil": 50})
    with running_desk.client("anna") as anna, counting(running_desk.settings.data_dir / "desk" / "sprites") as made:
        sprite = str(anna.open(slide)["sprites"][0]["url"])
        answers: list[tuple[int, bytes]] = []

        def ask() -> None:
            answer = anna.http.get(sprite)
            answers.append((answer.status_code, answer.content))

        assert at_once(20, ask) == []
    assert len(set(answers)) == 1
    assert answers[0][0] == 200
    assert made[Path(sprite).name] == 1


@contextmanager
def readers(desk: RunningDesk, n: int) -> Iterator[list[Reader]]:
    """Yields people who are logged in, each in a browser of their own."""
    from contextlib import ExitStack

    with ExitStack() as stack:
        yield [stack.enter_context(desk.client(READERS[number % len(READERS)])) for number in range(n)]


def all_at_once(people: Sequence[Reader], work: Callable[[int, Reader], object]) -> None:
    """Lets everybody work at once; an error of anybody is one of the test."""
    waiting = list(enumerate(people))
    assert at_once(len(people), lambda: work(*waiting.pop())) == []


def test_twenty_readers_label_and_sign_slides_of_their_own(running_desk: RunningDesk) -> None:
    slides = [running_desk.slide({"neutrophil": 60, "unclassified": 1}) for _ in range(20)]

    def review(number: int, reader: Reader) -> None:
        slide = slides[number]
        reader.open(slide)
        assert reader.hold(slide)["is_mine"]
        labels = {**dict.fromkeys(slide.cells["neutrophil"][:3], "ig"), slide.cells["unclassified"][0]: "monocyte"}
        assert {each["outcome"] for each in reader.label(slide, labels)["outcomes"]} == {"stored"}
        reader.ask_comment(slide, f"by {reader.name}").raise_for_status()
        reader.ask_sign(slide).raise_for_status()

    with readers(running_desk, 20) as people:
        all_at_once(people, review)
        assert people[0].http.get("/").status_code == 200
    for slide in slides:
        assert len(running_desk.labels(slide)) == 4
        signed = running_desk.rows(
            "SELECT count(signed_by) FROM bloodcell.result WHERE slide_id = :s", s=slide.slide_id
        )
        assert signed == [(1,)]


def test_twenty_readers_on_one_slide_store_each_label_once(running_desk: RunningDesk) -> None:
    slide = running_desk.slide({"neutrophil": 41})
    shared, own = slide.all_cells[0], slide.all_cells[1:]
    outcomes: Counter[str] = Counter()

    def label(number: int, reader: Reader) -> None:
        reader.open(slide)
        answer = reader.label(slide, dict.fromkeys(own[2 * number : 2 * number + 2], "ig"))
        assert {each["outcome"] for each in answer["outcomes"]} == {"stored"}
        reader.seen[shared] = None
        outcomes[reader.label(slide, {shared: "monocyte"})["outcomes"][0]["outcome"]] += 1

    with readers(running_desk, 20) as people:
        all_at_once(people, label)
    assert outcomes == {"stored": 1, "conflict": 19}
    assert sorted(cell for cell, _, _ in running_desk.labels(slide)) == slide.all_cells


def test_more_people_than_connections_wait_for_one(running_desk: RunningDesk) -> None:
    slide = running_desk.slide({"neutrophil": 5})
    statuses: Counter[int] = Counter()

    def look(_: int, reader: Reader) -> None:
        statuses[reader.http.get(f"/api/slides/{slide.slide_id}").status_code] += 1

    with readers(running_desk, 60) as people:
        all_at_once(people, look)
    assert statuses == {200: 60}


@pytest.mark.parametrize("n_cells", [0, 1, 2000])
def test_a_slide_of_any_size_is_shown(running_desk: RunningDesk, n_cells: int) -> None:
    slide = running_desk.slide({"neutrophil": n_cells} if n_cells else {})
    with running_desk.client("anna") as anna:
        page = anna.open(slide)
        assert len(page["cells"]) == n_cells
        assert sum(sprite["n"] for sprite in page["sprites"]) == n_cells
        assert {(cell["sprite"], cell["tile"]) for cell in page["cells"]} == {divmod(n, 200) for n in range(n_cells)}
        assert anna.http.get(f"/slides/{slide.slide_id}").status_code == 200
        assert anna.http.get("/").status_code == 200
        assert anna.http.get(f"/slides/{slide.slide_id}/history").status_code == 200
        for sprite in page["sprites"][:1] + page["sprites"][-1:]:
            anna.http.get(sprite["url"]).raise_for_status()
        refused = anna.ask_sign(slide, digest="0" * 64, state="final")
        assert refused.status_code == (409 if n_cells else 404)
        if n_cells:
            labels = dict.fromkeys(slide.all_cells[:500], "ig")
            assert {each["outcome"] for each in anna.label(slide, labels)["outcomes"]} == {"stored"}
        if n_cells > 500:
            assert anna.ask_label(slide, dict.fromkeys(slide.all_cells[:501], "ig")).status_code == 422


def damage(path: Path) -> Callable[[], Any]:
    """Alters a file, and returns what restores it."""
    body = path.read_bytes()
    path.chmod(0o600)
    path.write_bytes(body[:-10] + b"x" * 10)
    return lambda: path.write_bytes(body)


def remove(path: Path) -> Callable[[], Any]:
    """Removes a file, and returns what restores it."""
    body = path.read_bytes()
    path.unlink()
    return lambda: path.write_bytes(body)


@pytest.mark.parametrize("lose", [damage, remove])
def test_an_image_that_is_missing_or_altered_is_told_and_is_back_once_it_is_restored(
    running_desk: RunningDesk, lose: Callable[[Path], Callable[[], Any]]
) -> None:
    slide = running_desk.slide({"neutrophil": 3})
    cell = slide.all_cells[1]
    sha256 = running_desk.rows("SELECT sha256 FROM bloodcell.cell WHERE cell_id = :c", c=cell)[0][0]
    restore = lose(running_desk.image_path(sha256))
    image = f"/slides/{slide.slide_id}/cells/{cell}/image"
    with running_desk.client("anna") as anna:
        sprite = anna.open(slide)["sprites"][0]["url"]
        assert anna.http.get(image).json()["error"]["text"] == "The image is missing in the store, or was altered."
        crossed_out = anna.http.get(sprite).raise_for_status()
        assert crossed_out.headers["cache-control"] == "no-store"
        assert anna.label(slide, {cell: "ig"})["outcomes"][0]["outcome"] == "stored"
        restore()
        restored = anna.http.get(sprite).raise_for_status()
        assert "immutable" in restored.headers["cache-control"]
        assert restored.content != crossed_out.content
        assert anna.http.get(image).status_code == 200


def test_two_tabs_of_one_person_see_each_others_labels(running_desk: RunningDesk) -> None:
    slide = running_desk.slide({"neutrophil": 2})
    cell = slide.all_cells[0]
    with running_desk.client("anna") as one, running_desk.client("anna") as other:
        one.open(slide)
        other.open(slide)
        assert one.hold(slide)["is_mine"]
        assert other.hold(slide)["is_mine"]
        one.label(slide, {cell: "ig"})
        (outcome,) = other.label(slide, {cell: "monocyte"})["outcomes"]
        assert (outcome["outcome"], outcome["text"]) == ("conflict", "anna has labelled this cell meanwhile.")
        (outcome,) = other.label(slide, {cell: "monocyte"})["outcomes"]
        assert outcome["outcome"] == "stored", "the first answer showed the newest label"


def test_a_slide_that_is_taken_over_is_lost_for_the_first_person_and_told(running_desk: RunningDesk) -> None:
    slide = running_desk.slide({"neutrophil": 2})
    with running_desk.client("anna") as anna, running_desk.client("ben") as ben:
        anna.hold(slide)
        assert ben.hold(slide) == {**ben.open(slide)["lease"], "holder": "anna", "is_mine": False}
        assert ben.hold(slide, take_over=True)["is_mine"]
        refused = anna.ask_label(slide, {slide.all_cells[0]: "ig"})
        assert refused.status_code == 409
        assert (refused.json()["error"]["code"], refused.json()["error"]["holder"]) == ("held", "ben")
        assert running_desk.labels(slide) == []
        anna.hold(slide, take_over=True)
        assert anna.label(slide, {slide.all_cells[0]: "ig"})["outcomes"][0]["outcome"] == "stored"
