package tuitest

import "github.com/meshctl/meshctl/internal/mesh/schema"

// Schema is that of the meshes made here: who of its workers may connect to whom.
func Schema() *schema.Schema {
	s, err := schema.Parse("tuitest.yaml", []byte(`
gateway:
  _connect: [billing, search, legacy]
  _commands: {_balanced: {status: {}}}
billing:
  _allow: [gateway]
  _connect: [mailer]
  _commands: {_balanced: {charge: {}, quote: {}}, _broadcast: {totals: {responds: true}}}
search:
  _allow: [gateway, search]
  _connect: [search]
  _commands: {_balanced: {find: {}, suggest: {}}, _broadcast: {reindex: {responds: true}}}
mailer:
  _allow: [billing]
  _commands: {_balanced: {send: {queued: true}}}
legacy:
  _allow: [gateway]
  _commands: {_balanced: {lookup: {}}}
`))
	if err != nil {
		panic(err) // the text is a constant
	}
	return s
}

// workers are those of Schema, in turn.
func workers() []string { return []string{"gateway", "billing", "search", "mailer", "legacy"} }

type command struct {
	name string // "worker.command"
	kind string
	slow float64 // median in milliseconds
}

func commands() []command {
	return []command{
		{"gateway.status", "balanced", 0.3}, {"billing.charge", "balanced", 38}, {"billing.quote", "balanced", 2.1},
		{"billing.totals", "broadcast", 12}, {"search.find", "balanced", 7.5}, {"search.suggest", "balanced", 1.4},
		{"search.reindex", "broadcast", 640}, {"mailer.send", "queued", 120}, {"legacy.lookup", "balanced", 21},
	}
}
