package cmd

import (
	"testing"
	"time"

	"github.com/urfave/cli/v2"

	"gitlab.com/slipway/slipway/tools/backup/internal/drill"
)

// TestTheHourIsEnough: a drill that uses up its time is swept before and cleaned
// up after within a job of an hour, GitLab's default, with five minutes for the
// job's own start and end.
func TestTheHourIsEnough(t *testing.T) {
	flag, ok := timeoutFlag().(*cli.DurationFlag)
	if !ok {
		t.Fatal("--timeout is no duration")
	}
	if all := flag.Value + drill.Beside + 5*time.Minute; all > time.Hour {
		t.Errorf("a job may take %s", all)
	}
}
