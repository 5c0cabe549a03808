package command

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"gitlab.com/slipway/slipway/sandbox/internal/box"
	"gitlab.com/slipway/slipway/sandbox/internal/chain"
)

// demo brings the sandbox up, runs the whole chain in it, leaves the report
// and stops the sandbox again, unless KEEP=1 is set.
func (p *Program) demo(ctx context.Context, cfg box.Config) (err error) {
	if p.Env("KEEP") != "1" {
		// A cancelled demo, or one whose sandbox came up in part, cleans up too.
		defer func() { err = errors.Join(err, box.Down(context.WithoutCancel(ctx), cfg)) }()
	}
	if err := box.Up(ctx, cfg); err != nil {
		return err
	}
	raw, err := os.ReadFile(filepath.Join(cfg.Dir, "sandbox.json"))
	if err != nil {
		return fmt.Errorf("reading the sandbox's description: %w", err)
	}
	var b chain.Box
	if err := json.Unmarshal(raw, &b); err != nil {
		return fmt.Errorf("reading the sandbox's description: %w", err)
	}
	work := filepath.Join(cfg.Root, "demo-report")
	if err := os.RemoveAll(work); err != nil {
		return fmt.Errorf("clearing the report of the last demo: %w", err)
	}
	if err := os.MkdirAll(work, 0o755); err != nil {
		return fmt.Errorf("making the folder of the report: %w", err)
	}
	c, err := chain.New(cfg.Root, b, work, p.Err)
	if err != nil {
		return err
	}
	return c.Demo(ctx)
}
