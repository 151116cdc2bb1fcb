package screen

// Graph draws values as an area of braille dots, height lines of width columns. Each
// column shows two values, the newest at the right; places without a value are blank, so
// that a zero, which has a dot, differs from what is not known. The highest value is top,
// or the greatest when top is 0. What is above zero stands higher than a zero.
func Graph(values []float64, width, height int, top float64) []string {
	if width <= 0 || height <= 0 {
		return nil
	}
	if len(values) > 2*width {
		values = values[len(values)-2*width:]
	}
	if top <= 0 {
		for _, v := range values {
			top = max(top, v)
		}
	}
	cells := make([]rune, width*height)
	for i, v := range values {
		x := 2*width - len(values) + i
		for dot := range dots(v, top, 4*height) {
			cells[(height-1-dot/4)*width+x/2] |= brailleDots[x%2][dot%4]
		}
	}
	lines := make([]string, height)
	for y := range lines {
		row := cells[y*width : (y+1)*width]
		for x := range row {
			if row[x] == 0 {
				row[x] = ' '
			} else {
				row[x] |= 0x2800
			}
		}
		lines[y] = string(row)
	}
	return lines
}

// brailleDots are the bits of a braille character's left and right dots, from below.
var brailleDots = [2][4]rune{{0x40, 0x04, 0x02, 0x01}, {0x80, 0x20, 0x10, 0x08}}

func dots(v, top float64, all int) int {
	if !(v > 0) || !(top > 0) {
		return 1
	}
	return min(all, max(2, int(min(v/top, 1)*float64(all)+0.5)))
}

// Columns draws bars side by side, one column each, as height lines. The highest bar is
// the greatest value; what is above zero always shows.
func Columns(values []float64, height int) []string {
	var top float64
	for _, v := range values {
		top = max(top, v)
	}
	lines := make([]string, max(height, 0))
	row := make([]rune, len(values))
	bars := []rune(" ▁▂▃▄▅▆▇█")
	for y := range lines {
		below := 8 * (height - 1 - y)
		for x, v := range values {
			level := 0
			if v > 0 {
				level = max(1, int(v/top*float64(8*height)+0.5))
			}
			row[x] = bars[max(0, min(8, level-below))]
		}
		lines[y] = string(row)
	}
	return lines
}
