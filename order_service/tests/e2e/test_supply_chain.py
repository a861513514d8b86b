"""Hazard: CI runs a merge request's program with the database URL; or installs something other than what was reviewed.

The scripts that CI runs, in repositories made here. Nothing is fetched from outside.
"""

import os
import pathlib
import re
import shutil
import subprocess
import textwrap

import pytest

import platform_under_test
from embedded_postgres import database_url

ROOT = pathlib.Path(__file__).resolve().parents[3]
SCRIPT = "scripts/check-bundle-of.sh"


def git(folder: pathlib.Path, *words: str) -> str:
    who = ["-c", "user.name=test", "-c", "user.email=test@example.com"]
    done = subprocess.run(["git", "-C", str(folder), *who, *words], capture_output=True, text=True, timeout=20)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


class Checkout:
    """A repository whose `main` has the real bundle and script, and the program under test as what was built."""

    def __init__(self, folder: pathlib.Path, program: pathlib.Path):
        self.folder = folder
        shutil.copytree(ROOT / "configs", folder / "configs")
        (folder / "scripts").mkdir()
        shutil.copy(ROOT / SCRIPT, folder / SCRIPT)
        (folder / ".gitignore").write_text("bin/\n")
        git(folder, "init", "-q", "-b", "main")
        self.main = self.commit()
        (folder / "order_service/bin").mkdir(parents=True)
        (folder / "order_service/bin/app").symlink_to(program)

    def commit(self) -> str:
        git(self.folder, "add", "-A")
        git(self.folder, "commit", "-q", "-m", "as it is")
        return git(self.folder, "rev-parse", "HEAD")

    def request(self, change) -> str:
        """A commit with a change, which is left again for `main`."""
        git(self.folder, "checkout", "-q", "-b", f"request-{change.__name__}")
        change(self.folder)
        commit = self.commit()
        git(self.folder, "checkout", "-q", "main")
        return commit

    def check(self, commit: str, **environment: str) -> subprocess.CompletedProcess:
        told = {**os.environ, "TMPDIR": str(self.folder.parent), **environment}
        told = {name: value for name, value in told.items() if value}
        words = [str(self.folder / SCRIPT), commit]
        return subprocess.run(words, capture_output=True, text=True, timeout=120, env=told)


@pytest.fixture
def checkout(tmp_path):
    return Checkout(tmp_path / "checkout", platform_under_test.ORDER_SERVICE_BIN)


def described_anew_and_hostile(folder: pathlib.Path) -> None:
    path = folder / "configs/ledger/storage_lock.yaml"
    path.write_text(re.sub("(?m)^description: .*$", "description: another one", path.read_text()))
    # None of these may run or be heeded.
    (folder / SCRIPT).write_text(f"#!/bin/sh\ntouch {folder.parent}/ran\n")
    (folder / "Makefile").write_text(f"build:\n\ttouch {folder.parent}/ran\n")
    (folder / ".gitattributes").write_text("configs/** export-ignore\n")


def test_of_a_merge_request_only_the_bundle_is_read(checkout, tmp_path, module_platform, ledger_service):
    commit = checkout.request(described_anew_and_hostile)
    done = checkout.check(commit, ORDER_SERVICE_DATABASE_URL=database_url(module_platform.data_dir, "control"))
    assert done.returncode == 0, done.stderr
    assert "~ update lock_type storage_lock" in done.stdout, done.stdout
    assert "postings: early exit: desired state unchanged" in done.stdout, done.stdout
    assert not (tmp_path / "ran").exists()
    assert git(checkout.folder, "status", "--porcelain") == "" and git(checkout.folder, "rev-parse", "HEAD") == checkout.main
    assert {path.name for path in tmp_path.iterdir()} == {"checkout"}, "it leaves nothing behind"


def test_without_a_database_the_bundle_is_judged_all_the_same(checkout):
    done = checkout.check(checkout.request(described_anew_and_hostile), ORDER_SERVICE_DATABASE_URL="")
    assert done.returncode == 0 and "nothing is planned" in done.stdout, done.stderr


def test_a_bundle_that_is_not_sound_fails(checkout):
    def broken(folder):
        (folder / "configs/ledger/bad.yaml").write_text("a: [\n")

    assert checkout.check(checkout.request(broken)).returncode != 0


def test_links_out_of_the_bundle_are_refused(checkout):
    def linked(folder):
        (folder / "configs/ledger/environment.yaml").symlink_to("/proc/self/environ")

    done = checkout.check(checkout.request(linked))
    assert done.returncode == 1 and "only plain files" in done.stderr and "environment.yaml" in done.stderr


@pytest.mark.parametrize("commit", ["HEAD", "--help", "main", "0" * 39, "0" * 40])
def test_what_is_not_a_commit_is_refused(checkout, commit):
    assert checkout.check(commit).returncode == 1


def test_a_url_that_any_merge_request_gets_is_an_error(checkout):
    given = {"CI_MERGE_REQUEST_IID": "7", "ORDER_SERVICE_DATABASE_URL": "postgres://nobody@127.0.0.1:1/none"}
    done = checkout.check(checkout.main, **given)
    assert done.returncode == 1 and "make it a protected variable" in done.stderr


def job_script() -> str:
    """What GitLab makes of the job's script."""
    job = (ROOT / ".gitlab-ci.yml").read_text().partition("\nreconcile:\n")[2].partition("\n\n")[0]
    lines = textwrap.dedent(job.partition("  script:\n")[2]).splitlines()
    return "\n".join(line[2:] for line in lines if line != "- |" and not line.startswith("#"))


