package stack

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	tfjson "github.com/hashicorp/terraform-json"

	"gitlab.com/slipway/slipway/pkg/tool"
)

// RecordSchema names the form of Record.
const RecordSchema = "slipway.plan/v1"

// Record binds a saved plan to what it was made from. It is written beside the
// plan, as plan.json, and holds no value of the stack.
type Record struct {
	Schema    string    `json:"schema"`
	Stack     string    `json:"stack"`
	Source    string    `json:"source"` // path of the stack in its repository
	Account   string    `json:"account"`
	Plan      string    `json:"plan"`      // digest of the plan file
	Landscape string    `json:"landscape"` // digest of the snapshot
	Commit    string    `json:"commit"`
	Program   string    `json:"program"` // version of terraform or tofu
	Counts    Counts    `json:"counts"`
	Changes   bool      `json:"changes"` // outputs count as well
	Made      time.Time `json:"made"`
}

// Counts are the resources a plan touches, in the form of GitLab's terraform
// report. A replaced resource is one to create and one to delete.
type Counts struct {
	Create int `json:"create"`
	Update int `json:"update"`
	Delete int `json:"delete"`
}

// Count counts what a plan changes.
func Count(plan *tfjson.Plan) Counts {
	var c Counts
	for _, r := range plan.ResourceChanges {
		if r.Change == nil {
			continue
		}
		a := r.Change.Actions
		switch {
		case a.Replace():
			c.Create++
			c.Delete++
		case a.Create():
			c.Create++
		case a.Update():
			c.Update++
		case a.Delete():
			c.Delete++
		}
	}
	return c
}

// String returns the counts as a line.
func (c Counts) String() string {
	return fmt.Sprintf("%d to add, %d to change, %d to destroy", c.Create, c.Update, c.Delete)
}

// FileDigest returns the digest of a file.
func FileDigest(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("reading %q: %w", path, err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", fmt.Errorf("reading %q: %w", path, err)
	}
	return "sha256:" + hex.EncodeToString(h.Sum(nil)), nil
}

// WriteRecord writes plan.json and GitLab's report tfplan.json beside the plan.
func WriteRecord(dir string, r Record) error {
	for file, v := range map[string]any{"plan.json": r, "tfplan.json": r.Counts} {
		raw, err := json.Marshal(v)
		if err != nil {
			return fmt.Errorf("encoding %s: %w", file, err)
		}
		if err := os.WriteFile(filepath.Join(dir, file), append(raw, '\n'), 0o600); err != nil {
			return fmt.Errorf("writing the record of the plan: %w", err)
		}
	}
	return nil
}

// ReadRecord reads plan.json.
func ReadRecord(dir string) (Record, error) {
	var r Record
	raw, err := os.ReadFile(filepath.Join(dir, "plan.json"))
	if err != nil {
		return r, tool.Exit(tool.Usage, fmt.Errorf("reading the record of the plan: %w", err),
			"run slipway-terraform plan first, and pass its folder on as an artifact (--out)")
	}
	if err := json.Unmarshal(raw, &r); err != nil {
		return r, tool.Exit(tool.Usage, fmt.Errorf("reading the record of the plan: %w", err))
	}
	return r, nil
}

// Check refuses a plan that was made from something else than what is here
// now. It names every difference.
func (r Record) Check(o Options, digest string) error {
	var wrong []string
	compare := func(what, planned, now string) {
		if planned != now {
			wrong = append(wrong, fmt.Sprintf("%s: planned with %q, here is %q", what, planned, now))
		}
	}
	compare("form of the record", r.Schema, RecordSchema)
	compare("stack", r.Stack, o.Stack)
	compare("folder", r.Source, o.Source)
	compare("account", r.Account, o.Account)
	compare("plan file", r.Plan, digest)
	compare("landscape", r.Landscape, o.Landscape)
	compare("commit", r.Commit, o.Commit)
	if len(wrong) == 0 {
		return nil
	}
	return tool.Exit(tool.Refused, fmt.Errorf("the plan does not belong to this run: %s", strings.Join(wrong, "; ")), "run slipway-terraform plan again")
}
