from __future__ import annotations

import pytest

from securecfg.errors import InvalidPolicy
from securecfg.policy import Document, compile_policy
from securecfg.policy.rules import complaint

P = "permit (principal, action, resource)"


def refusal(text: str, kind: str = "cedar") -> InvalidPolicy:
    with pytest.raises(InvalidPolicy) as caught:
        compile_policy([Document("p.cedar", kind, text)])  # type: ignore[arg-type]  # two of its values
    assert caught.value.code == "invalid-policy"
    return caught.value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"{P};", "p.cedar:1:1: a policy has no `@id`"),
        (f'@id("") {P};', "p.cedar:1:1: a policy has no `@id`"),
        (f"@id {P};", "p.cedar:1:1: a policy has no `@id`"),
        (f'@id("a b") {P};', "p.cedar:1:1: the id of a rule has a space"),
        (f'@id("admin") {P};', "p.cedar:1:1: the id `admin` is that of the built-in rule"),
        (f'@id("a") {P};\n  @id("a") {P};', "p.cedar:2:3: the id `a` is already at p.cedar:1:1"),
        (f'@id("a") @id("b") {P};', "p.cedar:1:"),
        (f'@id("a") {P}', "p.cedar:1:46: `;` is missing at the end of a policy"),
        (f'@id("a") {P} when {{\n  1 +\n}};', "p.cedar:3:1: unexpected token `}`"),
        (f'@id("a") {P};\n@id("b") {P} wenn {{ true }};', "p.cedar:2:47: invalid policy condition: wenn"),
        (f'@id("a") {P} when {{ x }};', "p.cedar:1:54: invalid variable: x"),
        (f'@id("a") {P} when {{ foo(1) }};', "p.cedar:1:54: `foo` is not a valid function"),
        (f'@id("a") {P} when {{ context.foo() }};', "p.cedar:1:62: `foo` is not a valid method"),
        ('@id("a") permit (principal = User::"a", action, resource);', "p.cedar:1:28: '=' is not a valid operator"),
        ('@id("a") permit (principal, action);', "p.cedar:1:1: this policy is missing the `resource` variable"),
        (f'@id("a") {P};;', "p.cedar:1:47: unexpected token `;`"),
        ('@id("a") permit (principal == ?principal, action, resource);', "p.cedar:1:1: templates with `?principal`"),
        (
            '@id("a") permit (principal == Usr::"a", action, resource);',
            "p.cedar:1:1: rule `a`: unrecognized entity type",
        ),
        ('@id("a") permit (principal, action == Action::"raed", resource);', 'unrecognized action `Action::"raed"`'),
        (f'@id("a") {P} when {{ context.mfaa }};', "p.cedar:1:1: rule `a`: attribute `mfaa` in context"),
        (f'@id("a") {P} when {{ context.purpose == "x" }};', "rule `a`: "),
        (f'@id("a") {P} when {{ context.mfa == "x" }};', "rule `a`: the types Bool and String are not compatible"),
        (
            '@id("a") permit (principal == User::"user:x", action, resource);',
            'p.cedar:1:31: `User::"user:x"` names its',
        ),
        ('@id("a") permit (principal == Service::"svc:x", action, resource);', "names its type twice"),
        ('@id("a") permit (principal in Role::"role:x", action, resource);', "names its type twice"),
        ('@id("a") permit (principal, action, resource in Folder::"");', '`Folder::""` is not the root folder'),
        ('@id("a") permit (principal, action, resource in Folder::"a/");', '`Folder::"a/"` has an empty'),
        ('@id("a") permit (principal, action, resource == Secret::"/a");', '`Secret::"/a"` has an empty'),
        (f'@id("a") {P} when {{ true ]}};', "p.cedar:1:59: `]` closes nothing"),
        (f'@id("a") {P} when {{ (true }};', "p.cedar:1:60: `}` closes nothing"),
        (f'@id("a") {P} when {{ (true', "p.cedar:1:54: `(` is not closed"),
        (f'@id("a") {P} when {{ "x', "p.cedar:1:54: a string is not closed"),
        (f'@id("a") {P} when {{ {"(" * 1000}true{")" * 1000} }};', "nested too deeply"),
        (f'@id("a") {P} when {{ {"[" * 1000}1{"]" * 1000} == 1 }};', "nested too deeply"),
        (f'@id("a") {P} when {{ {"{a:" * 1000}1{"}" * 1000} == 1 }};', "nested too deeply"),
        (f'@id("a") {P} when {{ {"if true then true else " * 1000}true }};', "nested too deeply"),
        (f'@id("a") {P} when {{ {" && ".join(["true"] * 1000)} }};', "nested too deeply"),
        (f'@id("a") {P} when {{ {"!" * 1000}true }};', "nested too deeply"),
        (f'@id("a") {P} when {{ {"-" * 1000}1 == 1 }};', "nested too deeply"),
        (f'@id("a") {P} when {{ context{".a" * 1000} }};', "nested too deeply"),
        (f'@id("a") {P} when {{ context{"[1]" * 1000} }};', "nested too deeply"),
        (f'@id("a") {P} when {{ context.purpose == "{"x" * 70000}" }};', "a policy longer than 65536 characters"),
        ("// " + "x" * (4 * 1024 * 1024), "p.cedar:1:1: longer than 4194304 characters"),
        (";" * 1_000_000, "p.cedar:1:20001: more than 20000 policies"),
        (";" * 10_000, "50 problems"),
        ("// \x00", "p.cedar:1:4: has the control character U+0000"),
        ("// \u200b", "p.cedar:1:4: has the invisible or unassigned character U+200B"),
        ("\ufeff", "p.cedar:1:1: begins with a byte order mark"),
        ("?" * 10, "p.cedar:1:11: `;` is missing"),
    ],
)
def test_refuses_a_document_that_is_wrong(text: str, message: str) -> None:
    assert message in str(refusal(text))


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ('@id("a") permit (principal == Usr::"a", action, resource);', "did you mean `User`?"),
        ('@id("a") permit (principal, action == Action::"raed", resource);', "did you mean `read`?"),
        (f'@id("a") {P} when {{ context.mfaa }};', "did you mean `mfa`?"),
        (f'@id("a") {P} when {{ context.zzzzz }};', "known are `hour`, `mfa`"),
        ('@id("a") permit (principal, action, resource in Folder::"");', 'it is `Folder::"/"`'),
        (f'@id("a") {P} when {{ 1 }};', ""),
        (f'@id("a") {P} when {{ context.purpose == "x" }};', ""),
    ],
)
def test_a_refusal_says_what_to_do(text: str, hint: str) -> None:
    assert refusal(text).hint.startswith(hint)


