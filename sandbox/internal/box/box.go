// Package box is the sandbox: its parts, how they are started, known again
// and stopped, and the folder that describes them.
package box

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	"gitlab.com/slipway/slipway/pkg/tool"

	"gitlab.com/slipway/slipway/sandbox/internal/node"
	"gitlab.com/slipway/slipway/sandbox/internal/process"
)

// grace is how long a process may take to end by itself.
const grace = 5 * time.Second

// shortGrace is for processes whose state is removed with them: API servers
// and etcd wait many seconds for each other.
const shortGrace = time.Second

// Config says where the sandbox is and what it is made with.
type Config struct {
	Root string // the repository
	Dir  string // the sandbox's folder
	Self string // the sandbox's own program, for `serve`
	Node bool   // real nodes as well
	Env  func(string) string
	Say  func(format string, args ...any)
}

// Box is one sandbox.
type Box struct {
	Config
	journal  *process.Journal
	lock     *process.Lock
	programs map[string]string // folder of each built program
	ports    map[string]int
	networks map[string]node.Network // of each cluster
	images   map[string]string       // references of what runs on real nodes
	secrets  Secrets
	marks    []string // on what builds, in its environment

	mu      sync.Mutex
	changed int
	point   func(string) // for tests, which end this process at a point
}

func (b *Box) at(point string) {
	if b.point != nil {
		b.point(point)
	}
}

// Secrets are made once for a sandbox. They guard nothing but the loopback
// ports of this sandbox.
type Secrets struct {
	S3AccessKey  string `json:"s3AccessKey"`
	S3SecretKey  string `json:"s3SecretKey"`
	GitLabToken  string `json:"gitlabToken"`
	AWSAccessKey string `json:"awsAccessKey"`
	AWSSecretKey string `json:"awsSecretKey"`
}

// open takes the sandbox's lock and reads its journal. Where there is no
// sandbox it makes the folder if create is set, else it returns nil.
func open(ctx context.Context, cfg Config, create bool) (*Box, error) {
	b := &Box{Config: cfg}
	switch entries, err := os.ReadDir(b.Dir); {
	case errors.Is(err, fs.ErrNotExist):
		if !create {
			return nil, nil
		}
	case err != nil:
		return nil, fmt.Errorf("opening the sandbox's folder: %w", err)
	case len(entries) > 0 && !ours(b.Dir, entries):
		return nil, tool.Exit(tool.Usage, fmt.Errorf("opening the sandbox %q: the folder is not empty and not a sandbox's", b.Dir),
			"name an empty folder, or one that does not exist, with --dir or SLIPWAY_SANDBOX")
	}
	if err := b.takeLock(ctx, create); err != nil || b.lock == nil {
		return nil, err
	}
	var err error
	if b.journal, err = process.OpenJournal(b.path("journal.json")); err != nil {
		b.lock.Unlock()
		return nil, err
	}
	if create {
		// What is in the folder from now on is known for a sandbox's by it.
		if err := b.journal.SetPorts(b.journal.Ports()); err != nil {
			b.lock.Unlock()
			return nil, err
		}
	}
	b.ports = b.journal.Ports()
	b.Node = b.Node || hasNodes(b.journal)
	return b, nil
}

// ours reports whether a folder is a sandbox's: it has a journal, or nothing
// but the lock, which comes first and goes last. What was listed counts, since a
// `down` may end meanwhile.
func ours(dir string, entries []fs.DirEntry) bool {
	has := func(name string) bool {
		return slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return e.Name() == name })
	}
	if has("journal.json") {
		return process.IsJournal(filepath.Join(dir, "journal.json"))
	}
	return len(entries) == 1 && has("lock")
}

// takeLock makes the sandbox's folder and takes the lock in it. A `down` that
// ends meanwhile removes both: then they are made anew if create is set, else
// there is no lock to take.
func (b *Box) takeLock(ctx context.Context, create bool) error {
	for said := false; ; {
		if create {
			if err := os.MkdirAll(b.Dir, 0o700); err != nil {
				return fmt.Errorf("making the sandbox's folder: %w", err)
			}
		}
		lock, err := process.TryLock(b.path("lock"))
		if lock == nil && err == nil {
			if !said {
				b.say("waiting for another `sandbox up` or `sandbox down` on %s", b.Dir)
				said = true
			}
			lock, err = process.WaitLock(ctx, b.path("lock"))
		}
		switch {
		case !errors.Is(err, fs.ErrNotExist):
			b.lock = lock
			return err
		case !create:
			return nil
		}
	}
}

func (b *Box) path(elem ...string) string { return filepath.Join(append([]string{b.Dir}, elem...)...) }

func (b *Box) say(format string, args ...any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.Say(format, args...)
}

// change notes that this run changed something, and says what.
func (b *Box) change(format string, args ...any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.changed++
	if format != "" {
		b.Say(format, args...)
	}
}

// addr is the address of a named port.
func (b *Box) addr(port string) string { return "127.0.0.1:" + b.port(port) }

func (b *Box) port(name string) string {
	p, ok := b.ports[name]
	if !ok {
		panic("no part has the port " + strconv.Quote(name)) // a slip in the table of parts
	}
	return strconv.Itoa(p)
}

// loadSecrets reads the secrets, made at the first time.
func (b *Box) loadSecrets() error {
	path := b.path("secrets.json")
	raw, err := os.ReadFile(path)
	if err == nil {
		if err := json.Unmarshal(raw, &b.secrets); err != nil {
			return fmt.Errorf("reading %q: %w", path, err)
		}
		return nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("reading the sandbox's secrets: %w", err)
	}
	b.secrets = Secrets{
		S3AccessKey: "AKIA" + rand.Text()[:16], S3SecretKey: rand.Text() + rand.Text(),
		GitLabToken:  "glpat-" + rand.Text()[:20],
		AWSAccessKey: "AKIA" + rand.Text()[:16], AWSSecretKey: rand.Text() + rand.Text(),
	}
	return writeJSON(path, b.secrets)
}

func writeJSON(path string, v any) error {
	raw, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("writing %q: %w", path, err)
	}
	return process.WriteFile(path, append(raw, '\n'))
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// FindRoot returns the repository's folder, from the working folder upward.
func FindRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("finding the repository: %w", err)
	}
	for d := dir; ; d = filepath.Dir(d) {
		if exists(filepath.Join(d, "go.mod")) && exists(filepath.Join(d, "sandbox", "build")) {
			return d, nil
		}
		if d == filepath.Dir(d) {
			return "", tool.Exit(tool.Usage, fmt.Errorf("finding the repository: %q is not in it", dir), "run it inside a clone of Slipway")
		}
	}
}
