package inspect

import (
	"encoding/json"
	"fmt"

	"github.com/meshctl/meshctl/internal/mesh/wire"
)

// DecodeUpdate reads an update of a recording, which somebody may have made up: reports,
// nodes and texts are checked as those of a live mesh are.
func DecodeUpdate(line []byte) (Update, error) {
	var u Update
	if err := json.Unmarshal(line, &u); err != nil {
		return u, fmt.Errorf("read an update: %s", CleanText(err.Error(), maxErrorText))
	}
	c := checker{}
	c.number("at", float64(u.At))
	c.number("lost", float64(u.Lost))
	if s := u.Status; s != nil {
		s.Master, s.Reason = CleanText(s.Master, wire.MaxHostLen+8), CleanText(s.Reason, wire.MaxErrorLen)
	}
	if m := u.Mesh; m != nil {
		c.mesh(m)
	}
	if r := u.Report; r != nil {
		c.is(r.check())
	}
	if p := u.Past; p != nil {
		c.past(p)
	}
	if c.err != nil {
		return u, fmt.Errorf("read an update: %w", c.err)
	}
	return u, nil
}

func (c *checker) past(p *Past) {
	c.number("since", float64(p.Since))
	c.number("lost", float64(p.Lost))
	for i := range p.Commands {
		c.command(&p.Commands[i])
	}
	for _, s := range p.History {
		c.number("calls", s.Calls)
		c.number("errors", s.Errors)
		c.number("in_flight", float64(s.InFlight))
		c.number("p50", float64(s.P50))
		c.number("p99", float64(s.P99))
	}
	for i := range p.Events {
		e := &p.Events[i]
		c.oneOf("level", string(e.Level), string(LevelInfo), string(LevelWarn), string(LevelError))
		for _, text := range []*string{&e.Type, &e.Node, &e.Peer, &e.Command, &e.UID, &e.Code} {
			*text = CleanText(*text, 2*wire.MaxNameLen+wire.MaxVariantLen)
		}
		e.Message = CleanText(e.Message, wire.MaxErrorLen)
	}
}
