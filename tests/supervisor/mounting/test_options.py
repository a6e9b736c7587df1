import pytest

from vuosd.supervisor.mounting import options
from vuosd.supervisor.mounting.options import MS_BIND, MS_NODEV, MS_NOEXEC, MS_NOSUID, MS_RDONLY, MS_REC


def test_a_comma_after_a_backslash_is_no_separator() -> None:
    assert options.split(r"ro,name=a\,b,,x=\\,y") == ["ro", r"name=a\,b", r"x=\\", "y"]
    assert options.split("") == []


@pytest.mark.parametrize(
    ("words", "flags", "rest"),
    [
        (["ro", "nosuid", "rw+"], MS_RDONLY | MS_NOSUID, ["rw+"]),
        (["ro", "rw"], 0, []),
        (["defaults", "allow_other"], 0, ["allow_other"]),
        (["user", "exec"], MS_NOSUID | MS_NODEV, []),
        (["rbind"], MS_BIND | MS_REC, []),
    ],
)
def test_words_that_are_flags(words: list[str], flags: int, rest: list[str]) -> None:
    assert options.parse(words) == (flags, rest)


def test_words_take_away_what_the_flags_of_the_call_say() -> None:
    assert options.parse(["rw", "exec"], MS_RDONLY | MS_NOEXEC | MS_NODEV) == (MS_NODEV, [])


def test_shown_as_in_proc_mounts() -> None:
    data = "fd=5,rootmode=40000,user_id=7,group_id=8,allow_other"
    flags = MS_RDONLY | MS_NOSUID
    assert options.shown(flags, data) == "ro,nosuid,user_id=7,group_id=8,allow_other"


def test_the_magic_of_old_programs_is_no_flag() -> None:
    assert options.plain(0xC0ED0000 | MS_RDONLY) == MS_RDONLY
    assert options.plain(MS_RDONLY | MS_BIND) == MS_RDONLY | MS_BIND
