package schema

import (
	"fmt"
	"slices"
	"strings"
)

// Members of a command that say how it is called.
const (
	keyIdempotent  = "idempotent"
	keyRetry       = "retry"
	keyBalance     = "balance"
	keyMaxInFlight = "max_in_flight"
)

func callingKeys() []string { return []string{keyIdempotent, keyRetry, keyBalance, keyMaxInFlight} }

// Bounds on what they may ask for.
const (
	defaultAttempts = 3
	maxAttempts     = 10
	maxInFlight     = 1 << 20
	maxKeyPath      = 8
)

// Failures after which a request may be sent again, as in retry's on. They are codes of the
// protocol.
const (
	RetryNoVariant  = "no_variant" // nobody was there
	RetryOverloaded = "overloaded" // nobody had room
	RetryPeerLost   = "peer_lost"  // the link went while it was answered, or before; only if idempotent
)

// Retry says when a caller sends a request again, after all variants were tried.
type Retry struct {
	Attempts int      // the first one included, at least 2
	On       []string // of the Retry failures, sorted; not empty
}

// String is as an explanation has it.
func (r *Retry) String() string {
	return fmt.Sprintf("%d attempts, on %s", r.Attempts, strings.Join(r.On, ", "))
}

// Strategy is how the variant for a balanced request is chosen.
type Strategy string

// The strategies.
const (
	RoundRobin    Strategy = ""                // one after another
	LeastInFlight Strategy = "least_in_flight" // of two at random the one that the caller waits for less
	ByKey         Strategy = "key"             // by a member of the payload, the same one for the same value
)

const roundRobin = "round_robin" // as it is written

// Balance is a strategy; the zero value is RoundRobin.
type Balance struct {
	Strategy Strategy
	Key      []string // of ByKey: the path of the member, from the outside
}

// String is as an explanation has it.
func (b Balance) String() string {
	switch b.Strategy {
	case RoundRobin:
		return roundRobin
	case ByKey:
		return "key " + strings.Join(b.Key, ".")
	}
	return string(b.Strategy)
}

// calling reads the members that say how cmd is called, once the others have been read.
func (c *checker) calling(cmd *Command, members []member, path string) {
	for _, m := range members {
		at := join(path, m.key)
		switch m.key {
		case keyRetry, keyBalance:
			if cmd.Delivery == Broadcast {
				c.meaningless(m, at, "a broadcast command")
				continue
			}
		case keyMaxInFlight:
			if cmd.Queued {
				c.meaningless(m, at, "a queued command, which max_depth and concurrency bound")
				continue
			}
		default:
			continue
		}
		x := c
		if c.wire {
			// What a newer release means by it is not known: then it counts as not said.
			x = &checker{wire: true}
		}
		switch m.key {
		case keyRetry:
			if r := x.retry(m, at, cmd.Idempotent); len(x.problems) == 0 {
				cmd.Retry = r
			}
		case keyBalance:
			if b := x.balance(m, at); len(x.problems) == 0 {
				cmd.Balance = b
			}
		default:
			if n := x.wholeNumber(m, at, "0 (no bound of its own)", maxInFlight); len(x.problems) == 0 {
				cmd.MaxInFlight = n
			}
		}
	}
}

func (c *checker) meaningless(m member, path, of string) {
	if !c.wire {
		c.add(m.at, path, fmt.Sprintf("%s has no meaning for %s", m.key, of), "")
	}
}

func (c *checker) retry(m member, path string, idempotent bool) *Retry {
	const instead = "{attempts: 3, on: [no_variant, overloaded]}"
	r := &Retry{Attempts: defaultAttempts}
	members, ok := c.object(m.value, path, keyRetry, instead)
	if !ok || m.value.kind == null {
		return nil
	}
	for _, m := range members {
		switch at := join(path, m.key); m.key {
		case "attempts":
			r.Attempts = c.wholeNumber(m, at, "2", maxAttempts)
			if r.Attempts < 2 && !c.full() {
				c.add(m.value.at, at, "attempts counts the first one as well", fmt.Sprintf("a whole number from 2 to %d", maxAttempts))
			}
		case "on":
			r.On = c.retryOn(m, at, idempotent)
		default:
			c.unknown(m, path, keyRetry, []string{"attempts", "on"})
		}
	}
	if r.On == nil {
		r.On = []string{RetryNoVariant, RetryOverloaded}
		if idempotent {
			r.On = append(r.On, RetryPeerLost)
		}
	}
	if len(r.On) == 0 {
		return nil
	}
	return r
}

