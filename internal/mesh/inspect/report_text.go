package inspect

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// CleanText makes text that somebody else wrote fit for one line of a terminal: what
// cannot be printed becomes an escape such as \n or \u001b, and what is over limit bytes
// is cut.
func CleanText(s string, limit int) string {
	clean := true
	for i, r := range s {
		if i >= limit || !unicode.IsPrint(r) || r == utf8.RuneError {
			clean = false
			break
		}
	}
	if clean {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if b.Len() >= limit {
			break
		}
		switch {
		case r == utf8.RuneError || unicode.IsPrint(r):
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\t':
			b.WriteString(`\t`)
		default:
			writeEscape(&b, r)
		}
	}
	return cut(b.String(), limit)
}

// cut shortens s to limit bytes without leaving a part of a character.
func cut(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	for limit > 0 && !utf8.RuneStart(s[limit]) {
		limit--
	}
	return s[:limit]
}

// writeEscape writes r as JSON does: two escapes for one over 16 bits.
func writeEscape(b *strings.Builder, r rune) {
	const hex = "0123456789abcdef"
	unit := func(u rune) {
		b.WriteString(`\u`)
		for shift := 12; shift >= 0; shift -= 4 {
			b.WriteByte(hex[u>>shift&15])
		}
	}
	if r > 0xffff {
		r -= 0x10000
		unit(0xd800 + r>>10)
		unit(0xdc00 + r&0x3ff)
		return
	}
	unit(r)
}

// escapeJSON makes JSON fit for a terminal: what cannot be printed is escaped, which
// changes nothing of what it means, and what is white space between values is a space.
func escapeJSON(text []byte) []byte {
	var b strings.Builder
	b.Grow(len(text))
	for _, r := range string(text) {
		switch {
		case r == '\n' || r == '\r' || r == '\t':
			b.WriteByte(' ') // a string has them escaped
		case unicode.IsPrint(r):
			b.WriteRune(r)
		default:
			writeEscape(&b, r)
		}
	}
	return []byte(b.String())
}
