"""What the README shows is true."""

import re
import subprocess
import sys
from pathlib import Path

import rich_click as click

from ordersync_admin.cli import cli

README = (Path(__file__).parents[2] / "README.md").read_text()


def test_the_embedding_example_runs(tmp_path: Path) -> None:
    """In a process of its own, in an empty folder, as an embedder would run it."""
    marker = "<!-- embedding example -->"
    [example] = re.findall(rf"{marker}\n```python\n(.*?)```", README, re.DOTALL)
    assert len(example.splitlines()) < 40
    path = tmp_path / "example.py"
    path.write_text(example)
    done = subprocess.run(
        [sys.executable, str(path)], capture_output=True, text=True, cwd=tmp_path, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.iterdir()) == [path], "the core keeps nothing on disk"


def test_every_command_that_it_names_is_there() -> None:
    named = re.findall(r"^ordersync ([a-z-]+(?: [a-z-]+)?)", README, re.MULTILINE)
    assert len(named) > 10
    for words in named:
        command: click.Command | None = cli
        for word in words.split():
            if not isinstance(command, click.Group):
                break
            command = command.get_command(click.Context(command), word)
            assert command is not None, words


def test_every_file_that_it_links_to_is_there() -> None:
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", README) if "://" not in link]
    assert links
    assert [link for link in links if not (Path(__file__).parents[2] / link).exists()] == []
