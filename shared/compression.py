"""How a task's body may be packed, and how much may come out of it.

A few bytes can unpack to gigabytes. Whoever reads messages here unpacks at most as much as the broker would take
unpacked, and what is packed in any other way is refused.
"""

import zlib
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Literal

from kombu import compression

from shared.errors import Error
from shared.serializers import BodyTooLarge
from shared.topology import MAX_MESSAGE_SIZE

Name = Literal["none", "zlib", "zstd"]

#: Bytes. What is larger closes the broker's channel (compose/rabbitmq/taskhouse.conf, max_message_size).
LARGEST_BODY = MAX_MESSAGE_SIZE
#: Bits. A packed body says how much of what came out must be kept at hand, and that memory is taken at once.
LARGEST_WINDOW = 25
#: What a message's header `compression` says.
ZLIB, ZSTD = "application/x-gzip", "application/zstd"


class Refused(Error, ValueError):
    """A packed body cannot be unpacked here. The message says why."""


def connect() -> None:
    """Have this process unpack within bounds, and nothing else. A second call does nothing new."""
    for kind in compression.encoders():
        if kind not in (ZLIB, ZSTD):
            compression.register(compression.get_encoder(kind)[0], _refuse, kind)
    compression.register(_pack_zlib, _unpack_zlib, ZLIB, ["gzip", "zlib"])
    if available("zstd"):
        compression.register(_pack_zstd, _unpack_zstd, ZSTD, ["zstd", "zstandard"])


def available(name: Name) -> bool:
    """Whether this Python can pack and unpack it."""
    return name != "zstd" or _has("compression.zstd") or _has("backports.zstd")


def _has(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def _pack_zlib(body: bytes) -> bytes:
    return zlib.compress(_bounded(body))


def _pack_zstd(body: bytes) -> bytes:
    return bytes(_zstd().compress(_bounded(body)))


def _bounded(body: bytes) -> bytes:
    if len(body) > LARGEST_BODY:
        raise BodyTooLarge(f"a task's body has {len(body)} bytes, and may have {LARGEST_BODY}: pass a file's reference")
    return body


def _unpack_zlib(body: bytes) -> bytes:
    return _unpack(zlib.decompressobj(), body, zlib.error)


def _unpack_zstd(body: bytes) -> bytes:
    zstd = _zstd()
    bounds = {zstd.DecompressionParameter.window_log_max: LARGEST_WINDOW}
    return _unpack(zstd.ZstdDecompressor(options=bounds), body, zstd.ZstdError)


def _unpack(decompressor: Any, body: bytes, errors: type[Exception]) -> bytes:
    try:
        # One more than may be, so that the end of what just fits is seen.
        unpacked = bytes(decompressor.decompress(body, LARGEST_BODY + 1))
    except errors as error:
        raise Refused(f"the body cannot be unpacked: {error}") from None
    if len(unpacked) > LARGEST_BODY:
        raise Refused(f"the body unpacks to more than {LARGEST_BODY} bytes")
    if not decompressor.eof or decompressor.unused_data:
        raise Refused("the body is cut off, or more follows it")
    return unpacked


def _refuse(body: bytes) -> bytes:
    raise Refused("the body is packed in a way that is not taken here: use zlib or zstd")


def _zstd() -> Any:
    return import_module("compression.zstd" if _has("compression.zstd") else "backports.zstd")
