package awsfront

import (
	"strconv"
	"strings"
)

// condition evaluates one operator on one key with IAM's rules for absent keys
// and for sets. An unknown operator does not hold in an allowance and holds in
// a denial.
func condition(operator string, want []string, context map[string][]string, key string, deny bool) bool {
	have, present := context[key]
	op := operator
	set := ""
	if prefix, rest, found := strings.Cut(op, ":"); found {
		set, op = prefix, rest
	}
	op, ifExists := strings.CutSuffix(op, "IfExists")

	if op == "Null" {
		absent := !present || len(have) == 0
		return anyMatch(want, func(w string) bool { return strings.EqualFold(w, strconv.FormatBool(absent)) })
	}
	test, negated, known := operatorTest(op)
	if !known {
		return deny
	}
	if !present || len(have) == 0 {
		switch {
		case ifExists:
			return true
		case set == "ForAllValues":
			return true // every member of the empty set: IAM's best known trap
		case set == "ForAnyValue":
			return false
		default:
			return negated // "is not x" holds for a key that is not there
		}
	}
	holds := func(value string) bool {
		hit := anyMatch(want, func(w string) bool { return test(w, value) })
		return hit != negated
	}
	switch set {
	case "ForAllValues":
		return allMatch(have, holds)
	case "ForAnyValue":
		return anyMatch(have, holds)
	case "":
		if negated {
			return allMatch(have, holds)
		}
		return anyMatch(have, holds)
	}
	return deny
}

// operatorTest returns the comparison of a policy's value with a request's,
// and whether the operator negates it.
func operatorTest(op string) (test func(want, have string) bool, negated, known bool) {
	switch op {
	case "StringEquals":
		return exactly, false, true
	case "StringNotEquals":
		return exactly, true, true
	case "StringEqualsIgnoreCase":
		return strings.EqualFold, false, true
	case "StringNotEqualsIgnoreCase":
		return strings.EqualFold, true, true
	case "StringLike":
		return wildcard, false, true
	case "StringNotLike":
		return wildcard, true, true
	case "ArnEquals", "ArnLike":
		return arnLike, false, true
	case "ArnNotEquals", "ArnNotLike":
		return arnLike, true, true
	case "Bool":
		return strings.EqualFold, false, true
	case "NumericEquals":
		return numeric(func(w, h float64) bool { return h == w }), false, true
	case "NumericNotEquals":
		return numeric(func(w, h float64) bool { return h == w }), true, true
	case "NumericLessThan":
		return numeric(func(w, h float64) bool { return h < w }), false, true
	case "NumericLessThanEquals":
		return numeric(func(w, h float64) bool { return h <= w }), false, true
	case "NumericGreaterThan":
		return numeric(func(w, h float64) bool { return h > w }), false, true
	case "NumericGreaterThanEquals":
		return numeric(func(w, h float64) bool { return h >= w }), false, true
	}
	return nil, false, false
}

func exactly(want, have string) bool { return want == have }

func numeric(compare func(want, have float64) bool) func(string, string) bool {
	return func(want, have string) bool {
		w, errW := strconv.ParseFloat(want, 64)
		h, errH := strconv.ParseFloat(have, 64)
		return errW == nil && errH == nil && compare(w, h)
	}
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

func anyMatch(values []string, f func(string) bool) bool {
	for _, v := range values {
		if f(v) {
			return true
		}
	}
	return false
}

func allMatch(values []string, f func(string) bool) bool {
	for _, v := range values {
		if !f(v) {
			return false
		}
	}
	return true
}
