"""Flower's own engines: the simulation, and a deployment on loopback with TLS and node keys."""

from __future__ import annotations

import datetime
import gc
import ipaddress
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch

pytest.importorskip("flwr")
pytest.importorskip("ray")

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from support import environment
from support.flower_app import model, task

from hasa_opt import Study
from hasa_opt.federated import (
    Evaluation,
    Execution,
    Faults,
    History,
    LocalTraining,
    Participation,
    run,
)
from hasa_opt.flower.settings import AppData, write_app
from hasa_opt.policies.subnets import read_subnets

pytestmark = [pytest.mark.slow, pytest.mark.flower]

NODES = 3
OFF = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # else Ray warns of what it will do
}


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("simulated")
    program = [sys.executable, "-m", "support.flower_simulation", place]
    done = subprocess.run(program, env=environment(**OFF), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return place


def equal(first: History, second: History) -> bool:
    return all(torch.equal(first.weights[name], second.weights[name]) for name in second.weights)


@pytest.mark.parametrize(("name", "absent"), [("all", ()), ("own", ()), ("failing", (2, 5))])
def test_simulation_ends_with_the_bits_of_the_loop(
    simulated: Path, name: str, absent: tuple[int, ...]
) -> None:
    torch.set_num_threads(1)
    found = History.load(simulated / name)
    faults, bias = Faults(absent=absent), "local" if name == "own" else "shared"
    on = "personal" if name == "own" else "subnet"
    own = run(
        model(),
        task(),
        read_subnets(found.metadata["roster"], found.widths),
        rounds=5,
        training=LocalTraining(batch_size=8, output_bias=bias),
        evaluation=Evaluation(on=on, interpolation="validation"),
        participation=Participation(faults=faults),
    )
    assert equal(found, own)
    if not absent:
        assert (found.test_loss == own.test_loss).all()
    assert len(found.events) == 5 * len(absent)


@pytest.fixture
def certificates(tmp_path: Path) -> dict[str, Path]:
    """An authority and a server's certificate for 127.0.0.1, made on the spot."""
    now = datetime.datetime.now(datetime.UTC)

    def name(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    def signed(
        subject: str, key: ec.EllipticCurvePrivateKey, signer: ec.EllipticCurvePrivateKey, ca: bool
    ) -> x509.Certificate:
        address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
        return (
            x509.CertificateBuilder()
            .subject_name(name(subject))
            .issuer_name(name("authority"))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(hours=1))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([address]), critical=False)
            .sign(signer, hashes.SHA256())
        )

    authority, server = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    pem = serialization.Encoding.PEM
    parts = {
        "ca": signed("authority", authority, authority, ca=True).public_bytes(pem),
        "certificate": signed("server", server, authority, ca=False).public_bytes(pem),
        "key": server.private_bytes(
            pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ),
    }
    paths = {part: tmp_path / f"{part}.pem" for part in parts}
    for part, content in parts.items():
        paths[part].write_bytes(content)
    return paths


def node_key(place: Path) -> Path:
    """A node's private key; the public one lies beside it, with the suffix ``.pub``."""
    key = ec.generate_private_key(ec.SECP384R1())
    ssh, plain = serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    place.write_bytes(key.private_bytes(serialization.Encoding.PEM, ssh, plain))
    public = key.public_key().public_bytes(
        serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    )
    place.with_suffix(".pub").write_bytes(public)
    return place


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answers(port: int, patience_s: float = 60) -> None:
    """Wait until a server listens."""
    end = time.monotonic() + patience_s
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            assert time.monotonic() < end, f"nobody listens on {port}"
            time.sleep(0.2)


