// Package evidence keeps what was known when a release failed, before anything
// is put back, and reads it again: a file of the report's folder from which the
// diagnosis can be made anew, without the cluster.
package evidence

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	corev1 "k8s.io/api/core/v1"

	"gitlab.com/slipway/slipway/pkg/joblog"
	"gitlab.com/slipway/slipway/pkg/rollout"
	"gitlab.com/slipway/slipway/pkg/tool"
)

// What a saved bundle may take: in all, and its diff.
const (
	maxBytes = 4 << 20
	maxDiff  = 256 << 10
)

// Save writes a bundle below dir and returns the file. Texts of strangers are
// cleaned, and mask takes out what is secret; a bundle that is too large loses
// the oldest part of its logs first.
func Save(dir string, b rollout.Bundle, mask func(string) string) (string, error) {
	b.Schema = rollout.BundleSchema
	for i := range b.Evidence {
		clean(&b.Evidence[i], mask)
	}
	b.Diff, b.Error = mask(joblog.Clean(head(b.Diff, maxDiff))), mask(joblog.Clean(b.Error))
	raw, err := bounded(b)
	if err != nil {
		return "", err
	}
	raw = []byte(mask(string(raw)))
	if _, err := rollout.ReadBundle(raw); err != nil {
		return "", fmt.Errorf("masking the evidence of release %q: %w", b.Release, err)
	}
	path := filepath.Join(dir, "evidence", fmt.Sprintf("%s-%s-%d.json", b.Namespace, b.Release, b.Revision))
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return "", fmt.Errorf("making the folder of the evidence: %w", err)
	}
	if err := os.WriteFile(path, append(raw, '\n'), 0o644); err != nil {
		return "", fmt.Errorf("writing the evidence of release %q: %w", b.Release, err)
	}
	return path, nil
}

// Read reads a bundle that was saved.
func Read(path string) (rollout.Bundle, error) {
	info, err := os.Stat(path)
	if err == nil && info.Size() > 2*maxBytes {
		err = fmt.Errorf("it has %d bytes, which no saved evidence has", info.Size())
	}
	var raw []byte
	if err == nil {
		raw, err = os.ReadFile(path)
	}
	if err != nil {
		return rollout.Bundle{}, tool.Exit(tool.Usage, fmt.Errorf("reading the evidence %q: %w", path, err), "name a file of the evidence folder in a job's slipway-report")
	}
	b, err := rollout.ReadBundle(raw)
	if err != nil {
		return b, tool.Exit(tool.Usage, fmt.Errorf("reading the evidence %q: %w", path, err))
	}
	return b, nil
}

// clean masks the texts of programs and clusters. It does so text by text,
// since a secret of several lines is another string once it is JSON.
func clean(e *rollout.Evidence, mask func(string) string) {
	for i := range e.Logs {
		e.Logs[i].Text, e.Logs[i].Missing = mask(joblog.Clean(e.Logs[i].Text)), mask(joblog.Clean(e.Logs[i].Missing))
	}
	// The objects belong to the caches: they are copied before they are changed.
	events := make([]*corev1.Event, 0, len(e.Events))
	for _, ev := range e.Events {
		ev = ev.DeepCopy()
		ev.Message = mask(joblog.Clean(ev.Message))
		events = append(events, ev)
	}
	e.Events = events
}

// bounded encodes a bundle so that it is not too large.
func bounded(b rollout.Bundle) ([]byte, error) {
	for part := 1; ; part *= 2 {
		raw, err := json.MarshalIndent(b, "", " ")
		if err != nil {
			return nil, fmt.Errorf("encoding the evidence of release %q: %w", b.Release, err)
		}
		switch {
		case len(raw) <= maxBytes:
			return raw, nil
		case part > 64:
			return nil, fmt.Errorf("encoding the evidence of release %q: it has %d bytes even without logs", b.Release, len(raw))
		case part == 1:
			b.Notes = append(b.Notes, "the evidence was too large: logs and events are cut")
		}
		for i := range b.Evidence {
			shrink(&b.Evidence[i])
		}
	}
}

// shrink drops the older half of each log, and half of what there are many of.
func shrink(e *rollout.Evidence) {
	for i := range e.Logs {
		e.Logs[i].Text = tail(e.Logs[i].Text, len(e.Logs[i].Text)/2)
	}
	e.Events = e.Events[len(e.Events)/2:]
	if len(e.Pods) > 1 {
		e.Pods = e.Pods[:(len(e.Pods)+1)/2]
	}
}

func head(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return s[:n] + "\n(cut)\n"
}

func tail(s string, n int) string { return s[len(s)-min(n, len(s)):] }
