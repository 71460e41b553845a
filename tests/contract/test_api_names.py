"""Holds the names of the API to what C#, C++, Go, Java, Kotlin, PHP, Python and Ruby can write."""

import builtins
import keyword
from collections import Counter
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path

import pytest
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor

import quarry.v1

MODULES = sorted(path.stem for path in Path(quarry.v1.__file__).parent.glob("*_pb2.py"))
FILES = [import_module(f"quarry.v1.{module}").DESCRIPTOR for module in MODULES]
MESSAGES: Sequence[Descriptor] = [m for file in FILES for m in file.message_types_by_name.values()]
ENUMS: Sequence[EnumDescriptor] = [e for file in FILES for e in file.enum_types_by_name.values()]

# C# and Go write fields with a capital, so that no reserved word of theirs can be one.
RESERVED = {
    "C++": """
        alignas alignof and and_eq asm auto bitand bitor bool break case catch char class compl concept
        const consteval constexpr constinit const_cast continue decltype default delete do double
        dynamic_cast else enum explicit export extern false float for friend goto if inline int long
        mutable namespace new noexcept not not_eq nullptr operator or or_eq private protected public
        register reinterpret_cast requires return short signed sizeof static static_assert static_cast
        struct switch template this thread_local throw true try typedef typeid typename union unsigned
        using virtual void volatile wchar_t while xor xor_eq
    """,
    "Java": """
        abstract assert boolean break byte case catch char class const continue default do double else
        enum extends false final finally float for goto if implements import instanceof int interface long
        native new null package private protected public return short static strictfp super switch
        synchronized this throw throws transient true try void volatile while
    """,
    "Kotlin": """
        as break class continue do else false for fun if in interface is null object package return super
        this throw true try typealias typeof val var when while
    """,
    "PHP": """
        abstract and array as break callable case catch class clone const continue declare default die do
        echo else elseif empty enddeclare endfor endforeach endif endswitch endwhile eval exit extends
        false final finally fn for foreach function global goto if implements include instanceof insteadof
        interface isset iterable list match mixed namespace never new null object or parent print private
        protected public readonly require return self static string switch throw trait true try unset use
        var void while xor yield
    """,
    "Python": " ".join(keyword.kwlist),
    # Ruby's messages answer by `method_missing`, so that a method of every object hides a field of its name.
    "Ruby": """
        alias and begin break case class def defined do else elsif end ensure false for if in module next
        nil not or redo rescue retry return self super then true undef unless until when while yield clone
        display dup extend freeze frozen hash inspect itself method methods object_id send tap to_enum
        to_h to_json to_proto to_s
    """,
}

# What a program that works with protobuf has imported, or has without an import, beside the API's own types.
TAKEN = {
    "com.google.protobuf": """
        Any Api BoolValue ByteString BytesValue Descriptors DoubleValue Duration Empty Enum EnumValue
        Extension Field FieldInfo FieldMask FieldSet FieldType FloatValue Int32Value Int64Value ListValue
        Message Method Mixin NullValue Option Parser Service SourceContext StringValue Struct Syntax
        Timestamp Type UInt32Value UInt64Value Value WireFormat
    """,
    "google.rpc and google.longrunning": """
        BadRequest Code DebugInfo ErrorInfo Help LocalizedMessage Operation OperationInfo Operations
        PreconditionFailure QuotaFailure RequestInfo ResourceInfo RetryInfo Status
    """,
    "java.lang": """
        Boolean Byte Character Class Comparable Compiler Deprecated Double Enum Error Exception Float
        Integer Iterable Long Math Module Number Object Override Package Process Record Runnable Runtime
        Short String System Thread Throwable Void
    """,
    "kotlin": "Any Array Char Function Int Lazy List Map Nothing Pair Result Set Triple Unit",
    "System": """
        Action Array Attribute Buffer Char Console Convert Delegate Environment Func Guid Index Lock
        Monitor Path Progress Random Range Stream Task Timer Tuple Uri ValueType Version
    """,
    "Python": " ".join(name for name in dir(builtins) if name[0].isupper()),
    "Ruby": "Array Class Comparable Data Exception Hash Integer Kernel Module Object Proc Time",
    "PHP": "Closure Exception Generator Iterator Traversable",
}

