"""`quarry collection`, `get` and `delete`: what is asked of the server, and how it ends."""

import pytest

from quarry.v1 import collection_service_pb2 as pb
from quarry.v1 import types_pb2


def test_a_collection_is_made_as_its_schema_file_says(quarry, cli, tmp_path):
    (tmp_path / "s.toml").write_text('fields = [{name = "lang", type = "keyword"}]')
    ended = cli("collection", "create", "faq", "--schema", tmp_path / "s.toml", "--encoder", "none", "--json")
    assert (ended.status, ended.json["name"]) == (0, "faq")
    made = quarry.collections["faq"]
    assert (made.encoder, made.schema.fields[0].type) == ("none", pb.SCHEMA_FIELD_TYPE_KEYWORD)
    assert quarry.requests[-1].request_id


def test_without_a_schema_file_the_server_chooses(quarry, cli):
    assert cli("collection", "create", "faq").status == 0
    assert not quarry.collections["faq"].HasField("schema")


def test_a_wrong_field_is_named_in_one_line(quarry, cli):
    ended = cli("collection", "create", "FAQ")
    assert ended.status == 1
    assert ended.err == "quarry: INVALID_ARGUMENT: bad name (collection.name: is wrong)\n"


def test_all_pages_are_listed(quarry, cli):
    for name in ("a", "b", "c"):
        cli("collection", "create", name)
    assert [c["name"] for c in cli("collection", "list", "--json").json] == ["a", "b", "c"]
    assert all(name in cli("collection", "list").out for name in ("a", "b", "c"))


def test_show_says_which_arm_is_behind_and_which_has_stopped(quarry, cli):
    cli("collection", "create", "faq")
    quarry.lag, quarry.failing_arm = 5, "bm25"
    out = cli("collection", "show", "faq").out
    assert "bm25: its process ended" in out
    assert "dense: 4 writes behind" in out
    quarry.lag, quarry.encoding = 0, [(3, 9)]
    assert "dense: encoding 1 large document" in cli("collection", "show", "faq").out


def test_only_what_is_given_is_updated(quarry, cli):
    assert cli("collection", "update", "faq", "--reranker", "").status == 0
    assert list(quarry.requests[-1].update_mask.paths) == ["reranker"]
    assert cli("collection", "update", "faq").status == 2


def test_an_unproven_reranker_is_asked_for_and_shown_as_one(quarry, cli):
    for option in ([], ["--unproven"]):
        assert cli("collection", "update", "faq", "--reranker", "a-package", *option).status == 0
        assert quarry.requests[-1].unproven == bool(option)
    quarry.collections["faq"] = pb.Collection(name="faq", reranker="a-package", reranker_unproven=True)
    shown = cli("collection", "show", "faq").out
    assert "a-package (unproven: no verdict says that it helps)" in shown
    quarry.collections["faq"].cascade.add(model="small", depth=50)
    quarry.collections["faq"].cascade.add(depth=9)
    assert "small:50, :9 (unproven: no verdict says that it helps)" in cli("collection", "show", "faq").out
    quarry.collections["faq"].reranker_unproven = False
    assert "unproven" not in cli("collection", "show", "faq").out


def test_who_promotes_is_said_shown_changed_and_left_to_the_server(quarry, cli):
    assert cli("collection", "create", "faq", "--promotion", "despite_cautions").status == 0
    assert quarry.collections["faq"].promotion == pb.PROMOTION_POLICY_DESPITE_CAUTIONS
    assert "despite_cautions" in cli("collection", "show", "faq").out
    for said, left in (
        ("when_improved", pb.PROMOTION_POLICY_WHEN_IMPROVED),
        ("manual", pb.PROMOTION_POLICY_MANUAL),
        ("server", pb.PROMOTION_POLICY_UNSPECIFIED),
    ):
        assert cli("collection", "update", "faq", "--promotion", said).status == 0
        request = quarry.requests[-1]
        assert (list(request.update_mask.paths), request.collection.promotion) == (["promotion"], left)
    assert cli("collection", "update", "faq", "--promotion", "always").status == 2


def test_a_cascade_is_made_shown_changed_and_taken_away(quarry, cli):
    stages = ["--cascade", "small:200", "--cascade", ":20"]
    assert cli("collection", "create", "faq", *stages).status == 0
    made = [(stage.model, stage.depth) for stage in quarry.collections["faq"].cascade]
    assert made == [("small", 200), ("", 20)]
    assert "small:200, :20" in cli("collection", "show", "faq").out
    for options, left in ((stages, made), (["--cascade", ""], [])):
        assert cli("collection", "update", "faq", *options).status == 0
        request = quarry.requests[-1]
        assert list(request.update_mask.paths) == ["cascade"]
        assert [(stage.model, stage.depth) for stage in request.collection.cascade] == left


