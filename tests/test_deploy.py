"""The files of `deploy`: what they start is a command that there is, with settings that there are."""

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import tyro
import yaml

from slem_app.cli.serve import Serve
from slem_app.serving.settings import parse_settings

DEPLOY = Path(__file__).parents[1] / "deploy"
DOCKERFILE = (DEPLOY / "Dockerfile").read_text()
SERVICES = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]


def commands() -> dict[str, list[str]]:
    """The words behind `slem` in each file."""
    (image,) = re.findall(r"^CMD (\[.*\])$", DOCKERFILE, flags=re.MULTILINE)
    (unit,) = re.findall(r"^ExecStart=(.*)$", (DEPLOY / "slem-label.service").read_text(), flags=re.MULTILINE)
    program, *words = shlex.split(unit)
    assert program.endswith("/bin/slem")
    return {"image": json.loads(image), "compose": SERVICES["slem"]["command"], "unit": words}


@pytest.mark.parametrize("place", ["image", "compose", "unit"])
def test_the_command_is_one_that_slem_takes(place: str) -> None:
    name, *words = commands()[place]
    assert name == "serve"
    serve = tyro.cli(Serve, args=words)
    settings = parse_settings(serve.conf)
    assert str(serve.store).startswith(("/data/", "/var/lib/slem-label/"))
    if serve.host == "127.0.0.1":  # then nobody would be asked to log in
        assert settings.login == "required"


def test_the_image_runs_without_rights_and_says_how_it_does() -> None:
    (user,) = re.findall(r"^USER (\S+)$", DOCKERFILE, flags=re.MULTILINE)
    assert re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", user)
    assert "HEALTHCHECK" in DOCKERFILE
    assert "/readyz" in DOCKERFILE


def test_what_the_image_copies_reaches_its_builder() -> None:
    ignored = (DEPLOY.parent / ".dockerignore").read_text().splitlines()
    assert "*" in ignored
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, flags=re.MULTILINE)
    names = [name for line in copied for name in line.split()]
    assert names
    for name in names:
        assert (DEPLOY.parent / name).exists(), name
        assert f"!{name}" in ignored, name


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_a_container_has_no_more_rights_than_it_needs(name: str) -> None:
    service: dict[str, Any] = SERVICES[name]
    assert service["cap_drop"] == ["ALL"]
    assert "privileged" not in service
    assert service.get("read_only") or name == "orthanc"


def test_only_caddy_can_be_reached_from_outside() -> None:
    open_ports = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert set(open_ports) == {"caddy", "orthanc"}
    assert open_ports["orthanc"] == ["${DICOM_ADDRESS:-127.0.0.1}:4242:4242"]
    trusted = SERVICES["slem"]["command"][SERVICES["slem"]["command"].index("proxies") + 1]
    networks = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["networks"]
    assert networks["front"]["ipam"]["config"] == [{"subnet": trusted}]
    assert networks["front"]["internal"]
    assert networks["pacs"]["internal"]
