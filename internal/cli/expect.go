package cli

import (
	"fmt"
	"strconv"
	"strings"
)

// expectation is how many variants of a broadcast have to answer well.
type expectation struct {
	count   int // at least so many; 0: see percent
	percent int // of those asked, rounded up
}

// everybody is the default.
func everybody() expectation { return expectation{percent: 100} }

// parseExpectation reads all, N or P%.
func parseExpectation(text string) (expectation, error) {
	const hint = "write all, a number of variants, or a percentage from 1% to 100%"
	if text == "all" {
		return everybody(), nil
	}
	digits, isPercent := strings.CutSuffix(text, "%")
	n, err := strconv.Atoi(digits)
	if err != nil || n < 1 || isPercent && n > 100 || strings.HasPrefix(digits, "+") {
		return expectation{}, usagef(hint, "--expect %s is none of them", strconv.Quote(text))
	}
	if isPercent {
		return expectation{percent: n}, nil
	}
	return expectation{count: n}, nil
}

// of gives the number of variants that have to answer when total were asked.
func (e expectation) of(total int) int {
	if e.count > 0 {
		return e.count
	}
	return (total*e.percent + 99) / 100
}

func (e expectation) String() string {
	switch {
	case e.count > 0:
		return strconv.Itoa(e.count)
	case e.percent == 100:
		return "all"
	}
	return fmt.Sprintf("%d%%", e.percent)
}
