"""Whether the hub can be reached at all, found out before its client tries again and again."""

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

from huggingface_hub import constants


def hub_answers(timeout: float = 0.7) -> bool:
    """Whether the hub, or the proxy before it, can be reached at all; found out in less than a second."""
    if constants.HF_HUB_OFFLINE:
        return False
    proxy = os.environ.get("HTTPS_PROXY") or os.environ.get("https_proxy")
    host = urlsplit(proxy if proxy and "://" in proxy else f"http://{proxy}" if proxy else constants.ENDPOINT)
    answered = threading.Event()

    def knock() -> None:
        with suppress(OSError), socket.create_connection((host.hostname or "", host.port or 443), timeout=timeout):
            answered.set()

    knocker = threading.Thread(target=knock, daemon=True)
    knocker.start()
    knocker.join(timeout)
    return answered.is_set()


@contextmanager
def hub_or_cache() -> Iterator[None]:
    """While entered, a hub that does not answer is not asked: its cache on this machine is all there is."""
    import datasets

    places = [] if hub_answers() else [constants, datasets.config]
    before = [place.HF_HUB_OFFLINE for place in places]
    for place in places:
        place.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        for place, value in zip(places, before, strict=True):
            place.HF_HUB_OFFLINE = value
