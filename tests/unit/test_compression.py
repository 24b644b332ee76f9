"""A packed body gives what went in, or an error, and never more than a message may hold."""

import bz2
import lzma
import resource
import zlib
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kombu.compression import compress, decompress

from shared import compression
from shared.compression import LARGEST_BODY, ZLIB, ZSTD, Refused
from shared.serializers import BodyTooLarge

KINDS = (ZLIB, ZSTD)


@pytest.fixture(autouse=True, scope="module")
def connected() -> None:
    """As in a worker; twice, as in a process of two apps."""
    compression.connect()
    compression.connect()


@pytest.mark.parametrize("name", ["zlib", "zstd"])
@given(body=st.binary(max_size=2000))
def test_what_was_packed_comes_out(name: str, body: bytes) -> None:
    packed, kind = compress(body, name)
    assert (decompress(packed, kind), kind in KINDS) == (body, True)


@pytest.mark.parametrize("kind", KINDS)
@given(body=st.binary(max_size=200))
def test_any_bytes_come_out_or_are_refused(kind: str, body: bytes) -> None:
    with suppress(Refused):
        decompress(body, kind)


@pytest.mark.parametrize("kind", KINDS)
def test_as_much_as_a_message_may_hold_comes_out_and_not_a_byte_more(kind: str) -> None:
    most = b"x" * LARGEST_BODY
    assert len(decompress(compress(most, kind)[0], kind)) == LARGEST_BODY
    with pytest.raises(BodyTooLarge, match="pass a file's reference"):
        compress(most + b"x", kind)


def bomb(kind: str) -> bytes:
    """A gigabyte in less than a megabyte or two."""
    block = b"\0" * 2**20
    packer = zlib.compressobj(9) if kind == ZLIB else compression._zstd().ZstdCompressor()
    return b"".join(packer.compress(block) for _ in range(1024)) + packer.flush()


@pytest.mark.parametrize("kind", KINDS)
def test_a_bomb_is_refused_without_its_memory(kind: str) -> None:
    packed = bomb(kind)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(Refused, match="unpacks to more than"):
        decompress(packed, kind)
    # KiB; the gigabyte would be 2**20 of them.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**18


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("harm", ["cut off", "more behind", "twice", "empty"])
def test_what_is_not_whole_is_refused(kind: str, harm: str) -> None:
    packed = compress(b"[[], {}, {}]" * 50, kind)[0]
    body = {"cut off": packed[:-1], "more behind": packed + b"x", "twice": packed * 2, "empty": b""}[harm]
    with pytest.raises(Refused):
        decompress(body, kind)


def test_a_window_larger_than_any_message_is_refused() -> None:
    zstd = compression._zstd()
    long = zstd.ZstdCompressor(options={zstd.CompressionParameter.window_log: 27})
    packed = long.compress(b"x" * 1000) + long.flush()
    with pytest.raises(Refused, match="cannot be unpacked"):
        decompress(packed, ZSTD)


@pytest.mark.parametrize(("kind", "packed"), [("application/x-bz2", bz2.compress(b"x")), ("lzma", lzma.compress(b"x"))])
def test_every_other_packing_is_refused(kind: str, packed: bytes) -> None:
    with pytest.raises(Refused, match="use zlib or zstd"):
        decompress(packed, kind)
