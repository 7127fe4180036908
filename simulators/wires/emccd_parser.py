"""Reads DM scripts and turns them into functions that carry them out; see :mod:`~simulators.wires.emccd_scripts`."""

from __future__ import annotations

from collections.abc import Callable

from simulators.wires.emccd_tokens import Token, tokens
from simulators.wires.emccd_values import (
    Expression,
    Left,
    Library,
    Reference,
    Scope,
    ScriptError,
    Statement,
    Value,
    arithmetic,
    checked,
    lazy,
    number,
)

DEEPEST = 40
"""Nested brackets and blocks; more is no script that anybody writes."""
_DECLARES = {
    "number": "number",
    "realnumber": "number",
    "boolean": "number",
    "string": "string",
    "image": "image",
    "taggroup": "tags",
}
_COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
}


class Parser:
    """Turns a script into functions that carry it out."""

    def __init__(self, text: str, library: Library) -> None:
        self._tokens = tokens(text)
        self._at = 0
        self._library = library
        self._declared: dict[str, str] = {}
        self._depth = 0

    def script(self) -> list[Statement]:
        """Every statement of it; raises ScriptError."""
        statements = []
        while self._skip_ends():
            statements.append(self._statement())
        return statements

    # ------------------------------------------------------------------ statements

    def _statement(self) -> Statement:
        token = self._peek()
        word = token.text.lower()
        if token.text == "{":
            return self._block()
        if token.kind == "name" and word == "if":
            return self._if()
        if token.kind == "name" and word in _DECLARES and self._peek(1).kind == "name":
            self._next()
            return self._declaration(_DECLARES[word])
        if token.kind == "name" and self._peek(1).text in ("=", ":="):
            statement = self._assignment()
        else:
            expression = self._expression()

            def statement(scope: Scope) -> None:
                expression(scope)

        self._end_of_statement()
        return statement

    def _block(self) -> Statement:
        self._deeper()
        self._expect("{")
        inside = []
        while self._skip_ends() and self._peek().text != "}":
            inside.append(self._statement())
        self._expect("}")
        self._depth -= 1

        def run(scope: Scope) -> None:
            for statement in inside:
                statement(scope)

        return run

    def _if(self) -> Statement:
        self._deeper()
        self._next()
        self._expect("(")
        condition = self._expression()
        self._expect(")")
        self._skip_ends()
        then = self._statement()
        otherwise = None
        before = self._at
        if self._skip_ends() and self._peek().text.lower() == "else":
            self._next()
            self._skip_ends()
            otherwise = self._statement()
        else:
            self._at = before
        self._depth -= 1

        def run(scope: Scope) -> None:
            if number(condition(scope)) != 0:
                then(scope)
            elif otherwise is not None:
                otherwise(scope)

        return run

    def _declaration(self, kind: str) -> Statement:
        parts: list[Statement] = []
        while True:
            name = self._name()
            self._declared[name] = kind
            if self._peek().text in ("=", ":="):
                self._at -= 1
                parts.append(self._assignment())
            if self._peek().text != ",":
                break
            self._next()
        self._end_of_statement()

        def run(scope: Scope) -> None:
            for part in parts:
                part(scope)

        return run

    def _assignment(self) -> Statement:
        name = self._variable()
        self._next()
        kind, value = self._declared[name], self._expression()

        def run(scope: Scope) -> None:
            scope.values[name] = checked(value(scope), kind)

        return run

    # ----------------------------------------------------------------- expressions

    def _expression(self) -> Expression:
        self._deeper()
        found = self._either()
        self._depth -= 1
        return found

    def _either(self) -> Expression:
        left = self._both()
        while self._peek().text == "||":
            self._next()
            left = lazy(left, self._both(), stop_at=True)
        return left

    def _both(self) -> Expression:
        left = self._comparison()
        while self._peek().text == "&&":
            self._next()
            left = lazy(left, self._comparison(), stop_at=False)
        return left

    def _comparison(self) -> Expression:
        left = self._sum()
        while self._peek().text in _COMPARISONS:
            compare, a, b = _COMPARISONS[self._next().text], left, self._sum()

            def left(
                scope: Scope,
                compare: Callable[[float, float], bool] = compare,
                a: Expression = a,
                b: Expression = b,
            ) -> Value:
                return float(compare(number(a(scope)), number(b(scope))))

        return left

    def _sum(self) -> Expression:
        left = self._product()
        while self._peek().text in ("+", "-"):
            left = arithmetic(self._next().text, left, self._product())
        return left

    def _product(self) -> Expression:
        left = self._unary()
        while self._peek().text in ("*", "/"):
            left = arithmetic(self._next().text, left, self._unary())
        return left

    def _unary(self) -> Expression:
        if self._peek().text not in ("-", "+", "!"):
            return self._power()
        self._deeper()
        sign = self._next().text
        inner = self._unary()
        self._depth -= 1
        if sign == "!":
            return lambda scope: float(number(inner(scope)) == 0)
        return lambda scope: number(inner(scope)) * (-1 if sign == "-" else 1)

    def _power(self) -> Expression:
        left = self._atom()
        if self._peek().text != "^":
            return left
        return arithmetic(self._next().text, left, self._unary())

    def _atom(self) -> Expression:
        token = self._next()
        if token.kind == "number":
            literal = float(token.text)
            return lambda scope: literal
        if token.kind == "string":
            text = token.text[1:-1].replace('\\"', '"').replace("\\n", "\n")
            return lambda scope: text
        if token.text == "(":
            inside = self._expression()
            self._expect(")")
            return inside
        if token.kind != "name":
            raise self._error(token)
        if self._peek().text == "(":
            return self._call(token)
        name = token.text.lower()
        if name not in self._declared:
            raise ScriptError(f"line {token.line}: {token.text!r} was not declared")

        def value(scope: Scope) -> Value | None:
            if scope.values.get(name) is None:
                raise ScriptError(f"line {token.line}: {token.text!r} has no value")
            return scope.values[name]

        return value

    def _call(self, token: Token) -> Expression:
        name = token.text.lower()
        begins = self._arguments_begin()
        if name == "exit":
            return self._exit(token, len(begins))
        found = [c for c in self._library.get(name, ()) if len(c.takes) == len(begins)]
        if name not in self._library:
            raise ScriptError(f"line {token.line}: there is no function {token.text}")
        if not found:
            raise ScriptError(f"line {token.line}: {token.text} takes other arguments")
        callee = found[0]
        arguments: list[Callable[[Scope], object]] = []
        self._expect("(")
        for i, kind in enumerate(callee.takes):
            if i:
                self._expect(",")
            arguments.append(self._argument(kind))
        self._expect(")")
        return lambda scope: callee.call(*(argument(scope) for argument in arguments))

    def _arguments_begin(self) -> list[int]:
        """Where the arguments of the call that begins here begin (lookahead only)."""
        depth, at = 0, self._at
        begins: list[int] = []
        while at < len(self._tokens):
            text = self._tokens[at].text
            if depth == 1 and text != ")" and (not begins or self._tokens[at - 1].text == ","):
                begins.append(at)
            depth += (text == "(") - (text == ")")
            at += 1
            if depth == 0:
                return begins
        raise self._error(self._tokens[self._at])

    def _argument(self, kind: str) -> Callable[[Scope], object]:
        if not kind.startswith("&"):
            expression = self._expression()
            return lambda scope: checked(expression(scope), kind)
        name = self._variable()
        if self._declared[name] != kind[1:]:
            raise ScriptError(f"{name!r} is no {kind[1:]}")
        return lambda scope: Reference(scope.values, name)

    def _exit(self, token: Token, arguments: int) -> Expression:
        if arguments != 1:
            raise ScriptError(f"line {token.line}: Exit takes one number")
        self._expect("(")
        value = self._expression()
        self._expect(")")

        def leave(scope: Scope) -> Value:
            raise Left(number(value(scope)))

        return leave

    # -------------------------------------------------------------------- tokens

    def _peek(self, ahead: int = 0) -> Token:
        return self._tokens[min(self._at + ahead, len(self._tokens) - 1)]

    def _next(self) -> Token:
        token = self._peek()
        self._at += 1
        return token

    def _expect(self, text: str) -> None:
        token = self._next()
        if token.text != text:
            raise self._error(token)

    def _skip_ends(self) -> bool:
        """Pass over ends of statements; whether anything is left."""
        while self._at < len(self._tokens) and self._tokens[self._at].kind == "end":
            self._at += 1
        return self._at < len(self._tokens)

    def _end_of_statement(self) -> None:
        token = self._peek()
        if token.kind != "end" and token.text.lower() not in ("}", "else"):
            raise self._error(token)

    def _name(self) -> str:
        token = self._next()
        if token.kind != "name":
            raise self._error(token)
        return token.text.lower()

    def _variable(self) -> str:
        token = self._peek()
        name = self._name()
        if name not in self._declared:
            raise ScriptError(f"line {token.line}: {token.text!r} was not declared")
        return name

    def _deeper(self) -> None:
        self._depth += 1
        if self._depth > DEEPEST:
            raise ScriptError(f"line {self._peek().line}: nested too deeply")

    def _error(self, token: Token) -> ScriptError:
        return ScriptError(f"line {token.line}: {token.text!r} is not understood here")
