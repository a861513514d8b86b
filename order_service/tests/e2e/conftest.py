"""End-to-end tests: real binaries and an independent client. Importing `stubs` generates the gRPC stubs."""

import pytest

import stubs  # noqa: F401 - first of all, as everybody else imports what it generates
from ledger_bundle import WIDE, Bundle, wait_for_types
import platform_under_test
import tour_pages
from platform_under_test import DATA_MANAGER_BIN, ORDER_SERVICE_BIN, Platform
from sqs_emulator import SqsEmulator


def pytest_sessionstart(session):
    missing = [str(binary) for binary in (ORDER_SERVICE_BIN, DATA_MANAGER_BIN) if not binary.exists()]
    if missing and not session.config.option.collectonly:
        pytest.exit(f"not built yet: {', '.join(missing)}", returncode=2)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Run side by side (`-n`), tests that share their module's platform stay together; all others may go anywhere.

    A test that needs the SQS emulator needs programs that have the engine for it, and `make test` makes no debug build.
    """
    for item in items:
        if "sqs" in item.fixturenames or "debug_build" in item.fixturenames:
            item.add_marker(pytest.mark.full)
        if "module_platform" in item.fixturenames:
            item.add_marker(pytest.mark.xdist_group(item.module.__name__))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """Adds the end of every process's log to the report of a failed test."""
    report = (yield).get_result()
    started = getattr(item, "funcargs", {})
    platform = started.get("platform") or started.get("module_platform")
    if platform is not None and call.when == "call" and report.failed:
        for name, tail in platform.logs():
            report.sections.append((f"log of {name}", tail))


def pytest_terminal_summary(terminalreporter):
    """Of the tour, also when it has passed: what it leaves out."""
    reports = [report for reports in terminalreporter.stats.values() for report in reports]
    if any(getattr(report, "nodeid", "").startswith("test_tour.py") for report in reports):
        terminalreporter.write_line("\n".join(tour_pages.summary()))


@pytest.fixture
def platform():
    """A fresh data dir and fresh ports; nothing runs yet."""
    under_test = Platform()
    yield under_test
    under_test.close()


@pytest.fixture
def debug_build(monkeypatch):
    """Platforms start the debug build of the order service, which can be told to die at a named point."""
    monkeypatch.setattr(platform_under_test, "ORDER_SERVICE_BIN", platform_under_test.DEBUG_ORDER_SERVICE_BIN)


@pytest.fixture(scope="module")
def module_platform():
    """One for all tests of a module, which keep out of each other's way by using accounts of their own."""
    under_test = Platform()
    yield under_test
    under_test.close()


@pytest.fixture(scope="module")
def ledger_service(module_platform):
    return module_platform.order_service()


@pytest.fixture(scope="module")
def ledger(module_platform, ledger_service):
    """A client of a running ledger with the default bundle."""
    return module_platform.ledger_client(ledger_service)


@pytest.fixture(scope="module")
def wide_ledger(module_platform, ledger_service, ledger):
    """The same ledger, with the wide account type and the label types brought in as well."""
    bundle = Bundle(module_platform.home / "bundle")
    bundle.add_wide_types()
    bundle.bring_in(ledger_service)
    wait_for_types(ledger, WIDE["name"])
    return ledger


@pytest.fixture(scope="module")
def sqs():
    """A queue service that speaks Amazon's protocol, for all tests of a module."""
    emulator = SqsEmulator()
    yield emulator
    emulator.close()
