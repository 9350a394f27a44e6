"""Files of guests: what is read, what is refused and where, and the plans that follow from what is there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from guesthouse.errors import GuesthouseError
from guesthouse.model import domain as model
from guesthouse.model.network import Network
from guesthouse.provision.compose import definition, planning, presence, reading
from guesthouse.provision.compose.definition import Project
from guesthouse.provision.compose.presence import GuestThere, NetworkThere, There

_WHOLE = """\
name: shop
x-common: &common {image: debian-12, memory: 512, ssh_keys: [ssh-ed25519 AAAA me]}
networks:
  back: {subnet: [192.168.77.0/24, 'fd00:77::/64']}
  lan: {mode: bridge, bridge: br0}
  theirs: {external: true, name: office}
  free:
volumes:
  data: {size: 10G}
  old: {external: true, pool: big}
guests:
  web:
    <<: *common
    cpus: 4
    networks: [back, lan, default]
    publish: [8080:80, "127.0.0.1:53:53/udp"]
    depends_on: {db: {condition: service_healthy}}
    user_data: |
      #!/bin/sh
      echo $HOME
  db:
    <<: *common
    name: the-db
    memory: ${SIZE:-2}G
    disk: 20G
    networks: {back: {address: 192.168.77.9, mac: '52:54:0:0:0:1'}}
    volumes: data
    restart: unless-stopped
    wait: {for: port:5432, timeout: 60}
    vendor_data: {packages: [vim]}
