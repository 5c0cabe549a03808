package config

import (
	"errors"
	"slices"

	"gitlab.com/slipway/slipway/pkg/tool"
	"gitlab.com/slipway/slipway/pkg/yamlfile"
)

// Join makes one error of what is wrong with several inputs: what has a place
// becomes one list, the rest follows. A single error stays what it is.
func Join(errs ...error) error {
	errs = slices.DeleteFunc(errs, func(err error) bool { return err == nil })
	switch len(errs) {
	case 0:
		return nil
	case 1:
		return errs[0]
	}
	var placed yamlfile.Problems
	var others []error
	var hints []string
	for _, err := range errs {
		p, rest := split(err)
		placed, others = append(placed, p...), append(others, rest...)
		hints = append(hints, tool.HintsOf(err)...)
	}
	return tool.Exit(tool.Usage, errors.Join(append([]error{placed.Err()}, others...)...), hints...)
}

// split takes an error apart into what has a place and the text of the rest:
// its code and its hints are the whole's.
func split(err error) (placed yamlfile.Problems, rest []error) {
	switch e := err.(type) { //nolint:errorlint // each branch is looked at, none is skipped
	case yamlfile.Problems:
		return e, nil
	case *tool.Error:
		return split(e.Err)
	case interface{ Unwrap() []error }:
		for _, one := range e.Unwrap() {
			p, r := split(one)
			placed, rest = append(placed, p...), append(rest, r...)
		}
		return placed, rest
	}
	return nil, []error{errors.New(err.Error())}
}
