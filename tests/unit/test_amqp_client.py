"""Which AMQP client a broker's URL means: the one that is installed, or the one that it names."""

import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from kombu.transport.pyamqp import SSLTransport
from kombu.transport.pyamqp import Transport as PyAmqp
from packaging.requirements import Requirement

from shared.amqp_transport import Transport as InPieces
from shared.app import App
from shared.config import Settings
from shared.errors import ConfigError

MakeApp = Callable[..., App]
HOST = "reporter@broker//"
REDIS = "redis://redis/0"
ROOT = Path(__file__).parents[2]


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A module of the name is there, as far as kombu looks: the real one cannot be built for this Python."""
    names = "Channel", "ChannelError", "Connection", "ConnectionError", "Message"
    (tmp_path / "librabbitmq.py").write_text("".join(f"class {name}(Exception): ...\n" for name in names))
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("librabbitmq", None)


@pytest.mark.parametrize(
    ("scheme", "reads", "client"),
    [
        ("amqp", "frames", PyAmqp),
        ("pyamqp", "frames", PyAmqp),
        ("amqps", "frames", SSLTransport),
        ("amqp", "pieces", InPieces),
        ("pyamqp", "pieces", InPieces),
        ("amqp", None, InPieces),
        ("amqps", None, InPieces),
    ],
)
def test_without_librabbitmq_it_is_py_amqp(make_app: MakeApp, scheme: str, reads: str | None, client: type) -> None:
    app = make_app(broker_url=f"{scheme}://{HOST}", redis_url=REDIS, broker_reads=reads)
    assert app.connection_for_write().get_transport_cls() is client
    # And those of the pool, over which tasks are published, are the same
    assert app.producer_pool.connections.new().get_transport_cls() is client


def test_asking_for_librabbitmq_where_it_is_not_installed_says_so() -> None:
    with pytest.raises(ConfigError, match=r"BROKER_URL is librabbitmq://, but .* not installed: say amqp://"):
        Settings.load({"BROKER_URL": f"librabbitmq://{HOST}", "REDIS_URL": REDIS})


@pytest.mark.parametrize(
    ("scheme", "client"), [("amqp", "librabbitmq"), ("librabbitmq", "librabbitmq"), ("pyamqp", "pyamqp")]
)
@pytest.mark.usefixtures("installed")
def test_where_it_is_installed_the_url_decides(make_app: MakeApp, scheme: str, client: str) -> None:
    app = make_app(broker_url=f"{scheme}://{HOST}", redis_url=REDIS)
    assert app.connection_for_write().transport_cls == client
    # And what reads in pieces is py-amqp
    assert (app.connection_for_write().get_transport_cls() is InPieces) == (client == "pyamqp")


@pytest.mark.usefixtures("installed")
def test_reading_in_pieces_is_py_amqps(make_app: MakeApp) -> None:
    app = make_app(broker_url=f"amqp://{HOST}", redis_url=REDIS, broker_reads="pieces")
    assert app.connection_for_write().get_transport_cls() is InPieces
    with pytest.raises(ConfigError, match="BROKER_READS=pieces is py-amqp's"):
        Settings.load({"BROKER_URL": f"librabbitmq://{HOST}", "REDIS_URL": REDIS, "BROKER_READS": "pieces"})


def test_the_extra_has_celerys_own_marker() -> None:
    """Which installs it on no Python that this project runs on."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (needed,) = (Requirement(one) for one in project["optional-dependencies"]["librabbitmq"])
    assert needed.name == "librabbitmq" and needed.marker is not None
    cpython = {"platform_python_implementation": "CPython"}
    assert needed.marker.evaluate({"python_version": "3.10", **cpython})
    assert not needed.marker.evaluate({"python_version": "3.11", **cpython})
