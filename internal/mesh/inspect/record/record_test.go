package record

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/klauspost/compress/zstd"
	"go.uber.org/goleak"

	"github.com/meshctl/meshctl/internal/mesh/inspect"
	"github.com/meshctl/meshctl/internal/mesh/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const start = 1_700_000_000_000

// play makes the updates of a mesh of so many nodes that call each other, ten reports a
// second each, and gives them to each.
func play(nodes int, length time.Duration, each func(inspect.Update)) {
	each(inspect.Update{At: start, Status: &inspect.Status{Connected: true, Master: "127.0.0.1:4000"}})
	mesh := &inspect.Mesh{Version: "1"}
	name := func(i int) string { return fmt.Sprintf("worker/v%d", i%nodes) }
	for i := range nodes {
		mesh.Nodes = append(mesh.Nodes, wire.NodeInfo{Worker: "worker", Variant: fmt.Sprintf("v%d", i), Kind: wire.KindMeshctl, Since: 1})
	}
	each(inspect.Update{At: start, Mesh: mesh})
	for tick := range int(length / (100 * time.Millisecond)) {
		for i := range nodes {
			done := uint64(tick+500) * 10 // they have been at it for a while
			r := inspect.Report{Node: name(i), Instance: "i", Seq: uint64(tick) + 1, Full: tick == 0, EveryMillis: 100}
			for k := range 3 {
				command := fmt.Sprintf("worker.c%d", k)
				buckets := inspect.Buckets{{Index: 100 + k, Count: done/2 + 1}, {Index: 200 + tick%20, Count: uint64(tick/20) + 1}}
				r.Commands = append(r.Commands,
					inspect.CommandCount{Command: command, Dir: inspect.Out, Started: done + 1, OK: done, Latency: buckets},
					inspect.CommandCount{Command: command, Dir: inspect.In, Started: done, OK: done, Latency: buckets})
			}
			r.InFlight = &inspect.InFlight{Total: 2, Requests: []inspect.Request{
				{UID: fmt.Sprintf("u%d-%d", i, tick/7), Dir: inspect.Out, Caller: name(i), Target: name(i + 1), Command: "worker.c0", Kind: inspect.KindBalanced, Phase: inspect.PhaseSent, AgeMillis: float64(tick%7) * 100, Payload: json.RawMessage(`{"secret":1}`)},
				{UID: fmt.Sprintf("u%d-%d", (i+nodes-1)%nodes, tick/7), Dir: inspect.In, Caller: name(i + nodes - 1), Target: name(i), Command: "worker.c0", Kind: inspect.KindBalanced, Phase: inspect.PhaseRunning, AgeMillis: float64(tick%7) * 100},
			}}
			each(inspect.Update{At: start + int64(tick)*100, Report: &r})
		}
	}
}

func create(t testing.TB, cfg Config) (string, *Recorder) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "x.mrec")
	r, err := Create(path, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return path, r
}

