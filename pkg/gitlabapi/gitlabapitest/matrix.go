package gitlabapitest

import (
	"fmt"
	"slices"
	"strings"
)

// matrixVariables are the variables that parallel:matrix gives to the job of a
// name, such as "deploy: [dev]". gitlab-ci-local lists the names alone.
func matrixVariables(name string, raw map[string]any) map[string]string {
	_, values, ok := strings.Cut(name, ": [")
	if !ok {
		return nil
	}
	want := strings.Split(strings.TrimSuffix(values, "]"), ", ")
	slices.Sort(want)
	entries, _ := mapOf(raw["parallel"])["matrix"].([]any)
	for _, entry := range entries {
		for _, p := range permutations(mapOf(entry)) {
			// The order of a mapping's keys is lost here, so the values are compared as a set.
			var have []string
			for _, v := range p {
				have = append(have, v)
			}
			slices.Sort(have)
			if slices.Equal(have, want) {
				return p
			}
		}
	}
	return nil
}

// permutations of one entry of a matrix: each variable has one value, or a list.
func permutations(entry map[string]any) []map[string]string {
	all := []map[string]string{{}}
	for key, v := range entry {
		list, ok := v.([]any)
		if !ok {
			list = []any{v}
		}
		var next []map[string]string
		for _, p := range all {
			for _, one := range list {
				q := map[string]string{key: fmt.Sprint(one)}
				for k, x := range p {
					q[k] = x
				}
				next = append(next, q)
			}
		}
		all = next
	}
	return all
}