def test_reports_every_statement_that_is_wrong() -> None:
    error = refusal(f'{P};\n@id("b") {P} when {{ ) }};\n@id("c") {P};')
    assert "`)` closes nothing" in str(error)
    error = refusal(
        f'{P};\n@id("b") {P} when {{ 1 + }};\n@id("c") permit (principal == User::"user:a", action, resource);'
    )
    assert str(error).splitlines()[0] == "3 problems"


def test_comments_and_strings_do_not_end_a_statement() -> None:
    text = f'// ; ( "\n@id("a;b") {P} when {{ context.mfa // ; }}\n && "a;)" != "b\\"; (" }};\n'
    assert [rule.id for rule in compile_policy([Document("p", "cedar", text)]).rules] == ["a;b"]


def test_an_empty_document_has_no_rules() -> None:
    for text in ("", "// nothing\n"):
        assert compile_policy([Document("p", "cedar", text)]).rules == ()


def test_many_flat_conditions_are_not_deep() -> None:
    clauses = " ".join('when { context has purpose && context.purpose like "a*" }' for _ in range(100))
    assert compile_policy([Document("p", "cedar", f'@id("a") {P} {clauses};')]).rules


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("entity Team;", "p.cedar:1:1: `entity` where `type` should be"),
        ("type Contxt = { a?: Long };", "p.cedar:1:6: `Contxt` where `Context` should be"),
        ("type Context = { a: Long };", "p.cedar:1:18: the attribute `a` is not optional"),
        ("type Context = { a?: Lon };", "p.cedar:1:18: unknown type `Lon`"),
        ("type Context = { a?: Set<Set<Long>> };", "unknown type `Set<Set<Long>>`"),
        ("type Context = { a?: };", "unknown type ``"),
        ("type Context = { mfa?: Bool };", "the context already has an attribute `mfa`"),
        ("type Context = { a?: Bool, a?: Bool };", "p.cedar:1:28: the context already has an attribute `a`"),
        ("type Context = { if?: Bool };", "`if` is a word of the language"),
        ('type Context = { "a"?: Bool };', 'p.cedar:1:18: `"a"` where a name should be'),
        ("type Context = { a? Bool };", "`Bool` where `:` should be"),
        ("type Context = { a?: Bool } x;", "`x` where `;` should be"),
        ("type Context = { a?: Bool;", "`{` is not closed"),
        ("type;", "p.cedar:1:5: `;` where `Context` should be"),
        ("type Context = { " + ", ".join(f"a{n}?: Long" for n in range(101)) + " };", "more than 100 attributes"),
        ("type Context = {" + "{" * 1000, "nested too deeply"),
        ("\x00", "control character"),
    ],
)
def test_refuses_an_extension_that_is_wrong(text: str, message: str) -> None:
    assert message in str(refusal(text, "schema-extension"))


def test_two_extensions_may_not_say_the_same() -> None:
    documents = [Document(name, "schema-extension", "type Context = { a?: Long };") for name in ("x", "y")]
    with pytest.raises(InvalidPolicy, match="y:1:18: the context already has an attribute `a`"):
        compile_policy(documents)


def test_the_engine_complains_only_of_what_is_wrong() -> None:
    assert complaint(f"{P};") == ""
    assert complaint(P) == "unexpected end of input"
