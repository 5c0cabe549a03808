// Package report is the envelope every run leaves behind: one JSON document,
// and the JUnit, Markdown and HTML pages made from it.
package report

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// Schema names the version of the report's form.
const Schema = "slipway.report/v1"

// Run is one run of one program. Step and Find are safe for concurrent use;
// the fields are written by the program's own goroutine.
type Run struct {
	Schema    string            `json:"schema"`
	Tool      string            `json:"tool"`
	Command   string            `json:"command"`
	Version   string            `json:"version"`
	Landscape string            `json:"landscape,omitempty"` // digest of the snapshot
	Inputs    map[string]string `json:"inputs,omitempty"`
	Identity  map[string]string `json:"identity,omitempty"` // claims of the verified ID token
	Start     time.Time         `json:"start"`
	End       time.Time         `json:"end"`
	Steps     []Step            `json:"steps"`
	Findings  []Finding         `json:"findings,omitempty"`
	Outcome   string            `json:"outcome"`
	ExitCode  int               `json:"exitCode"`
	Error     string            `json:"error,omitempty"`
	Hints     []string          `json:"hints,omitempty"` // what to do about the error
	Links     []Link            `json:"links,omitempty"`
	Result    any               `json:"result,omitempty"`

	mu  sync.Mutex
	now func() time.Time
}

// Step is a part of the run that was done, skipped or failed.
type Step struct {
	Name    string    `json:"name"`
	Status  string    `json:"status"` // running | done | skipped | failed
	Reason  string    `json:"reason,omitempty"`
	Start   time.Time `json:"start"`
	Seconds float64   `json:"seconds"`
}

// Finding is something the run saw: what, where, on which evidence, and what
// to do next. Level is info, warning or error.
type Finding struct {
	Level    string `json:"level"`
	Class    string `json:"class"`
	Object   string `json:"object"`
	Message  string `json:"message"`
	Evidence string `json:"evidence,omitempty"`
	Next     string `json:"next,omitempty"`
}

// Link is a place to look.
type Link struct {
	Label string `json:"label"`
	URL   string `json:"url"`
}

// New starts a report.
func New(tool, command, version string) *Run {
	return &Run{Schema: Schema, Tool: tool, Command: command, Version: version,
		Inputs: map[string]string{}, Start: time.Now().UTC(), Steps: []Step{}, now: time.Now}
}

// Step opens a step and returns what ends it.
func (r *Run) Step(name string) (done func(error)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	i := len(r.Steps)
	r.Steps = append(r.Steps, Step{Name: name, Status: "running", Start: r.now().UTC()})
	return func(err error) {
		r.mu.Lock()
		defer r.mu.Unlock()
		s := &r.Steps[i]
		s.Seconds = r.now().Sub(s.Start).Seconds()
		s.Status = "done"
		if err != nil {
			s.Status, s.Reason = "failed", err.Error()
		}
	}
}

// Skip notes a step that was not run, and why.
func (r *Run) Skip(name, reason string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.Steps = append(r.Steps, Step{Name: name, Status: "skipped", Reason: reason, Start: r.now().UTC()})
}

// Find notes a finding.
func (r *Run) Find(f Finding) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.Findings = append(r.Findings, f)
}

// Finish ends the report.
func (r *Run) Finish(code int, outcome, text string, hints []string) {
	r.End, r.ExitCode, r.Outcome, r.Error, r.Hints = r.now().UTC(), code, outcome, text, hints
}

// Prepare makes the folder of a report and writes a file into it, so that what
// hinders a report is known before anything is done.
func Prepare(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("making report folder %q: %w", dir, err)
	}
	probe, err := os.CreateTemp(dir, ".probe-*")
	if err != nil {
		return fmt.Errorf("writing to report folder %q: %w", dir, err)
	}
	return errors.Join(probe.Close(), os.Remove(probe.Name()))
}

// Write leaves <tool>.json, .xml (JUnit), .md and .html in dir. mask is applied
// to the JSON, and the pages are made of what came out of it, so that a secret
// can reach none of them.
func (r *Run) Write(dir string, mask func(string) string) error {
	r.mu.Lock()
	raw, err := json.MarshalIndent(r, "", "  ")
	r.mu.Unlock()
	if err != nil {
		return fmt.Errorf("encoding the report of %q: %w", r.Tool, err)
	}
	raw = []byte(mask(string(raw)))
	var clean Run
	if err := json.Unmarshal(raw, &clean); err != nil {
		return fmt.Errorf("masking the report of %q: %w", r.Tool, err)
	}
	html, err := clean.HTML()
	if err != nil {
		return err
	}
	junit, err := clean.JUnit()
	if err != nil {
		return err
	}
	files := map[string][]byte{".json": append(raw, '\n'), ".html": html, ".xml": junit, ".md": []byte(clean.Markdown())}
	for ext, data := range files {
		path := filepath.Join(dir, r.Tool+ext)
		if err := os.WriteFile(path, data, 0o644); err != nil {
			return fmt.Errorf("writing report %q: %w", path, err)
		}
	}
	return nil
}
