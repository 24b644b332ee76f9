#!/usr/bin/env python3
"""Provides the base images that the compose files name.

Usage: python3 compose/base-images/build.py [--pull-timeout SECONDS] [IMAGE ...]

Each image is taken from the first place that has it: the local Docker daemon, its registry, or a stand-in that is
built here from Debian packages under the same name (see README.md). Without arguments the images are those that
`docker compose config` names, all profiles included.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

STAND_INS = Path(__file__).resolve().parent
PROJECT_ROOT = STAND_INS.parent.parent

DEBIAN_RELEASE = "trixie"
DEBIAN_IMAGE = f"base-images/debian:{DEBIAN_RELEASE}"
"""The common base of the stand-ins. It exists only locally and is never pulled."""

HOST_CERTIFICATES = Path("/usr/local/share/ca-certificates")
CERTIFICATE_BUNDLE = "/etc/ssl/certs/ca-certificates.crt"
DEBIAN_ENV = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    # pip and npm carry certificates of their own and would not trust the host's extra authorities.
    "PIP_CERT": CERTIFICATE_BUNDLE,
    "SSL_CERT_FILE": CERTIFICATE_BUNDLE,
    "REQUESTS_CA_BUNDLE": CERTIFICATE_BUNDLE,
    "NODE_EXTRA_CA_CERTS": CERTIFICATE_BUNDLE,
}

DEFAULT_PULL_TIMEOUT = 60.0
VERSION_LABEL = "org.opencontainers.image.version"


class BaseImageError(Exception):
    """An image cannot be provided. The message says why and what to do."""


class NoStandInError(BaseImageError):
    """Its registry does not give it, and nothing here can be built in its place."""


# --- What images are needed ------------------------------------------------------------------------------------------


def split_image(image: str) -> tuple[str, str]:
    """Return the repository name (last path component) and the tag of an image reference."""
    name_and_tag = image.partition("@")[0].rpartition("/")[2]
    repository, _, tag = name_and_tag.partition(":")
    return repository, tag or "latest"


def instructions(dockerfile: str) -> Iterator[tuple[str, str]]:
    """Yield the instructions of a Dockerfile as (upper-case keyword, rest of the joined line)."""
    lines = [line for line in dockerfile.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\[ \t]*\n", " ", "\n".join(lines))
    for line in joined.splitlines():
        keyword, _, rest = line.strip().partition(" ")
        if keyword:
            yield keyword.upper(), rest.strip()


def expand(text: str, variables: Mapping[str, str]) -> str:
    """Replace $NAME, ${NAME} and ${NAME:-default}. An unknown name without a default is an error."""

    def value_of(match: re.Match[str]) -> str:
        name = match["braced"] or match["plain"]
        value = variables.get(name)
        if not value and match["default"] is not None:
            return match["default"]
        if value is None:
            raise BaseImageError(f"`{text}` uses ${name}, which has no value: give its ARG a default")
        return value

    return re.sub(r"\$(?:\{(?P<braced>\w+)(?::-(?P<default>[^}]*))?\}|(?P<plain>\w+))", value_of, text)


def from_images(dockerfile: str, build_args: Mapping[str, str] | None = None) -> list[str]:
    """Return the images that the FROM lines of a Dockerfile name, without its own stages and `scratch`."""
    overrides = build_args or {}
    variables: dict[str, str] = {}
    stages: set[str] = set()
    images: list[str] = []
    seen_from = False
    for keyword, rest in instructions(dockerfile):
        # Only the ARG lines before the first FROM count for FROM lines.
        if keyword == "ARG" and not seen_from:
            for word in shlex.split(rest):
                name, has_default, default = word.partition("=")
                if name in overrides:
                    variables[name] = overrides[name]
                elif has_default:
                    variables[name] = expand(default, variables)
        elif keyword == "FROM":
            seen_from = True
            source, *alias = [word for word in rest.split() if not word.startswith("--")]
            image = expand(source, variables)
            if image != "scratch" and image.lower() not in stages:
                images.append(image)
            if len(alias) == 2 and alias[0].upper() == "AS":
                stages.add(alias[1].lower())
    return list(dict.fromkeys(images))


def service_build_images(name: str, build: Mapping[str, Any]) -> list[str]:
    """Return the images that the Dockerfile of a compose service's `build` section starts from."""
    dockerfile = build.get("dockerfile_inline")
    if dockerfile is None:
        path = Path(build["context"]) / build.get("dockerfile", "Dockerfile")
        try:
            dockerfile = path.read_text()
        except OSError as error:
            raise BaseImageError(f"service {name}: cannot read its Dockerfile: {error}") from error
    build_args = {key: value for key, value in (build.get("args") or {}).items() if value is not None}
    other_contexts = build.get("additional_contexts") or {}
    return [image for image in from_images(dockerfile, build_args) if image not in other_contexts]


