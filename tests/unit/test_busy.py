"""How busy a job's GPU was in each of its phases: read by the process that watches it, written down by the job."""

import json
import subprocess
import sys

from hypothesis import given
from hypothesis import strategies as st
from speedgrid import busy, sensors

WATCHED = """
import json, time
from speedgrid import busy, supervision

readings = busy.BusyPhases()

def beside(phase):
    while True:
        readings.add(phase(), [0.0, 0.25, 0.75][phase()])
        time.sleep(0.001)

def work(tell):
    for number in (1, 2):
        tell(f"phase {number}")
        while readings.shares(3)[number] is None:
            time.sleep(0.001)
    print(json.dumps(readings.shares(4)), flush=True)
    return 0

supervision.watch(work, None, None, beside)
"""


@given(st.lists(st.tuples(st.integers(0, 5), st.floats(0, 1)), max_size=30))
def test_the_share_of_a_phase_is_the_mean_of_its_readings(readings):
    found = busy.BusyPhases()
    for phase, share in readings:
        found.add(phase, share)
    for phase, share in enumerate(found.shares(6)):
        own = [reading for at, reading in readings if at == phase]
        assert (share is None) == (not own)
        assert not own or min(own) - 1e-12 <= share <= max(own) + 1e-12


def test_what_the_watching_process_reads_is_with_the_job(root):
    environ = {"PYTHONPATH": str(root / "scripts")}
    done = subprocess.run([sys.executable, "-c", WATCHED], env=environ, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)[1:] == [0.25, 0.75, None]


def test_a_driver_that_answers_no_longer_is_asked_no_longer(monkeypatch):
    answers = iter([0.5, 1.0])

    class Gpu:
        def __init__(self, uuid):
            assert uuid == "GPU-1"
            self.gauges = {"utilisation": self.answer}

        def answer(self):
            for share in answers:
                return share
            raise sensors.Unavailable("the GPU is lost")

    monkeypatch.setattr(busy, "EVERY_S", 0)
    monkeypatch.setattr(sensors, "NvidiaGpu", Gpu)
    found = busy.BusyPhases()
    found.watch("GPU-1", lambda: 2)
    assert found.shares(4) == [None, None, 0.75, None]


def test_a_machine_without_a_driver_says_nothing(monkeypatch):
    def none(uuid):
        raise sensors.Unavailable("there is no driver")

    monkeypatch.setattr(sensors, "NvidiaGpu", none)
    found = busy.BusyPhases()
    found.watch("GPU-1", lambda: 0)
    assert found.shares(2) == [None, None]
