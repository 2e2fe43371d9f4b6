"""A real Slurm on this machine: two nodes with CPUs, and one with each of two kinds of GPU that are none, with or without accounting.

Everything that it writes lies in one folder of its own, and every port is on the loopback device, so it neither sees nor disturbs a Slurm
that may be installed here. It is run by whoever runs the tests.
"""

import contextlib
import getpass
import os
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path

PATH = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
CPUS, MEMORY_MB = 8, 64_000
# The nodes, each a slurmd of its own, and the type and file of the GPU of those that have one.
NODES = {"cpu1": None, "cpu2": None, "gpu1": ("a100", "/dev/null"), "gpu2": ("h100", "/dev/zero")}
STARTS_WITHIN_S = 60

SLURM_CONF = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ctld}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SlurmdParameters=config_overrides
SchedulerParameters=sched_interval=2
ReturnToService=2
MinJobAge=300
KillWait=2
GresTypes=gpu
{accounting}
{nodes}
PartitionName=main Nodes=cpu1,cpu2 Default=YES MaxTime=12:00:00 State=UP
PartitionName=gpu Nodes=gpu1,gpu2 MaxTime=12:00:00 State=UP
"""
ACCOUNTING = """\
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={dbd}
AccountingStoragePass={folder}/munge.socket
AccountingStorageTRES=gres/gpu
"""
NO_ACCOUNTING = "AccountingStorageType=accounting_storage/none"
SLURMDBD_CONF = """\
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
DbdHost={host}
DbdAddr=127.0.0.1
DbdPort={dbd}
SlurmUser={user}
LogFile={folder}/slurmdbd.log
PidFile={folder}/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={mysql}
StorageUser=slurm
StoragePass=slurm
StorageLoc=slurm
"""


class Slurm:
    """A running cluster; `environ` makes Slurm's commands speak to it."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.environ = {**os.environ, "PATH": f"{folder}/bin:{PATH}", "SLURM_CONF": str(folder / "slurm.conf")}

    def ask(self, *command: str) -> str:
        """What one of Slurm's commands prints; fails where the command does."""
        done = subprocess.run(command, env=self.environ, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
        return done.stdout

    def jobs(self, fields: str = "%i %T %b %C %k") -> list[str]:
        """The jobs that the controller knows, finished ones too, a line each in the format of `squeue`."""
        return self.ask("squeue", "--noheader", "--states=all", f"--format={fields}").splitlines()


@contextlib.contextmanager
def running(accounting: bool):
    """Start a cluster, and stop it whatever comes."""
    # Not in pytest's folder: the path of a socket may have 107 bytes.
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))
    folder.chmod(0o755)
    ports = dict(zip(("ctld", "dbd", "mysql", *NODES), free_ports(3 + len(NODES)), strict=True))
    names = {"folder": folder, "host": socket.gethostname().partition(".")[0], "user": getpass.getuser(), **ports}
    storage = ACCOUNTING if accounting else NO_ACCOUNTING
    names |= {"accounting": storage.format_map(names), "nodes": "\n".join(node_line(node, names["host"], ports[node]) for node in NODES)}
    (folder / "slurm.conf").write_text(SLURM_CONF.format_map(names))
    gpus = [f"NodeName={node} Name=gpu Type={gpu[0]} File={gpu[1]}\n" for node, gpu in NODES.items() if gpu]
    (folder / "gres.conf").write_text("".join(gpus))
    (folder / "state").mkdir()
    for node in NODES:
        (folder / f"spool-{node}").mkdir()
    # Snakemake's plug-in takes SLURM_CONF away from the `srun` of a job, which then looks for /etc/slurm (docs/cluster.md).
    wrapper = folder / "bin" / "srun"
    wrapper.parent.mkdir()
    wrapper.write_text(f'#!/bin/sh\nSLURM_CONF={folder}/slurm.conf exec {shutil.which("srun", path=PATH)} "$@"\n')
    wrapper.chmod(0o755)
    cluster = Slurm(folder)
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        start_munge(stack, folder)
        if accounting:
            (folder / "slurmdbd.conf").write_text(SLURMDBD_CONF.format_map(names))
            (folder / "slurmdbd.conf").chmod(0o600)
            start_database(stack, folder, ports["mysql"])
            start(stack, folder, ["slurmdbd", "-D"], cluster.environ)
            wait_for("slurmdbd", lambda: answers(ports["dbd"]), folder)
        start(stack, folder, ["slurmctld", "-D", "-c"], cluster.environ)
        wait_for("slurmctld", lambda: answers(ports["ctld"]), folder)
        for node in NODES:
            start(stack, folder, ["slurmd", "-D", "-N", node], cluster.environ)
        wait_for("the nodes", lambda: set(cluster.ask("sinfo", "--noheader", "--format=%T").split()) == {"idle"}, folder)
        if accounting:
            cluster.ask("sacctmgr", "-i", "add", "account", "tiny", "Cluster=test", "Description=tests", "Organization=tests")
            cluster.ask("sacctmgr", "-i", "add", "user", names["user"], "Account=tiny")
        stack.callback(end_jobs, cluster)
        yield cluster


