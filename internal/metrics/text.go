package metrics

import (
	"bytes"
	"strconv"
	"strings"
)

// The text format of Prometheus, version 0.0.4:
// https://prometheus.io/docs/instrumenting/exposition_formats/
const contentType = "text/plain; version=0.0.4; charset=utf-8"

// Kinds of metrics.
const (
	counter   = "counter"
	gauge     = "gauge"
	histogram = "histogram"
)

// page is what one scrape gets: families, one after another, each with its samples.
type page struct {
	bytes.Buffer
	name string // of the present family
}

// family begins one. The help has neither a line break nor a backslash.
func (p *page) family(name, help, kind string) {
	p.name = name
	p.WriteString("# HELP " + name + " " + help + "\n# TYPE " + name + " " + kind + "\n")
}

// sample adds a value with labels, given as name, value, name, value.
func (p *page) sample(value float64, labels ...string) { p.suffixed("", value, labels) }

func (p *page) suffixed(suffix string, value float64, labels []string) {
	p.WriteString(p.name + suffix)
	for i := 0; i+1 < len(labels); i += 2 {
		mark := ","
		if i == 0 {
			mark = "{"
		}
		p.WriteString(mark + labels[i] + `="` + escaper.Replace(labels[i+1]) + `"`)
	}
	if len(labels) > 0 {
		p.WriteByte('}')
	}
	p.WriteByte(' ')
	p.WriteString(number(value))
	p.WriteByte('\n')
}

// buckets adds a histogram: how many values were at most each bound, in seconds, how many
// there were in all, and their sum.
func (p *page) buckets(bounds []float64, atMost []uint64, count uint64, sum float64, labels ...string) {
	for i, bound := range bounds {
		p.suffixed("_bucket", float64(atMost[i]), append(labels[:len(labels):len(labels)], "le", number(bound)))
	}
	p.suffixed("_bucket", float64(count), append(labels[:len(labels):len(labels)], "le", "+Inf"))
	p.suffixed("_sum", sum, labels)
	p.suffixed("_count", float64(count), labels)
}

func number(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) }

var escaper = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`)
