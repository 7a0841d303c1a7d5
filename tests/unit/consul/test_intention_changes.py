"""Which intentions are missing, which are stale, and whose they are."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcpmesh.consul.decoding import intentions
from mcpmesh.consul.intention_changes import (
    all_ours_without_ids,
    mentions_source,
    missing_and_stale,
    policy_digest,
    with_source,
    without_source,
)
from mcpmesh.model.observed_state import Intention

OURS = "written by mcpmesh (m)"


def listed(**changes: Any) -> Intention:
    item = {"ID": "1", "SourceName": "a", "DestinationName": "files", "Action": "allow", "Description": OURS}
    (found,) = intentions([{**item, **changes}])
    return found


def ours(source: str, id_: str = "1", destination: str = "files") -> Intention:
    return Intention(id_, source, destination, "allow", "m")


def theirs(source: str, action: str = "deny", id_: str = "1") -> Intention:
    return Intention(id_, source, "files", action, None)


def test_a_wanted_source_without_an_intention_is_missing() -> None:
    present = (ours("a"), ours("b", destination="other"), theirs("c"))
    assert missing_and_stale(["a", "b", "c"], "files", present, "m") == (["b"], [])


def test_our_intention_for_an_unwanted_source_is_stale() -> None:
    present = (ours("a"), ours("b"), ours("b", destination="other"), theirs("c", "allow"))
    assert missing_and_stale(["a"], "files", present, "m") == ([], [ours("b")])


def test_another_meshs_intention_is_neither_missing_nor_stale() -> None:
    present = (Intention("1", "a", "files", "allow", "other"),)
    assert missing_and_stale(["a"], "files", present, "m") == ([], [])
    assert missing_and_stale([], "files", present, "m") == ([], [])


def test_ours_without_ids_are_missing_unless_the_destination_has_intentions_of_others() -> None:
    lost = (ours("a", ""), ours("b", ""))
    assert missing_and_stale(["a", "b"], "files", lost, "m") == (["a", "b"], [])
    assert missing_and_stale(["a"], "files", lost, "m") == (["a"], [ours("b", "")])
    assert missing_and_stale(["a"], "files", (ours("a", ""), ours("b")), "m") == (["a"], [ours("b")])
    assert missing_and_stale(["a", "b"], "files", (*lost, theirs("c", id_="")), "m") == ([], [])


def test_every_intention_for_a_service_or_for_all_changes_its_policy_digest() -> None:
    intentions = (ours("a"), theirs("b"))
    more = [
        theirs("c"),
        Intention("9", "a", "*", "deny", None),
        Intention("9", "a", "files", "permissions", None, "some rules"),
        Intention("9", "a", "files", "permissions", None, "other rules"),
    ]
    digests = {policy_digest("files", (*intentions, another)) for another in more}
    assert len({policy_digest("files", intentions), *digests}) == 5
    assert policy_digest("files", (*intentions, Intention("9", "a", "other", "deny", None))) == policy_digest(
        "files", intentions
    )


_INTENTIONS = st.lists(
    st.builds(
        Intention,
        st.sampled_from(["", "1"]),
        st.sampled_from("abc"),
        st.sampled_from(["files", "other"]),
        st.sampled_from(["allow", "deny", "permissions"]),
        st.sampled_from([None, "m", "other"]),
    ),
    unique_by=lambda intention: (intention.source, intention.destination),
)


@given(_INTENTIONS, st.sets(st.sampled_from("abcd")))
def test_an_intention_of_a_person_is_never_missing_or_stale(present: list[Intention], allow: set[str]) -> None:
    missing, stale = missing_and_stale(allow, "files", tuple(present), "m")
    people = {intention.source for intention in present if intention.destination == "files" and intention.owner != "m"}
    assert not people & set(missing)
    assert all(intention.owner == "m" and intention.source not in allow for intention in stale)


@given(_INTENTIONS, st.sets(st.sampled_from("abcd")))
def test_after_one_pass_nothing_is_missing_or_stale(present: list[Intention], allow: set[str]) -> None:
    missing, stale = missing_and_stale(allow, "files", tuple(present), "m")
    remaining = [i for i in present if i not in stale and not (i.destination == "files" and i.source in missing)]
    after = (*remaining, *(ours(source) for source in missing))
    assert missing_and_stale(allow, "files", after, "m") == ([], [])


def test_only_an_allow_with_our_description_is_ours() -> None:
    assert listed().owner == "m"
    assert listed(Action="deny").owner is None
    rules = listed(Action="", Permissions=[{}])
    assert rules == Intention("1", "a", "files", "permissions", None, rules.rules)
    assert listed(Description="not written by mcpmesh (m)").owner is None
    assert listed(Description="written by mcpmesh (m), and changed").owner is None
    assert listed(Description="").owner is None


def test_a_peers_source_is_not_the_local_one_of_that_name() -> None:
    assert listed(SourcePeer="east").source == "east/a"


BY_HAND = {"Name": "x", "Type": "consul", "Action": "deny", "Description": "mine", "Precedence": 9}
ENTRY = {"Kind": "service-intentions", "Name": "files", "Meta": {"k": "v"}, "Sources": [BY_HAND], "ModifyIndex": 7}


def test_adding_and_removing_a_source_leaves_the_entry_as_it_was() -> None:
    added = {"Name": "a", "Type": "consul", "Action": "allow", "Description": OURS}
    merged = with_source(ENTRY, "a", "m")
    assert merged == {
        "Kind": "service-intentions",
        "Name": "files",
        "Meta": {"k": "v"},
        "Sources": [BY_HAND, added],
    }
    assert without_source(merged, "a", "m")["Sources"] == [BY_HAND]
    assert without_source(merged, "x", "m")["Sources"] == [BY_HAND, added]
    assert without_source(merged, "a", "other")["Sources"] == [BY_HAND, added]


def test_a_source_of_a_peer_is_neither_mentioned_nor_removed() -> None:
    peers = {"Name": "a", "Peer": "east", "Action": "allow", "Description": OURS}
    entry = {**ENTRY, "Sources": [peers]}
    assert not mentions_source(entry, "a") and mentions_source({**ENTRY, "Sources": [{"Name": "a"}]}, "a")
    assert not mentions_source({**ENTRY, "Sources": [{"Name": "b"}]}, "a")
    assert without_source(entry, "a", "m")["Sources"] == [peers]


@pytest.mark.parametrize(
    ("sources", "expected"),
    [
        ([{"Action": "allow", "Description": OURS}], True),
        ([{"Action": "allow", "Description": OURS, "LegacyID": "1"}], False),
        ([{"Action": "allow", "Description": OURS}, {"Action": "allow", "Description": OURS, "LegacyID": "1"}], True),
        ([{"Action": "allow", "Description": OURS}, {"Action": "allow"}], False),
        ([{"Action": "deny", "Description": OURS}], False),
    ],
)
def test_an_entry_is_rewritten_only_if_all_its_sources_are_ours_and_one_lacks_an_id(
    sources: list[dict[str, str]], expected: bool
) -> None:
    assert all_ours_without_ids({"Sources": sources}, "m") is expected
