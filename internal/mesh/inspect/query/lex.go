package query

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Limits of a text.
const (
	maxText  = 4096
	maxDepth = 64
)

// Error says what is wrong with a text, and where.
type Error struct {
	Column  int // of the first character at fault, from 1
	Message string
	Hint    string // what to write instead; may be empty
}

func (e *Error) Error() string { return fmt.Sprintf("column %d: %s", e.Column, e.Message) }

type tokenKind int

const (
	tokenEnd    tokenKind = iota
	tokenWord             // may be a word of the language
	tokenQuoted           // never is
	tokenRegexp           // between slashes
	tokenOp               // = != > >= < <= ~
	tokenNot              // ! before something
	tokenOpen
	tokenClose
)

type token struct {
	kind tokenKind
	text string
	at   int // byte offset
}

func (t token) is(word string) bool { return t.kind == tokenWord && strings.EqualFold(t.text, word) }

func (t token) String() string {
	if t.kind == tokenEnd {
		return "the end"
	}
	return fmt.Sprintf("%q", t.text)
}

// parser is what both languages share: the tokens of a text, one ahead.
type parser struct {
	text  string
	pos   int
	tok   token
	depth int
}

func newParser(text string) (*parser, error) {
	p := &parser{text: text}
	if len(text) > maxText {
		return nil, p.fail(maxText, "", "longer than %d bytes", maxText)
	}
	if !utf8.ValidString(text) {
		return nil, p.fail(0, "", "not valid UTF-8")
	}
	return p, p.next()
}

// fail makes an error at a byte offset.
func (p *parser) fail(at int, hint, format string, args ...any) *Error {
	return &Error{utf8.RuneCountInString(p.text[:min(at, len(p.text))]) + 1, fmt.Sprintf(format, args...), hint}
}

// next reads the next token into tok.
func (p *parser) next() error {
	p.pos += len(p.text[p.pos:]) - len(strings.TrimLeftFunc(p.text[p.pos:], unicode.IsSpace))
	at, rest := p.pos, p.text[p.pos:]
	take := func(kind tokenKind, n int) error {
		p.tok = token{kind, rest[:n], at}
		p.pos += n
		return nil
	}
	if rest == "" {
		return take(tokenEnd, 0)
	}
	switch rest[0] {
	case '(':
		return take(tokenOpen, 1)
	case ')':
		return take(tokenClose, 1)
	case '=', '>', '<', '~', '!':
		if n := len(rest); n > 1 && rest[1] == '=' && rest[0] != '~' {
			if rest[0] == '=' { // == is what programmers write
				p.tok, p.pos = token{tokenOp, "=", at}, p.pos+2
				return nil
			}
			return take(tokenOp, 2)
		}
		if rest[0] == '!' {
			return take(tokenNot, 1)
		}
		return take(tokenOp, 1)
	case '"', '\'':
		return p.delimited(tokenQuoted, rest[0], "the text has no closing %c")
	case '/':
		return p.delimited(tokenRegexp, '/', "the regular expression has no closing %c")
	}
	n := strings.IndexFunc(rest, func(r rune) bool { return unicode.IsSpace(r) || strings.ContainsRune(`()=<>~!"`, r) })
	if n < 0 {
		n = len(rest)
	}
	return take(tokenWord, n)
}

// delimited reads up to the next such character that has no backslash before it.
func (p *parser) delimited(kind tokenKind, end byte, missing string) error {
	at := p.pos
	var b strings.Builder
	for i := at + 1; i < len(p.text); i++ {
		switch c := p.text[i]; {
		case c == '\\' && i+1 < len(p.text) && p.text[i+1] == end:
			b.WriteByte(end)
			i++
		case c == end:
			p.tok = token{kind, b.String(), at}
			p.pos = i + 1
			return nil
		default:
			b.WriteByte(c)
		}
	}
	return p.fail(at, "", missing, end)
}

// deeper counts nesting; the caller takes it back.
func (p *parser) deeper() error {
	if p.depth++; p.depth > maxDepth {
		return p.fail(p.tok.at, "", "nested deeper than %d", maxDepth)
	}
	return nil
}

// expression reads what is joined by or, and, not and parentheses; leaf reads one test.
// Tests that stand side by side are joined by and.
func expression[T any](p *parser, leaf func() (T, error), join joiner[T]) (T, error) {
	if err := p.deeper(); err != nil {
		return *new(T), err
	}
	defer func() { p.depth-- }()
	left, err := conjunction(p, leaf, join)
	for err == nil && p.tok.is("or") {
		if err = p.next(); err != nil {
			break
		}
		var right T
		if right, err = conjunction(p, leaf, join); err == nil {
			left = join.or(left, right)
		}
	}
	return left, err
}

// joiner puts tests together.
type joiner[T any] struct {
	and, or func(a, b T) T
	not     func(T) T
}

func conjunction[T any](p *parser, leaf func() (T, error), join joiner[T]) (T, error) {
	left, err := negation(p, leaf, join)
	for err == nil {
		if p.tok.is("and") {
			if err = p.next(); err != nil {
				break
			}
		} else if p.tok.kind == tokenEnd || p.tok.kind == tokenClose || p.tok.is("or") {
			break
		}
		var right T
		if right, err = negation(p, leaf, join); err == nil {
			left = join.and(left, right)
		}
	}
	return left, err
}

func negation[T any](p *parser, leaf func() (T, error), join joiner[T]) (T, error) {
	var none T
	if p.tok.kind == tokenNot || p.tok.is("not") {
		if err := p.deeper(); err != nil {
			return none, err
		}
		defer func() { p.depth-- }()
		if err := p.next(); err != nil {
			return none, err
		}
		inner, err := negation(p, leaf, join)
		if err != nil {
			return none, err
		}
		return join.not(inner), nil
	}
	if p.tok.kind != tokenOpen {
		return leaf()
	}
	open := p.tok
	if err := p.next(); err != nil {
		return none, err
	}
	inner, err := expression(p, leaf, join)
	if err != nil {
		return none, err
	}
	if p.tok.kind != tokenClose {
		return none, p.fail(open.at, "", "the parenthesis is not closed")
	}
	return inner, p.next()
}
