package tuitest

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/meshctl/meshctl/internal/mesh/inspect"
	"github.com/meshctl/meshctl/internal/mesh/schema"
	"github.com/meshctl/meshctl/internal/mesh/wire"
)

// Source is an inspect.Source of a mesh that is not there but lively: its nodes call each
// other, some calls are slow, some fail, and a variant goes and comes. It goes by the
// clock, and makes its updates when it is asked.
type Source struct {
	rng    *rand.Rand
	every  time.Duration
	rate   float64
	at     time.Time
	queue  []inspect.Update
	nodes  []*node
	steps  int
	calls  uint64
	schema *schema.Schema
}

type node struct {
	info    wire.NodeInfo
	seq     uint64
	counts  map[string]*counts
	flights []flight
	links   map[string]*inspect.LinkCount
	active  map[string]bool // links that have changed
	away    bool
}

type counts struct {
	inspect.CommandCount
	changed map[int]uint64
	latency map[int]uint64
}

type flight struct {
	inspect.Request
	to          *node
	began, ends time.Time
}

// NewSource makes a source of so many nodes, each of which sends rate calls a second.
func NewSource(nodes int, rate float64) *Source {
	s := &Source{rng: rand.New(rand.NewPCG(7, 7)), every: time.Duration(max(100, nodes)) * time.Millisecond, rate: rate, at: time.Now(), schema: Schema()}
	ws := workers()
	for i := range nodes {
		s.nodes = append(s.nodes, &node{
			counts: map[string]*counts{}, links: map[string]*inspect.LinkCount{}, active: map[string]bool{},
			info: wire.NodeInfo{
				Worker: ws[i%len(ws)], Variant: fmt.Sprint(1 + i/len(ws)), IP: "10.0.0.7", Port: 4041 + i,
				Kind: wire.KindMeshctl, Link: "native", Native: true, Version: "0.5.0",
				Since: s.at.Add(-time.Duration(i) * time.Minute).UnixMilli(),
			},
		})
	}
	s.add(inspect.Update{Status: &inspect.Status{Connected: true, Master: "127.0.0.1:4040"}})
	s.tellMesh(true)
	return s
}

// Next waits for the next update by the clock.
func (s *Source) Next(ctx context.Context) (inspect.Update, error) {
	for len(s.queue) == 0 {
		s.at = s.at.Add(s.every)
		select {
		case <-ctx.Done():
			return inspect.Update{}, ctx.Err()
		case <-time.After(time.Until(s.at)):
		}
		s.step()
	}
	u := s.queue[0]
	s.queue = s.queue[1:]
	return u, ctx.Err()
}

// Close does nothing.
func (s *Source) Close() error { return nil }

func (s *Source) add(u inspect.Update) {
	u.At = s.at.UnixMilli()
	s.queue = append(s.queue, u)
}

func (s *Source) tellMesh(schema bool) {
	m := &inspect.Mesh{Version: "0.5.0"}
	for _, n := range s.nodes {
		if !n.away {
			m.Nodes = append(m.Nodes, n.info)
		}
	}
	if schema {
		text, err := s.schema.Wire()
		if err != nil {
			panic(err) // it is a constant
		}
		m.Schema = json.RawMessage(text)
	}
	s.add(inspect.Update{Mesh: m})
}

// step is what happens in the mesh between two reports.
func (s *Source) step() {
	s.steps++
	if n := s.nodes[len(s.nodes)-1]; s.steps%80 == 0 { // one dies for a while
		n.away = !n.away
		n.seq, n.flights, n.counts, n.links, n.active = 0, nil, map[string]*counts{}, map[string]*inspect.LinkCount{}, map[string]bool{}
		n.info.Since = s.at.UnixMilli()
		s.tellMesh(false)
	}
	burst := 1 + 3*max(0, math.Sin(float64(s.steps)/40))
	for _, n := range s.nodes {
		for range int(s.rate*burst*s.every.Seconds() + s.rng.Float64()) {
			if !n.away {
				s.call(n)
			}
		}
	}
	for _, n := range s.nodes {
		if !n.away {
			s.report(n)
		}
	}
}

