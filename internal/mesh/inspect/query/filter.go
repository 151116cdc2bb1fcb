package query

import (
	"regexp"
	"slices"
	"strings"

	"github.com/meshctl/meshctl/internal/mesh/schema"
)

// Field is something that a filter can ask of a row.
type Field struct {
	Name string // in lower case
	Kind Kind
}

// Row is what a filter is asked about. Match calls its methods and keeps nothing.
type Row interface {
	// Field gives the value of one of the fields that the filter was compiled for, of
	// that field's kind. It is false where this row has none: then no test of it holds
	// but != .
	Field(name string) (Value, bool)
	// Text gives the texts that words are looked for in, one after the other: the i-th
	// from 0, and false after the last.
	Text(i int) (string, bool)
}

// Filter chooses rows. It is immutable and safe for concurrent use. A nil Filter, like
// that of an empty text, chooses all.
type Filter struct {
	match func(Row) bool
}

// Compile reads a filter:
//
//	mailer "two words"        words, both, anywhere and in any case
//	/^u-[0-9]+$/              a regular expression, in any case
//	!mailer, not mailer       the inverse
//	worker=billing            a field: = != > >= < <=, and ~ for a regular expression
//	age>200ms size>=64KiB     durations (a number alone is milliseconds), sizes, numbers
//	a or b, a and (b or c)    "and" binds stronger than "or"
//
// Errors are *Error.
func Compile(text string, fields []Field) (*Filter, error) {
	p, err := newParser(text)
	if err != nil {
		return nil, err
	}
	if p.tok.kind == tokenEnd {
		return nil, nil
	}
	c := &filterParser{p, fields}
	match, err := expression(p, c.test, joiner[func(Row) bool]{
		and: func(a, b func(Row) bool) func(Row) bool { return func(r Row) bool { return a(r) && b(r) } },
		or:  func(a, b func(Row) bool) func(Row) bool { return func(r Row) bool { return a(r) || b(r) } },
		not: func(a func(Row) bool) func(Row) bool { return func(r Row) bool { return !a(r) } },
	})
	if err != nil {
		return nil, err
	}
	if p.tok.kind != tokenEnd {
		return nil, p.fail(p.tok.at, "", "%s is not expected here", p.tok)
	}
	return &Filter{match}, nil
}

// Match tells whether the filter chooses a row.
func (f *Filter) Match(r Row) bool { return f == nil || f.match(r) }

type filterParser struct {
	*parser
	fields []Field
}

// test reads a word, a regular expression, or a test of a field.
func (p *filterParser) test() (func(Row) bool, error) {
	tok := p.tok
	switch {
	case tok.kind == tokenRegexp:
		re, err := p.regexp(tok)
		if err != nil {
			return nil, err
		}
		return anyText(re.MatchString), p.next()
	case tok.kind == tokenQuoted:
		return word(tok.text), p.next()
	case tok.kind != tokenWord:
		return nil, p.fail(tok.at, "", "%s where a word or a test such as worker=billing should be", tok)
	case tok.is("or") || tok.is("and"):
		return nil, p.fail(tok.at, `"`+tok.text+`" in quotation marks is looked for`, "something is missing before %q", tok.text)
	}
	if err := p.next(); err != nil {
		return nil, err
	}
	if p.tok.kind != tokenOp {
		return word(tok.text), nil
	}
	return p.fieldTest(tok)
}

func (p *filterParser) fieldTest(name token) (func(Row) bool, error) {
	i := slices.IndexFunc(p.fields, func(f Field) bool { return strings.EqualFold(f.Name, name.text) })
	if i < 0 {
		return nil, p.unknownField(name)
	}
	field, op := p.fields[i], p.tok
	// What follows a ~ may be written with slashes or without.
	if err := p.next(); err != nil {
		return nil, err
	}
	value := p.tok
	switch value.kind {
	case tokenWord, tokenQuoted:
	case tokenRegexp:
		if op.text != "~" {
			return nil, p.fail(op.at, field.Name+"~/…/ compares with a regular expression", "%q does not compare with a regular expression", op.text)
		}
	default:
		return nil, p.fail(value.at, "", "a value is missing after %s%s", field.Name, op.text)
	}
	if err := p.next(); err != nil {
		return nil, err
	}
	get := field.Name
	switch {
	case op.text == "~":
		if field.Kind != KindText {
			return nil, p.fail(op.at, "", "%s is a %s, which ~ does not compare", field.Name, field.Kind)
		}
		re, err := p.regexp(value)
		if err != nil {
			return nil, err
		}
		return func(r Row) bool {
			v, ok := r.Field(get)
			return ok && re.MatchString(v.text)
		}, nil
	case field.Kind == KindText:
		want := value.text
		switch op.text {
		case "=":
			return func(r Row) bool { v, ok := r.Field(get); return ok && strings.EqualFold(v.text, want) }, nil
		case "!=":
			return func(r Row) bool { v, ok := r.Field(get); return !ok || !strings.EqualFold(v.text, want) }, nil
		}
		return nil, p.fail(op.at, "", "%s is a text, which only =, != and ~ compare", field.Name)
	}
	want, ok := parseNumber(field.Kind, value.text)
	if !ok {
		return nil, p.fail(value.at, "", "%q is not a %s", value.text, field.Kind)
	}
	compare := comparison(op.text)
	return func(r Row) bool {
		v, ok := r.Field(get)
		if !ok {
			return compare == "!="
		}
		return compare.numbers(v.number, want)
	}, nil
}

func (p *filterParser) unknownField(name token) error {
	names := make([]string, len(p.fields))
	for i, f := range p.fields {
		names[i] = f.Name
	}
	hint := "fields are " + strings.Join(names, ", ")
	if near := schema.Nearest(name.text, names); near != "" {
		hint = "did you mean " + near + "? " + hint
	}
	return p.fail(name.at, hint, "there is no field %q", name.text)
}

func (p *filterParser) regexp(tok token) (*regexp.Regexp, error) {
	re, err := regexp.Compile("(?i)" + tok.text)
	if err != nil {
		reason := strings.TrimPrefix(err.Error(), "error parsing regexp: ")
		return nil, p.fail(tok.at, "", "the regular expression is wrong: %s", reason)
	}
	return re, nil
}

// word looks for a text.
func word(text string) func(Row) bool {
	text = strings.ToLower(text)
	return anyText(func(s string) bool { return containsFold(s, text) })
}

func anyText(holds func(string) bool) func(Row) bool {
	return func(r Row) bool {
		for i := 0; ; i++ {
			s, ok := r.Text(i)
			if !ok {
				return false
			}
			if holds(s) {
				return true
			}
		}
	}
}
