"""How busy a job's GPU was in each of its phases: read by the process that watches it, written down by the job."""

import json
import subprocess
import sys
from types import ModuleType, SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from speedgrid import busy

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


class Driver(ModuleType):
    """NVML of a GPU that gives these readings and is lost then."""

    class NVMLError(Exception):
        pass

    def __init__(self, *readings: int):
        super().__init__("pynvml")
        self.readings = list(readings)

    def nvmlInit(self):
        if not self.readings:
            raise self.NVMLError("Driver Not Loaded")

    def nvmlDeviceGetHandleByUUID(self, uuid):
        assert uuid == "GPU-1"

    def nvmlDeviceGetUtilizationRates(self, handle):
        if not self.readings:
            raise self.NVMLError("GPU is lost")
        return SimpleNamespace(gpu=self.readings.pop(0))


@pytest.mark.parametrize(
    ("driver", "share"), [(Driver(50, 100), 0.75), (Driver(), None), (None, None)], ids=["lost after two readings", "no driver", "no NVML"]
)
def test_a_gpu_is_read_until_its_driver_no_longer_answers(monkeypatch, driver, share):
    monkeypatch.setattr(busy, "EVERY_S", 0)
    monkeypatch.setitem(sys.modules, "pynvml", driver)
    found = busy.BusyPhases()
    found.watch("GPU-1", lambda: 2)
    assert found.shares(4) == [None, None, share, None]
