package inventory

import (
	"os"
	"strings"
	"testing"
)

// TestReadmeNamesTheKinds: what a backup that ends well has shown is said
// exactly.
func TestReadmeNamesTheKinds(t *testing.T) {
	raw, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, k := range kinds() {
		names = append(names, k.Resource)
	}
	if want := strings.Join(names, ", ") + "."; !strings.Contains(strings.Join(strings.Fields(string(raw)), " "), want) {
		t.Errorf("the README does not name %s", want)
	}
}
