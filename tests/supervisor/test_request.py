import pytest
from hypothesis import given
from hypothesis import strategies as st

from vuosd.supervisor.request import Request, RequestError, command, pairs

word = st.binary(max_size=20).map(lambda text: text.replace(b"\0", b""))
words = st.lists(word, max_size=5)


def content(
    profile: bytes,
    name: bytes,
    arguments: list[bytes],
    environment: list[bytes],
    layer: tuple[bytes, ...] = (),
) -> bytes:
    options = [b"layer", b"%d" % len(layer), *layer] if layer else []
    return b"\0".join([b"profile", profile, b"name", name, *options, command(arguments, environment)])


@given(word, word, words.filter(bool), words)
def test_what_was_asked_is_read(
    profile: bytes, name: bytes, arguments: list[bytes], environment: list[bytes]
) -> None:
    request = Request(content(profile, name, arguments, environment))
    assert (request.profile, request.name) == (profile, name)
    assert (request.arguments, request.environment) == (arguments, environment)
    assert request.command == command(arguments, environment)
    assert (request.cow, request.on, request.store) == ([], b"", b"")
    assert request.plain == (not profile)


@given(words.filter(bool), words)
def test_options_of_layers(arguments: list[bytes], environment: list[bytes]) -> None:
    layer = (b"cow=/a=b", b"cow=.", b"on=x\ny", b"store=\xff")
    request = Request(content(b"", b"n", arguments, environment, layer))
    assert (request.cow, request.on, request.store) == ([b"/a=b", b"."], b"x\ny", b"\xff")
    assert not request.plain
    assert (request.arguments, request.environment) == (arguments, environment)
    assert request.command == command(arguments, environment)
    for bad in (b"cow", b"cow=", b"on=", b"other=1"):
        with pytest.raises(RequestError):
            Request(content(b"", b"n", arguments, environment, (bad,)))


@given(st.binary(max_size=60), st.integers(0, 80))
def test_anything_else_is_an_error(noise: bytes, cut: int) -> None:
    good = content(b"p", b"n", [b"a"], [b"b"])
    for data in (noise, good[: min(cut, len(good) - 1)], good + noise + b"x"):
        with pytest.raises(RequestError):
            Request(data)


def test_variables() -> None:
    request = Request(content(b"", b"", [b"x"], [b"A=1", b"A=2", b"odd", b"B=x=y", b"C=\xff"]))
    assert request.variables() == {"A": "1", "B": "x=y", "C": "\udcff"}
    assert pairs(request.variables().items()) == [b"A=1", b"B=x=y", b"C=\xff"]
