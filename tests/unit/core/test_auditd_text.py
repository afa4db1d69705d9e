"""auditd records: fields as they were meant, and the records of one event put together."""

from __future__ import annotations

import pytest

from ashiato.core.attributes import attribute_of, leaves
from ashiato.core.auditd_text import command_line, event, fields, hidden_texts, is_record

_SERIAL = "msg=audit(1492037291.036:59)"
SYSCALL = f'type=SYSCALL {_SERIAL}: arch=c000003e syscall=59 comm="ls" exe="/usr/bin/ls" key=(null)'
EXECVE = f'type=EXECVE {_SERIAL}: argc=3 a0="sh" a1="-c" a2=6C73202D6C20222F746D7022'
TITLE = f"type=PROCTITLE {_SERIAL}: proctitle=7368002D63006C73"


def test_what_the_kernel_wrote_in_hex_is_decoded_where_it_writes_hex() -> None:
    assert fields(EXECVE)["a2"] == 'ls -l "/tmp"'
    assert fields(TITLE)["proctitle"] == "sh -c ls"
    # the registers of a system call are numbers, whatever they look like
    assert fields(f"type=SYSCALL {_SERIAL}: a0=6162 syscall=59 pid=1234")["a0"] == "6162"
    assert fields(f"type=PATH {_SERIAL}: name=FFFE inode=12")["name"] == "\ufffd\ufffd"


def test_fields_of_user_space_stand_beside_the_others() -> None:
    said = fields(f"type=USER_LOGIN {_SERIAL}: pid=1 msg='op=login acct=\"root\" addr=192.0.2.9 res=failed'")
    assert said == {
        "type": "USER_LOGIN", "serial": "59", "pid": "1", "op": "login", "acct": "root", "addr": "192.0.2.9",
        "res": "failed",
    }  # fmt: skip


def test_the_records_of_an_event_are_put_together() -> None:
    told = event([SYSCALL, EXECVE, TITLE])
    assert [value for name, value in told if name == "type"] == ["SYSCALL", "EXECVE", "PROCTITLE"]
    assert told.count(("serial", "59")) == 1
    assert command_line([SYSCALL, EXECVE, TITLE]) == 'sh -c ls -l "/tmp"'
    assert command_line([SYSCALL, TITLE]) == "sh -c ls"
    assert command_line([SYSCALL]) is None


def test_decoded_values_are_attributes_and_filters_are_told_of_them() -> None:
    assert attribute_of(EXECVE, "a2") == ['ls -l "/tmp"']
    assert ("proctitle", "sh -c ls") in list(leaves(TITLE))
    assert list(hidden_texts(EXECVE)) == ['ls -l "/tmp"']
    assert list(hidden_texts(SYSCALL)) == []
    assert list(hidden_texts("proctitle=7368")) == []


@pytest.mark.parametrize("text", ["", "type=", "type=x", "type=X msg=audit(1)", f"{_SERIAL}: type=X", "a=b"])
def test_other_text_is_no_record(text: str) -> None:
    assert not is_record(text)
    assert is_record(f"node=n1 {SYSCALL}")