def test_the_check_of_a_request_from_before_the_script_is_the_target_branchs(checkout, tmp_path):
    origin = checkout.folder
    git(origin, "rm", "-q", SCRIPT)
    checkout.commit()
    (origin / "scripts").mkdir(exist_ok=True)
    commit = checkout.request(described_anew_and_hostile)
    (origin / "scripts").mkdir(exist_ok=True)
    shutil.copy(ROOT / SCRIPT, origin / SCRIPT)
    program = platform_under_test.ORDER_SERVICE_BIN
    (origin / "Makefile").write_text(f"build:\n\tmkdir -p order_service/bin\n\tln -s {program} order_service/bin/app\n")
    checkout.commit()
    git(tmp_path, "clone", "-q", str(origin), "clone")
    git(tmp_path / "clone", "checkout", "-q", commit)
    told = {**os.environ, "CI_MERGE_REQUEST_TARGET_BRANCH_NAME": "main", "BUNDLE_COMMIT": commit}
    told.pop("ORDER_SERVICE_DATABASE_URL", None)
    words = ["bash", "-eo", "pipefail", "-c", job_script()]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, env=told, cwd=tmp_path / "clone")
    assert done.returncode == 0 and "nothing is planned" in done.stdout, done.stderr
    assert not (tmp_path / "ran").exists()


FOUND = "error[vulnerability]: unable to keep a secret"
STALE = "[ERROR] repository is stale (last update: 2020-01-01 0:00:00.0 +00:00:00)"


def check_advisories(folder: pathlib.Path, fetches: bool, finds: str) -> subprocess.CompletedProcess:
    """With a `cargo deny` that fetches or not, and finds something or not."""
    checked = f"echo '{finds}' >&2; exit 1" if finds else "echo checked"
    folder.joinpath("cargo").write_text(
        f'#!/bin/sh\ncase "$2" in fetch) echo no network; exit {0 if fetches else 1};; check) {checked};; esac\n'
    )
    folder.joinpath("cargo").chmod(0o755)
    told = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}", "CARGO_HOME": str(folder)}
    words = [str(ROOT / "scripts/check-advisories.sh")]
    return subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=30, env=told)


@pytest.mark.parametrize(
    ("fetches", "finds", "code", "said"),
    [(True, "", 0, "checked"), (True, FOUND, 1, FOUND), (True, STALE, 1, STALE), (False, FOUND, 0, "NOT CHECKED")],
)
def test_advisories_are_judged_wherever_they_can_be_had(tmp_path, fetches, finds, code, said):
    done = check_advisories(tmp_path, fetches, finds)
    assert done.returncode == code and said in done.stdout, done.stdout


@pytest.mark.parametrize(
    ("finds", "code", "said"),
    [("", 0, "checked"), (FOUND, 1, FOUND), (STALE, 0, "NOT CHECKED"), ("[ERROR] no such option", 1, "no such option")],
)
def test_without_the_network_advisories_are_judged_by_a_copy_of_any_use(tmp_path, finds, code, said):
    clone = tmp_path / "advisory-dbs/advisory-db-1"
    clone.mkdir(parents=True)
    git(clone, "init", "-q")
    git(clone, "commit", "-q", "--allow-empty", "-m", "advisories")
    done = check_advisories(tmp_path, fetches=False, finds=finds)
    assert done.returncode == code and said in done.stdout, done.stdout
    assert clone.exists() and ("NOT CHECKED" in done.stdout) == (finds == STALE)


@pytest.mark.parametrize("half", ["an empty folder", "no commit"])
def test_a_clone_that_broke_off_is_no_copy_and_in_nobodys_way(tmp_path, half):
    # As where CARGO_HOME lies within the checkout.
    git(tmp_path, "init", "-q")
    git(tmp_path, "commit", "-q", "--allow-empty", "-m", "another repository")
    clone = tmp_path / "advisory-dbs/advisory-db-1"
    (clone / ".git").mkdir(parents=True)
    if half == "no commit":
        git(clone, "init", "-q")
    done = check_advisories(tmp_path, fetches=False, finds=FOUND)
    assert done.returncode == 0 and "NOT CHECKED" in done.stdout, done.stdout
    assert not clone.exists() and (tmp_path / ".git").exists()


@pytest.mark.parametrize("wanted", ["order_service/tests/e2e/requirements", "scripts/requirements/nats-server", "scripts/requirements/sqs"])
def test_every_python_package_is_locked_by_hash(wanted):
    lock = (ROOT / f"{wanted}.txt").read_text()
    packages = re.findall(r"(?m)^([a-z0-9.-]+)==(\S+)(.*)$", lock)
    hashed = re.findall(r"(?m)^[a-z0-9.-]+==.* \\\n    --hash=sha256:[0-9a-f]{64}", lock)
    assert packages and len(hashed) == len(packages)
    for line in (ROOT / f"{wanted}.in").read_text().split():
        name, version = line.split("==")
        # An extra is no package, and pip does not tell cases apart.
        name = name.split("[")[0].lower()
        assert (name, version) in {(package, number) for package, number, _ in packages}, f"run scripts/lock-python.sh: {line}"


def test_whatever_is_installed_by_pip_is_checked_by_hash():
    installs = [line for line in (ROOT / "scripts/init-repo.sh").read_text().splitlines() if "pip install" in line]
    assert installs and all("--require-hashes" in line for line in installs), installs
