"""The page of the workspace: experiments, runs, their curves, logs and files, models, data sets, clusters."""

from __future__ import annotations

import werkzeug.exceptions as http
from werkzeug.utils import send_file
from werkzeug.wrappers import Response

from papershell.orchestration.loopback import page_views, pages
from papershell.orchestration.loopback import run_history as history
from papershell.orchestration.loopback.page_access import VISIT_S
from papershell.orchestration.loopback.routes.compute import list_clusters
from papershell.orchestration.loopback.routing import Call, Routes
from papershell.orchestration.loopback.stored_files import inside

routes = Routes()
_MOST_COMPARED = 8
_SENT = {"X-Content-Type-Options": "nosniff", "Content-Security-Policy": "sandbox; default-src 'none'",
         "Cache-Control": "no-store", "Cross-Origin-Resource-Policy": "same-origin"}  # fmt: skip


@routes("GET", "/", "/runs", right="cookie")
def runs(call: Call) -> Response:
    """Show the runs of all experiments."""
    return _runs(call, None)


@routes("GET", "/experiments/<experiment>", "/experiments/id/<experiment>", right="cookie")
def experiment(call: Call, experiment: str) -> Response:
    """Show the runs of an experiment, named or by its id."""
    found = history.find_experiment(call.store, experiment)
    if found is None:
        raise http.NotFound(f"there is no experiment {experiment!r} in this workspace")
    return _runs(call, found)


def _runs(call: Call, experiment: dict[str, object] | None) -> Response:
    number = max(1, int(call.request.args.get("page", "1")))
    return pages.page("runs", **page_views.runs_page(call.state, experiment, number))


@routes("GET", "/runs/<run>", "/experiments/<experiment>/runs/<run>", right="cookie")
def run(call: Call, run: str, experiment: str = "") -> Response:
    """Show a run."""
    record = history.run(call.store, run)
    view = page_views.run_page(call.state, record)
    wanted = call.request.args.get("log", "")
    name = wanted if wanted in view["logs"] else next(iter(view["logs"]), None)
    path = call.blobs / history.artifact_folder(record) / name if name else None
    log = (
        page_views.log_tail(path) | {"name": name, "url": page_views.file_url(record, name)}
        if path and name
        else None
    )
    return pages.page("run", run=view, log=log, active=view["active"])


@routes("GET", "/runs/<run>/files/<path:name>", right="cookie")
def file(call: Call, run: str, name: str) -> Response:
    """Send a file of a run: an image or plain text to look at, anything else to keep."""
    path = inside(call.blobs / history.artifact_folder(history.run(call.store, run)), name)
    if not path.is_file():
        raise http.NotFound(f"run {run} has no file {name!r}")
    kept = page_views.shown_as(name) == "download" or "download" in call.request.args
    response = send_file(
        path, call.request.environ, mimetype=page_views.content_type(name), as_attachment=kept,
        download_name=path.name, conditional=True, etag=False, max_age=0,
    )  # fmt: skip
    response.headers.update(_SENT)
    return response


@routes("GET", "/compare", right="cookie")
def compare(call: Call) -> Response:
    """Show several runs side by side."""
    wanted = list(dict.fromkeys(call.request.args.getlist("run")))
    if not 1 < len(wanted) <= _MOST_COMPARED:
        raise http.BadRequest(f"choose 2 to {_MOST_COMPARED} runs to compare, not {len(wanted)}")
    records = [history.run(call.store, run_id) for run_id in wanted]
    return pages.page("compare", **page_views.comparison(call.state, records))


@routes("GET", "/models", right="cookie")
def models(call: Call) -> Response:
    """Show the registered models, newest first."""
    return pages.page("models", **page_views.models_page(call.store))


@routes("GET", "/datasets", right="cookie")
def datasets(call: Call) -> Response:
    """Show the registered data sets, newest first."""
    return pages.page("datasets", **page_views.datasets_page(call.store))


@routes("GET", "/clusters", right="cookie")
def clusters(call: Call) -> Response:
    """Show the clusters."""
    return pages.page("clusters", **page_views.clusters_page(list_clusters(call)["value"]))


@routes("GET", "/mlflow/v2.0/<scope:scope>/", right="cookie")
def mlflow_link(call: Call) -> Response:
    """Lead on from the address that MLflow prints: it names the run behind a #, which only the browser sees."""
    return pages.page("moved", target="/")


@routes("GET", "/open", right="link")
def open_page(call: Call) -> Response:
    """Turn a link that was not used yet into the cookie of this browser.

    The browser goes on by itself: a strict cookie would not come along with a redirection from elsewhere.
    """
    cookie = call.state.page_access.redeem(call.request.args.get("link", ""))
    if cookie is None:
        raise http.Forbidden("this link was used, or is too old: run papershell workspace open again")
    target = call.request.args.get("to", "/")
    response = pages.page("moved", target=target if target.startswith("/runs/") else "/")
    response.set_cookie(
        pages.cookie_name(call.state),
        cookie,
        max_age=int(VISIT_S),
        httponly=True,
        samesite="Strict",
        path="/",
    )
    return response
