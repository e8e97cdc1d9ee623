"""The workspace's page: who may see it, and what Chromium shows beside what azureml-core says of the same runs."""

from __future__ import annotations

import json
import time
from itertools import pairwise
from pathlib import Path

import pytest
import requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from selenium.common.exceptions import WebDriverException
from selenium.webdriver.support.wait import WebDriverWait

from papershell.orchestration import loopback
from papershell.orchestration.loopback.curves import HEIGHT, WIDTH, chart
from papershell.orchestration.loopback.names import SCOPE
from papershell.orchestration.loopback.page_access import PageAccess
from papershell.orchestration.loopback.tokens import Tokens
from tests.benchmarks.browser import Page
from tests.benchmarks.conftest import driver  # noqa: F401

HTML = {"Accept": "text/html,application/xhtml+xml"}
HOSTILE = """<img src=x onerror="document.title='owned'">"'&{{7*7}}</script><script>document.title='owned'</script>"""
SCRIPT = """
    import os, sys
    from azureml.core import Run

    run = Run.get_context(allow_offline=False)
    rate, hostile = float(sys.argv[1]), sys.argv[2]
    for step in range(20):
        run.log("loss", rate / (step + 1))
    run.log("accuracy", 1 - rate / 10)
    run.log("never", float("nan"))
    run.log_row("epoch", number=1, words=hostile)
    run.log("text", hostile)
    run.log(hostile, 2.5)
    run.set_tags({"rate": str(rate), hostile: hostile})
    open("outputs/page.html", "w").write("<script>document.title='owned'</script>")
    open("outputs/note.txt", "w").write("to look at")
    svg = "<svg xmlns='http://www.w3.org/2000/svg' width='60' height='30'>{}</svg>"
    open("outputs/picture.svg", "w").write(svg.format("<rect width='60' height='30' fill='teal'/>"))
    child = run.child_run("fold 0")
    child.log("fold accuracy", 0.9)
    child.complete()
    print(hostile)
    print("the last line", rate)
    run.complete()
"""


def link_of(root: Path) -> str:
    return loopback.page_link(root)


@pytest.fixture(scope="module")
def visitor(root):
    """A session with the cookie of the page, and the page's address."""
    session = requests.Session()
    session.headers.update(HTML)
    link = link_of(root)
    assert session.get(link).status_code == 200
    return session, link.partition("/open")[0]


@pytest.fixture(scope="module")
def shown(root, tmp_path_factory):
    """Two finished runs with everything that the page can show, one with a registered model."""
    from textwrap import dedent

    from azureml.core import Dataset, Environment, Experiment, Run, ScriptRunConfig

    workspace = loopback.connect(root)
    folder = tmp_path_factory.mktemp("source")
    (folder / "train.py").write_text(dedent(SCRIPT))
    store = workspace.get_default_datastore()
    store.upload_files([__file__], target_path="p", show_progress=False)
    data = Dataset.File.from_files((store, "p")).register(workspace, "page-data").as_named_input("images")
    Run._WAIT_COMPLETION_POLLING_INTERVAL_MIN = 0.05
    runs = []
    for rate in ("0.5", "0.8"):
        config = ScriptRunConfig(
            str(folder), script="train.py", arguments=[rate, HOSTILE, data.as_mount()], compute_target="c1",
            environment=Environment("probe"),
        )  # fmt: skip
        runs.append(Experiment(workspace, "page").submit(config))
    for run in runs:
        run.wait_for_completion()
    runs[0].register_model("page-model", model_path="outputs/note.txt", tags={"k": HOSTILE})
    return runs


# Who may see it


def test_a_browser_without_the_cookie_is_told_the_command(root, visitor):
    _, base = visitor
    answer = requests.get(base + "/", headers=HTML)
    assert answer.status_code == 401 and "papershell workspace open" in answer.text
    assert answer.headers["Content-Type"].startswith("text/html") and str(root) not in answer.text
    token = loopback.find(root).token
    assert requests.get(base + "/", headers={"Authorization": f"Bearer {token}"}).status_code == 401


def test_a_link_opens_once_and_its_cookie_reads_pages_only(root):
    link = link_of(root)
    first, second = requests.get(link, headers=HTML), requests.get(link, headers=HTML)
    assert (first.status_code, second.status_code) == (200, 403) and "Set-Cookie" not in second.headers
    kind = first.headers["Set-Cookie"]
    assert "HttpOnly" in kind and "SameSite=Strict" in kind
    (cookie,) = first.cookies.values()
    base = link.partition("/open")[0]
    service = f"{base}/history/v1.0{SCOPE}/experiments/page"
    assert requests.get(service, headers={"Authorization": f"Bearer {cookie}"}).status_code == 401
    assert requests.get(service, cookies=first.cookies).status_code == 401
    secret = link.partition("link=")[2]
    assert secret not in (root / "access.log").read_text() and cookie not in (root / "access.log").read_text()


