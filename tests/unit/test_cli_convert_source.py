"""Files, comments, includes, conditions and parameters of keepalived's configurations."""

from __future__ import annotations

from pathlib import Path

import pytest

from holdfast_api.errors import ConfigurationErrors
from holdfast_cli.convert import Input, convert
from holdfast_cli.convert.ledger import Ledger
from holdfast_cli.convert.source import Source, without_comment


def read(folder: Path, text: str, config_id: str = "n1") -> tuple[list[str], Ledger]:
    file = folder / "keepalived.conf"
    file.write_text(text, encoding="utf-8")
    ledger = Ledger()
    return [line.text for line in Source(config_id, ledger).read(file, file.read_bytes())], ledger


@pytest.mark.parametrize(
    ("line", "left"),
    [
        ("priority 100 # high", "priority 100 "),
        ("priority 100! high", "priority 100"),
        ('auth_pass "a#b!c" ! secret', 'auth_pass "a#b!c" '),
        (r'script "/bin/echo \"# in quotes\"" # out', r'script "/bin/echo \"# in quotes\"" '),
        ("auth_pass it's#1", "auth_pass it's"),
    ],
)
def test_a_comment_begins_outside_double_quotes(line: str, left: str) -> None:
    assert without_comment(line) == left


def test_condition_lines_count_for_their_config_id_alone_and_the_others_are_reported(tmp_path: Path) -> None:
    text = "@n1 priority 100\n@n2 priority 99\n@^n2 nopreempt\n@^n1 preempt_delay 3\nstate BACKUP\n"
    lines, ledger = read(tmp_path, text)
    assert lines == ["priority 100", "nopreempt", "state BACKUP"]
    assert [(note.place.line, note.keyword) for note in ledger.notes] == [(2, "@n2"), (4, "@^n1")]


def test_parameters_are_replaced_when_they_are_used(tmp_path: Path) -> None:
    text = (
        "$BASE=10.2.${SUB}\n$SUB=0\n${BASE}.100/32\n$SUB=10\n${BASE}.100/32\n"
        "$PRIORITY=240\npriority $PRIORITY\n$UNDEFINED ${UNDEFINED} $PRIORITYx\n$EMPTY=\nx${EMPTY}y\n"
    )
    lines, ledger = read(tmp_path, text)
    assert lines == ["10.2.0.100/32", "10.2.10.100/32", "priority 240", "$UNDEFINED ${UNDEFINED} $PRIORITYx", "xy"]
    assert ledger.notes == []


def test_predefined_parameters_have_keepalived_s_values(tmp_path: Path) -> None:
    lines, _ = read(tmp_path, 'a ${_PWD} ${_INSTANCE} "x${_HASH}y x${_BANG}y"\n', config_id="host7")
    assert lines == [f'a {tmp_path} host7 "x#y x!y"']


@pytest.mark.parametrize("name", ["_HASH", "_BANG"])
def test_what_begins_a_comment_begins_one_out_of_a_parameter_too(tmp_path: Path, name: str) -> None:
    assert read(tmp_path, f"$OFF=${{{name}}}\n$OFF use_vmac\npriority 12${{{name}}}0\n")[0] == ["priority 12"]


def test_a_definition_goes_on_after_a_comment_that_ends_in_a_backslash(tmp_path: Path) -> None:
    text = "$VI= \\\n a { \\\n# a remark \\\n b 1 # another \\\n } \\\n\n$VI\n"
    assert read(tmp_path, text)[0] == ["a {", "b 1", "}"]
    assert read(tmp_path, "$VI= # from here \\\n a\n$VI\n")[0] == ["a"]
    assert read(tmp_path, "$VI= \\\n a \\\n# it ends here\nb\n$VI\n")[0] == ["b", "a"]


@pytest.mark.parametrize(
    "text", ["~SEQ(H,$FROM,$TO)", "~SEQ (H,$FROM,${TO})", "~SEQ( H , 10 , $TO )", "~LST (H,10,11,12)"]
)
def test_repetitions_take_parameters_and_a_blank_before_the_parenthesis(tmp_path: Path, text: str) -> None:
    lines, _ = read(tmp_path, f"$FROM=10\n$TO=12\n{text} 192.0.2.${{H}}/24\n")
    assert lines == [f"192.0.2.{number}/24" for number in (10, 11, 12)]


def test_a_definition_of_several_lines_is_taken_up_line_by_line(tmp_path: Path) -> None:
    text = (
        "$VI= \\\n  vrrp_instance VI_${NUM} { \\\n    @n1 priority 130 \\\n    @n2 priority 120 \\\n  }\n"
        "$NUM=1\n$VI\n$NUM=2\n$VI\n"
    )
    lines, _ = read(tmp_path, text)
    assert lines == ["vrrp_instance VI_1 {", "priority 130", "}", "vrrp_instance VI_2 {", "priority 130", "}"]


def test_a_definition_under_a_condition_holds_only_where_the_condition_does(tmp_path: Path) -> None:
    text = "@n2 $X= \\\n  a \\\n  b\n$X\n"
    assert read(tmp_path, text, "n1")[0] == ["$X"]
    assert read(tmp_path, text, "n2")[0] == ["a", "b"]


def test_a_condition_may_come_out_of_a_parameter(tmp_path: Path) -> None:
    assert read(tmp_path, "$IF=@n1\n$IF priority 240\n")[0] == ["priority 240"]
    assert read(tmp_path, "$IF=@n2\n$IF priority 240\n")[0] == []


