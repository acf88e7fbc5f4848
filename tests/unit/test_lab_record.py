"""The record of what a lab made."""

from __future__ import annotations

import threading

import pytest

from holdfast_api.errors import ConfigurationError, EnvironmentFailure
from holdfast_lab.processes import ProcessIdentity
from holdfast_lab.record import (
    Failure,
    HostRecord,
    LabRecord,
    LabStore,
    existing_labs,
    namespace_name,
)


def record(name="lab"):
    def host(called):
        return HostRecord(
            name=called,
            namespace=namespace_name(name, called),
            port="port1",
            mac_address="02:00:00:00:00:01",
            addresses=[],
        )

    return LabRecord(
        name=name,
        interface="eth0",
        virtual_ips=["default/web"],
        virtual_addresses=["10.77.0.200"],
        ports=[80],
        probed_ports=[],
        hosts=[host("n1"), host("n2")],
        client=host("client"),
    )


def test_what_is_saved_is_loaded(tmp_path):
    store, made = LabStore("lab", tmp_path), record()
    made.hosts[0].failures.append(Failure.FREEZE)
    made.hosts[1].router = ProcessIdentity(7, 99)
    assert not store.exists()
    store.save(made)
    assert store.exists()
    assert store.load() == made
    assert existing_labs(tmp_path) == ["lab"]


def test_a_lab_that_is_not_up_is_told_with_what_makes_one(tmp_path):
    with pytest.raises(ConfigurationError, match=r"^no lab lab is up: `holdfast lab up FILE` makes one$"):
        LabStore("lab", tmp_path).load()
    with pytest.raises(ConfigurationError, match="up FILE --name other"):
        LabStore("other", tmp_path).load()


def test_a_record_that_is_none_is_an_error_of_the_machine(tmp_path):
    store = LabStore("lab", tmp_path)
    store.save(record())
    (store.folder / "lab.json").write_text("{")
    with pytest.raises(EnvironmentFailure, match="is no record of a lab"):
        store.load()


def test_removing_leaves_nothing_of_the_lab_and_everything_else(tmp_path):
    store, other = LabStore("lab", tmp_path), LabStore("other", tmp_path)
    store.save(record())
    other.save(record("other"))
    store.state_directory("n1").mkdir(parents=True)
    (store.state_directory("n1") / "state.json").write_text("{}")
    store.remove()
    store.remove()
    assert existing_labs(tmp_path) == ["other"]
    assert [entry.name for entry in tmp_path.iterdir()] == ["other"]


@pytest.mark.parametrize("name", ["", "-a", "a-", "A", "a/b", "..", "x" * 33, "a b"])
def test_names_that_cannot_be_part_of_a_path_are_refused(name):
    with pytest.raises(ConfigurationError, match="must be 1 to 32 lower case letters"):
        LabStore(name)


def test_a_host_is_found_by_name_and_the_client_too():
    made = record()
    assert made.host("n2") is made.hosts[1]
    assert made.host("client") is made.client
    with pytest.raises(ConfigurationError, match="n3: lab lab has no such host: it has n1, n2, client"):
        made.host("n3")


def test_a_folder_of_labs_that_cannot_be_made_is_an_error_of_the_machine(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(EnvironmentFailure, match="cannot be made"), LabStore("lab", tmp_path / "file").lock_all():
        pass


def test_a_lab_that_is_not_up_cannot_be_changed(tmp_path):
    with pytest.raises(ConfigurationError, match="no lab lab is up"), LabStore("lab", tmp_path).lock():
        pass


def test_a_lab_is_changed_by_one_at_a_time(tmp_path):
    store = LabStore("lab", tmp_path)
    store.save(record())
    order = []

    def second():
        with store.lock():
            order.append("second")

    with store.lock():
        waiting = threading.Thread(target=second)
        waiting.start()
        order.append("first")
    waiting.join(10)
    assert order == ["first", "second"]
