package record

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"

	"github.com/klauspost/compress/zstd"

	"github.com/meshctl/meshctl/internal/mesh/inspect"
)

// Bounds of what is read.
const (
	maxLine     = 16 << 20
	maxWindow   = 8 << 20
	maxSegments = 1 << 17 // two weeks
)

// segment is a zstd frame of the file.
type segment struct {
	offset, length int64
	at             int64 // of its key frame, in milliseconds since 1970
}

// findFrames gives the frames of a file by their headers alone, and whether the last one
// is cut off or something else follows.
func findFrames(f io.ReaderAt, size int64) (frames []segment, damaged bool) {
	for offset := int64(0); offset < size; {
		length, whole := frameLength(f, offset, size)
		if length == 0 || len(frames) >= maxSegments {
			return frames, true
		}
		frames = append(frames, segment{offset: offset, length: length})
		if !whole {
			return frames, true
		}
		offset += length
	}
	return frames, false
}

// frameLength gives the length of the frame at offset: 0 when there is none, and what is
// there of it when it is not whole.
func frameLength(f io.ReaderAt, offset, size int64) (length int64, whole bool) {
	var buf [zstd.HeaderMaxSize]byte
	n, err := f.ReadAt(buf[:], offset)
	if err != nil && !errors.Is(err, io.EOF) {
		return 0, false
	}
	var h zstd.Header
	if h.Decode(buf[:n]) != nil || h.Skippable {
		return 0, false
	}
	at := offset + int64(h.HeaderSize)
	for {
		var b [3]byte
		if n, _ := f.ReadAt(b[:], at); n < len(b) {
			return size - offset, false
		}
		block := int64(b[0]) | int64(b[1])<<8 | int64(b[2])<<16
		at += 3
		if kind := block >> 1 & 3; kind == 1 { // one byte, repeated
			at++
		} else {
			at += block >> 3
		}
		if at > size {
			return size - offset, false
		}
		if block&1 != 0 {
			break
		}
	}
	if h.HasCheckSum {
		at += 4
	}
	return min(at, size) - offset, at <= size
}

// lines reads the updates of one frame after the other.
type lines struct {
	f   io.ReaderAt
	dec *zstd.Decoder
	buf *bufio.Reader
}

func newLines(f io.ReaderAt) (*lines, error) {
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderMaxMemory(1<<40))
	if err != nil {
		return nil, fmt.Errorf("read the recording: %w", err)
	}
	return &lines{f: f, dec: dec, buf: bufio.NewReaderSize(nil, 64<<10)}, nil
}

// open begins to read a frame.
func (l *lines) open(s segment) error {
	if err := l.dec.Reset(io.NewSectionReader(l.f, s.offset, s.length)); err != nil {
		return err
	}
	l.buf.Reset(l.dec)
	return nil
}

// next gives the next line without its end. It fails with io.EOF at the end of the
// frame, and in another way when the frame is damaged or cut off.
func (l *lines) next() ([]byte, error) {
	var line []byte
	for {
		part, err := l.buf.ReadSlice('\n')
		switch {
		case err == nil && line == nil:
			return part[:len(part)-1], nil // valid until the next call
		case err == nil:
			return append(line, part[:len(part)-1]...), nil
		case errors.Is(err, bufio.ErrBufferFull) && len(line) < maxLine:
			line = append(line, part...)
		case errors.Is(err, bufio.ErrBufferFull):
			return nil, errors.New("a line is too long")
		case errors.Is(err, io.EOF) && len(line)+len(part) > 0:
			return nil, io.ErrUnexpectedEOF
		default:
			return nil, err
		}
	}
}

func (l *lines) close() { l.dec.Close() }

// timeOf reads when a line's update was, without reading the rest.
func timeOf(line []byte) (int64, bool) {
	rest, ok := bytes.CutPrefix(line, []byte(`{"at":`))
	if !ok {
		return 0, false
	}
	end := bytes.IndexAny(rest, ",}")
	if end < 0 {
		return 0, false
	}
	at, err := strconv.ParseInt(string(rest[:end]), 10, 64)
	return at, err == nil && at > 0
}

// scan finds what is in a recording.
func scan(path string, f *os.File, l *lines) (h Header, segments []segment, end int64, damage error, err error) {
	st, err := f.Stat()
	if err != nil {
		return h, nil, 0, nil, fmt.Errorf("read the recording: %w", err)
	}
	frames, damaged := findFrames(f, st.Size())
	if len(frames) == 0 || l.open(frames[0]) != nil {
		return h, nil, 0, nil, notRecording(path)
	}
	line, err := l.next()
	if err != nil || json.Unmarshal(line, &h) != nil || h.Version < 1 {
		return h, nil, 0, nil, notRecording(path)
	}
	if h.Version > Version {
		return h, nil, 0, nil, fmt.Errorf("%s is of version %d, which this meshctl does not know; a newer one reads it", path, h.Version)
	}
	h.Master, h.Release = inspect.CleanText(h.Master, 300), inspect.CleanText(h.Release, 64)
	for _, s := range frames[1:] {
		at, ok := int64(0), false
		if l.open(s) == nil {
			if line, err := l.next(); err == nil {
				at, ok = timeOf(line)
			}
		}
		if !ok || len(segments) > 0 && at < segments[len(segments)-1].at {
			damaged = true
			continue
		}
		s.at = at
		segments = append(segments, s)
	}
	if len(segments) == 0 {
		return h, nil, 0, nil, fmt.Errorf("%s has nothing recorded in it", path)
	}
	end, whole := lastTime(l, segments[len(segments)-1])
	if damaged || !whole {
		damage = fmt.Errorf("%s is damaged or was cut off; what is whole of it is shown", path)
	}
	return h, segments, end, damage, nil
}

// lastTime gives the time of the last update of a segment, and whether it is whole.
func lastTime(l *lines, s segment) (int64, bool) {
	end := s.at
	if l.open(s) != nil {
		return end, false
	}
	for {
		line, err := l.next()
		if err != nil {
			return end, errors.Is(err, io.EOF)
		}
		if at, ok := timeOf(line); ok {
			end = max(end, at)
		}
	}
}

func notRecording(path string) error {
	return fmt.Errorf("%s is no recording of meshctl watch --record", path)
}
