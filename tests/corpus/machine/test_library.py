from __future__ import annotations

from itertools import islice

from corpus.machine.library import library_documents, manual_documents


def test_the_first_files_are_a_fair_sample_of_the_library() -> None:
    first = {document.name[0] for document in islice(library_documents(), 200)}
    assert {"a", "s", "u"} <= first


def test_there_are_no_tests_and_no_tables_in_it() -> None:
    folders = {part for each in library_documents() for part in each.name.split("/")[:-1]}
    assert "json" in folders
    assert not folders & {"test", "tests", "encodings", "pydoc_data", "site-packages"}


def test_the_manual_explains_the_language() -> None:
    topics = {document.name: document.text for document in manual_documents()}
    assert "expression" in topics["lambda"]
