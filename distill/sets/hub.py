"""Sets on a hub, by huggingface-hub: fetched where one is named ``hf://owner/name``, and given to it.

Which hub, as whom, and what is kept where is the library's: HF_ENDPOINT, HF_TOKEN, HF_HOME, HF_HUB_OFFLINE. What comes from
there is read as any other file of a set: as tensors, with a hash.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from distill.report.rows import Report
from distill.sets.repository import FILE, title, write
from distill.text import command

SCHEME = "hf://"
ADDRESS = re.compile(r"hf://(?:datasets/)?([\w.-]+/[\w.-]+)(?:@([\w./-]+))?")
MISSING = "sets on a hub need the package {}, which is not installed: pip install 'distill[hub]'"


def parsed(address: str) -> tuple[str, str | None]:
    """The repository and its revision, if one is named.

    >>> parsed("hf://owner/name"), parsed("hf://datasets/owner/name@v1.0")
    (('owner/name', None), ('owner/name', 'v1.0'))

    Raises:
        ValueError: it is no address.
    """
    found = ADDRESS.fullmatch(address)
    if found is None:
        raise ValueError(
            f"{address!r} names no repository of a hub, expected hf://owner/name or hf://owner/name@REVISION"
        )
    return found[1], found[2]


def fetched(address: str) -> Path:
    """The file of a set on the hub, in the library's cache; what is there is not fetched again.

    Raises:
        ValueError: it is no address, or the library is not installed.
        FileNotFoundError: there is no such repository or revision, or no set in it.
        PermissionError: the hub does not show it to this user.
        ConnectionError: the hub is not reached, and the set is not in the cache.
    """
    repository, revision = parsed(address)
    api = library()
    from huggingface_hub import errors

    with answers_told(api, address, "read"):
        try:
            reached = bool(api.dataset_info(repository, revision=revision))
        except errors.HfHubHTTPError:
            raise
        except Exception:  # see `answers_told`; asked for the file at once, the library would try for half a minute
            reached = False
        found = api.hf_hub_download(
            repository, FILE, repo_type="dataset", revision=revision, local_files_only=not reached
        )
    return Path(found)


def push(synset: Any, address: str, report: Report | None, licence: str | None) -> str:
    """Write a set's repository (`distill.sets.repository`), as one commit; its address with the commit.

    Args:
        synset: a `distill.sets.synthetic.SyntheticSet`, which calls this itself.

    Raises:
        ValueError: it is no address or one with a revision, or a library is not installed.
        PermissionError: this user may not write there.
        ConnectionError: the hub is not reached, or does not take it.
    """
    repository, revision = parsed(address)
    if revision is not None:
        raise ValueError(f"{address} names a revision, which can be read alone: push to hf://{repository}")
    api, rows = library(), rows_of(synset, report)
    with TemporaryDirectory() as folder:
        try:
            write(synset, Path(folder), repository, rows, licence)
        except ModuleNotFoundError as error:
            raise ValueError(MISSING.format(error.name)) from None
        with answers_told(api, address, "write to"):
            api.create_repo(repository, repo_type="dataset", exist_ok=True)
            made = api.upload_folder(
                repo_id=repository,
                folder_path=folder,
                repo_type="dataset",
                commit_message=f"{title(synset)}, {synset.hash}",
            )
    return f"hf://{repository}@{made.oid}"


def rows_of(synset: Any, report: Report | None) -> list[dict[str, Any]]:
    """Those that judged the set, alone or among its syntheses; without a report, of that beside its folder."""
    if report is None and synset.path is not None:
        path = synset.path.parent.parent / "report.json"
        report = Report(path) if Report.there(path) else None
    found = [] if report is None else report.rows
    return [row for row in found if synset.hash in (row.get("synset_hash") or "").split(",")]


def library() -> Any:
    """huggingface-hub, which is imported where it is asked for alone."""
    try:
        from huggingface_hub import HfApi
    except ModuleNotFoundError:
        raise ValueError(MISSING.format("huggingface-hub")) from None
    return HfApi()


@contextmanager
def answers_told(api: Any, address: str, deed: str) -> Iterator[None]:
    """What the hub answered, or that it did not, in one line; the library's own lines are for those who call it."""
    from huggingface_hub import errors

    repository, revision = parsed(address)
    login = "log in with `hf auth login`, or set HF_TOKEN"
    try:
        yield
    except errors.GatedRepoError:
        raise PermissionError(
            f"{address} is shown to those alone whom its owner lets in: ask there, and {login}"
        ) from None
    except errors.RepositoryNotFoundError:
        raise FileNotFoundError(
            f"no repository {repository} that you may {deed} at {api.endpoint}: check the name, or {login}"
        ) from None
    except errors.RevisionNotFoundError:
        raise FileNotFoundError(
            f"{SCHEME}{repository} has no revision {revision}: name a branch, a tag or a commit"
        ) from None
    except errors.LocalEntryNotFoundError:
        raise ConnectionError(unreached(api, address, deed)) from None
    except errors.EntryNotFoundError:
        raise FileNotFoundError(
            f"{address} has no {FILE}, so it is no set of distill: fetch its files and read them with "
            f"`{command()} import kind=... path=DIR`"
        ) from None
    except errors.HfHubHTTPError as error:
        status = error.response.status_code
        if status in (401, 403):
            raise PermissionError(f"you may not {deed} {address} ({status}): {login}, of a token that may") from None
        said = getattr(error, "server_message", None) or "without a reason"
        raise ConnectionError(
            f"{address} was refused ({status}, {said}): try again later, or change what it names"
        ) from None
    except errors.HFValidationError as error:
        raise ValueError(f"{address} can be no repository of a hub: {' '.join(str(error).split())}") from None
    except Exception as error:  # of requests, httpx or httpx2, by the library's version: nothing else is called here
        raise ConnectionError(unreached(api, address, deed)) from error


def unreached(api: Any, address: str, deed: str) -> str:
    """That the hub was not reached, why, and what helps."""
    from huggingface_hub import constants

    why = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else f"{api.endpoint} is not reached"
    return f"offline: cannot {deed} {address}, as {why}: go online, or use a set that is here or was fetched before"
