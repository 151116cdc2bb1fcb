package schema

import "testing"

func TestQueueOptions(t *testing.T) {
	s, err := Parse("x.yaml", []byte(`
worker:
  _commands:
    _balanced:
      all: {queued: true, retries: 0, max_depth: 7, concurrency: 3}
      none: {queued: true}
`))
	if err != nil {
		t.Fatal(err)
	}
	all := s.Workers["worker"].Commands["all"]
	if all.Retries == nil || *all.Retries != 0 || all.MaxDepth != 7 || all.Concurrency != 3 {
		t.Errorf("all: %+v", all)
	}
	if none := s.Workers["worker"].Commands["none"]; none.Retries != nil || none.MaxDepth != 0 || none.Concurrency != 0 {
		t.Errorf("none: %+v", none)
	}
	text, err := s.Wire()
	if err != nil {
		t.Fatal(err)
	}
	other, err := FromWire(text)
	if err != nil {
		t.Fatal(err)
	}
	if c := other.Workers["worker"].Commands["all"]; !c.Queued || c.Retries != nil || c.MaxDepth != 0 || c.Concurrency != 0 {
		t.Errorf("options that concern the node alone travelled: %+v", c)
	}
}
