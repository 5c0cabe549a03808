package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	gitlab "gitlab.com/gitlab-org/api/client-go/v2"

	"gitlab.com/slipway/slipway/internal/faultproxy"
)

// promotion is what the jobs of a promotion's pipeline run, as one program.
const promotion = `slipway-promote run --service orders --bundle "$1" --target stage
slipway-promote record --service orders --bundle "$1" --target stage`

// held is a promotion in a real job: the job lives as long as its world, and
// the program runs outside of it, with its variables and tokens.
type held struct {
	*chain
	dir    string
	env    []string
	bundle string
	commit string
}

func newHeld(p *parts) *held {
	t := p.t
	h := &held{chain: newChain(p), dir: t.TempDir()}
	h.commit = h.push("nsflow/orders", map[string]string{"main.go": "package main\n"})
	h.bundle = h.candidate(h.commit)
	pipe := filepath.Join(h.dir, "environment")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	h.push("nsflow/environments", map[string]string{"stage/orders.values.yaml": "replicas: 2\n", ".gitlab-ci.yml": `hold:
  id_tokens: {SLIPWAY_ID_TOKEN: {aud: https://gitlab.example.com}}
  script: [env -0 > ` + pipe + `, sleep infinity]
`, "promotion.yaml": "apiVersion: slipway/v1\nkind: Promotion\norder: [dev, stage]\ngates: {stage: {healthy: 0s}}\n"})
	raw, err := os.ReadFile(pipe) // until the job has written all of it
	if err != nil {
		t.Fatal(err)
	}
	h.env = append(strings.Split(strings.TrimSuffix(string(raw), "\x00"), "\x00"), "SLIPWAY_GITLAB_ENDPOINT="+h.proxy(faultproxy.GitLab(), h.endpoint))
	observed := fmt.Sprintf("apiVersion: slipway/v1\nkind: Observed\nservice: orders\nenvironment: stage\nbundle: %s\nrevision: 1\nstatus: deployed\nsince: %s\n",
		h.bundle, time.Now().UTC().Format(time.RFC3339))
	if err := os.WriteFile(filepath.Join(h.dir, "observed.yaml"), []byte(observed), 0o644); err != nil {
		t.Fatal(err)
	}
	h.log.Reset()
	return h
}

func (h *held) command() *exec.Cmd {
	cmd := exec.Command("sh", "-ec", promotion, "promotion", h.bundle)
	cmd.Dir, cmd.Env = h.dir, h.env
	return cmd
}

// converged: the promotion is committed and recorded, each once, and one more
// run changes nothing.
func (h *held) converged(ctx context.Context, next faultproxy.Run) error {
	if next.Code != 0 {
		return fmt.Errorf("the next run exited with %d", next.Code)
	}
	h.log.Reset()
	if out, err := h.command().CombinedOutput(); err != nil {
		return fmt.Errorf("one more run: %w\n%s", err, out)
	}
	if calls := h.log.Mutating(); len(calls) > 0 {
		return fmt.Errorf("one more run made the mutating calls %v", calls)
	}
	want := []string{"orders in stage: deployed", "promote orders to stage", "first"}
	if got := strings.Split(h.sh(h.clone(), "git log --format=%s"), "\n"); !slices.Equal(got, want) {
		return fmt.Errorf("the history is %q, not %q", got, want)
	}
	list, _, err := h.gitlab.Deployments.ListProjectDeployments(77, &gitlab.ListProjectDeploymentsOptions{Environment: gitlab.Ptr("stage")}, gitlab.WithContext(ctx))
	if err != nil {
		return err
	}
	if len(list) != 1 || list[0].SHA != h.commit || list[0].Status != "success" {
		return fmt.Errorf("there are %d deployment records of stage, not one: %v", len(list), list)
	}
	return nil
}

// TestKillSchedule kills a promotion before and after its pushes and its
// deployment record: the next run goes through, and makes nothing twice.
func TestKillSchedule(t *testing.T) {
	p := newParts(t)
	r, err := faultproxy.Schedule{Sample: faultproxy.Sample(2), Seed: 1, Progress: t.Logf,
		World: func(context.Context, int) (*faultproxy.World, error) {
			h := newHeld(p)
			return &faultproxy.World{Log: h.log, Command: h.command, Check: h.converged, Close: h.stop}, nil
		}}.Run(t.Context())
	faultproxy.Report(t, "killed", r, err)
}