"""


def read(text: str, folder: Path = Path("/srv/My Shop"), **variables: str) -> Project:
    return reading.from_text(text, folder / "guests.yaml", variables)


def test_what_is_read() -> None:
    project = read(_WHOLE)
    assert list(project.guests) == ["db", "web"], "who is waited for comes first"
    web, db = project.guests["web"], project.guests["db"]
    assert (web.name, web.hostname, web.memory, web.cpus) == ("shop-web", "web", 512, 4)
    assert (db.name, db.hostname, db.memory, db.disk, db.autostart) == ("the-db", "the-db", 2048, 20, True)
    assert [card.where for card in web.cards] == ["network=shop-back", "network=shop-lan", "default"]
    assert (db.cards[0].mac, str(db.cards[0].address)) == ("52:54:00:00:00:01", "192.168.77.9")
    assert [str(each) for each in web.publish] == ["tcp 8080", "udp 53 of 127.0.0.1"] and web.waits == {"db": "agent"}
    assert (db.ready, db.ready_timeout, db.crash_action, web.crash_action) == ("port:5432", 60, "restart", "destroy")
    assert web.documents["user-data"] == "#!/bin/sh\necho $HOME\n", "a script's dollars are its own"
    assert json.loads(db.documents["vendor-data"].removeprefix("#cloud-config\n")) == {"packages": ["vim"]}
    assert [str(net) for net in project.networks["back"].subnets] == ["192.168.77.1/24", "fd00:77::1/64"]
    assert project.networks["theirs"].name == "office" and project.volumes["old"].external
    assert read(_WHOLE, SIZE="3").guests["db"].memory == 3072
    assert read("guests: {a: {image: x}}").name == "myshop"
    # what "config" shows means the same
    shown = json.dumps(project.document())
    again = read(shown)
    assert again.document() == project.document() and again.guests == project.guests


@pytest.mark.parametrize(
    ("text", "where", "why"),
    [
        ("", "", "the file is empty"),
        ("a: [", "1:5", "this is no YAML"),
        ("- a", "1:1", "expected keys with values, found a list"),
        ("name: x", "1:1", "there is nothing below 'guests:'"),
        ("services: {a: {image: x}}", "1:1", "unknown key 'services'; here it is called 'guests'"),
        ("guests: {a: {image: x, memmory: 1G}}", "1:24", "guests.a: unknown key 'memmory'; did you mean 'memory'?"),
        ("guests: {a: {image: x, ports: [80]}}", "1:24", "here it is called 'publish'"),
        ("guests:\n  a: {cpus: 2}", "2:3", "guests.a: a guest needs an image, such as 'image: debian-12'"),
        ("guests: {a: {image: x, memory: 8}}", "1:24", "guests.a.memory: 8 MiB of memory are too few; was 8G meant?"),
        ("guests: {a: {image: x, memory: lots}}", "1:24", "'lots' is no size, such as 512M or 10G"),
        ("guests: {a: {image: x, cpus: 0}}", "1:24", "'0' is no whole number of at least 1"),
        ("guests: {a: {image: x, cpus: [2]}}", "1:24", "guests.a.cpus: expected a text, found a list"),
        ("guests: {a: {image: x, restart: allways}}", "1:24", "did you mean 'always'?"),
        ("guests: {a: {image: x, autostart: maybe}}", "1:24", "'maybe' is neither true nor false"),
        ("guests: {a: {image: x}, a: {image: y}}", "1:25", "guests.a: stands twice (first in line 1)"),
        ("guests: {a_b: {image: x}}", "1:10", "'myshop-a_b' cannot be the name of a guest and a host"),
        ("guests: {a: {image: x, networks: [bakc]}}\nnetworks: {back: }", "1:35", "did you mean 'back'?"),
        ("guests: {a: {image: x, networks: [none, user]}}", "1:24", "'none' stands alone"),
        (
            "guests: {a: {image: x, networks: {n: {address: 10.0.0.9}}}}\nnetworks: {n: }",
            "1:35",
            "is in no subnet of 'n'",
        ),
        ("guests: {a: {image: x, networks: user, publish: ['80']}}", "1:40", "on a virtual network alone"),
        (
            "guests: {a: {image: x, publish: ['80/sctp']}}",
            "1:34",
            "guests.a.publish[0]: '80/sctp' is no port to publish",
        ),
        (
            "guests: {a: {image: x, publish: ['80']}, b: {image: x, publish: ['70-90']}}",
            "1:56",
            "port tcp 70-90 is published twice, by 'a' as well",
        ),
        ("guests: {a: {image: x, volumes: [v]}}", "1:34", "there is no 'v' below 'volumes:'"),
        ("volumes: {v: {pool: p}}\nguests: {a: {image: x}}", "1:11", "a volume needs a size"),
        ("networks: {n: {subnet: 10.0.0.0/31}}\nguests: {a: {image: x}}", "1:16", "no room for guests"),
        ("networks: {n: {mode: bridge}}\nguests: {a: {image: x}}", "1:12", "mode bridge needs 'bridge:'"),
        ("networks: {n: {external: true, mode: nat}}\nguests: {a: {image: x}}", "1:32", "is left as it is"),
        ("guests: {a: {image: x, depends_on: [b]}}", "1:24", "there is no guest 'b'"),
        (
            "guests: {a: {image: x, depends_on: b}, b: {image: x, depends_on: a}}",
            "1:24",
            "guests wait for each other: a -> b -> a",
        ),
        ("guests: {a: {image: x, wait: adress}}", "1:24", "did you mean 'address'?"),
        ("guests: {a: {image: '${NO}'}}", "1:14", "guests.a.image: the variable NO is not set"),
        ("guests: {a: {image: '${NO:?say which}'}}", "1:14", "the variable NO is not set: say which"),
        ("guests: {a: {image: a$}}", "1:14", "a '$' alone"),
        ("guests: {a: {image: x, ssh_keys: /none}}", "1:24", "the key's file '/none' cannot be read"),
        ("guests: {a: {image: x, user_data: 'none.yaml'}}", "1:24", "cannot be read: No such file"),
        ('guests: {a: {image: x, user_data: "a: 1\\nb: 2"}}', "1:24", "user-data begins with '#cloud-config' or '#!'"),
        ("guests: {a: {image: x, name: n}, b: {image: x, name: n}}", "1:34", "is called 'n' on the host, as 'a' is"),
    ],
)
def test_what_is_refused(text: str, where: str, why: str) -> None:
    with pytest.raises(GuesthouseError) as caught:
        read(text)
    lines = str(caught.value).splitlines()
    assert any(line.startswith(f"/srv/My Shop/guests.yaml:{where}") and why in line for line in lines), lines


def test_all_that_is_wrong_is_said_at_once() -> None:
    with pytest.raises(GuesthouseError) as caught:
        read("guests:\n  b: {image: x, cpu: 1, memory: x}\n  a: {}\nnetworks: {n: {mode: x}}\n")
    places = [line.split(":")[1] for line in str(caught.value).splitlines()]
    assert places == ["2", "2", "3", "4"]


# -- plans

_GUEST = """<domain type='qemu'><name>{name}</name><memory>{memory}</memory><vcpu>{cpus}</vcpu><devices>
<disk type='file' device='disk'><source file='/pool/{name}.qcow2'/><target dev='vda' bus='virtio'/></disk>
{devices}</devices></domain>"""
_CARD = "<interface type='network'><mac address='52:54:00:00:00:09'/><source network='{}'/></interface>"


def there_of(project: Project, *, running: bool = True) -> There:
    """A host that has all that ``project`` says."""
    there = There("host", pools={"default": "/pool"}, images=["debian-12"])
    for net in project.networks.values():
        found = planning.network_document(project, net, there)
        there.networks[net.name] = NetworkThere(net.name, True, found, found.copy(), autostart=True)
    for volume in project.volumes.values():
        there.volumes["default", volume.name] = volume.size
    for guest in project.guests.values():
        there.volumes["default", f"{guest.name}.qcow2"] = int((guest.disk or 2) * 2**30)
        devices = "".join(_CARD.format(card.where.removeprefix("network=")) for card in guest.cards)
        for key in guest.volumes:
            path = f"/pool/{project.volumes[key].name}"
            devices += f"<disk type='file' device='disk'><source file='{path}'/><target dev='vdc' bus='virtio'/></disk>"
        text = _GUEST.format(name=guest.name, memory=guest.memory << 10, cpus=guest.cpus, devices=devices)
        config = model.Domain.from_xml(text)
        config.on_crash = guest.crash_action
        live = model.Domain.from_xml(config.to_xml()) if running else None
        made = GuestThere(guest.name, guest.key, project.file, guest.made_from(), config, live, guest.autostart)
        made.disk = there.volumes["default", f"{guest.name}.qcow2"]
        there.guests[guest.name] = made
    return there


_BASE = """\
name: p
networks: {n: {subnet: 10.1.0.0/24}}
volumes: {v: {size: 1G}}
guests:
  a: {image: debian-12, networks: [n], volumes: [v], disk: 4G}
  b: {image: debian-12, depends_on: [a]}
