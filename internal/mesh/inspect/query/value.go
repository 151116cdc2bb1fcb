package query

import (
	"math"
	"strconv"
	"strings"
	"time"
)

// Kind is what a value is.
type Kind int

// The kinds.
const (
	KindText     Kind = iota
	KindNumber        // 3, 0.5, 10k
	KindDuration      // 200ms; a number alone is milliseconds
	KindSize          // 64KiB; a number alone is bytes
)

func (k Kind) String() string {
	switch k {
	case KindNumber:
		return "number"
	case KindDuration:
		return "duration such as 200ms"
	case KindSize:
		return "size such as 64KiB"
	}
	return "text"
}

// Value is what a row has in a field.
type Value struct {
	text   string
	number float64
}

// Text is the value of a field of KindText.
func Text(s string) Value { return Value{text: s} }

// Number is the value of a field of KindNumber, or of KindSize in bytes.
func Number(f float64) Value { return Value{number: f} }

// Duration is the value of a field of KindDuration.
func Duration(d time.Duration) Value { return Value{number: float64(d)} }

// parseNumber reads a literal of any kind but text.
func parseNumber(kind Kind, text string) (float64, bool) {
	if kind == KindDuration {
		if d, err := time.ParseDuration(text); err == nil {
			return float64(d), true
		}
		f, ok := decimal(text)
		return f * float64(time.Millisecond), ok
	}
	digits := strings.TrimRight(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ%")
	f, ok := decimal(digits)
	scale, known := scales(kind)[strings.ToLower(text[len(digits):])]
	return f * scale, ok && known
}

// scales are the units that may follow a number.
func scales(kind Kind) map[string]float64 {
	if kind == KindSize {
		return map[string]float64{"": 1, "b": 1, "k": 1 << 10, "kib": 1 << 10, "kb": 1e3, "m": 1 << 20, "mib": 1 << 20, "mb": 1e6, "g": 1 << 30, "gib": 1 << 30, "gb": 1e9}
	}
	return map[string]float64{"": 1, "k": 1e3, "m": 1e6, "%": .01}
}

// decimal reads a plain number: no NaN, no infinity, no hexadecimal.
func decimal(text string) (float64, bool) {
	if text == "" || strings.Trim(text, "0123456789.+-") != "" {
		return 0, false
	}
	f, err := strconv.ParseFloat(text, 64)
	return f, err == nil && !math.IsInf(f, 0)
}

// comparison is one of the operators.
type comparison string

func (c comparison) numbers(a, b float64) bool {
	switch c {
	case "=":
		return a == b
	case "!=":
		return a != b
	case ">":
		return a > b
	case ">=":
		return a >= b
	case "<":
		return a < b
	}
	return a <= b
}

// containsFold tells whether s has sub, which is in lower case, whatever the case of s.
// It allocates nothing where both are ASCII.
func containsFold(s, sub string) bool {
	if !ascii(s) || !ascii(sub) {
		return strings.Contains(strings.ToLower(s), sub)
	}
	for i := 0; i+len(sub) <= len(s); i++ {
		j := 0
		for j < len(sub) && lower(s[i+j]) == sub[j] {
			j++
		}
		if j == len(sub) {
			return true
		}
	}
	return false
}

func ascii(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		c += 'a' - 'A'
	}
	return c
}