@pytest.mark.parametrize(
    ("line", "lines"),
    [
        ("~SEQ(N, 0, 3) 10.0.${N}.1", ["10.0.0.1", "10.0.1.1", "10.0.2.1", "10.0.3.1"]),
        ("~SEQ(N, 3) a$N", ["a1", "a2", "a3"]),
        ("~SEQ(N, 3) a${N}", ["a1", "a2", "a3"]),
        ("~SEQ(N, 5, -2, 0) a${N}", ["a5", "a3", "a1"]),
        ("~SEQx(N, 0x90, 0x10, 0xb0) fe80::${N}", ["fe80::90", "fe80::a0", "fe80::b0"]),
        ("~SEQ(A, 1, 2) ~SEQ(B, 3, 4) ${A}.${B}", ["1.3", "1.4", "2.3", "2.4"]),
        ("~LST(IP, 7, 9) 10.0.0.${IP}", ["10.0.0.7", "10.0.0.9"]),
        ("~LST({A, B}, {10,1},{20,4}) ${A}.${B}", ["10.1", "20.4"]),
    ],
)
def test_sequences_and_lists_repeat_the_rest_of_the_line(tmp_path: Path, line: str, lines: list[str]) -> None:
    assert read(tmp_path, line + "\n")[0] == lines


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("~SEQ(N) x", "must be ~SEQ(name, start, step, end)"),
        ("~SEQ(N, 1, 0, 5) x", "must have a step that is not 0"),
        ("~SEQ(N, a, 5) x", "must have whole numbers, not 'a'"),
        ("~SEQ(N, 0, 999999999) x", "must have at most 65536 values"),
        ("~LST({A, B}, {1}) x", "must have 2 values for each repetition"),
        ("~LST(A x", "must have a closing parenthesis"),
        ("~FOO(A) x", "must be ~SEQ(...), ~SEQx(...) or ~LST(...)"),
        ("priority ${_RANDOM 1 9}", "must be a number"),
        ("$A=x${A}\n${A}", "must not refer to itself"),
        ("auth_pass a\x07b", "has the control character '\\x07'"),
        ("includea missing.conf", "no file matches missing.conf"),
        ("include {a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}", "must have at most 8 braces"),
    ],
)
def test_what_cannot_be_read_is_an_error_with_its_line(tmp_path: Path, line: str, reason: str) -> None:
    _, ledger = read(tmp_path, "# first\n" + line + "\n")
    (error,) = ledger.errors
    assert error.file == f"{tmp_path}/keepalived.conf:{2 + line.count(chr(10))}"
    assert error.reason.startswith(reason)


def test_parameters_that_grow_without_end_are_an_error(tmp_path: Path) -> None:
    text = "".join(f"$A{n}=${{A{n + 1}}}${{A{n + 1}}}\n" for n in range(40)) + "$A40=x\n${A0}\n"
    lines, ledger = read(tmp_path, text)
    assert lines == []
    assert str(ledger.errors[0]).endswith("keepalived.conf:42: ${A40}: must not refer to itself, nor to 1000 others")


def test_includes_are_read_where_they_stand_relative_to_their_file(tmp_path: Path) -> None:
    (tmp_path / "conf.d" / "deep").mkdir(parents=True)
    (tmp_path / "conf.d" / "b.conf").write_text("b ${_PWD}\n")
    (tmp_path / "conf.d" / "a.conf").write_text("include deep/x.conf\na\n")
    (tmp_path / "conf.d" / "deep" / "x.conf").write_text("x ${_PWD}\n")
    lines, ledger = read(tmp_path, "first\ninclude conf.d/*.conf\nlast ${_PWD}\n")
    folder = tmp_path / "conf.d"
    assert lines == ["first", f"x {folder / 'deep'}", "a", f"b {folder}", f"last {tmp_path}"]
    assert ledger.notes == []


def test_an_include_expands_braces_as_csh_does(tmp_path: Path) -> None:
    for name in ("foo.conf", "foocat.conf", "bar.conf"):
        (tmp_path / name).write_text(name + "\n")
    lines, ledger = read(tmp_path, "include {foo{,cat,dog},bar}.conf\n")
    assert lines == ["foo.conf", "foocat.conf", "bar.conf"]
    assert [note.text.partition(";")[0] for note in ledger.notes] == ["no file matches foodog.conf"]


def test_an_include_that_finds_nothing_is_reported(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    lines, ledger = read(tmp_path, "include nothing*.conf\n@n1 include folder\npriority 1\n")
    assert lines == ["priority 1"]
    assert [(note.place.line, note.keyword) for note in ledger.notes] == [(1, "include"), (2, "include")]
    assert ledger.errors == []


def test_a_file_that_includes_itself_is_an_error_and_ends(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationErrors, match=r"keepalived\.conf:1: include: must not be nested more than 16 deep"):
        read(tmp_path, "include keepalived.conf\n")


def test_a_file_that_is_not_there_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationErrors, match=r"missing\.conf: cannot be read: No such file or directory"):
        convert([Input(tmp_path / "missing.conf")])


def test_other_encodings_are_welcome_in_comments_alone(tmp_path: Path) -> None:
    file = tmp_path / "keepalived.conf"
    ledger = Ledger()
    lines = Source("n1", ledger).read(file, b"state BACKUP # na\xefve\nauth_pass na\xefve\n")
    assert [line.text for line in lines] == ["state BACKUP"]
    assert str(ledger.errors[0]) == f"{file}:2: column 13: is not UTF-8 text"


def test_a_parameter_that_nothing_uses_is_reported(tmp_path: Path) -> None:
    _, ledger = read(tmp_path, "$USED=1\n$FORGOTTEN=2\npriority $USED\n")
    assert [(note.place.line, note.keyword) for note in ledger.notes] == [(2, "$FORGOTTEN")]