@pytest.mark.parametrize(("answer", "left"), [("y\n", []), ("n\n", ["faq"]), ("", ["faq"])])
def test_deleting_a_collection_asks_first(quarry, cli, answer, left):
    cli("collection", "create", "faq")
    ended = cli("collection", "delete", "faq", input=answer)
    assert (list(quarry.collections), ended.status) == (left, 1 if left else 0)


def test_yes_deletes_without_asking(quarry, cli):
    cli("collection", "create", "faq")
    assert cli("collection", "delete", "faq", "--yes").status == 0
    assert not quarry.collections


def test_check_ends_with_1_if_an_arm_differs(quarry, cli):
    assert cli("collection", "check", "faq").status == 0
    quarry.consistent = False
    ended = cli("collection", "check", "faq")
    assert ended.status == 1
    assert "a, b" in ended.out


def test_repair_waits_for_its_operation(quarry, cli):
    ended = cli("collection", "repair", "faq", "--json")
    assert (ended.status, ended.json["after"]["consistent"], quarry.polls) == (0, True, 2)


def test_a_document_is_shown_with_all_its_fields(quarry, cli):
    document = types_pb2.Document(id="d1", version=4)
    document.fields["tags"].list_value.values.add(string_value="x")
    document.fields["tags"].list_value.values.add(string_value="y")
    document.fields["open"].boolean_value = False
    quarry.documents["faq", "d1"] = document
    out = cli("get", "faq", "d1").out
    assert "x, y" in out
    assert "false" in out
    assert cli("get", "faq", "d1", "--json").json["version"] == "4"
    assert cli("get", "faq", "d2").status == 1


def test_deleting_what_is_not_there_is_said_and_ends_with_1(quarry, cli):
    quarry.documents["faq", "d1"] = types_pb2.Document(id="d1")
    ended = cli("delete", "faq", "d1", "d2", "--json")
    assert (ended.status, ended.json["deleted"]) == (1, 1)
    assert ended.json["failures"] == [{"id": "d2", "reason": "not found"}]


def test_the_server_can_be_named_before_and_after_the_command(quarry, cli, monkeypatch):
    monkeypatch.delenv("QUARRY_SERVER")
    assert cli("--server", quarry.address, "collection", "list", "--json").json == []
    assert cli("collection", "list", "--server", quarry.address, "--json").json == []
    assert cli("--server", "127.0.0.1:1", "collection", "list", "--server", quarry.address).status == 0


def test_a_server_that_is_not_there_is_one_line_with_what_to_type(cli):
    ended = cli("collection", "list", "--server", "127.0.0.1:1")
    assert (ended.status, ended.out) == (1, "")
    assert ended.err.startswith("quarry: UNAVAILABLE: ")
    assert "`quarry serve --data DIR`" in ended.err
    assert ended.err.count("\n") == 1


def test_an_interrupt_ends_with_130_and_no_traceback(cli, monkeypatch):
    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("quarry_cli.commands.collection.connect", interrupted)
    ended = cli("collection", "list")
    assert (ended.status, ended.out, ended.err) == (130, "", "quarry: interrupted\n")


def test_aliases_are_set_listed_and_deleted(quarry, cli):
    for name in ("first", "second"):
        quarry.collections[name] = pb.Collection(name=name)
    assert cli("collection", "alias", "list").out == "no aliases\n"
    assert cli("collection", "alias", "set", "shop", "first").out == "shop names first\n"
    assert cli("collection", "alias", "set", "shop", "first").out == "shop names first\n"
    assert cli("collection", "alias", "set", "shop", "second").out == "shop names second (before: first)\n"
    assert cli("collection", "alias", "list").out.split()[-3:][:2] == ["shop", "second"]
    (listed,) = cli("collection", "alias", "list", "--json").json
    assert (listed["name"], listed["collection"]) == ("shop", "second")
    assert cli("collection", "alias", "delete", "shop").status == 0
    gone = cli("collection", "alias", "delete", "shop")
    assert gone.status == 1
    assert "`quarry collection alias list` lists all" in gone.err


def test_a_collection_is_shown_with_its_aliases(quarry, cli):
    quarry.collections["first"] = pb.Collection(name="first", aliases=["a", "b"])
    assert "a, b" in cli("collection", "show", "first").out