# Members that every message of C# has.
CSHARP_MEMBERS = frozenset(
    {
        "CalculateSize",
        "Clone",
        "Descriptor",
        "Equals",
        "Finalize",
        "GetHashCode",
        "GetType",
        "MemberwiseClone",
        "MergeFrom",
        "OnConstruction",
        "Parser",
        "ReferenceEquals",
        "ToString",
        "Types",
        "WriteTo",
    }
)


def _camel(name: str) -> str:
    return "".join(part[:1].upper() + part[1:] for part in name.split("_"))


def _members() -> Iterator[tuple[str, str]]:
    """Each field and each oneof that a person wrote, by its message."""
    for message in MESSAGES:
        yield from ((message.name, field.name) for field in message.fields)
        own = (oneof for oneof in message.oneofs if not oneof.name.startswith("_"))
        yield from ((message.name, oneof.name) for oneof in own)


@pytest.mark.parametrize("language", RESERVED)
def test_no_field_is_a_reserved_word(language: str) -> None:
    reserved = set(RESERVED[language].split())
    assert [f"{message}.{name}" for message, name in _members() if name in reserved] == []


@pytest.mark.parametrize("source", TAKEN)
def test_no_type_has_the_name_of_one_that_stands_beside_it(source: str) -> None:
    taken = set(TAKEN[source].split())
    assert [kind.name for kind in (*MESSAGES, *ENUMS) if kind.name in taken] == []


def test_types_differ_by_more_than_case_and_are_no_reserved_words() -> None:
    names = Counter(kind.name.lower() for kind in (*MESSAGES, *ENUMS))
    assert max(names.values()) == 1
    words = {word.lower() for language in ("PHP", "C++") for word in RESERVED[language].split()}
    assert not names.keys() & words


def test_properties_of_csharp_differ_from_their_class_and_from_members_of_all_messages() -> None:
    wrong = [(m, name) for m, name in _members() if _camel(name) in {m, *CSHARP_MEMBERS}]
    assert wrong == []


def test_getters_of_java_and_methods_of_cpp_are_unique() -> None:
    for message in MESSAGES:
        for accessors in (_java_getters, _cpp_methods):
            found = Counter(name for field in message.fields for name in accessors(field))
            found.update(f"get{_camel(oneof.name)}Case" for oneof in message.oneofs)
            assert not [name for name, count in found.items() if count > 1], message.name
            assert not found.keys() & {"getClass", "getDescriptor", "getParserForType"}, message.name


def _java_getters(field: FieldDescriptor) -> Iterator[str]:
    getter = f"get{_camel(field.name)}"
    yield getter
    if field.type == FieldDescriptor.TYPE_STRING:
        yield f"{getter}Bytes"
    if field.type == FieldDescriptor.TYPE_ENUM:
        yield f"{getter}Value"
    if field.type == FieldDescriptor.TYPE_MESSAGE:
        yield from (f"{getter}{end}" for end in ("Builder", "OrBuilder", "Map", "OrDefault", "OrThrow"))
    if field.is_repeated:
        yield from (f"{getter}{end}" for end in ("List", "Count"))


def _cpp_methods(field: FieldDescriptor) -> Iterator[str]:
    yield from (
        field.name,
        *(f"{verb}_{field.name}" for verb in ("add", "clear", "has", "mutable", "release", "set")),
    )
    if field.is_repeated:
        yield f"{field.name}_size"


def test_values_of_enums_say_their_enum() -> None:
    """C++ and C put them beside each other, where a bare `NULL` or `ERROR` would be a macro."""
    for enum in ENUMS:
        words = "".join(f"_{letter}" if letter.isupper() else letter.upper() for letter in enum.name).strip(
            "_"
        )
        assert all(value.name.startswith(f"{words}_") for value in enum.values), enum.name
