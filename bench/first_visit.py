"""What a first visit costs where the line is slow or a class comes at once: ``python bench/first_visit.py``.

The same server answers twice: to a browser that takes gzip, and to one that doesn't and gets the front end as
Streamlit sends it. Chromium's own network emulation makes the line slow. Then as many visitors as a class has, without
a browser and over loopback, fetch at the same time what the first two pages load: the processor time of the server is
what it costs a lecturer's laptop. Needs requirements-dev.txt and /usr/bin/chromium.
"""

import argparse
import http.client
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import psutil
from playwright.sync_api import Browser, sync_playwright

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.start import FLAGS, app, warm_up

PATIENCE = 600_000  # ms
ENCODINGS = {"as it is": [], "gzip": ["gzip"]}


@dataclass
class Visit:
    headline: float = 0.0  # seconds
    chart: float = 0.0  # seconds after the click on Arena
    size: int = 0  # bytes over HTTP
    files: list[str] = field(default_factory=list)  # paths of the front end


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=2, help="the best counts")
    parser.add_argument("--visitors", type=int, default=40)
    parser.add_argument("--chromium", default="/usr/bin/chromium")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="entpruner-bench-") as folder, app(Path(folder)) as (process, port):
        process.stdout.readline()
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=args.chromium, args=FLAGS)
            warm_up(browser)
            visit(browser, port, [], mbit=1000.0, latency=0.0)  # nobody is the first
            print(f"{'line':26} {'front end':10} {'MB':>6} {'headline s':>11} {'chart s':>8}")
            for mbit, latency in ((5.0, 40.0), (1.5, 150.0)):
                found = {
                    name: best([visit(browser, port, taken, mbit=mbit, latency=latency) for _ in range(args.repeats)])
                    for name, taken in ENCODINGS.items()
                }
                for name, one in found.items():
                    line = f"{mbit:g} Mbit/s, {latency:g} ms"
                    print(f"{line:26} {name:10} {one.size / 1e6:6.2f} {one.headline:11.1f} {one.chart:8.1f}")
                plain, packed = found.values()
                ratios = plain.size / packed.size, plain.headline / packed.headline, plain.chart / packed.chart
                print("{:26} {:10} {:5.2f}x {:10.2f}x {:7.2f}x".format("", "ratio", *ratios), flush=True)
        print(f"\n{args.visitors} visitors at once, {len(plain.files)} files each")
        print(f"{'front end':10} {'s':>7} {'server s':>9}")
        for name, taken in ENCODINGS.items():
            seconds, busy = crowd(port, plain.files, taken, num=args.visitors, pid=process.pid)
            print(f"{name:10} {seconds:7.2f} {busy:9.2f}", flush=True)


def visit(browser: Browser, port: int, taken: list[str], *, mbit: float, latency: float) -> Visit:
    """Start, then Arena, by someone whose browser has nothing of it; ``taken``: the encodings that it takes."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    found, names = Visit(), {}
    devtools = context.new_cdp_session(page)
    devtools.send("Network.enable")
    devtools.send("Network.setAcceptedEncodings", {"encodings": taken})
    speed = mbit * 1e6 / 8
    conditions = {"latency": latency, "downloadThroughput": speed, "uploadThroughput": speed}
    devtools.send("Network.emulateNetworkConditions", {"offline": False, **conditions})
    devtools.on("Network.responseReceived", lambda e: names.update({e["requestId"]: e["response"]["url"]}))

    def finished(event: dict) -> None:
        found.size += int(event["encodedDataLength"])
        path = urlsplit(names.get(event["requestId"], "")).path
        if "/static/" in path and path not in found.files:
            found.files.append(path)

    devtools.on("Network.loadingFinished", finished)
    began = time.monotonic()
    page.goto(f"http://localhost:{port}", wait_until="commit")
    page.locator("h1").first.wait_for()
    found.headline = time.monotonic() - began
    page.get_by_role("button", name="Show its blocks").first.wait_for()
    began = time.monotonic()
    page.get_by_role("link", name="Arena", exact=True).first.click()
    page.locator(".main-svg").first.wait_for()
    found.chart = time.monotonic() - began
    context.close()
    return found


def best(visits: list[Visit]) -> Visit:
    return Visit(
        headline=min(one.headline for one in visits),
        chart=min(one.chart for one in visits),
        size=min(one.size for one in visits),
        files=visits[0].files,
    )


def crowd(port: int, files: list[str], taken: list[str], *, num: int, pid: int) -> tuple[float, float]:
    """Seconds until all have everything, and of processor time that the app's processes took."""
    processes = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]

    def busy() -> float:
        return sum(sum(process.cpu_times()[:2]) for process in processes if process.is_running())

    def fetch(_: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE / 1000)
        for path in files:
            connection.request("GET", path, headers={"Accept-Encoding": ", ".join(taken) or "identity"})
            connection.getresponse().read()
        connection.close()

    before, began = busy(), time.monotonic()
    with ThreadPoolExecutor(num) as visitors:
        list(visitors.map(fetch, range(num)))
    return time.monotonic() - began, busy() - before


if __name__ == "__main__":
    main()