func record(t testing.TB, cfg Config, nodes int, length time.Duration) string {
	t.Helper()
	path, r := create(t, cfg)
	play(nodes, length, r.Write)
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

// summary is what two pictures have to have in common.
func summary(p *inspect.Picture) string {
	s := fmt.Sprintf("%s %d calls %.0f/s %s %s inflight %d, %d requests, lost %d;", p.At.UTC(), p.Totals.Calls, p.Totals.Rate, p.Totals.P50, p.Totals.P99, p.Totals.InFlight, len(p.Requests), p.Lost)
	for _, n := range p.Nodes {
		s += fmt.Sprintf(" %s %s %.0f/s %s", n.Name, n.Health, n.RateIn, n.P99)
	}
	for _, c := range p.Commands {
		s += fmt.Sprintf(" %s %d %.0f/s %s %d", c.Name, c.Calls, c.Rate, c.P99, len(c.Histogram))
	}
	for _, h := range p.History {
		s += fmt.Sprintf(" %.0f", h.Calls)
	}
	return s + fmt.Sprintf(" %d events", len(p.Events))
}

func TestReplayIsWhatWasRecorded(t *testing.T) {
	live := inspect.NewModel()
	path, r := create(t, Config{Header: Header{Master: "m:1"}})
	var last int64
	play(3, 35*time.Second, func(u inspect.Update) {
		r.Write(u)
		live.Apply(u)
		last = u.At
	})
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	replay, err := Read(path)
	if err != nil {
		t.Fatal(err)
	}
	defer replay.Close()
	if replay.Header().Master != "m:1" || len(replay.segments) != 4 || replay.Damage() != nil {
		t.Fatalf("%+v %d %v", replay.Header(), len(replay.segments), replay.Damage())
	}
	again := inspect.NewModel()
	resets := 0
	for {
		u, err := replay.Next(t.Context())
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if u.Reset {
			resets++
		}
		again.Apply(u)
	}
	if resets != 1 {
		t.Errorf("%d resets: key frames but the first are for seeking", resets)
	}
	now := time.UnixMilli(last)
	if got, want := summary(again.Picture(now)), summary(live.Picture(now)); got != want {
		t.Errorf("replayed\n%s, recorded\n%s", got, want)
	}
}

func TestSeekShowsWhatWasThere(t *testing.T) {
	path := record(t, Config{}, 2, 45*time.Second)
	for _, second := range []int{44, 20, 0, 33} {
		at := time.UnixMilli(start + int64(second)*1000)
		live := inspect.NewModel()
		play(2, 45*time.Second, func(u inspect.Update) {
			if u.At <= at.UnixMilli() {
				live.Apply(u)
			}
		})
		want := live.Picture(at)
		synctest.Test(t, func(t *testing.T) { // so that only a replay that waits takes any time
			r, err := Open(path)
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			r.Play(false)
			r.Seek(at)
			if got := summary(soughtPicture(t, r, at)); got != summary(want) {
				t.Errorf("at %ds\n%s, want\n%s", second, got, summary(want))
			}
		})
	}
}

// soughtPicture reads until the replay waits, in a bubble.
func soughtPicture(t testing.TB, r *Replay, at time.Time) *inspect.Picture {
	t.Helper()
	m := inspect.NewModel()
	for {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		u, err := r.Next(ctx)
		cancel()
		if errors.Is(err, context.DeadlineExceeded) {
			return m.Picture(at)
		}
		if err != nil {
			t.Fatal(err)
		}
		m.Apply(u)
	}
}

func TestTimeline(t *testing.T) {
	path := record(t, Config{}, 2, 30*time.Second)
	synctest.Test(t, func(t *testing.T) {
		r, err := Open(path)
		if err != nil {
			t.Fatal(err)
		}
		from, to := r.Span()
		if from.UnixMilli() != start || to.Sub(from) != 29900*time.Millisecond {
			t.Fatalf("from %s to %s", from, to)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var last, resets atomic.Int64
		done := make(chan struct{})
		go func() {
			defer close(done)
			for {
				u, err := r.Next(ctx)
				if err != nil {
					return
				}
				last.Store(u.At)
				if u.Reset {
					resets.Add(1)
				}
			}
		}()
		expect := func(what string, position time.Duration, wantResets int64) {
			t.Helper()
			synctest.Wait()
			if got := r.Position().Sub(from); got != position || resets.Load() != wantResets {
				t.Fatalf("%s: at %s after %d resets, want %s after %d", what, got, resets.Load(), position, wantResets)
			}
			if behind := from.Add(position).UnixMilli() - last.Load(); behind < 0 || behind >= 100 {
				t.Fatalf("%s: the newest update is %d ms behind", what, behind)
			}
		}
		expect("start", 0, 1)
		time.Sleep(2 * time.Second)
		expect("playing", 2*time.Second, 1)
		r.SetSpeed(4)
		time.Sleep(3 * time.Second)
		expect("four times as fast", 14*time.Second, 1)
		r.Play(false)
		time.Sleep(time.Minute)
		expect("paused", 14*time.Second, 1)
		r.Seek(from.Add(15 * time.Second))
		expect("a step ahead", 15*time.Second, 1)
		r.Seek(from.Add(14 * time.Second))
		expect("a step back", 14*time.Second, 2)
		r.SetSpeed(1000)
		if r.Speed() != 60 || r.Playing() {
			t.Errorf("speed %v, playing %t", r.Speed(), r.Playing())
		}
		r.Play(true)
		time.Sleep(time.Minute)
		expect("the end", 29900*time.Millisecond, 2)
		if r.Playing() {
			t.Error("plays beyond its end")
		}
		r.Seek(from.Add(-time.Hour))
		r.SetSpeed(1)
		expect("before the start", 0, 3)
		cancel()
		<-done
		r.Close()
	})
}

func TestPayloadsAreMasked(t *testing.T) {
	for payloads, want := range map[bool]string{false: `"***"`, true: `{"secret":1}`} {
		path := record(t, Config{Payloads: payloads}, 2, 2*time.Second)
		text := content(t, path)
		if !bytes.Contains(text, []byte(`"payload":`+want)) || bytes.Contains(text, []byte("secret")) != payloads {
			t.Errorf("payloads %t: %.2000s", payloads, text)
		}
	}
}

func content(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	dec, err := zstd.NewReader(bytes.NewReader(data), zstd.WithDecoderConcurrency(1))
	if err != nil {
		t.Fatal(err)
	}
	defer dec.Close()
	text, err := io.ReadAll(dec)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestCreateKeepsWhatIsThere(t *testing.T) {
	path := record(t, Config{}, 1, time.Second)
	if _, err := Create(path, Config{}); !errors.Is(err, fs.ErrExist) {
		t.Errorf("%v", err)
	}
	r, err := Create(path, Config{Force: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	if _, err := Open(path); err == nil || !strings.Contains(err.Error(), "nothing recorded") {
		t.Errorf("%v", err)
	}
}

func TestSizeIsBounded(t *testing.T) {
	const most = 128 << 10
	path, r := create(t, Config{Max: most})
	play(10, time.Minute, func(u inspect.Update) {
		if r.Err() == nil {
			r.Write(u)
		}
	})
	if err := r.Err(); !errors.Is(err, ErrFull) {
		t.Errorf("%v", err)
	}
	if err := r.Close(); !errors.Is(err, ErrFull) {
		t.Errorf("%v", err)
	}
	st, err := os.Stat(path)
	if err != nil || st.Size() > most || st.Size() < most/4 {
		t.Errorf("%d bytes, %v", st.Size(), err)
	}
	replay, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer replay.Close()
	if replay.Damage() != nil {
		t.Error(replay.Damage())
	}
}

// A crash loses what was not flushed, and the rest can be read.
func TestCrash(t *testing.T) {
	path, r := create(t, Config{})
	var last int64
	play(2, 15*time.Second, func(u inspect.Update) { r.Write(u); last = u.At })
	r.mu.Lock()
	r.flush()
	r.mu.Unlock()
	data, err := os.ReadFile(path) // as a crash would leave it
	if err != nil {
		t.Fatal(err)
	}
	crashed := filepath.Join(t.TempDir(), "crashed")
	if err := os.WriteFile(crashed, data, 0o600); err != nil {
		t.Fatal(err)
	}
	replay, err := Read(crashed)
	if err != nil {
		t.Fatal(err)
	}
	defer replay.Close()
	if replay.Damage() == nil {
		t.Error("nothing is said of the missing end")
	}
	if _, to := replay.Span(); to.UnixMilli() != last {
		t.Errorf("ends at %d, want %d", to.UnixMilli(), last)
	}
	if got := readAll(t, replay); got != last {
		t.Errorf("read until %d, want %d", got, last)
	}
}

// readAll gives the time of the last update.
func readAll(t *testing.T, r *Replay) (last int64) {
	t.Helper()
	for {
		u, err := r.Next(t.Context())
		if errors.Is(err, io.EOF) {
			return last
		}
		if err != nil {
			t.Fatal(err)
		}
		last = u.At
	}
}

func TestDamagedFiles(t *testing.T) {
	whole, err := os.ReadFile(record(t, Config{}, 2, 35*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	compress := func(text string) []byte {
		enc, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
		if err != nil {
			t.Fatal(err)
		}
		defer enc.Close()
		return enc.EncodeAll([]byte(text), nil)
	}
	flip := func(at int) []byte {
		b := bytes.Clone(whole)
		for i := range 16 {
			b[at+i] ^= 0x5a
		}
		return b
	}
	header := compress(`{"meshctl_recording":1,"at":1}` + "\n")
	key := compress(`{"at":1700000000000,"reset":true}` + "\n" + `{"at":1700000000000,"past":{}}` + "\n")
	for name, tc := range map[string]struct {
		data    []byte
		refused string // "": it can be read, and the damage is told
	}{
		"empty":          {nil, "is no recording"},
		"text":           {[]byte("hello\n"), "is no recording"},
		"other zstd":     {compress("hello\n"), "is no recording"},
		"other JSON":     {compress("{}\n"), "is no recording"},
		"later version":  {compress(`{"meshctl_recording":9}` + "\n"), "is of version 9"},
		"header alone":   {whole[:100], "nothing recorded"},
		"cut off":        {whole[:len(whole)-100], ""},
		"cut in half":    {whole[:len(whole)/2], ""},
		"trailing bytes": {append(bytes.Clone(whole), "rubbish"...), ""},
		"flipped bytes":  {flip(len(whole) / 2), ""},
		"flipped late":   {flip(len(whole) - 200), ""},
		"no JSON":        {bytes.Join([][]byte{header, key, compress("{\"at\":1700000001000,\n")}, nil), ""},
		"hostile report": {bytes.Join([][]byte{header, compress(`{"at":1700000000000,"reset":true}` + "\n" + `{"at":1700000000000,"report":{"node":"\u001b[31m/x","instance":"i"}}` + "\n")}, nil), ""},
		"back in time":   {bytes.Join([][]byte{header, key, compress(`{"at":1600000000000,"reset":true}` + "\n")}, nil), ""},
		"endless line":   {bytes.Join([][]byte{header, key, compress(`{"at":1700000000001,"x":"` + strings.Repeat("x", maxLine+1<<20))}, nil), ""},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "damaged")
			if err := os.WriteFile(path, tc.data, 0o600); err != nil {
				t.Fatal(err)
			}
			r, err := Read(path)
			if tc.refused != "" {
				if err == nil || !strings.Contains(err.Error(), tc.refused) {
					t.Errorf("%v, want %s", err, tc.refused)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			if readAll(t, r) == 0 {
				t.Error("nothing was read")
			}
			if r.Damage() == nil {
				t.Error("nothing is said of the damage")
			}
		})
	}
}

func BenchmarkSeek(b *testing.B) {
	path := record(b, Config{}, 20, 10*time.Minute)
	st, _ := os.Stat(path)
	r, err := Open(path)
	if err != nil {
		b.Fatal(err)
	}
	defer r.Close()
	r.Play(false)
	from, _ := r.Span()
	i := 0
	for b.Loop() {
		i++
		at := from.Add(time.Duration(i*137%590)*time.Second + 500*time.Millisecond)
		r.Seek(at)
		m := inspect.NewModel()
		for {
			u, err := r.Next(b.Context())
			if err != nil {
				b.Fatal(err)
			}
			m.Apply(u)
			if u.At >= at.UnixMilli()-100 && u.Report != nil && u.Report.Node == "worker/v19" {
				break
			}
		}
		m.Picture(at)
	}
	b.ReportMetric(float64(st.Size())/1e6, "MB")
}
