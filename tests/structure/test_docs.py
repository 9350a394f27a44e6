"""The documentation says what the code says: generated parts are fresh, lists are whole, examples run."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
from dataclasses import fields
from pathlib import Path

import pytest

from guesthouse.cli.virsh import index
from guesthouse.services.context import Config
from support import doctables, manuals

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
UNITS = sorted((ROOT / "src/guesthouse/cli/guest/units").iterdir())


@pytest.mark.parametrize("name", doctables.TABLES)
def test_generated_part_is_fresh(name: str) -> None:
    page = (ROOT / doctables.TABLES[name][0]).read_text()
    assert page == doctables.filled(name), "run: python tests/support/doctables.py"


@pytest.mark.parametrize("name", manuals.PAGES)
def test_manual_page_is_fresh_and_renders_without_a_warning(name: str) -> None:
    page = (doctables.MAN / name).read_text()
    assert page == manuals.PAGES[name](), "run: python tests/support/doctables.py"
    if shutil.which("groff"):
        argv = ["groff", "-man", "-Tutf8", "-ww", "-P-c", "-rLL=100n", str(doctables.MAN / name)]
        run = subprocess.run(argv, capture_output=True, text=True)
        assert run.returncode == 0 and run.stderr == ""
        assert "guesthouse" in run.stdout


def test_every_key_of_the_configuration_is_told() -> None:
    rows = re.findall(r"^\| `(\w+)` \| `([^`]*)` \|", (DOCS / "daemon.md").read_text(), re.M)
    told = dict(rows)
    assert set(told) == {field.name for field in fields(Config)}
    for name, value in told.items():
        default = getattr(Config(), name)
        assert value == (f'"{default}"' if isinstance(default, str) else str(default).lower()), name


def test_every_virsh_command_is_told() -> None:
    page = (DOCS / "virsh.md").read_text()
    assert [name for name in index.MODULES if name not in index.HIDDEN and f"`{name}`" not in page] == []


def test_every_decision_has_a_status_and_is_in_the_index() -> None:
    listed = re.findall(r"\]\((\d{3}-[\w-]+\.md)\)", (DOCS / "decisions/README.md").read_text())
    files = sorted(file.name for file in (DOCS / "decisions").glob("[0-9]*.md"))
    assert listed == files
    assert [name[:3] for name in files] == [f"{number:03}" for number in range(1, len(files) + 1)]
    for name in files:
        text = (DOCS / "decisions" / name).read_text()
        assert text.startswith(f"# {name[:3]} ") and re.search(
            r"^Status: (accepted|superseded by \d{3})\.$", text, re.M
        )


def test_the_example_of_a_declaration_runs() -> None:
    codes = re.findall(r"^```python\n(.*?)^```", (DOCS / "model.md").read_text(), re.M | re.S)
    assert codes
    for code in codes:
        exec(compile(code, "model.md", "exec"), {"__name__": "example"})


def test_both_readmes_link_the_same_pages() -> None:
    english, chinese = ((ROOT / name).read_text() for name in ("README.md", "README.zh-CN.md"))
    links = [set(re.findall(r"\]\((?!README)([^)]+)\)", text)) for text in (english, chinese)]
    assert links[0] == links[1]
    for page in DOCS.glob("*.md"):
        assert f"docs/{page.name}" in links[0], "linked from the README"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_units_are_valid(tmp_path: Path) -> None:
    program = Path(shutil.which("true") or "/bin/true")
    for unit in UNITS:
        text = unit.read_text().replace("/usr/local/bin/guesthoused", str(program))
        (tmp_path / unit.name).write_text(text)
    files = [str(tmp_path / unit.name) for unit in UNITS]
    run = subprocess.run(["systemd-analyze", "verify", *files], capture_output=True, text=True)
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")


def test_guests_outlive_the_unit() -> None:
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str
    unit.read(ROOT / "src/guesthouse/cli/guest/units/guesthoused.service")
    service = unit["Service"]
    assert service["KillMode"] == "process"
    assert service["Type"] == "notify"
    assert "RuntimeDirectory" not in service, "it would go with the daemon, and what leads to the guests with it"
