package main

import (
	"bytes"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"os"
	"path/filepath"

	"golang.org/x/image/font"
	"golang.org/x/image/font/opentype"
	"golang.org/x/image/math/fixed"
)

// Of a cell, in pixels, and around the screen.
const (
	cellWidth  = 9
	cellHeight = 19
	baseline   = 15
	margin     = 12
	points     = 15
)

// brush draws screens.
type brush struct{ plain, bold font.Face }

func newBrush(dir string) (*brush, error) {
	face := func(name string) (font.Face, error) {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return nil, fmt.Errorf("%w; apt-get install fonts-dejavu-core", err)
		}
		f, err := opentype.Parse(data)
		if err != nil {
			return nil, err
		}
		return opentype.NewFace(f, &opentype.FaceOptions{Size: points, DPI: 72, Hinting: font.HintingFull})
	}
	plain, err := face("DejaVuSansMono.ttf")
	if err != nil {
		return nil, err
	}
	bold, err := face("DejaVuSansMono-Bold.ttf")
	return &brush{plain, bold}, err
}

// draw writes a screen to a PNG file and tells its size.
func (b *brush) draw(file string, screen [][]cell, dark bool) (int, error) {
	fg, bg := color.Color(color.RGBA{0xd5, 0xd9, 0xe4, 255}), color.Color(color.RGBA{0x16, 0x18, 0x1f, 255})
	if !dark {
		fg, bg = color.RGBA{0x1f, 0x23, 0x2e, 255}, color.RGBA{0xfd, 0xfd, 0xfc, 255}
	}
	img := image.NewRGBA(image.Rect(0, 0, len(screen[0])*cellWidth+2*margin, len(screen)*cellHeight+2*margin))
	draw.Draw(img, img.Bounds(), image.NewUniform(bg), image.Point{}, draw.Src)
	for y, row := range screen {
		for x, c := range row {
			b.cell(img, image.Rect(0, 0, cellWidth, cellHeight).Add(image.Pt(margin+x*cellWidth, margin+y*cellHeight)), c, fg, bg)
		}
	}
	var out bytes.Buffer
	if err := (&png.Encoder{CompressionLevel: png.BestCompression}).Encode(&out, img); err != nil {
		return 0, err
	}
	return out.Len(), os.WriteFile(file, out.Bytes(), 0o644)
}

func (b *brush) cell(img *image.RGBA, at image.Rectangle, c cell, fg, bg color.Color) {
	ink, ground := c.fg, c.bg
	if ink == nil {
		ink = fg
	}
	if ground == nil {
		ground = bg
	}
	if c.rev {
		ink, ground = ground, ink
	}
	if c.faint {
		ink = mix(ink, ground)
	}
	if ground != bg {
		draw.Draw(img, at, image.NewUniform(ground), image.Point{}, draw.Src)
	}
	if c.underline {
		line := image.Rect(at.Min.X, at.Min.Y+baseline+2, at.Max.X, at.Min.Y+baseline+3)
		draw.Draw(img, line, image.NewUniform(ink), image.Point{}, draw.Src)
	}
	switch {
	case c.char == 0 || c.char == ' ':
	case c.char >= 0x2581 && c.char <= 0x2588: // blocks fill their cells to the edges
		height := cellHeight * int(c.char-0x2580) / 8
		bar := image.Rect(at.Min.X, at.Max.Y-height, at.Max.X, at.Max.Y)
		draw.Draw(img, bar, image.NewUniform(ink), image.Point{}, draw.Src)
	case c.char >= 0x2800 && c.char <= 0x28ff:
		braille(img, at, c.char, ink)
	default:
		face := b.plain
		if c.bold {
			face = b.bold
		}
		d := font.Drawer{Dst: img, Src: image.NewUniform(ink), Face: face, Dot: fixed.P(at.Min.X, at.Min.Y+baseline)}
		d.DrawString(string(c.char))
	}
}

// braille draws the dots of a character as terminals do, evenly over the lines.
func braille(img *image.RGBA, at image.Rectangle, char rune, ink color.Color) {
	bits := [4][2]rune{{0x01, 0x08}, {0x02, 0x10}, {0x04, 0x20}, {0x40, 0x80}}
	for y := range 4 {
		for x := range 2 {
			if (char-0x2800)&bits[y][x] == 0 {
				continue
			}
			left, top := at.Min.X+1+x*4, at.Min.Y+1+y*cellHeight/4
			draw.Draw(img, image.Rect(left, top, left+3, top+3), image.NewUniform(ink), image.Point{}, draw.Src)
		}
	}
}

func mix(a, b color.Color) color.Color {
	ar, ag, ab, _ := a.RGBA()
	br, bg, bb, _ := b.RGBA()
	half := func(x, y uint32) uint8 { return uint8((x*3 + y*2) / 5 >> 8) }
	return color.RGBA{half(ar, br), half(ag, bg), half(ab, bb), 255}
}
