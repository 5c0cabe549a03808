package awsfront

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// comparison is what an operator of a condition compares, without its set
// prefix and its suffix IfExists.
type comparison struct {
	holds   func(want, have string) bool
	negated bool
}

// comparisons are IAM's operators, but for BinaryEquals.
func comparisons() map[string]comparison {
	out := map[string]comparison{}
	add := func(name, negative string, holds func(want, have string) bool) {
		out[name], out[negative] = comparison{holds, false}, comparison{holds, true}
	}
	add("StringEquals", "StringNotEquals", func(want, have string) bool { return want == have })
	add("StringEqualsIgnoreCase", "StringNotEqualsIgnoreCase", strings.EqualFold)
	add("StringLike", "StringNotLike", wildcard)
	add("ArnEquals", "ArnNotEquals", arnLike) // IAM treats both alike
	add("ArnLike", "ArnNotLike", arnLike)
	add("IpAddress", "NotIpAddress", within)
	add("NumericEquals", "NumericNotEquals", numeric(func(w, h float64) bool { return h == w }))
	add("DateEquals", "DateNotEquals", date(func(w, h time.Time) bool { return h.Equal(w) }))
	out["Bool"] = comparison{strings.EqualFold, false}
	out["NumericLessThan"] = comparison{numeric(func(w, h float64) bool { return h < w }), false}
	out["NumericLessThanEquals"] = comparison{numeric(func(w, h float64) bool { return h <= w }), false}
	out["NumericGreaterThan"] = comparison{numeric(func(w, h float64) bool { return h > w }), false}
	out["NumericGreaterThanEquals"] = comparison{numeric(func(w, h float64) bool { return h >= w }), false}
	out["DateLessThan"] = comparison{date(func(w, h time.Time) bool { return h.Before(w) }), false}
	out["DateLessThanEquals"] = comparison{date(func(w, h time.Time) bool { return !h.After(w) }), false}
	out["DateGreaterThan"] = comparison{date(func(w, h time.Time) bool { return h.After(w) }), false}
	out["DateGreaterThanEquals"] = comparison{date(func(w, h time.Time) bool { return !h.Before(w) }), false}
	return out
}

// operator is a condition's operator, taken apart.
type operator struct {
	comparison
	set      string // "", ForAllValues or ForAnyValue
	ifExists bool
	null     bool
}

// readOperator returns false for an operator that IAM does not have.
func readOperator(text string) (operator, bool) {
	var o operator
	name := text
	if prefix, rest, found := strings.Cut(text, ":"); found {
		if prefix != "ForAllValues" && prefix != "ForAnyValue" {
			return o, false
		}
		o.set, name = prefix, rest
	}
	if name == "Null" {
		o.null = true
		return o, true
	}
	name, o.ifExists = strings.CutSuffix(name, "IfExists")
	var known bool
	o.comparison, known = comparisons()[name]
	return o, known
}

// condition evaluates one operator on one key with IAM's rules for absent keys
// and for sets. No policy with an unknown operator is stored; one that was
// stored all the same does not hold in an allowance and holds in a denial.
func condition(text string, want []string, context map[string][]string, key string, deny bool) bool {
	o, known := readOperator(text)
	if !known {
		return deny
	}
	have := context[key]
	absent := len(have) == 0
	if o.null {
		return slices.ContainsFunc(want, func(w string) bool { return strings.EqualFold(w, strconv.FormatBool(absent)) })
	}
	if absent {
		switch {
		case o.ifExists:
			return true
		case o.set == "ForAllValues":
			return true // every member of the empty set: IAM's best known trap
		case o.set == "ForAnyValue":
			return false
		default:
			return o.negated // "is not x" holds for a key that is not there
		}
	}
	fails := func(value string) bool {
		return slices.ContainsFunc(want, func(w string) bool { return o.comparison.holds(w, value) }) == o.negated
	}
	if o.set == "ForAllValues" || o.set == "" && o.negated {
		return !slices.ContainsFunc(have, fails)
	}
	return slices.ContainsFunc(have, func(v string) bool { return !fails(v) })
}

func numeric(compare func(want, have float64) bool) func(string, string) bool {
	return func(want, have string) bool {
		w, errW := strconv.ParseFloat(want, 64)
		h, errH := strconv.ParseFloat(have, 64)
		return errW == nil && errH == nil && compare(w, h)
	}
}

func date(compare func(want, have time.Time) bool) func(string, string) bool {
	return func(want, have string) bool {
		w, okW := moment(want)
		h, okH := moment(have)
		return okW && okH && compare(w, h)
	}
}

// moment reads a date as IAM takes it: ISO 8601, or seconds since the epoch.
func moment(text string) (time.Time, bool) {
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04Z07:00", time.DateOnly} {
		if t, err := time.Parse(layout, text); err == nil {
			return t, true
		}
	}
	seconds, err := strconv.ParseInt(text, 10, 64)
	return time.Unix(seconds, 0), err == nil
}

// within compares an address with a CIDR block or an address.
func within(want, have string) bool {
	address, err := netip.ParseAddr(have)
	if err != nil {
		return false
	}
	if block, err := netip.ParsePrefix(want); err == nil {
		return block.Contains(address)
	}
	other, err := netip.ParseAddr(want)
	return err == nil && other == address
}

// arnLike compares each of the six parts of an ARN on its own, so that a star
// never reaches over a colon of the first five.
func arnLike(want, have string) bool {
	w, h := strings.SplitN(want, ":", 6), strings.SplitN(have, ":", 6)
	if len(w) != 6 || len(h) != 6 {
		return false
	}
	for i := range w {
		if !wildcard(w[i], h[i]) {
			return false
		}
	}
	return true
}