def compose_images(config: Mapping[str, Any]) -> list[str]:
    """Return the base images of a resolved compose configuration, each once, in the order of the services."""
    services: Mapping[str, Mapping[str, Any]] = config.get("services") or {}
    built_here = {service["image"] for service in services.values() if "build" in service and "image" in service}
    images: list[str] = []
    for name, service in services.items():
        if "build" in service:
            images += service_build_images(name, service["build"])
        elif service["image"] not in built_here:
            images.append(service["image"])
    return list(dict.fromkeys(images))


def spare_images(config: Mapping[str, Any]) -> set[str]:
    """Return the images that only services of a profile need: the others start without them."""
    services: Mapping[str, Mapping[str, Any]] = config.get("services") or {}
    needed = {name: service for name, service in services.items() if not service.get("profiles")}
    return set(compose_images(config)) - set(compose_images({"services": needed}))


def discover_images() -> tuple[list[str], set[str]]:
    """Ask `docker compose` for the project's configuration. Return its base images, and which of them are spare."""
    command = ["docker", "compose", "--profile", "*", "config", "--format", "json"]
    result = subprocess.run(command, cwd=PROJECT_ROOT, capture_output=True, text=True)
    if result.returncode != 0:
        raise BaseImageError(f"`{shlex.join(command)}` failed:\n{result.stderr.strip()}")
    config = json.loads(result.stdout)
    return compose_images(config), spare_images(config)


# --- Stand-ins -------------------------------------------------------------------------------------------------------


def stand_in_folder(image: str, stand_ins: Path = STAND_INS) -> Path:
    """Return the folder whose Dockerfile builds the stand-in for an image."""
    repository, _ = split_image(image)
    folder = stand_ins / repository
    if not (folder / "Dockerfile").is_file():
        raise NoStandInError(
            f"{image}: it is not here, its registry does not give it, and there is no stand-in for it. "
            f"Load it with `docker load`, or write {folder / 'Dockerfile'} (see README.md there)."
        )
    if "@" in image:
        raise BaseImageError(f"{image}: a stand-in cannot have the name of an image that is pinned by its digest.")
    return folder


def declared_version(dockerfile: str) -> str | None:
    """Return the version that a stand-in's Dockerfile declares in its version label, if it does."""
    match = re.search(rf'^LABEL {re.escape(VERSION_LABEL)}="?([\d.]+)"?\s*$', dockerfile, re.MULTILINE)
    return match[1] if match else None


def tag_allows(tag: str, version: str) -> bool:
    """Tell whether a tag such as `4-management` can mean a version such as `4.0`. One without a number always can."""
    match = re.match(r"v?(\d+(?:\.\d+)*)", tag)
    if match is None:
        return True
    return all(wanted == offered for wanted, offered in zip(match[1].split("."), version.split("."), strict=False))


