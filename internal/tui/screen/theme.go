package screen

import "fmt"

// Theme is what things look like, by what they mean. It is a value: pages take it from
// their Env each time they draw, since it may change while the program runs.
type Theme struct {
	Name string

	Text     Style // plain
	Muted    Style // labels, units, what matters less
	Faint    Style // rules, empty places, the tail of a bar
	Title    Style // headings
	Accent   Style // what leads the eye: the active page, the sorted column
	Good     Style
	Warn     Style
	Bad      Style
	Info     Style
	Special  Style // a further hue without judgement: commands, kinds
	Key      Style // a key in a hint
	Head     Style // column headings
	Selected Style // background of the row under the cursor
	Tab      Style // the active page's tab
	Banner   Style // a line that must be seen: master lost
	Notice   Style // a line that should be seen: frozen, replay
}

// Names are the themes that Named knows, in the order to offer them.
func Names() []string { return []string{"auto", "dark", "light", "colorblind", "mono"} }

// Terminal is what is known of the terminal.
type Terminal struct {
	Dark   bool // its background
	Colors int  // 0: none, 16: the palette, else any
}

// Named gives the theme of a name for a terminal; it fails for a name that Names lacks.
// Without colours every theme is "mono".
func Named(name string, term Terminal) (*Theme, error) {
	var p palette
	dark := term.Dark
	switch name {
	case "auto", "":
		name = "light"
		if dark {
			name = "dark"
		}
		p = hues(dark)
	case "dark", "light":
		dark = name == "dark"
		p = hues(dark)
	case "colorblind":
		p = safeHues(dark)
	case "mono":
		return mono(), nil
	default:
		return nil, fmt.Errorf("no theme is called %q; choose auto, dark, light, colorblind or mono", Clean(name))
	}
	if term.Colors == 0 {
		return mono(), nil
	}
	if term.Colors == 256 {
		p = p.cube(dark)
	}
	if term.Colors == 16 {
		p = basic(p, name == "colorblind", dark)
	}
	return p.theme(name), nil
}

type palette struct {
	muted, faint, accent, good, warn, bad, info, special Color
	selected, ink                                        Color // background of the cursor; text on coloured ground
}

func hues(dark bool) palette {
	if dark {
		return palette{
			muted: RGB(0x8b95ad), faint: RGB(0x4a5268), accent: RGB(0x7aa2f7), good: RGB(0x9ece6a),
			warn: RGB(0xe0af68), bad: RGB(0xf7768e), info: RGB(0x7dcfff), special: RGB(0xbb9af7),
			selected: RGB(0x2b3453), ink: RGB(0x16181f),
		}
	}
	return palette{
		muted: RGB(0x667085), faint: RGB(0xb8bfcc), accent: RGB(0x2e59c9), good: RGB(0x3a7d1e),
		warn: RGB(0x9a5b00), bad: RGB(0xc62f3f), info: RGB(0x0b7490), special: RGB(0x7a3fc0),
		selected: RGB(0xdce6fb), ink: RGB(0xffffff),
	}
}

// safeHues are those of Okabe and Ito, which people with any colour vision tell apart:
// good is blue, bad is vermilion.
func safeHues(dark bool) palette {
	p := hues(dark)
	if dark {
		p.good, p.warn, p.bad = RGB(0x56b4e9), RGB(0xf0e442), RGB(0xff7f2a)
		p.info, p.special, p.accent = RGB(0x9ad1c0), RGB(0xdda0c4), RGB(0xd6dcea)
		return p
	}
	p.good, p.warn, p.bad = RGB(0x0072b2), RGB(0x8a6d00), RGB(0xb84a00)
	p.info, p.special, p.accent = RGB(0x00795a), RGB(0x9c4a7c), RGB(0x1f2a44)
	return p
}

// basic keeps to the sixteen colours, which the terminal's user has chosen.
func basic(p palette, safe, dark bool) palette {
	p = palette{
		muted: ANSI(8), faint: ANSI(8), accent: ANSI(12), good: ANSI(10), warn: ANSI(11), bad: ANSI(9),
		info: ANSI(14), special: ANSI(13), selected: ANSI(8), ink: ANSI(0),
	}
	if !dark {
		p.accent, p.good, p.warn, p.bad, p.info, p.special = ANSI(4), ANSI(2), ANSI(3), ANSI(1), ANSI(6), ANSI(5)
		p.selected, p.ink = ANSI(7), ANSI(15)
	}
	if safe {
		p.good = p.accent
		p.warn, p.bad = p.special, p.warn
	}
	return p
}

// cube replaces what has no near neighbour among the 256 colours, where a tint becomes
// grey, or another hue.
func (p palette) cube(dark bool) palette {
	if dark {
		p.selected = RGB(0x303030)
		return p
	}
	p.selected = RGB(0xd7d7ff)
	if p.bad == hues(false).bad {
		p.good, p.warn, p.bad = RGB(0x008700), RGB(0xaf5f00), RGB(0xd70000)
		p.info, p.special = RGB(0x0087af), RGB(0x8700d7)
	}
	return p
}

func (p palette) theme(name string) *Theme {
	fg := func(c Color) Style { return Style{FG: c} }
	t := &Theme{
		Name: name, Muted: fg(p.muted), Faint: fg(p.faint), Title: Style{Attr: Bold},
		Accent: fg(p.accent).With(Bold), Good: fg(p.good), Warn: fg(p.warn), Bad: fg(p.bad),
		Info: fg(p.info), Special: fg(p.special), Key: fg(p.accent), Head: fg(p.muted),
		Selected: Style{BG: p.selected}, Tab: Style{FG: p.ink, BG: p.accent, Attr: Bold},
		Banner: Style{FG: p.ink, BG: p.bad, Attr: Bold}, Notice: Style{FG: p.ink, BG: p.warn, Attr: Bold},
	}
	if p.selected == ANSI(8) { // it is the muted colour too: text on it must not vanish
		t.Selected = Style{Attr: Reverse}
	}
	return t
}

// mono tells by weight alone.
func mono() *Theme {
	bold, faint, rev := Style{Attr: Bold}, Style{Attr: Faint}, Style{Attr: Reverse}
	return &Theme{
		Name: "mono", Muted: faint, Faint: faint, Title: bold, Accent: bold, Warn: bold,
		Bad: bold.With(Underline), Key: bold, Head: faint, Selected: rev, Tab: rev.With(Bold),
		Banner: rev.With(Bold), Notice: rev,
	}
}
