package route

import (
	"fmt"
	"slices"
	"strings"

	"github.com/meshctl/meshctl/internal/mesh/wire"
)

// Selection narrows a request to some variants of its worker. A nil Only means all;
// an empty one is refused, because it would otherwise mean everybody or nobody.
type Selection struct {
	Only    []string
	Exclude []string
}

// IsZero tells whether nothing is narrowed.
func (s Selection) IsZero() bool { return s.Only == nil && len(s.Exclude) == 0 }

// Has tells whether the variant is selected.
func (s Selection) Has(variant string) bool {
	if s.Only != nil && !slices.Contains(s.Only, variant) {
		return false
	}
	return !slices.Contains(s.Exclude, variant)
}

// Check fails with bad_request when the selection can be no one's intention.
func (s Selection) Check() error {
	if s.Only != nil && len(s.Only) == 0 {
		return &wire.Error{Code: wire.CodeBadRequest, Message: "only selects no variant", Hint: "name at least one variant, or leave it out to reach all of them"}
	}
	for _, list := range [][]string{s.Only, s.Exclude} {
		for _, v := range list {
			if err := wire.ValidVariant(v); err != nil {
				return &wire.Error{Code: wire.CodeBadRequest, Message: fmt.Sprintf("bad variant %q: %v", v, err)}
			}
		}
	}
	return nil
}

// Missing returns the variants that Only names and that are not among present.
func (s Selection) Missing(present []string) []string {
	var missing []string
	for _, v := range s.Only {
		if !slices.Contains(present, v) && !slices.Contains(missing, v) && s.Has(v) {
			missing = append(missing, v)
		}
	}
	return missing
}

// NoVariant is the error of a request that nobody is there to answer.
func NoVariant(worker string, s Selection) *wire.Error {
	e := &wire.Error{
		Code:      wire.CodeNoVariant,
		Message:   fmt.Sprintf("no variant of %s is connected", worker),
		Temporary: true,
		Hint:      fmt.Sprintf("start one with `meshctl join %s`; `meshctl ls` shows who is there", worker),
	}
	if !s.IsZero() {
		e.Message = fmt.Sprintf("no selected variant of %s is connected", worker)
		if len(s.Only) > 0 {
			e.Message += " (only " + strings.Join(s.Only, ", ") + ")"
		}
		e.Hint = fmt.Sprintf("`meshctl ls %s` shows which variants there are", worker)
	}
	return e
}