def test_the_page_answers_under_its_own_address_only(visitor):
    session, base = visitor
    assert "not understood" in session.get(base + "/?page=x").text
    for host in ("localhost", "example.org", "127.0.0.1:1"):
        assert session.get(base + "/", headers={"Host": host}).status_code == 403


@given(st.text(max_size=60) | st.from_regex(r"\A[0-9]{1,12}\.[0-9a-f]{64}\Z"))
def test_no_other_cookie_opens_the_page(cookie):
    assert not PageAccess(Tokens("key")).admits(cookie)


def test_links_and_cookies_end(monkeypatch):
    access = PageAccess(Tokens("key"))
    early, late = access.link(), access.link()
    cookie = access.redeem(early)
    assert access.admits(cookie) and not PageAccess(Tokens("other")).admits(cookie)
    now, monotonic = time.time(), time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: monotonic + 601)
    monkeypatch.setattr(time, "time", lambda: now + 12 * 3600 + 1)
    assert access.redeem(late) is None and not access.admits(cookie)


# What a job wrote is text


def test_files_of_a_job_run_nothing_in_the_browser(visitor, shown):
    session, base = visitor
    place = f"{base}/runs/{shown[0].id}/files/outputs"
    page, picture, note = (session.get(f"{place}/{n}") for n in ("page.html", "picture.svg", "note.txt"))
    assert page.headers["Content-Type"] == "application/octet-stream"
    assert page.headers["Content-Disposition"].startswith("attachment")
    assert picture.headers["Content-Type"].startswith("image/svg+xml")
    assert note.text == "to look at" and note.headers["Content-Type"] == "text/plain; charset=utf-8"
    for answer in (page, picture, note):
        assert answer.headers["Content-Security-Policy"].startswith("sandbox;")
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
    for name in ("../../../identity.json", "%2e%2e/%2e%2e/identity.json", "none.txt"):
        assert session.get(f"{place}/{name}").status_code in (400, 404)


def test_hostile_words_are_escaped_on_every_page(visitor, shown):
    session, base = visitor
    ids = [run.id for run in shown]
    for path in ("/", f"/runs/{ids[0]}", "/compare?run=" + "&run=".join(ids), "/models"):
        answer = session.get(base + path)
        assert answer.status_code == 200
        assert HOSTILE not in answer.text and "<img src=x" not in answer.text
        policy = answer.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=8), inner, max_size=2),
    max_leaves=6,
)
FIELDS = ["name", "displayName", "tags", "properties", "createdBy", "startTimeUtc", "endTimeUtc", "error", "warnings",
          "parameters", "parentRunId", "target", "hidden", "createdUtc", "mlflowDatasets"]  # fmt: skip


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=3))
def test_no_record_of_a_run_breaks_the_list(visitor, root, changes):
    session, base = visitor
    header = {"Authorization": f"Bearer {loopback.find(root).token}"}
    place = f"{base}/history/v1.0{SCOPE}/experiments/odd/runs/odd-{time.monotonic_ns()}"
    answer = requests.patch(place, data=json.dumps(changes), headers=header)
    assert answer.status_code in (200, 400)
    assert session.get(base + "/experiments/odd").status_code in (200, 404)
    if answer.status_code == 200:
        assert session.get(f"{base}/runs/{place.rpartition('/')[2]}").status_code == 200


# Curves


@given(st.lists(st.lists(st.tuples(st.integers(-(10**9), 10**9), st.floats()), max_size=5), max_size=3))
def test_every_curve_stays_inside_its_picture(series):
    drawn = chart(series)
    finite = [[y for _, y in points if abs(y) < float("inf")] for points in series]
    if drawn is None:
        assert not any(finite)
        return
    for line, values in zip(drawn.lines, finite, strict=True):
        places = [tuple(map(float, text.split())) for text in line.removeprefix("M").split("L") if text]
        assert len(places) == len(values)
        assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in places)
        for (low, high), (first, second) in zip(pairwise(values), pairwise(places), strict=True):
            assert (second[1] - first[1]) * (high - low) <= 0 or high == low  # higher values lie higher up


