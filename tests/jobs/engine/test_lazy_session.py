"""The lazy session: it is opened once, beside other work, and only where somebody begins it."""

import threading

import pytest

from jobs.engine.lazy_session import LazySession
from jobs.engine.runner import choose_engine
from jobs.errors import UserError
from jobs.storage.lake import Lake
from tests.jobs import planted


class StandIn:
    """A session that only counts how often it was opened and stopped."""

    version = "0"

    def __init__(self):
        self.opened, self.stopped, self.may_open = [], 0, threading.Event()
        self.may_open.set()

    def open(self, name, is_short=False):
        self.may_open.wait()
        self.opened.append((name, threading.current_thread()))
        return self

    def stop(self):
        self.stopped += 1


@pytest.fixture
def stand_in():
    return StandIn()


def test_a_session_that_nobody_needs_is_never_opened(stand_in, tmp_path):
    with LazySession("day", stand_in.open) as session:
        lake = Lake(session, str(tmp_path))
        assert choose_engine(planted.settings(lake), 10) == "local"
        assert not lake.has_session

    assert (stand_in.opened, stand_in.stopped) == ([], 0)


def test_begin_opens_in_a_thread_and_the_first_use_waits(stand_in, tmp_path):
    stand_in.may_open.clear()
    with LazySession("day", stand_in.open) as session:
        lake = Lake(session, str(tmp_path))
        lake.begin_session()
        lake.begin_session()
        assert lake.has_session
        assert not stand_in.opened
        stand_in.may_open.set()
        assert lake.spark is lake.spark is stand_in

    ((name, thread),) = stand_in.opened
    assert name == "day"
    assert thread is not threading.current_thread()
    assert stand_in.stopped == 1


def test_what_keeps_a_session_from_opening_is_raised_where_it_is_used():
    def fail(name, is_short):
        raise UserError("no Java")

    with LazySession("day", fail) as session:
        session.begin()
        with pytest.raises(UserError, match="no Java"):
            session.open()


def test_without_a_session_nothing_begins(tmp_path):
    lake = Lake(None, str(tmp_path))

    lake.begin_session()

    assert lake.spark is None
    assert not lake.has_session