func (c *checker) retryOn(m member, path string, idempotent bool) []string {
	known := []string{RetryNoVariant, RetryOverloaded, RetryPeerLost}
	codes, ok := c.texts(m, path, "["+strings.Join(known, ", ")+"]")
	if !ok {
		return []string{}
	}
	on := []string{}
	for i, code := range codes {
		at := m.value.items[i].at
		switch {
		case !slices.Contains(known, code):
			if c.wire {
				continue
			}
			instead := suggest(code, known)
			if instead == "" {
				instead = "one of " + strings.Join(known, ", ")
			}
			c.add(at, path, fmt.Sprintf("a request is not sent again on %q", clip(code)), instead)
		case code == RetryPeerLost && !idempotent:
			if !c.wire {
				c.add(at, path, "on peer_lost the command may have run already: say idempotent: true beside retry, if running it twice does no harm", "")
			}
		default:
			on = append(on, code)
		}
	}
	if len(codes) == 0 {
		c.add(m.value.at, path, "on is empty", "["+strings.Join(known[:2], ", ")+"]")
	}
	slices.Sort(on)
	return slices.Compact(on)
}

func (c *checker) balance(m member, path string) Balance {
	const instead = "round_robin, least_in_flight or {key: FIELD.FIELD}"
	switch {
	case m.value.kind == null, m.value.kind == text && m.value.text == roundRobin:
		return Balance{}
	case m.value.kind == text && m.value.text == string(LeastInFlight):
		return Balance{Strategy: LeastInFlight}
	case m.value.kind != object || len(m.value.members) != 1 || m.value.members[0].key != "key":
		c.add(m.value.at, path, fmt.Sprintf("balance is %s", m.value.describe()), instead)
		return Balance{}
	}
	key := m.value.members[0].value
	fields := strings.Split(key.text, ".")
	switch {
	case key.kind != text || slices.Contains(fields, "") || len(key.text) > maxSensitiveLen:
		c.add(key.at, join(path, "key"), "key is "+key.describe(), "the path of a member of the payload, such as customer.id")
	case len(fields) > maxKeyPath:
		c.add(key.at, join(path, "key"), fmt.Sprintf("key is more than %d members deep", maxKeyPath), "")
	}
	return Balance{Strategy: ByKey, Key: fields}
}

// wireRetry and what callingWire gives are how callers get to know of them.
type wireRetry struct {
	Attempts int      `json:"attempts"`
	On       []string `json:"on"`
}

func (c *Command) wireCalling(to *wireCommand) {
	to.Idempotent, to.MaxInFlight = c.Idempotent, c.MaxInFlight
	if c.Retry != nil {
		to.Retry = &wireRetry{c.Retry.Attempts, c.Retry.On}
	}
	switch c.Balance.Strategy {
	case RoundRobin:
	case ByKey:
		to.Balance = map[string]string{"key": strings.Join(c.Balance.Key, ".")}
	default:
		to.Balance = c.Balance.Strategy
	}
}

func (c *Command) yamlCalling(m *yamlMap) {
	if c.Idempotent {
		m.put(keyIdempotent, yamlBool(true))
	}
	if c.Retry != nil {
		r := yamlObject()
		r.put("attempts", yamlInt(c.Retry.Attempts))
		r.put("on", yamlList(c.Retry.On))
		m.put(keyRetry, &r.Node)
	}
	switch c.Balance.Strategy {
	case RoundRobin:
	case ByKey:
		key := yamlObject()
		key.put("key", yamlText(strings.Join(c.Balance.Key, ".")))
		m.put(keyBalance, &key.Node)
	default:
		m.put(keyBalance, yamlText(string(c.Balance.Strategy)))
	}
	if c.MaxInFlight > 0 {
		m.put(keyMaxInFlight, yamlInt(c.MaxInFlight))
	}
}
