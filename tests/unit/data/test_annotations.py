"""The annotation format: worked examples, every refusal, and a fuzzer that only AnnotationError may leave."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps

from affectgrid.data.annotations import (
    Annotation,
    LabelFile,
    parse_lines,
    parse_sound,
    read_annotation,
    write_annotation,
)
from affectgrid.errors import AnnotationError


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("annotations") / "track.txt"


def test_a_file_is_read_line_by_line(path):
    path.write_text("valence,arousal\n0.5,-0.25\n-5,-5\n-5.2e-05,1\n-1,.5\n")
    annotation = read_annotation(path)
    np.testing.assert_array_equal(
        annotation.va, np.array([[0.5, -0.25], [0, 0], [-5.2e-05, 1], [-1, 0.5]], dtype=np.float32)
    )
    assert annotation.valid.tolist() == [True, False, True, True]
    assert annotation.num_frames == 4


@pytest.mark.parametrize(
    "data",
    [
        b"valence,arousal\n0.5,0.5",
        b"\xef\xbb\xbfvalence,arousal\r\n0.5,0.5\r\n",
        b"valence,arousal\n 0.5 ,\t+5e-1\n",
        b"Valence, Arousal\n0.50,0.5\n",
    ],
    ids=["no final newline", "BOM and CRLF", "blanks", "capitals"],
)
def test_harmless_variants_are_accepted(path, data):
    path.write_bytes(data)
    assert read_annotation(path).va.tolist() == [[0.5, 0.5]]


@pytest.mark.parametrize(
    ("data", "code", "line"),
    [
        (b"", "ANN-HEADER", 1),
        (b"0.5,0.5\n", "ANN-HEADER", 1),
        (b"arousal,valence\n0.5,0.5\n", "ANN-HEADER", 1),
        (b"valence,arousal\nvalence,arousal\n0,0\n", "ANN-HEADER", 2),
        (b"valence,arousal\n", "ANN-EMPTY", None),
        (b"valence,arousal\n0.5\n", "ANN-COLUMNS", 2),
        (b"valence,arousal\n0,0\n0.5,0.5,0.5\n", "ANN-COLUMNS", 3),
        (b"valence,arousal\n0,0\n\n0,0\n", "ANN-COLUMNS", 3),
        (b"valence,arousal\n0,0\n\n", "ANN-COLUMNS", 3),
        (b"valence,arousal\n0,0\n0,happy\n", "ANN-NUMBER", 3),
        (b"valence,arousal\n0,1_0\n", "ANN-NUMBER", 2),
        (b"valence,arousal\n0,0x1\n", "ANN-NUMBER", 2),
        ("valence,arousal\n0,٠\n".encode(), "ANN-NUMBER", 2),
        (b"valence,arousal\n0,\n", "ANN-NUMBER", 2),
        (b"valence,arousal\nnan,0\n", "ANN-FINITE", 2),
        (b"valence,arousal\n0,-Inf\n", "ANN-FINITE", 2),
        (b"valence,arousal\n0,1e999\n", "ANN-FINITE", 2),
        (b"valence,arousal\n-5,0.5\n", "ANN-HALF", 2),
        (b"valence,arousal\n0.5,-5.0\n", "ANN-HALF", 2),
        (b"valence,arousal\n0,1.0001\n", "ANN-RANGE", 2),
        (b"valence,arousal\n-5,-5\n-5,-5\n", "ANN-MASKED", None),
        ("valence,arousal\n0,0\n".encode("utf-16"), "ANN-ENCODING", None),
        (b"valence,arousal\n0,\xb50\n", "ANN-ENCODING", None),
        (b"valence,arousal\n0,0\n\0\0\0\0", "ANN-ENCODING", None),
    ],
)
def test_each_fault_is_named_with_its_line(path, data, code, line):
    path.write_bytes(data)
    with pytest.raises(AnnotationError) as caught:
        read_annotation(path)
    (problem,) = caught.value.problems
    assert problem.code == code
    assert problem.where == (f"{path}:{line}" if line else str(path))


@pytest.mark.parametrize(
    ("data", "code", "found", "hint"),
    [
        (b"arousal,valence\n0,0\n", "ANN-HEADER", "the columns are swapped", "swap them in every line"),
        (b"valence;arousal\n0;0\n", "ANN-HEADER", "not separated by a comma", "put commas between the columns"),
        (b"valence\tarousal\n0\t0\n", "ANN-HEADER", "not separated by a comma", "put commas between the columns"),
        (b'"valence","arousal"\n0,0\n', "ANN-HEADER", "names in quotes", "remove the quotes"),
        (b"frame,valence,arousal\n1,0,0\n", "ANN-HEADER", "3 columns", "keep only the columns"),
        (b"image_location,valence,arousal\nx/1.jpg,0,0\n", "ANN-HEADER", "3 columns", "keep only the columns"),
        (b"Neutral,Anger,Disgust\n0\n", "ANN-HEADER", "labels of expressions", "valence-arousal challenge"),
        (b"AU1,AU2\n0,1\n", "ANN-HEADER", "action units", "valence-arousal challenge"),
        (b"0.5,-0.25\n0,0\n", "ANN-HEADER", "numbers", "add the line valence,arousal before it"),
        (b"happy\n", "ANN-HEADER", "'happy'", "make valence,arousal the first line"),
        (b"\n <!DOCTYPE html>\n<title>Log in \xe9</title>", "ANN-HTML", "such as a login page", "log in"),
        (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "ANN-HTML", "XML page", "log in"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12\n",
            "ANN-POINTER",
            "a Git LFS pointer",
            "git lfs pull",
        ),
        (b"/annex/objects/SHA256E-s9--0.txt\n", "ANN-POINTER", "a git-annex pointer", "git annex get"),
        (b"{\\rtf1\\ansi valence,arousal}", "ANN-RTF", "rich text", "plain text"),
        (b"PK\x03\x04\0\0", "ANN-ARCHIVE", "archive", "unpack"),
        (b"valence,arousal\r0,0\r0,0\r", "ANN-CR", "CR alone (3 of them)", "tr "),
        (b"valence,arousal\n0,1.0000001\n", "ANN-RANGE", "1.0000001", "correct"),
        (b"valence,arousal\n-1.0000000000000002,0\n", "ANN-RANGE", "-1.0000000000000002", "correct"),
    ],
)  # fmt: skip
def test_what_is_no_annotation_is_named_for_what_it_is(path, data, code, found, hint):
    path.write_bytes(data)
    with pytest.raises(AnnotationError) as caught:
        read_annotation(path)
    (problem,) = caught.value.problems
    assert problem.code == code
    assert found in problem.found
    assert hint in problem.hint


def test_odd_lines_are_masked_where_that_is_asked_for(path, caplog):
    path.write_text("valence,arousal\n0.5,-0.5\nx,0\n1.5,0\n-5,0\nvalence,arousal\n\n1,2,3\nnan,0\n-5,-5\n0.25,1\n")
    with pytest.raises(AnnotationError, match=f"ANN-NUMBER {path}:3"):
        read_annotation(LabelFile(path))
    labels = read_annotation(LabelFile(path, "mask"))
    assert labels.valid.tolist() == [True, *[False] * 8, True]  # every line stays a frame
    assert labels.va[labels.valid].tolist() == [[0.5, -0.5], [0.25, 1]]
    assert (labels.va[~labels.valid] == 0).all()
    assert [problem.where.rpartition(":")[2] for problem in labels.odd] == ["3", "4", "5", "6", "7", "8", "9"]
    assert f"{path}: 7 of 10 lines masked, first ANN-NUMBER {path}:3: 'x'" in caplog.text


@pytest.mark.parametrize(
    ("data", "code"), [(b"arousal,valence\n0,0\n", "ANN-HEADER"), (b"valence,arousal\nx,0\n-5,-5\n", "ANN-MASKED")]
)
def test_masking_does_not_save_a_file_that_is_wrong_as_a_whole(path, data, code):
    path.write_bytes(data)
    with pytest.raises(AnnotationError, match=code):
        read_annotation(LabelFile(path, "mask"))


def test_an_encoding_error_tells_the_offset(path):
    path.write_bytes(b"valence,arousal\n0,\xff\n")
    with pytest.raises(AnnotationError, match="0xff at offset 18"):
        read_annotation(path)


def test_missing_file_folder_and_nul(tmp_path):
    for wrong in (tmp_path / "none.txt", tmp_path, tmp_path / "a\0b"):
        with pytest.raises(AnnotationError, match="ANN-MISSING"):
            read_annotation(wrong)


_piece = st.sampled_from(
    ["valence,arousal", "\n", "\r\n", "\r", ",", "-5", "-5,-5", "0.5,0.5", "-5.2e-05", "nan", "1e999", "1_0", "\0",
     "\ufeff", "٣", " ", "\t", "1" * 400, "-", "e", "\u2028", "\x1c", "infinity", "0x1p3"]
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.binary(max_size=200), st.lists(_piece | st.text(max_size=5), max_size=30).map("".join)))
def test_only_annotation_errors_leave_the_reader(path, content):
    data = content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass")
    for head in (b"", b"valence,arousal\n"):
        path.write_bytes(head + data)
        try:
            annotation = read_annotation(path)
        except AnnotationError:
            continue
        assert annotation.valid.any()
        assert np.isfinite(annotation.va).all()
        assert np.abs(annotation.va).max() <= 1
        assert annotation.num_frames == (head + data).count(b"\n") - (head + data).endswith(b"\n")


_values = nps.arrays(np.float32, st.tuples(st.integers(1, 20), st.just(2)), elements=st.floats(-1, 1, width=32))


@settings(max_examples=50, deadline=None)
@given(_values, st.data())
def test_what_is_written_is_read_back_exactly(path, va, data):
    valid = np.array(data.draw(st.lists(st.booleans(), min_size=len(va), max_size=len(va))))
    valid[0] = True
    va[~valid] = 0
    write_annotation(path, Annotation(va, valid))
    back = read_annotation(path)
    np.testing.assert_array_equal(back.va, va)
    np.testing.assert_array_equal(back.valid, valid)


_cell = st.one_of(
    st.sampled_from(["-5", "-5.0", "+.5", "1.", "-0", "1e-3", "5e-324", " 0.5", "0.5\t", '"0"', "'0'", "0x0", "00"]),
    st.sampled_from(["", "nan", "-5e0", "1_0", "0.1e", "1e400", "#0", "0;0", "\\0", "1e-400", "0.5\r", "-1e0"]),
    st.floats(-1, 1).map(repr),
    st.text("0159.eE+- \t", max_size=5),
)


@settings(max_examples=400, deadline=None)
@given(st.lists(st.lists(_cell, min_size=2, max_size=2).map(",".join), min_size=1, max_size=4), st.booleans())
def test_what_the_compiled_parser_takes_is_read_line_by_line_as_the_same(path, lines, ends):
    data = "\n".join(["valence,arousal", *lines, *([""] if ends else [])]).encode()
    compiled = parse_sound(data)
    if compiled is not None:
        odd = []
        by_line = parse_lines(LabelFile(path), data.decode().split("\n"), odd)
        assert odd == []
        np.testing.assert_array_equal(compiled, by_line)


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_sound_file_is_parsed_by_the_compiled_parser(end):
    data = f"\ufeffValence, Arousal{end}0.5,-.25{end}-5,-5{end}-5.2e-05, 1".encode()
    np.testing.assert_array_equal(parse_sound(data), np.array([[0.5, -0.25], [-5, -5], [-5.2e-05, 1]], np.float32))
    assert parse_sound(data + b"x") is None
