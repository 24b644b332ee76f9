"""The pure functions of compose/base-images/build.py: what images a project needs, and which stand-in serves one."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

BUILD_SCRIPT = Path(__file__).resolve().parents[2] / "compose" / "base-images" / "build.py"


def load_build_script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("base_images_build", BUILD_SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


build = load_build_script()


@pytest.mark.parametrize(
    ("image", "repository", "tag"),
    [
        ("redis", "redis", "latest"),
        ("redis:8", "redis", "8"),
        ("prom/prometheus:v3.5.0", "prometheus", "v3.5.0"),
        ("registry.test:5000/team/rabbitmq:4-management", "rabbitmq", "4-management"),
        ("registry.test:5000/team/rabbitmq", "rabbitmq", "latest"),
        ("python:3.13-slim@sha256:0123", "python", "3.13-slim"),
    ],
)
def test_split_image(image: str, repository: str, tag: str) -> None:
    assert build.split_image(image) == (repository, tag)


class TestFromImages:
    def test_own_stages_and_scratch_are_no_images(self) -> None:
        dockerfile = """\
FROM python:3.13-slim AS Builder
RUN pip install something
from builder as test
FROM scratch
FROM redis:8
COPY --from=builder /opt/venv /opt/venv
"""
        assert build.from_images(dockerfile) == ["python:3.13-slim", "redis:8"]

    def test_a_stage_may_have_the_name_of_an_image_that_it_starts_from(self) -> None:
        assert build.from_images("FROM node AS node\nFROM node\n") == ["node"]

    def test_arg_defaults_are_filled_in(self) -> None:
        dockerfile = """\
ARG VERSION=3.13 SUITE="slim"
ARG PYTHON=python:${VERSION}-${SUITE}
FROM $PYTHON AS base
FROM node:${NODE:-22}
"""
        assert build.from_images(dockerfile) == ["python:3.13-slim", "node:22"]

    def test_build_args_override_defaults(self) -> None:
        dockerfile = "ARG VERSION=3.13\nARG SUITE\nFROM python:${VERSION}-${SUITE}\n"
        images = build.from_images(dockerfile, {"VERSION": "3.14", "SUITE": "slim", "OTHER": "x"})
        assert images == ["python:3.14-slim"]

    def test_an_arg_inside_a_stage_does_not_count(self) -> None:
        dockerfile = "ARG VERSION=7\nFROM redis:$VERSION\nARG VERSION=8\nFROM redis:$VERSION\n"
        assert build.from_images(dockerfile) == ["redis:7"]

    def test_flags_comments_and_continued_lines(self) -> None:
        dockerfile = "# FROM nothing\nFROM --platform=$BUILDPLATFORM \\\n# a remark\n    redis:8 \\\n    AS app\n"
        assert build.from_images(dockerfile) == ["redis:8"]

    def test_an_empty_arg_is_a_value_but_gives_way_to_a_default(self) -> None:
        dockerfile = 'ARG SUFFIX=""\nFROM redis:8$SUFFIX\nFROM redis:${SUFFIX:-7}\n'
        assert build.from_images(dockerfile) == ["redis:8", "redis:7"]

    def test_an_arg_without_a_value_is_an_error_that_names_it(self) -> None:
        with pytest.raises(build.BaseImageError, match=r"\$VERSION"):
            build.from_images("ARG VERSION\nFROM redis:$VERSION\n")


class TestComposeImages:
    def test_services_with_and_without_a_build(self, tmp_path: Path) -> None:
        (tmp_path / "Dockerfile").write_text("ARG TAG=3.13-slim\nFROM python:${TAG} AS builder\nFROM builder\n")
        (tmp_path / "docs.Dockerfile").write_text("FROM node:22\nFROM shared\n")
        config = {
            "services": {
                "broker": {"image": "rabbitmq:4-management"},
                "worker": {"image": "project:local", "build": {"context": str(tmp_path), "dockerfile": "Dockerfile"}},
                "beat": {"image": "project:local"},
                "next": {"build": {"context": str(tmp_path), "args": {"TAG": "3.14-slim", "UNSET": None}}},
                "docs": {
                    "build": {
                        "context": str(tmp_path),
                        "dockerfile": "docs.Dockerfile",
                        "additional_contexts": {"shared": "../shared"},
                    }
                },
                "probe": {"build": {"context": str(tmp_path), "dockerfile_inline": "FROM redis:8\n"}},
                "results": {"image": "redis:8"},
            }
        }
        assert build.compose_images(config) == [
            "rabbitmq:4-management",
            "python:3.13-slim",
            "python:3.14-slim",
            "node:22",
            "redis:8",
        ]

    def test_a_missing_dockerfile_is_an_error_that_names_the_service(self, tmp_path: Path) -> None:
        with pytest.raises(build.BaseImageError, match="service worker"):
            build.compose_images({"services": {"worker": {"build": {"context": str(tmp_path)}}}})

    def test_no_services(self) -> None:
        assert build.compose_images({}) == []

    def test_what_a_profile_alone_needs_is_spare(self) -> None:
        config = {
            "services": {
                "results": {"image": "redis:8"},
                "pages": {"image": "grafana/grafana:12", "profiles": ["monitoring"]},
                "more": {"image": "redis:8", "profiles": ["monitoring"]},
            }
        }
        assert build.spare_images(config) == {"grafana/grafana:12"}


class TestStandInFolder:
    @pytest.fixture
    def stand_ins(self, tmp_path: Path) -> Path:
        (tmp_path / "redis").mkdir()
        (tmp_path / "redis" / "Dockerfile").write_text("FROM base-images/debian:trixie\n")
        return tmp_path

    @pytest.mark.parametrize("image", ["redis:8", "redis", "registry.test/library/redis:8"])
    def test_is_found_by_the_repository_name(self, stand_ins: Path, image: str) -> None:
        assert build.stand_in_folder(image, stand_ins) == stand_ins / "redis"

    def test_an_unknown_image_is_an_error_that_says_what_to_write(self, stand_ins: Path) -> None:
        with pytest.raises(build.BaseImageError, match=r"^acme/unknown:1: .*unknown/Dockerfile"):
            build.stand_in_folder("acme/unknown:1", stand_ins)

    def test_a_digest_cannot_be_stood_in_for(self, stand_ins: Path) -> None:
        with pytest.raises(build.BaseImageError, match="digest"):
            build.stand_in_folder("redis:8@sha256:0123", stand_ins)


def test_declared_version() -> None:
    assert build.declared_version('FROM x\nLABEL org.opencontainers.image.version="8.0"\n') == "8.0"
    assert build.declared_version("FROM x\n") is None


@pytest.mark.parametrize(
    ("tag", "version", "allowed"),
    [
        ("4-management", "4.0", True),
        ("8.0.2", "8.0", True),
        ("v3", "3.5", True),
        ("latest", "8.0", True),
        ("8.2", "8.0", False),
        ("3.14-slim", "3.13", False),
        ("3.1-slim", "3.13", False),
    ],
)
def test_tag_allows(tag: str, version: str, allowed: bool) -> None:
    assert build.tag_allows(tag, version) is allowed


@pytest.mark.parametrize(
    "dockerfile", sorted(BUILD_SCRIPT.parent.glob("*/Dockerfile")), ids=lambda path: path.parent.name
)
def test_every_stand_in_starts_from_an_image_that_can_be_had_without_a_registry(dockerfile: Path) -> None:
    for image in build.from_images(dockerfile.read_text()):
        assert image == build.DEBIAN_IMAGE or build.stand_in_folder(image)
