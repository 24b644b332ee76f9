"""The house as processes of this machine, and who watches it: Prometheus and Alertmanager, in a hurry."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import yaml

from shared.app import App, create_app
from shared.config import Settings
from shared.render import alerts, prometheus
from shared.render.worker import worker_arguments
from shared.topology import DELAY_BITS, DELAY_DELIVERY_EXCHANGE, UNROUTED_QUEUE, dead_letter_queue, service
from tests.missing import missing
from tests.ports import free_port
from tests.servers import OwnBroker, OwnRedis
from tests.waiting import eventually

ROOT = Path(__file__).parents[2]
HOST = "127.0.0.1"
SERVICES = tuple(service(name) for name in ("calculator", "mailer"))
#: What a minute is for the rules takes two seconds here.
HURRY = alerts.Site(hurry=30)


class WatchedHouse:
    """Two workers, beat, a gateway and the exporter, beside a real broker and a real Redis.

    Attributes:
        app: publishes as an operator.
        redis, broker: what the processes stand on.
    """

    def __init__(self, broker: OwnBroker, redis: OwnRedis, mail: tuple[int, int], folder: Path) -> None:
        self.broker, self.redis = broker, redis
        self.app: App = create_app(settings=Settings.load(broker.user("operator", redis)), current=False)
        self._smtp, self._inbox = mail
        self._folder = folder
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._status = {name: free_port() for name in ("calculator", "mailer", "beat", "gateway", "exporter")}
        self._ports = {name: free_port() for name in ("prometheus", "alertmanager", "gateway")}

    def start(self) -> None:
        """Everything, and whoever watches last: before that much is missing."""
        self.sweep()
        for spec in SERVICES:
            arguments = worker_arguments(replace(spec, concurrency=(2, 2)))
            if spec.name == "calculator":
                arguments[arguments.index("-A") + 1] = "tests.alerts.app"
            self._run(spec.name, "-m", "celery", *arguments, SMTP_URL=f"smtp://{HOST}:{self._smtp}")
        # It looks each second, so that two seconds are silence.
        self._run("beat", *"-m celery -A shared.app beat --pidfile= --max-interval=1".split())
        uvicorn = f"-m uvicorn --factory services.gateway.app:create --port={self._ports['gateway']}"
        self._run("gateway", *uvicorn.split(), LOCAL_DIR=str(self._folder))
        exporter = {"BROKER_API_URL": f"http://exporter@{self.broker.at(15672)}", "BROKER_API_INTERVAL": "0.5"}
        self._run("exporter", "-m", "shared.exporter", user=None, **exporter)
        for name in self._status:
            eventually(lambda name=name: self._tells(name), 60)  # type: ignore[misc]
        self._start_alertmanager()
        self._start_prometheus()

    def _tells(self, name: str) -> bool:
        assert self._processes[name].poll() is None, self.log(name)
        wanted = {"gateway": "result_store_up 1", "exporter": "broker_up 1"}.get(name, "ready 1")
        try:
            return f"taskhouse_{wanted}" in httpx.get(f"http://{HOST}:{self._status[name]}/metrics").text
        except httpx.TransportError:
            return False

    def _run(self, name: str, *arguments: str, user: str | None = "", **environ: str) -> None:
        known = {} if user is None else self.broker.user(name, self.redis)
        known |= {"BROKER_PASSWORD_FILE": self.broker.password_file(name)}
        ours = {"STATUS_PORT": str(self._status[name]), "STATUS_HOST": HOST, "TMPDIR": str(self._folder)}
        self._spawn(name, [sys.executable, *arguments], {**known, **ours, **environ})

    def _spawn(self, name: str, command: Iterable[str], environ: Mapping[str, str]) -> None:
        with (self._folder / f"{name}.log").open("wb") as log:
            self._processes[name] = subprocess.Popen(
                list(command),
                env={**os.environ, **environ},
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _start_prometheus(self) -> None:
        document = yaml.safe_load(prometheus.render(SERVICES))
        document["global"] = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
        document["alerting"] = _static({"alertmanager": f"{HOST}:{self._ports['alertmanager']}"}, "alertmanagers")
        for job in document["scrape_configs"]:
            # Found by their addresses; what the rules call them is told by the rendered file.
            (found,) = job.pop("dns_sd_configs")
            where = {name: f"{HOST}:{self._status[name]}" for name in found["names"] if name in self._status}
            job |= _static(where or {name: self.broker.at(found["port"]) for name in found["names"]}, "static_configs")
        folder = self._folder / "prometheus"
        (folder / "rules").mkdir(parents=True)
        (folder / "prometheus.yml").write_text(yaml.safe_dump(document))
        for name, found in alerts.groups(SERVICES, HURRY).items():
            (folder / "rules" / f"{name}.yml").write_text(alerts.rule_file(name, found, HURRY))
        options = [f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data"]
        self._watch("prometheus", "prometheus", *options)

    def _start_alertmanager(self) -> None:
        folder = self._folder / "alertmanager"
        shutil.copytree(ROOT / "compose" / "alertmanager", folder)
        document = yaml.safe_load((folder / "alertmanager.yml").read_text())
        document["global"]["smtp_smarthost"] = f"{HOST}:{self._smtp}"
        document["route"] |= {"group_wait": "1s", "group_interval": "1s"}
        (folder / "alertmanager.yml").write_text(yaml.safe_dump(document))
        options = [f"--config.file={folder}/alertmanager.yml", f"--storage.path={folder}/data"]
        self._watch("alertmanager", "prometheus-alertmanager", *options, "--cluster.listen-address=")

    def _watch(self, name: str, command: str, *options: str) -> None:
        if shutil.which(command) is None:
            missing(f"{command} is not installed: apt-get install prometheus prometheus-alertmanager")
        listen = f"--web.listen-address={HOST}:{self._ports[name]}"
        self._spawn(name, [command, *options, listen], {})

        def ready() -> bool:
            assert self._processes[name].poll() is None, self.log(name)
            try:
                return httpx.get(f"http://{HOST}:{self._ports[name]}/-/ready").is_success
            except httpx.TransportError:
                return False

        eventually(ready)

    def log(self, name: str) -> str:
        """What a process has said."""
        return (self._folder / f"{name}.log").read_text()

    def ask(self, what: str) -> Any:
        """Prometheus' API."""
        return httpx.get(f"http://{HOST}:{self._ports['prometheus']}/api/v1/{what}").json()["data"]

    def alerts(self) -> dict[tuple[str, str], dict[str, Any]]:
        """What fires, or is about to, by name and service."""
        found = self.ask("alerts")["alerts"]
        return {(one["labels"]["alertname"], one["labels"]["service"]): one for one in found}

    def fires(self, *wanted: tuple[str, str], patience: float = 60) -> None:
        """Wait until each of these has fired, with words that an operator can read; not all at once, as some pass."""
        fired: dict[tuple[str, str], dict[str, Any]] = {}

        def each_has() -> bool:
            fired.update({key: one for key, one in self.alerts().items() if one["state"] == "firing"})
            return set(wanted) <= fired.keys()

        try:
            eventually(each_has, patience)
        except AssertionError:
            raise AssertionError(f"{set(wanted) - fired.keys()} did not fire, but {fired.keys()}") from None
        for key in wanted:
            words = fired[key]["annotations"]
            assert "<error" not in words["summary"] + words["description"], words
            assert words["runbook_url"].startswith("docs/operations.md#")

    def is_quiet(self, *names: str) -> None:
        """Wait until none of these alerts fires, or is about to; no alert at all without names."""

        def loud() -> list[tuple[str, str]]:
            return [key for key in self.alerts() if not names or key[0] in names]

        try:
            eventually(lambda: not loud(), 60)
        except AssertionError:
            raise AssertionError(f"there is still {loud()}") from None

    def mails(self) -> list[tuple[str, str]]:
        """Subject and text of each that Alertmanager sent."""
        found = httpx.get(f"http://{HOST}:{self._inbox}/email").json()
        return [(one["subject"], one["text"]) for one in found if one["from"][0]["address"] == "alerts@localhost"]

    def signal(self, name: str, number: signal.Signals) -> None:
        """To a process and its children."""
        os.killpg(self._processes[name].pid, number)

    def delays_of(self, queue: str, *, bound: bool) -> None:
        """Bind a queue to the delays, or take that away, as an administrator."""
        keys = ["*." * DELAY_BITS + key for key in service(queue).binding_keys]
        with self.app.connection_for_write(self.broker.administrator()) as connection:
            channel = connection.default_channel
            for key in keys:
                (channel.queue_bind if bound else channel.queue_unbind)(queue, DELAY_DELIVERY_EXCHANGE, key)

    def sweep(self) -> None:
        """Empty the queues, of others' messages or of ours."""
        with self.app.connection_for_write(self.broker.administrator()) as connection:
            for spec in SERVICES:
                for queue in (spec.name, dead_letter_queue(spec.name)):
                    connection.default_channel.queue_purge(queue)
            connection.default_channel.queue_purge(UNROUTED_QUEUE)

    def close(self) -> None:
        """End everything, and leave nothing for the next test."""
        for name, process in self._processes.items():
            if process.poll() is None:
                self.signal(name, signal.SIGKILL)
            process.wait()
        self.sweep()
        self.app.close()


def _static(targets: Mapping[str, str], key: str) -> dict[str, Any]:
    configs = [{"targets": [address], "labels": {"__meta_dns_name": name}} for name, address in targets.items()]
    return {key: configs if key == "static_configs" else [{"static_configs": configs}]}
