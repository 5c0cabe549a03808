package doctest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestBackupRights: the rights that platform/rbac lists are those that the
// example's tenancy chart grants.
func TestBackupRights(t *testing.T) {
	read := func(path string) string {
		raw, err := os.ReadFile(filepath.Join(root, path))
		if err != nil {
			t.Fatal(err)
		}
		text := string(raw)
		return text[strings.Index(text, "apiVersion:"):]
	}
	listed := read("platform/rbac/backup.yaml")
	if granted := read("examples/platform/addons/charts/tenancy/templates/backup.yaml"); !strings.HasPrefix(granted, strings.TrimSpace(listed)) {
		t.Error("the tenancy chart of the example and platform/rbac/backup.yaml differ")
	}
}