// call is one call that n sends.
func (s *Source) call(n *node) {
	c := commands()[s.rng.IntN(len(commands()))]
	worker, _, _ := strings.Cut(c.name, ".")
	if !s.schema.MayConnect(n.info.Worker, worker) {
		return
	}
	var to *node
	for range 8 {
		if x := s.nodes[s.rng.IntN(len(s.nodes))]; x.info.Worker == worker && !x.away && x != n {
			to = x
		}
	}
	if to == nil {
		return
	}
	s.calls++
	took := time.Duration(c.slow * math.Exp(s.rng.NormFloat64()*0.7) * float64(time.Millisecond))
	if s.rng.IntN(200) == 0 {
		took *= 30
	}
	f := flight{began: s.at, ends: s.at.Add(took), Request: inspect.Request{
		UID: fmt.Sprintf("%08x-0000-4000-8000-%012x", s.rng.Uint32(), s.calls), Dir: inspect.Out, Kind: c.kind, Phase: inspect.PhaseSent,
		Caller: name(n), Target: name(to), Command: c.name, TimeoutMillis: 10_000, Bytes: s.rng.IntN(3000),
	}}
	if s.rng.IntN(150) == 0 {
		f.Code, f.Error = wire.CodeHandlerError, "the card was declined"
	}
	s.counts(n, inspect.Out, &f).Started++
	s.counts(to, inspect.In, &f).Started++
	f.to = to
	if l := n.links[name(to)]; l == nil {
		n.links[name(to)] = &inspect.LinkCount{
			ID: name(to), Peer: name(to), Kind: wire.KindMeshctl, Transport: "native", Dialed: true, Since: s.at.UnixMilli(),
		}
	}
	n.links[name(to)].Sent++
	n.active[name(to)] = true
	if took <= s.every {
		s.end(n, &f)
		return
	}
	n.flights = append(n.flights, f)
}

func (s *Source) counts(n *node, dir string, f *flight) *counts {
	key := dir + f.Command
	c := n.counts[key]
	if c == nil {
		c = &counts{latency: map[int]uint64{}, CommandCount: inspect.CommandCount{Command: f.Command, Dir: dir}}
		n.counts[key] = c
	}
	if c.changed == nil {
		c.changed = map[int]uint64{}
	}
	return c
}

// end counts a call's end at both ends of it.
func (s *Source) end(n *node, f *flight) {
	for _, c := range []*counts{s.counts(n, inspect.Out, f), s.counts(f.to, inspect.In, f)} {
		c.BytesOut += uint64(f.Bytes)
		if f.Code != "" {
			if c.Errors == nil {
				c.Errors = map[wire.Code]uint64{}
			}
			c.Errors[f.Code]++
		} else {
			c.OK++
		}
		i := inspect.BucketOf(f.ends.Sub(f.began))
		c.latency[i]++
		c.changed[i] = c.latency[i]
	}
}

func (s *Source) report(n *node) {
	n.seq++
	r := &inspect.Report{
		Node: name(n), Instance: fmt.Sprint(n.info.Since), Seq: n.seq, Full: n.seq == 1, EveryMillis: s.every.Milliseconds(),
		InFlight: &inspect.InFlight{},
	}
	n.flights = slices.DeleteFunc(n.flights, func(f flight) bool {
		q := f.Request
		q.AgeMillis = float64(s.at.Sub(f.began).Milliseconds())
		if f.ends.After(s.at) {
			q.Code, q.Error = "", ""
			r.InFlight.Requests = append(r.InFlight.Requests, q)
			return false
		}
		q.Phase, q.AgeMillis = inspect.PhaseDone, float64(f.ends.Sub(f.began).Milliseconds())
		s.end(n, &f)
		r.Finished = append(r.Finished, q)
		return true
	})
	for _, c := range n.counts {
		if c.changed == nil {
			continue
		}
		out := c.CommandCount
		out.Errors = maps.Clone(c.Errors)
		out.Latency = nil
		for i, k := range c.changed {
			out.Latency = append(out.Latency, inspect.Bucket{Index: i, Count: k})
		}
		slices.SortFunc(out.Latency, func(a, b inspect.Bucket) int { return a.Index - b.Index })
		c.changed = nil
		r.Commands = append(r.Commands, out)
	}
	for peer := range n.active {
		r.Links = append(r.Links, *n.links[peer])
	}
	clear(n.active)
	r.FinishedOf, r.InFlight.Total = uint64(len(r.Finished)), len(r.InFlight.Requests)
	r.InFlight.Requests = r.InFlight.Requests[:min(len(r.InFlight.Requests), 200)]
	s.add(inspect.Update{Report: r})
}

func name(n *node) string { return n.info.Worker + "/" + n.info.Variant }