@contextmanager
def running(
    *command: object, log: Path, environment: dict[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program of Flower in a group of its own, and end all of it."""
    program, *options = map(str, command)
    path = Path(sys.executable).with_name(program)
    with log.open("wb") as file:
        process = subprocess.Popen(
            [path, *options], stdout=file, stderr=file, env=environment, start_new_session=True
        )
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


@pytest.mark.nightly
def test_deployment_with_tls_and_node_keys_ends_with_the_bits_of_the_loop(
    tmp_path: Path, certificates: dict[str, Path]
) -> None:
    app, output = tmp_path / "app", tmp_path / "result"
    write_app(app, "toy", AppData(), NODES, "mlp")
    task_of_my_own = "from support.flower_app import device, model\n\nOPTIONS = {}\n"
    (app / "supernet_app" / "task.py").write_text(task_of_my_own)
    port = free_port()
    secure = f'root-certificates = "{certificates["ca"]}"'
    (app / ".flower" / "config.toml").write_text(
        f'[superlink]\ndefault = "here"\n[superlink.here]\naddress = "127.0.0.1:{port}"\n{secure}\n'
    )
    binaries = str(Path(sys.executable).parent)
    path = os.pathsep.join([binaries, os.environ["PATH"]])
    home = str(app / ".flower")
    variables = environment(**OFF, FLWR_HOME=home, OMP_NUM_THREADS="1", PATH=path)
    server: list[object] = ["flower-superlink", "--host", "127.0.0.1", "--port", port]
    server += ["--enable-supernode-auth", "--ssl-ca-certfile", certificates["ca"]]
    server += ["--ssl-certfile", certificates["certificate"], "--ssl-keyfile", certificates["key"]]
    with ExitStack() as stack:
        stack.enter_context(running(*server, log=tmp_path / "server.log", environment=variables))
        answers(port)
        flwr = Path(sys.executable).with_name("flwr")
        for node in range(NODES):
            key = node_key(tmp_path / f"node{node}.key")
            register = [flwr, "supernode", "register", key.with_suffix(".pub"), "here"]
            subprocess.run(register, env=variables, check=True, capture_output=True)
            command: list[object] = ["flower-supernode", "--superlink", f"127.0.0.1:{port}"]
            command += ["--port", free_port(), "--root-certificates", certificates["ca"]]
            command += ["--auth-supernode-private-key", key]
            command += ["--node-config", f"partition-id={node} num-partitions={NODES}"]
            log = tmp_path / f"node{node}.log"
            stack.enter_context(running(*command, log=log, environment=variables))
        settings = f'hasa.rounds=3 hasa.evaluate-every=3 hasa.output="{output}"'
        done = subprocess.run(
            [flwr, "run", app, "here", "--stream", "--run-config", settings],
            env=variables,
            capture_output=True,
            text=True,
            timeout=400,
        )
        log_of_server = (tmp_path / "server.log").read_text()
    assert (output / "history.json").exists(), done.stderr[-3000:] + log_of_server[-3000:]
    found = History.load(output)
    whole = task()
    parts = {name: getattr(whole, name)[:NODES] for name in ("train", "validation", "test")}
    few = replace(
        whole, client_names=whole.client_names[:NODES], counts=whole.counts[:NODES], **parts
    )
    torch.set_num_threads(1)
    own = run(model(), few, read_subnets(found.metadata["roster"], found.widths), rounds=3)
    assert equal(found, own)
    assert (found.test_accuracy[-1] == own.test_accuracy[-1]).all()


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # Ray leaves its files to the collector
def test_a_study_on_ray_has_the_same_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in OFF.items():
        monkeypatch.setenv(name, value)
    import ray

    settings = {
        "policies": ["uniform", "hasa"],
        "seeds": (0, 1),
        "rounds": 2,
        "training": LocalTraining(batch_size=8),
    }
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        found = Study(task(), model(), execution=Execution(executor="ray"), **settings).run(
            compare_solvers=False, directory=tmp_path
        )
    finally:
        ray.shutdown()
        gc.collect()
    alone = Study(task(), model(), execution=Execution(workers=1), **settings)
    own = alone.run(compare_solvers=False)
    assert len(list(tmp_path.glob("*-seed*"))) == 4
    for one, other in zip(found.outcomes, own.outcomes, strict=True):
        assert equal(one.history, other.history)
        assert (one.own == other.own).all()