def end_jobs(cluster: Slurm) -> None:
    """A job goes on when its node's daemon is stopped."""
    cluster.ask("scancel", f"--user={getpass.getuser()}")
    wait_for("the end of all jobs", lambda: not cluster.ask("squeue", "--noheader").strip(), cluster.folder)


def node_line(node: str, host: str, port: int) -> str:
    gpu = f" Gres=gpu:{NODES[node][0]}:1" if NODES[node] else ""
    return f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs={CPUS} RealMemory={MEMORY_MB}{gpu} State=UNKNOWN"


def start_munge(stack: contextlib.ExitStack, folder: Path) -> None:
    key = folder / "munge.key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o600)
    files = {"key-file": key, "socket": folder / "munge.socket", "pid-file": folder / "munge.pid", "seed-file": folder / "munge.seed"}
    options = [f"--{name}={path}" for name, path in files.items()]
    start(stack, folder, ["munged", "--foreground", "--force", *options])
    wait_for("munge", (folder / "munge.socket").exists, folder)


def start_database(stack: contextlib.ExitStack, folder: Path, port: int) -> None:
    data, at, user = folder / "mysql", folder / "mysql.socket", f"--user={getpass.getuser()}"
    made = ["mariadb-install-db", "--no-defaults", f"--datadir={data}", user, "--skip-test-db", "--auth-root-authentication-method=normal"]
    subprocess.run(made, env={**os.environ, "PATH": PATH}, check=True, capture_output=True)
    served = [f"--datadir={data}", f"--socket={at}", f"--port={port}", "--bind-address=127.0.0.1", user]
    start(stack, folder, ["mariadbd", "--no-defaults", *served])
    wait_for("MariaDB", lambda: answers(port), folder)
    rights = "CREATE USER slurm@'127.0.0.1' IDENTIFIED BY 'slurm'; GRANT ALL ON slurm.* TO slurm@'127.0.0.1';"
    subprocess.run(["mariadb", "--no-defaults", f"--socket={at}", "--user=root", "-e", rights], check=True, capture_output=True)


def start(stack: contextlib.ExitStack, folder: Path, command: list[str], environ=None) -> None:
    """Start a daemon in the foreground; it is stopped when the stack is left."""
    log = stack.enter_context(open(folder / f"{command[0]}.out", "ab"))  # noqa: SIM115 - closed with the stack
    environ = environ or {**os.environ, "PATH": PATH}
    running = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environ, executable=shutil.which(command[0], path=PATH)
    )

    def stop() -> None:
        running.terminate()
        try:
            running.wait(timeout=20)
        except subprocess.TimeoutExpired:
            running.kill()
            running.wait()

    stack.callback(stop)


def wait_for(what: str, is_there, folder: Path) -> None:
    until = time.monotonic() + STARTS_WITHIN_S
    while time.monotonic() < until:
        with contextlib.suppress(AssertionError):
            if is_there():
                return
        time.sleep(0.2)
    logs = {path.name: path.read_text(errors="replace")[-2000:] for path in [*folder.glob("*.out"), *folder.glob("*.log")]}
    raise AssertionError(f"{what} did not come up within {STARTS_WITHIN_S} s: {logs}")


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for bound in sockets:
            bound.bind(("127.0.0.1", 0))
        return [bound.getsockname()[1] for bound in sockets]
