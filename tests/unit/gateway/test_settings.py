"""What the gateway can be told, and what it refuses to be told."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from services.gateway.settings import GatewaySettings
from shared.errors import ConfigError

KEY = "0123456789abcdef"


def test_without_a_word_everyone_may_come_and_there_is_no_inbox() -> None:
    settings = GatewaySettings.load({})
    assert settings.api_keys == () and settings.mail_catcher_url is None and settings.embedded


@pytest.mark.parametrize("written", [f"{KEY},{KEY}2", f"{KEY}\n{KEY}2\n", f" {KEY} ,\t{KEY}2 ,"])
def test_keys_are_split_at_commas_and_white_space(written: str) -> None:
    assert GatewaySettings.load({"GATEWAY_API_KEYS": written}).api_keys == (KEY, f"{KEY}2")


def test_keys_come_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text(f"{KEY}\n")
    assert GatewaySettings.load({"GATEWAY_API_KEYS_FILE": str(path)}).api_keys == (KEY,)


@pytest.mark.parametrize("written", ["short", f"{KEY},short", f"{KEY}é"])
def test_a_key_that_can_be_guessed_or_not_be_sent_is_refused_without_showing_it(written: str) -> None:
    with pytest.raises(ConfigError) as caught:
        GatewaySettings.load({"GATEWAY_API_KEYS": written})
    assert "GATEWAY_API_KEYS" in str(caught.value) and written not in str(caught.value)


@pytest.mark.parametrize("written", [",", " , "])
def test_keys_without_a_key_lock_nobody_out_by_mistake_and_nobody_in(written: str) -> None:
    # Whoever sets the variable wants keys: an open door would be a surprise
    with pytest.raises(ConfigError) as caught:
        GatewaySettings.load({"GATEWAY_API_KEYS": written})
    assert "GATEWAY_API_KEYS" in str(caught.value)


@pytest.mark.parametrize("written", ["localhost:1080", "ftp://mail", "javascript:alert(1)", "http://"])
def test_an_inbox_that_is_no_web_page_is_refused(written: str) -> None:
    with pytest.raises(ConfigError) as caught:
        GatewaySettings.load({"MAIL_CATCHER_URL": written})
    assert "MAIL_CATCHER_URL" in str(caught.value)


def test_a_gateway_with_a_wrong_setting_ends_with_one_line() -> None:
    # When it is started so, as a process of its own
    command = [sys.executable, "-m", "uvicorn", "--factory", "services.gateway.app:create", "--port=0"]
    done = subprocess.run(
        command, env={**os.environ, "GATEWAY_API_KEYS": "short"}, capture_output=True, text=True, timeout=60
    )
    # Then a person is told what to mend
    assert done.returncode == 2
    assert done.stderr.startswith("GATEWAY_API_KEYS: ") and len(done.stderr.splitlines()) == 1


def test_no_key_is_shown_by_accident() -> None:
    settings = GatewaySettings.load({"GATEWAY_API_KEYS": KEY})
    assert KEY not in f"{settings!r} {settings}"
