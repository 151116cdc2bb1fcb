package main

import (
	"image/color"
	"strconv"
	"strings"
)

// cell is one place of a terminal's screen. A nil colour is the terminal's own.
type cell struct {
	char                        rune
	fg, bg                      color.Color
	bold, faint, underline, rev bool
}

// parse reads what `tmux capture-pane -e` prints: text and SGR sequences.
func parse(text string, columns, rows int) [][]cell {
	screen := make([][]cell, rows)
	for i := range screen {
		screen[i] = make([]cell, columns)
	}
	pen, x, y := cell{}, 0, 0
	for len(text) > 0 && y < rows {
		switch {
		case strings.HasPrefix(text, "\x1b["):
			end := strings.IndexByte(text, 'm')
			if end < 0 {
				return screen
			}
			pen = pen.with(text[2:end])
			text = text[end+1:]
			continue
		case text[0] == '\n':
			x, y = 0, y+1
			text = text[1:]
			continue
		}
		char := []rune(text[:min(len(text), 4)])[0]
		if x < columns && char != '\x0e' && char != '\x0f' {
			pen.char = char
			screen[y][x] = pen
			x++
		}
		text = text[len(string(char)):]
	}
	return screen
}

// with applies the parameters of an SGR sequence (ECMA-48, 8.3.117).
func (c cell) with(parameters string) cell {
	p := strings.FieldsFunc(parameters, func(r rune) bool { return r == ';' || r == ':' })
	if len(p) == 0 {
		return cell{}
	}
	for i := 0; i < len(p); i++ {
		n, _ := strconv.Atoi(p[i])
		switch {
		case n == 0:
			c = cell{}
		case n == 1:
			c.bold = true
		case n == 2:
			c.faint = true
		case n == 4:
			c.underline = true
		case n == 7:
			c.rev = true
		case n == 22:
			c.bold, c.faint = false, false
		case n == 24:
			c.underline = false
		case n == 27:
			c.rev = false
		case n >= 30 && n <= 37:
			c.fg = palette[n-30]
		case n >= 90 && n <= 97:
			c.fg = palette[n-90+8]
		case n >= 40 && n <= 47:
			c.bg = palette[n-40]
		case n >= 100 && n <= 107:
			c.bg = palette[n-100+8]
		case n == 39:
			c.fg = nil
		case n == 49:
			c.bg = nil
		case n == 38 || n == 48:
			value, used := extended(p[i+1:])
			i += used
			if n == 38 {
				c.fg = value
			} else {
				c.bg = value
			}
		}
	}
	return c
}

// extended reads 2;r;g;b or 5;n.
func extended(p []string) (color.Color, int) {
	number := func(i int) uint8 {
		if i >= len(p) {
			return 0
		}
		n, _ := strconv.Atoi(p[i])
		return uint8(n)
	}
	switch number(0) {
	case 2:
		return color.RGBA{number(1), number(2), number(3), 255}, 4
	case 5:
		n := number(1)
		switch {
		case n < 16:
			return palette[n], 2
		case n >= 232:
			v := 8 + 10*(n-232)
			return color.RGBA{v, v, v, 255}, 2
		}
		level := func(v uint8) uint8 {
			if v == 0 {
				return 0
			}
			return 55 + 40*v
		}
		n -= 16
		return color.RGBA{level(n / 36), level(n / 6 % 6), level(n % 6), 255}, 2
	}
	return nil, 1
}

// palette are the sixteen colours of xterm.
var palette = []color.Color{
	color.RGBA{0, 0, 0, 255}, color.RGBA{205, 0, 0, 255}, color.RGBA{0, 205, 0, 255}, color.RGBA{205, 205, 0, 255},
	color.RGBA{0, 0, 238, 255}, color.RGBA{205, 0, 205, 255}, color.RGBA{0, 205, 205, 255}, color.RGBA{229, 229, 229, 255},
	color.RGBA{127, 127, 127, 255}, color.RGBA{255, 0, 0, 255}, color.RGBA{0, 255, 0, 255}, color.RGBA{255, 255, 0, 255},
	color.RGBA{92, 92, 255, 255}, color.RGBA{255, 0, 255, 255}, color.RGBA{0, 255, 255, 255}, color.RGBA{255, 255, 255, 255},
}
