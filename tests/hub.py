"""A stand-in for a hub on this machine: what huggingface-hub asks of one to push files and to fetch them.

Files come inside the commit, as a hub takes small ones; how large ones travel is between the library and the hub.
"""

import base64
import hashlib
import json
import re
import sys
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

MAY_WRITE, MAY_READ = "hf_writer", "hf_reader"  # tokens
NAME = r"(?P<name>[\w.-]+/[\w.-]+)"
REVISION = r"(?P<revision>[\w.-]+)"


class Hub:
    """Repositories of data sets, by name: their commits in order, (oid, files by path).

    Attributes:
        gated: names of those whose files nobody gets.
        asked: every request, as ``METHOD path``.
    """

    def __init__(self, url):
        self.url, self.commits, self.gated, self.asked = url, {}, set(), []

    def files(self, name, revision="main"):
        """Of a repository at a revision, with its oid; raises LookupError with the hub's code."""
        if name not in self.commits:
            raise LookupError("RepoNotFound")
        found = [each for each in self.commits[name] if revision in (each[0], "main")]
        if not found:
            raise LookupError("RevisionNotFound")
        return found[-1]

    def commit(self, name, lines):
        header, *others = map(json.loads, lines)
        files = dict(self.files(name)[1])
        for each in others:
            files[each["value"]["path"]] = base64.b64decode(each["value"]["content"])
        oid = hashlib.sha1(f"{name} {len(self.commits[name])}".encode()).hexdigest()
        self.commits[name].append((oid, files))
        return {"success": True, "commitOid": oid, "commitUrl": f"{self.url}/datasets/{name}/commit/{oid}"}


class Answers(BaseHTTPRequestHandler):
    """What is asked, and what a hub says."""

    hub: Hub
    protocol_version = "HTTP/1.1"
    STATUS = {"RepoNotFound": 404, "RevisionNotFound": 404, "EntryNotFound": 404, "GatedRepo": 403}

    def log_message(self, *args):
        pass

    def answer(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.hub.asked.append(f"{self.command} {self.path}")
        for method, pattern, deed in ROUTES:
            found = re.fullmatch(pattern, self.path)
            if found and self.command in method.split():
                try:
                    return deed(self, body, **found.groupdict())
                except LookupError as error:
                    return self.say({"error": str(error)}, self.STATUS[error.args[0]], {"X-Error-Code": error.args[0]})
        return self.say({"error": f"the stand-in has no {self.command} {self.path}"}, 404)

    do_GET = do_HEAD = do_POST = answer

    def say(self, content, status=200, headers=None):
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    @property
    def may_write(self):
        if self.headers.get("Authorization") == f"Bearer {MAY_WRITE}":
            return True
        self.say({"error": "this token may not write"}, 403)
        return False

    def create(self, body):
        asked = json.loads(body)
        name = f"{asked.get('organization') or 'somebody'}/{asked['name']}"
        assert asked["type"] == "dataset"
        if self.may_write:
            there = name in self.hub.commits
            self.hub.commits.setdefault(name, [("0" * 40, {})])
            self.say({"url": f"{self.hub.url}/datasets/{name}", "name": name}, 409 if there else 200)

    def preupload(self, body, name, revision):
        self.hub.files(name, revision)
        files = [
            {"path": each["path"], "uploadMode": "regular", "shouldIgnore": False} for each in json.loads(body)["files"]
        ]
        if self.may_write:
            self.say({"files": files})

    def commit(self, body, name, revision):
        if self.may_write:
            self.say(self.hub.commit(name, body.splitlines()))

    def info(self, body, name, revision):
        oid, files = self.hub.files(name, revision or "main")
        siblings = [{"rfilename": path} for path in files]
        self.say(
            {"_id": oid, "id": name, "sha": oid, "private": False, "siblings": siblings, "tags": [], "downloads": 0}
        )

    def resolve(self, body, name, revision, path):
        oid, files = self.hub.files(name, revision)
        if name in self.hub.gated:
            raise LookupError("GatedRepo")
        if path not in files:
            raise LookupError("EntryNotFound")
        etag = hashlib.sha256(files[path]).hexdigest()
        self.say(files[path], headers={"X-Repo-Commit": oid, "ETag": f'"{etag}"'})

    def validate(self, body):
        self.say({"errors": [], "warnings": []})


ROUTES = [
    ("POST", r"/api/repos/create", Answers.create),
    ("POST", r"/api/validate-yaml", Answers.validate),
    ("POST", rf"/api/datasets/{NAME}/preupload/{REVISION}\??", Answers.preupload),
    ("POST", rf"/api/datasets/{NAME}/commit/{REVISION}\??", Answers.commit),
    ("GET", rf"/api/datasets/{NAME}(?:/revision/{REVISION})?(?:\?.*)?", Answers.info),
    ("GET HEAD", rf"/datasets/{NAME}/resolve/{REVISION}/(?P<path>[\w./-]+)", Answers.resolve),
]


@contextmanager
def served():
    """A hub that listens for as long as the block lasts."""
    answers = type("Own", (Answers,), {})
    with ThreadingHTTPServer(("127.0.0.1", 0), answers) as server:
        answers.hub = Hub(f"http://127.0.0.1:{server.server_port}")
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield answers.hub
        finally:
            server.shutdown()


@contextmanager
def begun_with(monkeypatch, **environment):
    """huggingface-hub as in a process that began with these variables, which it reads when it is imported."""

    def taken():
        return {name: sys.modules.pop(name) for name in list(sys.modules) if name.split(".")[0] == "huggingface_hub"}

    with monkeypatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        before = taken()
        try:
            yield
        finally:
            taken()
            sys.modules.update(before)


@contextmanager
def asked(monkeypatch, home):
    """A hub that this process asks, as a user who may write, with ``home`` as its cache."""
    with served() as found:
        own = {"HF_ENDPOINT": found.url, "HF_HOME": str(home), "HF_TOKEN": MAY_WRITE, "HF_HUB_OFFLINE": "0"}
        with begun_with(monkeypatch, **own):
            yield found
