"""What `make bench` reads from a run."""

from benchmarks.__main__ import steps_of


def test_steps_and_their_seconds_are_read_from_what_a_run_prints():
    printed = """refresh 2021-01-31, log x.log
land            done         0.9 s
train           skipped      1.9 s
all                        127.2 s
  1  Small orders, one category  7,364"""
    assert steps_of(printed) == [("land", 0.9), ("train", 1.9), ("all", 127.2)]
