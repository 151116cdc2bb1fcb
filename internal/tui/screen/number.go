package screen

import (
	"strconv"
	"time"
)

// Count formats a count: exact below 100,000, with three digits and a unit above.
func Count(n uint64) string {
	if n < 1000 {
		return strconv.FormatUint(n, 10)
	}
	if n < 100_000 {
		s := strconv.FormatUint(n, 10)
		return s[:len(s)-3] + "," + s[len(s)-3:]
	}
	return scaled(float64(n))
}

// Exact formats a count with all its digits, in threes.
func Exact(n uint64) string {
	s := strconv.FormatUint(n, 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// Rate formats something per second with at most five characters.
func Rate(v float64) string {
	switch {
	case !(v > 0):
		return "0"
	case v < 0.05:
		return "<0.1"
	case v < 9.95:
		return strconv.FormatFloat(v, 'f', 1, 64)
	case v < 9999.5:
		return strconv.FormatFloat(v, 'f', 0, 64)
	}
	return scaled(v)
}

func scaled(v float64) string {
	for _, unit := range []string{"k", "M", "G", "T"} {
		v /= 1000
		if v < 9.995 {
			return strconv.FormatFloat(v, 'f', 2, 64) + unit
		}
		if v < 99.95 {
			return strconv.FormatFloat(v, 'f', 1, 64) + unit
		}
		if v < 999.5 || unit == "T" {
			return strconv.FormatFloat(v, 'f', 0, 64) + unit
		}
	}
	return ""
}

// Bytes formats a size.
func Bytes(n uint64) string {
	const units = "KMGTPE"
	if n < 1024 {
		return strconv.FormatUint(n, 10) + " B"
	}
	v := float64(n)
	for i := range len(units) {
		v /= 1024
		if v < 1023.5 || i == len(units)-1 {
			prec := 0
			if v < 9.95 {
				prec = 1
			}
			return strconv.FormatFloat(v, 'f', prec, 64) + " " + units[i:i+1] + "iB"
		}
	}
	return ""
}

// Latency formats how long something took, with three digits at most: "340µs", "12ms",
// "1.25s", "2m05s". Nothing known (0) is "–".
func Latency(d time.Duration) string {
	switch {
	case d <= 0:
		return "–"
	case d < time.Microsecond:
		return "<1µs"
	case d < time.Millisecond:
		return strconv.FormatInt(d.Microseconds(), 10) + "µs"
	case d < 9950*time.Microsecond:
		return strconv.FormatFloat(d.Seconds()*1e3, 'f', 1, 64) + "ms"
	case d < time.Second:
		return strconv.FormatInt(d.Milliseconds(), 10) + "ms"
	case d < 9995*time.Millisecond:
		return strconv.FormatFloat(d.Seconds(), 'f', 2, 64) + "s"
	case d < time.Minute:
		return strconv.FormatFloat(d.Seconds(), 'f', 1, 64) + "s"
	}
	return Span(d)
}

// Span formats a longer time by its two largest units: "12s", "4m10s", "5h12m", "3d04h".
func Span(d time.Duration) string {
	s := max(0, int64(d/time.Second))
	two := func(a int64, ua string, b int64, ub string) string {
		t := strconv.FormatInt(a, 10) + ua
		if b < 10 {
			t += "0"
		}
		return t + strconv.FormatInt(b, 10) + ub
	}
	switch {
	case s < 60:
		return strconv.FormatInt(s, 10) + "s"
	case s < 3600:
		return two(s/60, "m", s%60, "s")
	case s < 86400:
		return two(s/3600, "h", s/60%60, "m")
	}
	return two(s/86400, "d", s/3600%24, "h")
}