"""


def lines(plan: planning.Plan) -> list[str]:
    return [str(step) for step in plan.steps] + [f"note {text}" for text in plan.notes]


def test_nothing_and_everything() -> None:
    project = read(_BASE)
    assert lines(planning.up(project, there_of(project), only=[])) == []
    assert lines(planning.up(project, there_of(project, running=False), only=[])) == [
        "~ guest   p-a  started",
        "~ guest   p-b  started",
    ]
    empty = There("host", pools={"default": "/pool"})
    assert lines(planning.up(project, empty, only=[])) == [
        "+ network p-n  nat, 10.1.0.0/24",
        "+ volume  default/p-v.qcow2  1 GiB, qcow2",
        "+ guest   p-a  debian-12 (which is fetched), 2 processors, 1 GiB, a disk of 4 GiB, on n",
        "+ guest   p-b  debian-12 (which is fetched), 2 processors, 1 GiB, on default",
    ]
    assert [step.name for step in planning.up(project, empty, only=["b"]).steps][-2:] == ["p-a", "p-b"]
    with pytest.raises(GuesthouseError, match="there is no guest 'c' in it"):
        planning.up(project, empty, only=["c"])


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("disk: 4G}", "disk: 4G, memory: 512M}", ["~ guest   p-a  memory 1 GiB -> 512 MiB"]),
        ("disk: 4G}", "disk: 8G}", ["~ guest   p-a  disk 4 GiB -> 8 GiB"]),
        (
            "disk: 4G}",
            "disk: 2G}",
            ["note guest p-a: its disk of 4 GiB is larger than 2 GiB: --recreate makes it anew, and its disk is lost"],
        ),
        (
            "disk: 4G}",
            "disk: 4G, memory: 2G, cpus: 4}",
            [
                "~ guest   p-a  memory 1 GiB -> 2 GiB (at its next start); processors 2 -> 4 (at its next start)",
                "note guest p-a: memory 2 GiB and 4 processors at its next start, or --restart",
            ],
        ),
        (
            "networks: [n], volumes: [v]",
            "networks: [default]",
            ["~ guest   p-a  off network=p-n; on network=default; without volume v"],
        ),
        ("disk: 4G}", "disk: 4G, publish: ['80']}", ["~ guest   p-a  port 80 on p-n"]),
        ("disk: 4G}", "disk: 4G, restart: always}", ["~ guest   p-a  starts with the host; after a crash: restart"]),
        (
            "a: {image: debian-12",
            "a: {image: debian-13",
            ["note guest p-a: image debian-12 -> debian-13: --recreate makes it anew, and its disk is lost"],
        ),
        ("size: 1G", "size: 2G", ["~ volume  default/p-v.qcow2  1 GiB -> 2 GiB"]),
        ("size: 1G", "size: 512M", ["note volume default/p-v.qcow2 has 1 GiB, and is not made smaller (512 MiB)"]),
        (
            "subnet: 10.1.0.0/24",
            "subnet: 10.1.0.0/24, domain: d",
            ["~ network p-n  domain none -> d; when it starts next: guests are on it"],
        ),
        (
            "networks: [n]",
            "networks: {n: {address: 10.1.0.7}}",
            ["~ network p-n  10.1.0.7 is a's"],
        ),
        ("  b: {image: debian-12, depends_on: [a]}\n", "", ["- guest   p-b  it is not in the file; its disk is kept"]),
        (
            "  b: {",
            "  c: {",
            [
                "- guest   p-b  it is not in the file; its disk is kept",
                "+ guest   p-c  debian-12, 2 processors, 1 GiB, on default",
            ],
        ),
    ],
)
def test_what_changes(old: str, new: str, expected: list[str]) -> None:
    there = there_of(read(_BASE))
    live = there.networks["p-n"].live
    assert live is not None
    live.connections = 1
    assert lines(planning.up(read(_BASE.replace(old, new)), there, only=[])) == expected


def test_what_flags_do_and_what_is_left() -> None:
    project = read(_BASE.replace("disk: 4G}", "disk: 4G, cpus: 1}"))
    there = there_of(read(_BASE))
    there.guests["p-a"].config = model.Domain.from_xml(there.guests["p-a"].config.to_xml().replace(">2<", ">1<"))
    assert lines(planning.up(project, there, only=[], restart=True)) == ["~ guest   p-a  restarted; for 1 processor"]
    other = read(_BASE.replace("a: {image", "a: {hostname: x, image"))
    assert lines(planning.up(other, there_of(project), only=["a"], recreate=True)) == [
        "! guest   p-a  made anew; hostname differs; what is on its disk is lost"
    ]
    # a crash between the two halves of that
    there = there_of(project)
    there.guests["p-a"].disk = None
    assert lines(planning.up(project, there, only=[], recreate=True)) == ["! guest   p-a  made anew; its disk is gone"]
    there.guests["p-a"].live = None
    assert lines(planning.up(project, there, only=[])) == ["note guest p-a: its disk is gone: --recreate makes it anew"]


def test_what_goes_and_what_stays() -> None:
    project = read(_BASE)
    there = there_of(project)
    assert lines(planning.down(project, there)) == [
        "- guest   p-b  its disk is kept",
        "- guest   p-a  its disk is kept",
        "- network p-n",
        "note kept: p-a.qcow2, p-b.qcow2, default/p-v.qcow2 (--volumes removes them, too)",
    ]
    there.plugged["network=p-n"] = ["p-a", "theirs"]
    del there.guests["p-b"]
    assert lines(planning.down(project, there, volumes=True)) == [
        "- guest   p-a  with its disk",
        "- volume  default/p-b.qcow2",
        "- volume  default/p-v.qcow2",
        "note network p-n is kept: theirs has a card on it",
    ]
    for name, change in (
        ("network 'p-n'", lambda t: setattr(t.networks["p-n"], "own", False)),
        ("guest 'p-a'", _others),
    ):
        there = there_of(project)
        change(there)
        with pytest.raises(GuesthouseError, match=f"there is a {name}, which project 'p' has not made"):
            planning.up(project, there, only=[])


def _others(there: There) -> None:
    there.others.append(there.guests.pop("p-a").name)


def test_networks_as_documents() -> None:
    project = read("networks: {one: , two: }\nguests: {a: {image: x}}")
    there = There("host")
    theirs = Network.from_xml("<network><name>x</name><ip address='192.168.130.1' prefix='24'/></network>")
    there.networks["x"] = NetworkThere("x", False, theirs)
    found = planning.network_document(project, project.networks["one"], there)
    assert found.ips[0].address == "192.168.131.1"
    assert (found.ips[0].dhcp.ranges[0].start, found.ips[0].dhcp.ranges[0].end) == ("192.168.131.2", "192.168.131.254")  # type: ignore[union-attr]
    assert found.uuid == definition.uuid_of("host", "myshop", "network", "myshop-one")
    assert (
        presence.place(
            model.Domain.from_xml(_GUEST.format(name="a", memory=1, cpus=1, devices=_CARD.format("n"))).dev.interfaces[
                0
            ]
        )
        == "network=n"
    )
