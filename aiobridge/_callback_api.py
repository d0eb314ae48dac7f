"""How a function that takes a callback is called, what its callbacks tell, and how what it started is undone."""

from __future__ import annotations

import functools
import inspect
import reprlib
import sys
import weakref
from collections.abc import Callable
from types import GenericAlias, MethodType, WrapperDescriptorType
from typing import Any, TypeAlias

from aiobridge._exceptions import CallbackError

# A message that repeats a megabyte helps nobody.
_shortened = reprlib.Repr()
_shortened.maxstring = _shortened.maxother = _shortened.maxlong = 200


class _Unknown:
    """What only a function that accepts anything accepts."""


# Or pyright takes the first overload that has no `*Ts` for it, and so for a function without parameters of its own.
AcceptsAnything: TypeAlias = Callable[[_Unknown, _Unknown, _Unknown, _Unknown, _Unknown, _Unknown, _Unknown], object]


class CallbackApi:
    """A function that takes a callback, where its callbacks go, and the function that undoes what it started."""

    def __init__(
        self,
        adapter: str,
        fn: Callable[..., object],
        callback: str | None,
        errback: str | None,
        undo: tuple[str, Callable[..., object] | None],
    ) -> None:
        self.adapter, self.fn, self.callback, self.errback = adapter, fn, callback, errback
        self.undo_word, self.undo = undo
        if not callable(fn):
            raise TypeError(f"{adapter}() adapts a function that takes a callback, and was given {fn!r}")
        if self.undo is not None and not callable(self.undo):
            raise TypeError(f"{adapter}(): {self.undo_word} is {self.undo!r}; it is a function, or None")
        self.name = name_of(fn)
        self.signature = signature_of(fn)
        self.undo_signature = signature_of(self.undo) if self.undo is not None else None
        self.last = self._last_positional()
        self._check_names()

    def call(
        self,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        done: Callable[..., None],
        reject: Callable[[BaseException], object],
    ) -> object:
        named = {} if self.errback is None else {self.errback: self._make_errback(self.errback, reject)}
        if self.callback is not None:
            named[self.callback] = done
        elif self.last is not None and len(args) < self.last[0]:
            # Parameters before it have defaults, or are given by name.
            named[self.last[1]] = done
        else:
            args = (*args, done)
        return self.fn(*args, **kwargs, **named)

    def undo_hook(
        self, handle: object, args: tuple[Any, ...], kwargs: dict[str, Any], done: Callable[..., None]
    ) -> Undo:
        return Undo(self, handle, args, kwargs, done)

    def wrap(self, call: Callable[..., Any], returns: GenericAlias) -> Callable[..., Any]:
        """Give `call` the name, docstring and signature of the function, without what aiobridge passes itself."""
        # Annotations are set below: reading those of a function can evaluate names that exist for type checkers only.
        kept = tuple(name for name in functools.WRAPPER_ASSIGNMENTS if not name.startswith("__annot"))
        wrapper: Any = functools.update_wrapper(call, self.fn, assigned=kept)
        wrapper.__signature__ = signature = self._public_signature(returns)
        wrapper.__annotations__ = {
            name: parameter.annotation
            for name, parameter in signature.parameters.items()
            if parameter.annotation is not parameter.empty
        } | {"return": returns}
        return wrapper  # type: ignore[no-any-return]

    def error(self, callback: str, arguments: tuple[Any, ...]) -> BaseException:
        """What an error callback that was called with these arguments means."""
        cause = next((argument for argument in arguments if isinstance(argument, BaseException)), None)
        if len(arguments) == 1:
            if cause is not None:
                return cause
            if is_exception_class(arguments[0]):
                try:
                    made = arguments[0]()
                except Exception as refusal:  # it wants arguments, and nobody has them
                    cause = refusal
                else:
                    if isinstance(made, BaseException):
                        return made
        shown = ", ".join(map(_shortened.repr, arguments))
        error = CallbackError(f"{self.name}() failed: it called {callback}({shown})", arguments)
        error.__cause__ = cause
        return error

    def _make_errback(self, word: str, reject: Callable[[BaseException], object]) -> Callable[..., None]:
        def failed(*arguments: Any, **keywords: Any) -> None:
            reject(self.error(word, all_told(arguments, keywords)))

        return failed

    def _last_positional(self) -> tuple[int, str] | None:
        """The position and the name of the parameter that takes a callback which goes last."""
        if self.signature is None or self.callback is not None:
            return None
        kinds = [parameter.kind for parameter in self.signature.parameters.values()]
        if inspect.Parameter.VAR_POSITIONAL in kinds:
            return None
        positional = [p for p in self.signature.parameters.values() if p.kind <= p.POSITIONAL_OR_KEYWORD]
        if not positional:
            raise TypeError(
                f"{self.adapter}(): {self.name}{self.signature} takes no positional argument, so no callback can go "
                "last; name its parameter with callback="
            )
        last = positional[-1]
        return (len(positional) - 1, last.name) if last.kind is last.POSITIONAL_OR_KEYWORD else None

    def _check_names(self) -> None:
        if self.signature is None:
            return
        parameters = self.signature.parameters.values()
        by_name = {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
        if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
            return
        for word, name in (("callback", self.callback), ("errback", self.errback)):
            if name is not None and name not in by_name:
                raise TypeError(
                    f"{self.adapter}(): {word} is {name!r}, and {self.name}{self.signature} has no such parameter that "
                    "can be given by name"
                )

    def _public_signature(self, returns: GenericAlias) -> inspect.Signature:
        if self.signature is None:
            arguments = inspect.Parameter("args", inspect.Parameter.VAR_POSITIONAL)
            keywords = inspect.Parameter("kwargs", inspect.Parameter.VAR_KEYWORD)
            return inspect.Signature([arguments, keywords], return_annotation=returns)
        parameters = list(self.signature.parameters.values())
        if self.callback is None:
            positional = [index for index, p in enumerate(parameters) if p.kind <= p.POSITIONAL_OR_KEYWORD]
            if not any(p.kind is p.VAR_POSITIONAL for p in parameters):
                del parameters[positional[-1]]
        kept = [p for p in parameters if p.kind is p.VAR_KEYWORD or p.name not in (self.callback, self.errback)]
        return self.signature.replace(parameters=kept, return_annotation=returns)


class Undo:
    """A hook that calls `cancel` or `unsubscribe`, with what the function returned, or else with its arguments."""

    __slots__ = ("api", "args", "callback", "handle", "kwargs")

    def __init__(
        self, api: CallbackApi, handle: object, args: tuple[Any, ...], kwargs: dict[str, Any], done: Callable[..., None]
    ) -> None:
        self.api, self.handle = api, handle
        self.args, self.kwargs = (args, kwargs) if handle is None else ((), {})
        # Weakly: the callback holds the promise or the writer, and that this hook. Held here it would never break.
        self.callback = weakref.ref(done)

    def __call__(self, _reason: object) -> None:
        undo = self.api.undo
        assert undo is not None
        if self.handle is not None:
            undo(self.handle)
        elif accepts(self.api.undo_signature, (*self.args, None), self.kwargs):
            # If the library has let go of it, there is nothing left to be undone.
            if (callback := self.callback()) is not None:
                undo(*self.args, callback, **self.kwargs)
        else:
            undo(*self.args, **self.kwargs)

    def __repr__(self) -> str:
        return f"<{self.api.undo_word} of {self.api.name}(): {self.api.undo!r}>"


def all_told(arguments: tuple[Any, ...], keywords: dict[str, Any]) -> tuple[Any, ...]:
    # A TypeError about unexpected names would be raised in the library, which called back from a place of its own.
    return (*arguments, keywords) if keywords else arguments


def event_of(arguments: tuple[Any, ...]) -> Any:
    """The one thing that a callback's arguments are."""
    if len(arguments) == 1:
        return arguments[0]
    return arguments or None


def is_exception_class(thing: object) -> bool:
    return isinstance(thing, type) and issubclass(thing, BaseException)


def name_of(fn: Any) -> str:
    while isinstance(fn, functools.partial):
        fn = fn.func
    return getattr(fn, "__qualname__", None) or repr(fn)


def signature_of(fn: Callable[..., object]) -> inspect.Signature | None:
    """None for functions that do not tell, as those of most binding tools."""
    try:
        if sys.version_info >= (3, 14):
            from annotationlib import Format

            signature = inspect.signature(fn, annotation_format=Format.FORWARDREF)
        else:
            signature = inspect.signature(fn)
    except ValueError:
        return None
    # From Python 3.13 on inspect has an answer for every object of a type written in C: that it takes anything.
    told = fn
    while isinstance(told, (functools.partial, MethodType)):
        told = told.func if isinstance(told, functools.partial) else told.__func__
    in_c = isinstance(type(told).__call__, WrapperDescriptorType) and not inspect.isroutine(told)
    if in_c and not isinstance(told, type) and str(signature) == "(*args, **kwargs)":
        return None
    return signature


def accepts(signature: inspect.Signature | None, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    if signature is None:
        return False
    try:
        signature.bind(*args, **kwargs)
    except TypeError:
        return False
    return True