def test_a_long_metric_is_drawn_from_few_points(tmp_path):
    from papershell.orchestration.loopback import metric_records
    from papershell.orchestration.loopback.store import Store

    store = Store(tmp_path / "state.sqlite")
    values = [{"metricId": str(i), "data": {"m": i * i}} for i in range(10_001)]
    with store.transaction():
        metric_records.log(store, "r", {"name": "m"}, values)
    points = metric_records.curve(store, store.all("metric")[0])
    assert points[0] == (0, 0) and points[-1] == (10_000, 10_000**2) and 300 <= len(points) <= 402
    assert all(y == x * x for x, y in points)
    store.close()


# In the browser


@pytest.fixture
def page(driver, tmp_path, root):  # noqa: F811
    """Chromium that was let in; afterwards it must have asked this service only, and complained of nothing."""
    page = Page(driver, tmp_path)
    page.load(link_of(root))
    wait(page, lambda: page.js("return location.pathname") == "/")
    page.complaints(), page.requests()
    yield page
    assert page.complaints() == []
    base = loopback.find(root).url
    assert {url for url in page.requests() if not url.startswith((base, "data:"))} == set()


def wait(page: Page, done) -> None:
    """Wait until a condition holds; a page that goes while it is asked for something is asked again."""
    WebDriverWait(page.driver, 30, 0.05, ignored_exceptions=(WebDriverException,)).until(lambda _: done())


def texts(page: Page, selector: str) -> list[str]:
    """Read all in one script: an element that was found may have gone before it is read."""
    return page.js(
        "return [...document.querySelectorAll(arguments[0])].map(e => e.innerText.trim())", selector
    )


def listed(page: Page, selector: str) -> dict[str, str]:
    """Return the entries of the description lists below a selector."""
    return page.js(
        "return Object.fromEntries([...document.querySelectorAll(arguments[0] + ' dt')]"
        ".map(dt => [dt.textContent, dt.nextElementSibling.textContent]))", selector,
    )  # fmt: skip


def test_a_runs_page_shows_what_azureml_core_says(page, shown):
    run = shown[0]
    page.load(run.get_portal_url())
    metrics, details = run.get_metrics(), run.get_details()
    assert texts(page, "h1") == [run.id] and texts(page, "#head .status") == [details["status"]]
    curves = dict(zip(texts(page, "figcaption span"), texts(page, "figcaption b"), strict=True))
    assert {n: float(v) for n, v in curves.items()} == {"loss": pytest.approx(metrics["loss"][-1], rel=1e-5)}
    assert page.find("figure path")[0].get_attribute("d").count("L") == len(metrics["loss"]) - 1
    singles = listed(page, "#metrics")
    assert (float(singles["accuracy"]), float(singles[HOSTILE]), singles["never"]) == (0.95, 2.5, "nan")
    assert metrics["epoch"]["words"] in texts(page, "#metrics td")
    about = listed(page, "#rest")
    assert about["id"] == run.id and about["cluster"] == "c1" and about["model"] == "page-model:1"
    (used,) = details["inputDatasets"]
    assert about[used["consumptionDetails"]["inputName"]] == f"{used['dataset'].name}, version 1mount"
    assert about[HOSTILE] == HOSTILE and about["rate"] == run.get_tags()["rate"]
    names = page.js("return [...document.querySelectorAll('a[download]')].map(a => a.ariaLabel.slice(9))")
    assert sorted(names) == sorted(run.get_file_names())
    assert HOSTILE in texts(page, "#log")[0] and "the last line 0.5" in texts(page, "#log")[0]
    (child,) = run.get_children()
    assert page.find("#rest .runs a")[0].get_attribute("href").endswith(child.id)
    assert page.js("return document.querySelector('.images img').naturalWidth") == 60
    assert page.js("return document.title") == f"{run.id} \N{EN DASH} papershell workspace"


def test_the_address_that_mlflow_prints_leads_to_the_run(page, shown):
    page.load(f"{page.js('return location.origin')}/mlflow/v2.0{SCOPE}/#/experiments/7/runs/{shown[0].id}")
    wait(page, lambda: texts(page, "h1") == [shown[0].id])


