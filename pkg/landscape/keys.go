package landscape

import (
	"maps"
	"slices"
)

// keys returns the keys of m in order, for messages that list what there is.
func keys[V any](m map[string]V) []string {
	return slices.Sorted(maps.Keys(m))
}
