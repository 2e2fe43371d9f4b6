"""Chromium for the tests of the page: headless, without a network, as wide as a desk's or a phone's window."""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

ARGUMENTS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--hide-scrollbars", "--force-prefers-reduced-motion"),
)


@contextlib.contextmanager
def opened(page: Path, profile: Path, width: int, scheme: str) -> Iterator:
    """A browser that shows `page` in a `light` or `dark` window of so many pixels."""
    from selenium import webdriver
    from selenium.webdriver.chrome.options import Options
    from selenium.webdriver.chrome.service import Service

    options = Options()
    # Named in full, so that Selenium does not go and look for a browser to download.
    options.binary_location = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))
    for argument in (*ARGUMENTS, f"--user-data-dir={profile}", f"--window-size={width},900"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    if width < 500:  # a window of Chromium is never narrower than 500 pixels
        phone = {"width": width, "height": 844, "pixelRatio": 2, "touch": False}
        options.add_experimental_option("mobileEmulation", {"deviceMetrics": phone})
    driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    driver.asked_width = width
    driver.set_script_timeout(300)
    try:
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]})
        driver.execute_cdp_cmd("Network.enable", {})
        offline = {"offline": True, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
        driver.execute_cdp_cmd("Network.emulateNetworkConditions", offline)
        driver.get(page.as_uri())
        yield driver
    finally:
        driver.quit()


def until(driver, seen):
    """Wait until something is seen, and give it; a minute at most."""
    from selenium.webdriver.support.ui import WebDriverWait

    return WebDriverWait(driver, 60, poll_frequency=0.05).until(lambda _: seen())


def look_at(driver, box):
    """Scroll to a chart, and wait until it is drawn."""
    driver.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", box)
    until(driver, lambda: box.get_attribute("data-state") == "drawn")
    return box
