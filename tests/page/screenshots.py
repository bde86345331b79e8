"""Takes the pictures of docs/img: `make screenshots`. What they show is `scene.py`'s; look at them before a commit."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

from tests.page.browser import DESK, PHONE, Scheme, chromium, shown
from tests.page.scene import hundred, three
from tests.web.test_web import Daemon

IMAGES = Path(__file__).parents[2] / "docs" / "img"


@dataclass(frozen=True, slots=True)
class Picture:
    """What is taken of which page."""

    name: str
    path: str
    width: int
    height: int
    scheme: Scheme = "light"
    services: int = 3


PICTURES = (
    Picture("status-page", "/", 1100, 690),
    Picture("status-page-dark", "/", 1100, 690, "dark"),
    Picture("status-page-phone", "/", PHONE, 780),
    Picture("status-page-incident", "/incidents/7e4b7d02-77aa", 1100, 900),
    Picture("status-page-hundred", "/", DESK, 900, services=100),
)


async def main() -> None:
    """Take them all."""
    IMAGES.mkdir(exist_ok=True)
    async with chromium() as browser:
        for picture in PICTURES:
            daemon: Daemon = three() if picture.services == 3 else hundred()
            async with shown(browser, daemon, picture.width, picture.scheme) as seen:
                await seen.page.set_viewport_size({"width": picture.width, "height": picture.height})
                await seen.go(picture.path)
                await seen.page.screenshot(path=IMAGES / f"{picture.name}.png")


if __name__ == "__main__":
    asyncio.run(main())