def run_quietly(command: Sequence[str | Path], purpose: str, env: Mapping[str, str] | None = None) -> None:
    """Run a command and show the end of its output only where it fails."""
    result = subprocess.run(
        command, env={**os.environ, **(env or {})}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if result.returncode != 0:
        output = "\n".join(result.stdout.splitlines()[-40:])
        raise BaseImageError(f"{purpose} failed (exit code {result.returncode}):\n{output}")


def bootstrap_debian(rootfs: Path) -> None:
    """Make a minimal Debian root file system that trusts the same certificate authorities as this host."""
    debootstrap = shutil.which("debootstrap", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")
    if debootstrap is None:
        raise BaseImageError(f"{DEBIAN_IMAGE}: debootstrap is missing, install it: apt-get install debootstrap")
    if os.geteuid() != 0:
        raise BaseImageError(f"{DEBIAN_IMAGE}: debootstrap makes device nodes and files of other users: run as root")
    command: list[str | Path] = [debootstrap, "--variant=minbase", "--include=ca-certificates", DEBIAN_RELEASE, rootfs]
    run_quietly(command, "debootstrap")

    for certificate in sorted(HOST_CERTIFICATES.glob("*.crt")):
        shutil.copy(certificate, rootfs / HOST_CERTIFICATES.relative_to("/"))
    run_quietly(["chroot", rootfs, "update-ca-certificates"], "update-ca-certificates")

    # Packages must not start their services while an image is built.
    policy = rootfs / "usr/sbin/policy-rc.d"
    policy.write_text("#!/bin/sh\nexit 101\n")
    policy.chmod(0o755)

    for cache in ("var/cache/apt", "var/lib/apt/lists"):
        shutil.rmtree(rootfs / cache)
        (rootfs / cache).mkdir()


def import_root_file_system(rootfs: Path, image: str) -> None:
    """Make a one-layer image of a root file system."""
    changes = [f"ENV {name}={value}" for name, value in DEBIAN_ENV.items()] + ['CMD ["bash"]']
    options = [option for change in changes for option in ("--change", change)]
    tar_command = ["tar", "--create", "--numeric-owner", "--directory", str(rootfs), "."]
    with subprocess.Popen(tar_command, stdout=subprocess.PIPE) as tar:
        imported = subprocess.run(
            ["docker", "import", *options, "-", image], stdin=tar.stdout, capture_output=True, text=True
        )
    if imported.returncode != 0 or tar.returncode != 0:
        raise BaseImageError(f"{image}: `docker import` failed:\n{imported.stderr.strip()}")


def build_debian() -> None:
    """Build the common base of the stand-ins."""
    with tempfile.TemporaryDirectory(prefix="base-images-") as directory:
        rootfs = Path(directory) / "rootfs"
        bootstrap_debian(rootfs)
        import_root_file_system(rootfs, DEBIAN_IMAGE)


def build_stand_in(image: str, pull_timeout: float) -> None:
    """Build the stand-in for an image, and before it the images that it starts from."""
    folder = stand_in_folder(image)
    dockerfile = (folder / "Dockerfile").read_text()
    _, tag = split_image(image)
    version = declared_version(dockerfile)
    if version is not None and not tag_allows(tag, version):
        raise BaseImageError(f"{image}: the stand-in in {folder} is version {version}, which this tag does not mean.")
    for base in from_images(dockerfile):
        if not is_present(base):
            provide(base, pull_timeout)
    run_quietly(
        ["docker", "build", "--progress", "plain", "--tag", image, folder],
        f"building the stand-in for {image}",
        env={"DOCKER_BUILDKIT": "1"},
    )


# --- Providing an image ----------------------------------------------------------------------------------------------


def is_present(image: str) -> bool:
    """Tell whether the Docker daemon has the image."""
    return subprocess.run(["docker", "image", "inspect", image], capture_output=True).returncode == 0


def pull(image: str, timeout: float) -> str | None:
    """Pull an image. Return None, or in one line why it could not be pulled."""
    try:
        result = subprocess.run(["docker", "pull", "--quiet", image], capture_output=True, text=True, timeout=timeout)
    except subprocess.TimeoutExpired:
        return f"not complete after {timeout:g} s"
    if result.returncode == 0:
        return None
    return (result.stderr.strip().splitlines() or ["no reason given"])[-1]


def report(outcome: str, image: str, remark: str = "") -> None:
    """Print the one line that an image gets."""
    print(f"{outcome:<8}  {image}{f'  ({remark})' if remark else ''}", flush=True)


def provide(image: str, pull_timeout: float) -> None:
    """Make an image available: use it, pull it, or build its stand-in. Report which of the three happened."""
    if is_present(image):
        report("present", image)
    elif image == DEBIAN_IMAGE:
        build_debian()
        report("built", image, "debootstrap")
    elif (refusal := pull(image, pull_timeout)) is None:
        report("pulled", image)
    else:
        build_stand_in(image, pull_timeout)
        report("built", image, f"stand-in, no pull: {refusal}")


def require_docker() -> None:
    """Fail early, and with Docker's own words, where the daemon does not answer."""
    try:
        result = subprocess.run(["docker", "info"], capture_output=True, text=True)
    except FileNotFoundError as error:
        raise BaseImageError("docker is not installed") from error
    if result.returncode != 0:
        raise BaseImageError(f"docker does not answer:\n{result.stderr.strip()}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Provide the named images, or all that the project needs, and return the exit code."""
    parser = argparse.ArgumentParser(description="Provide the base images that the compose files name.")
    parser.add_argument("images", nargs="*", metavar="IMAGE", help="default: every base image of the compose files")
    parser.add_argument("--pull-timeout", type=float, default=DEFAULT_PULL_TIMEOUT, metavar="SECONDS")
    options = parser.parse_args(arguments)
    try:
        require_docker()
        images, spare = (options.images, set()) if options.images else discover_images()
        for image in images:
            try:
                provide(image, options.pull_timeout)
            except NoStandInError:
                if image not in spare:
                    raise
                report("missing", image, "only a profile needs it, and there is no stand-in")
    except BaseImageError as error:
        print(f"base-images: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
