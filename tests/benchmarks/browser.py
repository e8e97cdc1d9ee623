"""The report of some runs, open in a real browser."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.image

from papershell.benchmarks.report import write_report


class Page:
    """The report of some runs, written into a folder and open in Chromium."""

    def __init__(self, driver: Any, folder: Path) -> None:
        self.driver, self.target = driver, folder / "report.html"

    def open(self, runs: Sequence[Any], *, width: int = 1440, scheme: str = "light") -> Page:
        """Write the report and load it in a window of that width in CSS pixels, 900 high."""
        write_report(runs, self.target)
        return self.load(self.target.as_uri(), width=width, scheme=scheme)

    def load(self, address: str, *, width: int = 1440, height: int = 900, scheme: str = "light") -> Page:
        """Load an address in a window of that size in CSS pixels."""
        screen = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
        self.driver.get(address)
        return self

    def js(self, script: str, *arguments: Any) -> Any:
        """Run JavaScript in the page and return what it returns."""
        return self.driver.execute_script(script, *arguments)

    def find(self, selector: str) -> list[Any]:
        """Return the elements that match a CSS selector."""
        return self.driver.find_elements("css selector", selector)

    def rows(self) -> list[dict[str, str]]:
        """Return the cells of every visible row by the heading of their column, from top to bottom."""
        return self.js("""
            const cells = row => [...row.cells].map(cell => [cell.dataset.label, cell.innerText]);
            const rows = [...document.querySelectorAll("tbody tr:not([hidden])")];
            for (const row of rows) row.style.contentVisibility = "visible";  // or those out of sight have no text
            const found = rows.map(row => Object.fromEntries(cells(row)));
            for (const row of rows) row.style.contentVisibility = "";
            return found;
        """)

    def order(self) -> list[int]:
        """Return the places in the JSON of the rows from top to bottom."""
        return [int(row.get_attribute("id").removeprefix("case-")) for row in self.find("tbody tr")]

    def screenshot(self) -> Any:
        """Return the whole page as an array of shape (height, width, channels), 0 to 1."""
        picture = self.driver.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True})
        return matplotlib.image.imread(io.BytesIO(base64.b64decode(picture["data"])))

    def complaints(self) -> list[str]:
        """Return what the console got since the last call."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def requests(self) -> set[str]:
        """Return every address asked for since the last call."""
        events = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        return {e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"}

    def contrasts(self) -> dict[str, float]:
        """Return the contrast ratio (WCAG 2) of every piece of text against what lies behind it."""
        return self.js("""
            const channels = colour => colour.match(/[\\d.]+/g).map(Number);
            const luminance = colour => channels(colour).slice(0, 3)
                .map(c => c / 255).map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
                .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
            const behind = element => {
                const colour = getComputedStyle(element).backgroundColor;
                return channels(colour)[3] === 0 ? behind(element.parentElement) : colour;
            };
            const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), found = {};
            while (walker.nextNode()) {
                const element = walker.currentNode.parentElement;
                if (!walker.currentNode.data.trim() || element.closest("script, noscript, title")) continue;
                const style = getComputedStyle(element);
                const ink = luminance(element.closest("svg") ? style.fill : style.color);
                const paper = luminance(behind(element));
                const contrast = (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05);
                found[`${element.tagName}.${element.className}: ${walker.currentNode.data}`] = contrast;
            }
            return found;
        """)
