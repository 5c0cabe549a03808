package process

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
)

// Entry is what the journal knows of one process.
type Entry struct {
	ID
	// Digest is over the command it was started with: another digest means
	// that the process is not the one that is wanted any more.
	Digest string `json:"digest"`
}

// Journal is the record of a sandbox's processes and ports. It is written
// before and after every action, so that whoever comes next can clean up.
type Journal struct {
	path string
	mu   sync.Mutex
	data struct {
		Parts map[string]Entry `json:"parts"`
		Ports map[string]int   `json:"ports"`
		// Networks are the N of each cluster's 10.N.0.0/16.
		Networks map[string]int `json:"networks,omitempty"`
		// Starting names the parts that were about to be started: their
		// processes may run without an entry, and are found by their mark.
		Starting []string `json:"starting,omitempty"`
	}
}

// OpenJournal reads the journal at path; there need not be one.
func OpenJournal(path string) (*Journal, error) {
	j := &Journal{path: path}
	raw, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, fmt.Errorf("reading the journal: %w", err)
	default:
		if err := json.Unmarshal(raw, &j.data); err != nil {
			return nil, fmt.Errorf("reading the journal %q: %w", path, err)
		}
	}
	if j.data.Parts == nil {
		j.data.Parts = map[string]Entry{}
	}
	if j.data.Ports == nil {
		j.data.Ports = map[string]int{}
	}
	return j, nil
}

// IsJournal reports whether a file is a journal, or gone: files of others have
// that name too.
func IsJournal(path string) bool {
	raw, err := os.ReadFile(path)
	if err != nil {
		return errors.Is(err, fs.ErrNotExist)
	}
	in := json.NewDecoder(bytes.NewReader(raw))
	in.DisallowUnknownFields()
	j := &Journal{}
	return in.Decode(&j.data) == nil && j.data.Parts != nil
}

// Entry returns what is known of a part's process.
func (j *Journal) Entry(part string) (Entry, bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	e, ok := j.data.Parts[part]
	return e, ok
}

// Parts returns a copy of all entries, with an empty one for each part that
// was about to be started.
func (j *Journal) Parts() map[string]Entry {
	j.mu.Lock()
	defer j.mu.Unlock()
	out := maps.Clone(j.data.Parts)
	for _, part := range j.data.Starting {
		out[part] = Entry{}
	}
	return out
}

// Ports returns a copy of the recorded ports.
func (j *Journal) Ports() map[string]int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return maps.Clone(j.data.Ports)
}

// SetPorts records the ports.
func (j *Journal) SetPorts(ports map[string]int) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.data.Ports = maps.Clone(ports)
	return j.write()
}

// Networks returns a copy of the recorded networks.
func (j *Journal) Networks() map[string]int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return maps.Clone(j.data.Networks)
}

// SetNetworks records the networks.
func (j *Journal) SetNetworks(networks map[string]int) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.data.Networks = maps.Clone(networks)
	return j.write()
}

// Starting records that a part is about to be started.
func (j *Journal) Starting(part string) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if !slices.Contains(j.data.Starting, part) {
		j.data.Starting = append(j.data.Starting, part)
	}
	delete(j.data.Parts, part)
	return j.write()
}

// Started records the process of a part.
func (j *Journal) Started(part string, e Entry) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.data.Starting = slices.DeleteFunc(j.data.Starting, func(s string) bool { return s == part })
	j.data.Parts[part] = e
	return j.write()
}

// Stopped forgets a part's process.
func (j *Journal) Stopped(part string) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.data.Starting = slices.DeleteFunc(j.data.Starting, func(s string) bool { return s == part })
	delete(j.data.Parts, part)
	return j.write()
}

// write replaces the file in one step; the caller holds the lock.
func (j *Journal) write() error {
	raw, err := json.MarshalIndent(j.data, "", "  ")
	if err != nil {
		return fmt.Errorf("writing the journal: %w", err)
	}
	return WriteFile(j.path, append(raw, '\n'))
}

// WriteFile replaces a file that only its owner may read, in one step.
func WriteFile(path string, raw []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-")
	if err != nil {
		return fmt.Errorf("writing %q: %w", path, err)
	}
	defer os.Remove(f.Name())
	if _, err := f.Write(raw); err != nil {
		f.Close()
		return fmt.Errorf("writing %q: %w", path, err)
	}
	if err := f.Close(); err != nil {
		return fmt.Errorf("writing %q: %w", path, err)
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return fmt.Errorf("writing %q: %w", path, err)
	}
	return nil
}
