package screen

import "strconv"

// Color is a colour of the terminal: the zero Color is its default, RGB any, ANSI one of
// its sixteen.
type Color uint32

const (
	kindRGB  Color = 1 << 24
	kindANSI Color = 2 << 24
	kindMask Color = 0xff << 24
)

// RGB gives a colour by its value 0xrrggbb. Terminals that cannot show it show the
// nearest that they have.
func RGB(v uint32) Color { return kindRGB | Color(v&0xffffff) }

// ANSI gives one of the sixteen colours of the terminal's own palette.
func ANSI(n uint8) Color { return kindANSI | Color(n&15) }

// Attr are ways to print text beside its colour.
type Attr uint8

// The attributes.
const (
	Bold Attr = 1 << iota
	Faint
	Underline
	Reverse
)

// Style is how text looks. The zero Style is plain text. It is a value without state of
// its own, cheap to copy and to compare.
type Style struct {
	FG, BG Color
	Attr   Attr
}

// With gives s with attributes added.
func (s Style) With(a Attr) Style {
	s.Attr |= a
	return s
}

// On gives s on the background of base, and with base's colour where s has none.
func (s Style) On(base Style) Style {
	if s.FG == 0 {
		s.FG = base.FG
	}
	if s.BG == 0 {
		s.BG = base.BG
	}
	s.Attr |= base.Attr
	return s
}

const reset = "\x1b[m"

// append adds the sequence that changes from plain text to s.
func (s Style) append(b []byte) []byte {
	b = append(b, "\x1b["...)
	start := len(b)
	sep := func() {
		if len(b) > start {
			b = append(b, ';')
		}
	}
	for i, code := range [...]byte{'1', '2', '4', '7'} {
		if s.Attr&(1<<i) != 0 {
			sep()
			b = append(b, code)
		}
	}
	color := func(c Color, base int64) {
		if c == 0 {
			return
		}
		sep()
		v := int64(c &^ kindMask)
		switch {
		case c&kindMask == kindRGB:
			b = strconv.AppendInt(b, base+8, 10)
			b = append(b, ";2;"...)
			b = strconv.AppendInt(b, v>>16, 10)
			b = append(b, ';')
			b = strconv.AppendInt(b, v>>8&0xff, 10)
			b = append(b, ';')
			b = strconv.AppendInt(b, v&0xff, 10)
		case v < 8:
			b = strconv.AppendInt(b, base+v, 10)
		default:
			b = strconv.AppendInt(b, base+60+v-8, 10)
		}
	}
	color(s.FG, 30)
	color(s.BG, 40)
	return append(b, 'm')
}
