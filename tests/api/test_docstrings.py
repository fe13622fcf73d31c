"""What stands below a field is its text; it is read when somebody asks for it, and not when models are made."""

from types import new_class

from pydantic import BaseModel

from allotment_api.docstrings import texts


class Parent(BaseModel):
    one: int = 1
    """The first.

    In two paragraphs.
    """
    two: int = 2
    """The second."""
    three: int = 3


class Child(Parent):
    two: int = 4
    four: int = 5
    """The fourth."""


def test_fields_have_the_text_below_them_and_inherit_it_unless_they_are_given_anew() -> None:
    assert texts(Child) == {"one": "The first.\n\nIn two paragraphs.", "four": "The fourth."}


def test_a_class_within_a_function_is_found() -> None:
    class Here(BaseModel):
        one: int = 1
        """Here."""

    assert texts(Here) == {"one": "Here."}


def test_a_class_that_nobody_wrote_has_what_it_inherits() -> None:
    assert texts(new_class("Made", (Parent,))) == texts(Parent)