def test_the_list_and_the_comparison(page, shown, workspace):
    from azureml.core import Experiment

    page.load(Experiment(workspace, "page").get_portal_url())
    runs = list(Experiment(workspace, "page").get_runs())
    rows = page.js("return [...document.querySelectorAll('tbody tr')].map(r => [r.querySelector('input').value,"
                   "r.querySelector('.status').textContent])")  # fmt: skip
    assert rows == [[run.id, run.get_status()] for run in runs]
    for box in page.find("input[type=checkbox]"):
        box.send_keys(" ")
    page.find("form button")[0].send_keys("\n")
    wait(page, lambda: texts(page, "h1") == ["2 runs compared"])
    assert len(page.find("figure path")) == 2 and texts(page, "figcaption") == ["loss"]
    cells = page.js("""
        const rows = [...document.querySelectorAll("tbody tr")].filter(row => row.querySelector("th"));
        return Object.fromEntries(rows.map(row => [...row.cells].map(c => c.textContent)).map(([n, ...v]) => [n, v]));
    """)
    assert [float(v) for v in cells["accuracy"]] == [run.get_metrics()["accuracy"] for run in runs]
    assert cells["rate"] == [run.get_tags()["rate"] for run in runs]


def test_models_data_sets_and_clusters(page, shown, workspace):
    from azureml.core import ComputeTarget, Dataset, Model

    base = page.js("return location.origin")
    for name, expected in (
        ("models", {f"{m.name} {m.version}" for m in Model.list(workspace)}),
        ("datasets", {f"{n} {d.version}" for n, d in Dataset.get_all(workspace).items()}),
        ("clusters", {c.name for c in ComputeTarget.list(workspace)}),
    ):
        page.load(f"{base}/{name}")
        columns = 1 if name == "clusters" else 2
        rows = page.js("return [...document.querySelectorAll('tbody tr')].map(r => [...r.cells].slice(0, arguments[0])"
                       ".map(c => c.firstChild.textContent).join(' '))", columns)  # fmt: skip
        assert expected <= set(rows), name


def test_a_log_grows_and_a_status_changes_without_a_reload(page, submit_script, tmp_path):
    flag = tmp_path / "go on"
    run = submit_script(f"""
        import os, time
        print("begun \\u00e9", flush=True)
        while not os.path.exists({str(flag)!r}):
            time.sleep(0.05)
        print("ended <b>", flush=True)
    """)
    page.load(run.get_portal_url())
    wait(page, lambda: "begun \u00e9" in "".join(texts(page, "#log")) or page.driver.refresh())
    page.js("window.same = true")
    flag.touch()
    wait(page, lambda: "ended <b>" in texts(page, "#log")[0])
    wait(page, lambda: texts(page, "#head .status") == ["Completed"])
    assert page.js("return window.same && !document.querySelector('main[data-active]')")


@pytest.mark.parametrize(("width", "scheme"), [(1440, "light"), (390, "dark")])
def test_it_can_be_read_on_a_desk_and_on_a_phone(page, shown, width, scheme):
    base, ids = page.js("return location.origin"), [run.id for run in shown]
    for path in ("/", f"/runs/{ids[0]}", "/compare?run=" + "&run=".join(ids), "/models", "/clusters"):
        page.load(base + path, width=width, scheme=scheme)
        assert page.js("return document.documentElement.scrollWidth") <= width, path
        poor = {text: contrast for text, contrast in page.contrasts().items() if contrast < 4.5}
        assert poor == {}, path
        reached = page.js(
            "return [...document.querySelectorAll('a, button, input, pre')].every(e => e.tabIndex >= 0)"
        )
        assert reached, path


# The command


def test_the_command_prints_a_link_if_there_is_no_browser(run, root, shown, monkeypatch):
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    code, printed, _ = run("workspace", "open", shown[0].id, "--root", root)
    assert code == 0 and printed.startswith("http://127.0.0.1:")
    session = requests.Session()
    moved = session.get(printed.strip(), headers=HTML)
    target = moved.text.partition("0; url=")[2].partition('"')[0]
    assert target == f"/runs/{shown[0].id}"
    assert shown[0].id in session.get(printed.partition("/open")[0] + target, headers=HTML).text


def test_the_command_shows_the_link_to_its_owner_only(run, root, monkeypatch):
    import webbrowser

    opened: list[str] = []
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr(webbrowser, "open", lambda address: not opened.append(address))
    code, printed, _ = run("workspace", "open", "--root", root)
    assert code == 0 and "link=" not in printed + opened[0]
    page = Path(opened[0].removeprefix("file://"))
    assert page.parent == root.resolve() and page.stat().st_mode & 0o077 == 0
    link = page.read_text().partition("url=")[2].partition('"')[0].replace("&amp;", "&")
    assert requests.get(link, headers=HTML).status_code == 200
