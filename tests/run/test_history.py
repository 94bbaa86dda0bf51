"""TensorBoard's events of a fit."""

import struct
import threading
import time

import pytest
from tensorboardX.proto.event_pb2 import Event, SessionLog

from jaxdl.run.store.history import Log
from jaxdl.run.store.writers import Events


def events(path):
    """Every event of a file of TFRecords: 8 bytes of length, 4 of checksum, the record, 4 of checksum."""
    content, found = path.read_bytes(), []
    while content:
        (length,) = struct.unpack("<Q", content[:8])
        found.append(Event.FromString(content[12 : 12 + length]))
        content = content[16 + length :]
    return found


def test_a_resumed_fit_hides_what_it_does_again(tmp_path, monkeypatch):
    threads, clock = threading.active_count(), iter(range(2_000_000_000, 0, -86_400))
    monkeypatch.setattr(time, "time", lambda: float(next(clock)))  # each call sets the clock back by a day
    for step, last in ((0, 5), (3, 7)):
        log = Log(tmp_path, [lambda step: Events(tmp_path / "tensorboard", step)])
        log.begin(step)
        for t in range(step + 1, last + 1):
            log.add(t, {"train/loss": 1 / t, "train/accuracy": t / 11})
        assert threading.active_count() == threads
        log.close()
    later, first = (events(path) for path in sorted((tmp_path / "tensorboard").iterdir()))  # sorted by time
    assert [e.file_version for e in (first[0], later[0])] == ["brain.Event:2"] * 2
    assert [e.step for e in first[1:]] == [1, 2, 3, 4, 5]
    assert (later[1].step, later[1].session_log.status) == (4, SessionLog.START)
    assert [e.step for e in later[2:]] == [4, 5, 6, 7]
    values = {value.tag: value.simple_value for value in later[-1].summary.value}
    assert values == {"train/loss": pytest.approx(1 / 7), "train/accuracy": pytest.approx(7 / 11)}
