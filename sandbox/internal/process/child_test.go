package process

import (
	"context"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// A child ends with its parent, also when that is killed.
func TestRunChild(t *testing.T) {
	mark := t.TempDir()
	parent := start(t, "tied", mark, "parent")
	children, err := Members(mark, "child")
	if err != nil || len(children) != 1 {
		t.Fatalf("children %v, %v", children, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	ended := Ended(ctx, children[0])
	if err := Stop(ctx, []ID{parent.ID}, 0); err != nil { // no time to tell the child
		t.Fatal(err)
	}
	select {
	case <-ended:
	case <-ctx.Done():
		t.Error("the child is still there")
	}
}

func TestRunChildTellsHowItEnds(t *testing.T) {
	var out strings.Builder
	cmd := exec.CommandContext(t.Context(), "sh", "-c", "echo hello; exit 3")
	cmd.Stdout = &out
	if err := RunChild(cmd); err == nil || err.Error() != "exit status 3" || out.String() != "hello\n" {
		t.Errorf("%v, %q", err, out.String())
	}
}
