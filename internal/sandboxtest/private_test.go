package sandboxtest_test

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"gitlab.com/slipway/slipway/internal/sandboxtest"
)

// A test with a sandbox of its own keeps others waiting until it ends.
func TestPrivate(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("SLIPWAY_SANDBOX", dir)
	free := func() bool {
		f, err := os.Open(filepath.Join(dir, "private.lock"))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		return syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil
	}
	t.Run("private", func(t *testing.T) {
		sandboxtest.Private(t)
		if free() {
			t.Error("another test need not wait")
		}
	})
	if !free() {
		t.Error("another test waits for one that has ended")
	}
}
